"""Routers that evolve, and the files that keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_specialists import Shelf, gene, sure

from core.config import Settings
from core.errors import ConfigError, TrainingError
from core.types import Completion, Domain, Task
from finetune.ge import GAConfig, GeneticEvolver
from finetune.model_ensembler import (
    Calibration,
    ResponseRouter,
    create_model_genome,
    crossover_model_genomes,
    evaluate_model_genome,
    evolve_router,
    load_router,
    mutate_model_genome,
    save_router,
)

CONFIG = GAConfig(population_size=8, generations=6, mutation_rate=0.8, elitism_count=1, seed=1)


def adds(query: str) -> Completion:
    words = query.replace("?", "").split()
    return Completion(f"Answer: {int(words[1]) + int(words[3])}", "end", -0.01)


TASKS = [Task(f"Add {i} and 2", Domain.MATH, str(i + 2)) for i in range(30)]


def test_evolution_finds_out_when_a_specialist_should_be_called():
    shelf = Shelf({"math": adds})

    with ResponseRouter(system2=lambda _: "Answer: no idea", ensemble_threshold=1.0, connect=shelf.connect) as router:
        found = evolve_router(router, [gene("math", "never")], TASKS[:10], calibration=(), held_out=TASKS[10:], config=CONFIG)
        asked = len(shelf.models["math"].asked)

    assert (found.start.right, found.winner.right, found.winner.fast) == (0, 20, 1.0)
    assert (found.system2.right, found.system2.n) == (0, 20)
    assert {"add", "and"} & {trigger for each in found.genome for trigger in each.trigger_patterns}
    assert asked <= 2 * len(TASKS)  # once each, and once more by a variant that puts it otherwise
    assert list(router.genome) == list(found.genome)


def test_it_calibrates_first():
    shelf = Shelf({"math": adds})

    with ResponseRouter(system2=lambda _: "Answer: 0", connect=shelf.connect) as router:
        found = evolve_router(
            router, [gene("math", "add")], TASKS[:5], calibration=TASKS[5:], config=CONFIG.replace(generations=1, population_size=3)
        )

    assert [each.judged for each in found.calibrated] == [25]
    assert found.winner is found.start is found.system2 is None


@pytest.mark.parametrize(("genes", "tasks"), [([gene("math", path=None)], TASKS), ([gene("math")], [])])
def test_there_must_be_something_to_evolve(genes: Any, tasks: Any):
    with ResponseRouter(system2=lambda _: "") as router, pytest.raises(TrainingError, match="nothing to evolve"):
        evolve_router(router, genes, tasks)


def test_the_functions_fit_the_evolver_as_the_manual_has_it():
    cases = [{"query": "What is 2+2?", "ground_truth": "4"}]

    def best() -> Any:
        with ResponseRouter(system2=lambda _: "4") as router:
            evolver = GeneticEvolver(
                fitness_fn=lambda genome: evaluate_model_genome(genome, cases, router),
                mutate_fn=mutate_model_genome,
                crossover_fn=crossover_model_genomes,
                initialize_fn=lambda: create_model_genome(["math", "code", "factual"]),
                config=GAConfig(population_size=6, generations=5, seed=3),
            )
            evolver.run()
            return [[each.as_dict() for each in genome] for genome in evolver.population]

    assert all(best())


def test_thresholds_are_drawn_where_the_evolver_gives_an_rng():
    import random

    first, second = (create_model_genome(["math", "code"], rng=random.Random(seed)) for seed in (1, 2))

    assert [each.confidence_threshold for each in first] != [each.confidence_threshold for each in second]
    assert [each.confidence_threshold for each in create_model_genome(["math", "code"])] == [0.7, 0.7]


def test_a_router_comes_back_from_its_file_as_it_was(tmp_path: Path):
    shelf, place = Shelf({"a": sure("Answer: 1", 0.99)}), tmp_path / "deep" / "router.json"
    calibration = Calibration("isotonic", 30, 20, (-1.0, -0.1), (0.2, 0.9))
    router = ResponseRouter(0.7, 0.5, system2=lambda _: "", gate="learned", calibrations={"weights of a": calibration})

    save_router(place, router, [gene("a", "go", threshold=0.6)], {"fitness": 0.9})
    with load_router(place, system2=lambda _: "deep", connect=shelf.connect) as again:
        result = again.route_query("go", [gene("a", "go")])

        assert (again.fast_threshold, again.ensemble_threshold, again.gate) == (0.7, 0.5, "learned")
        assert again.genome == [gene("a", "go", threshold=0.6)]
        assert again.calibrations == {"weights of a": calibration}
        assert result["confidence"] == pytest.approx(0.9)
    assert [each.name for each in place.parent.iterdir()] == ["router.json"]


def test_the_settings_name_the_router(tmp_path: Path):
    save_router(tmp_path / "router.json", ResponseRouter(system2=lambda _: ""), create_model_genome(["math"]))
    settings = Settings(RESPONSE_ROUTER=tmp_path / "router.json")

    with load_router(settings=settings, system2=lambda _: "deep") as router:
        assert router.route_query("2+2?")["response"] == "deep"
    with pytest.raises(ConfigError, match="ratchet evolve"):
        load_router(settings=Settings())


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"genes": []},
        {"genes": [{"colour": "red"}]},
        {"genes": [{"confidence_threshold": 7}]},
        {"calibrations": {"a": {}}},
        {"calibrations": []},
        {"fast_threshold": "high"},
        {"gate": "guess"},
        None,
        "[]",
    ],
)
def test_a_damaged_file_is_refused(change: Any, tmp_path: Path):
    place = tmp_path / "router.json"
    save_router(place, ResponseRouter(system2=lambda _: ""), create_model_genome(["math"]))
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, **change}) if isinstance(change, dict) else change or "{")

    with pytest.raises(ConfigError):
        load_router(place, system2=lambda _: "")


def test_what_can_not_be_saved_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="no genome"):
        save_router(tmp_path / "router.json", ResponseRouter(system2=lambda _: ""))
    with pytest.raises(ConfigError, match="gate of your own"):
        save_router(tmp_path / "router.json", ResponseRouter(system2=lambda _: "", gate=lambda _, __: []), create_model_genome(["math"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't write"):
        save_router(tmp_path / "file" / "router.json", ResponseRouter(system2=lambda _: ""), create_model_genome(["math"]))
    with pytest.raises(ConfigError, match="can't read"):
        load_router(tmp_path / "none.json")
