"""The response router: specialists that are sure answer at once (System 1), then all of them together, then deliberate thought (System 2).

    genome = create_model_genome(["math", "code"], sft_paths={"math": "models/math_sft"})
    with ResponseRouter(fast_threshold=0.8, ensemble_threshold=0.6) as router:
        result = router.route_query("What is 2+2?", genome)
        print(result["response"], result["path"], result["confidence"])

How sure a specialist is is the probability that it gives its own answer, calibrated per model by `router.calibrate(tasks)`. Genomes
evolve with `finetune.ge`; `ratchet evolve` does it for the adapters of the registry.
"""

from __future__ import annotations

from finetune.ensemble.answers import Answer
from finetune.ensemble.calibrating import Calibrated
from finetune.ensemble.calibration import Calibration, fit, tasks_of
from finetune.ensemble.evolving import Evolved, evolve_router
from finetune.ensemble.files import load_router, save_router
from finetune.ensemble.fitness import Score, evaluate_model_genome, is_right, score
from finetune.ensemble.genes import Genome, ModelGene, create_model_genome
from finetune.ensemble.operators import crossover_model_genomes, mutate_model_genome, task_words
from finetune.ensemble.router import ResponseRouter, Routed
from finetune.ensemble.triggers import Gate, Learned, Triggers

__all__ = [
    "Answer",
    "Calibrated",
    "Calibration",
    "Evolved",
    "Gate",
    "Genome",
    "Learned",
    "ModelGene",
    "ResponseRouter",
    "Routed",
    "Score",
    "Triggers",
    "create_model_genome",
    "crossover_model_genomes",
    "evaluate_model_genome",
    "evolve_router",
    "fit",
    "is_right",
    "load_router",
    "mutate_model_genome",
    "save_router",
    "score",
    "task_words",
    "tasks_of",
]
