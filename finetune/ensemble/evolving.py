"""Evolves a router: genomes over some specialists, calibrated first, measured on tasks that their models were not trained on."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.errors import TrainingError
from core.types import Record, Task
from finetune.ensemble.calibrating import Calibrated
from finetune.ensemble.fitness import Score, evaluate_model_genome, score
from finetune.ensemble.genes import SPREAD, Genome, ModelGene
from finetune.ensemble.operators import crossover_model_genomes, mutate_model_genome, task_words
from finetune.ensemble.router import ResponseRouter
from finetune.ge import GAConfig, Generation, GeneticEvolver, codec

log = logging.getLogger(__name__)

START_WORDS = 4  # most triggers that a gene of the first generation gets beside its own
CONFIG = GAConfig(population_size=12, generations=10, mutation_rate=0.6, crossover_rate=0.6, elitism_count=2, patience=5)


@dataclass(frozen=True, slots=True)
class Evolved(Record):
    """The winner with its fitness, what it and the genome that it began from are worth on held-out tasks, and System 2 alone.

    The last three are None where no tasks were held out.
    """

    genome: tuple[ModelGene, ...]
    fitness: float
    history: tuple[Generation, ...]
    calibrated: tuple[Calibrated, ...]
    winner: Score | None
    start: Score | None
    system2: Score | None


def evolve_router(
    router: ResponseRouter,
    specialists: Genome,
    tasks: Sequence[Task],
    *,
    calibration: Sequence[Task] = (),
    held_out: Sequence[Task] = (),
    config: GAConfig = CONFIG,
    **options: Any,
) -> Evolved:
    """The best genome over these specialists; the router keeps it as its own, with the calibrations.

    `tasks` decide, `held_out` are looked at once, at the end. Equal questions are asked of a model or of System 2 once, so that a whole
    evolution costs little more than its first generation. Times break ties, so that runs on another machine may end otherwise.
    `options` are those of GeneticEvolver. Raises TrainingError when there is nothing to evolve.
    """
    if not tasks or not any(gene.trained for gene in specialists):
        raise TrainingError("there is nothing to evolve: give tasks, and at least one gene with an sft_path")
    calibrated = _calibrated(router, calibration, specialists)
    words = task_words(tasks)
    evolver: GeneticEvolver[list[ModelGene]] = GeneticEvolver(
        partial(evaluate_model_genome, test_cases=tasks, router=router),
        partial(mutate_model_genome, words=words),
        crossover_model_genomes,
        _beginners(specialists, words),
        config,
        codec=codec(ModelGene),
        **options,
    )
    best = evolver.run()
    if best is None or evolver.best_fitness is None:
        raise TrainingError("no generation was run: give generations of 1 or more")
    router.genome = best
    judged = [score(genome, held_out, router) if held_out else None for genome in (best, specialists, ())]
    return Evolved(tuple(best), evolver.best_fitness, tuple(evolver.history), tuple(calibrated), *judged)


def _calibrated(router: ResponseRouter, tasks: Sequence[Task], specialists: Genome) -> list[Calibrated]:
    try:
        return router.calibrate(tasks, specialists) if tasks else []
    except TrainingError as error:
        log.warning("the router stays uncalibrated: %s", error)
        return []


def _beginners(specialists: Genome, words: dict[str, list[str]]) -> Callable[..., list[ModelGene]]:
    """The specialists themselves come first; after them the same with other thresholds, and words of the tasks as triggers."""
    first = True

    def initialize(rng: random.Random) -> list[ModelGene]:
        nonlocal first
        if first:
            first = False
            return list(specialists)
        return [_drawn(gene, words.get(gene.specialization, []), rng) for gene in specialists]

    return initialize


def _drawn(gene: ModelGene, words: Sequence[str], rng: random.Random) -> ModelGene:
    own = list(gene.trigger_patterns)
    new = [word for word in words if word not in own]
    more = rng.sample(new, rng.randint(0, min(START_WORDS, len(new))))
    return gene.replace(trigger_patterns=[*own, *more], confidence_threshold=round(rng.uniform(*SPREAD), 3))
