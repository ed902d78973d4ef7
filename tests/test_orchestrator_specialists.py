"""A response router in front of the search: who answers, what is judged, what is kept, and when the search is made all the same."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import pytest
from sample_specialists import Shelf, gene, sure

from core.config import Settings
from core.errors import ConfigError
from core.orchestrator import Orchestrator
from core.types import Domain, Outcome, Task
from finetune.ensemble import front
from finetune.model_ensembler import ResponseRouter, load_router, save_router
from logs.reading import read_runs

GENES = [gene("math", "sum"), gene("factual", "who")]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Specialists that are sure, of what a test makes of them."""
    shelf = Shelf({"math": sure("2 + 2 = 4\nAnswer: 4\n"), "factual": sure("Answer: Ada\n", 0.3)})
    monkeypatch.setattr(front, "load_router", functools.partial(load_router, connect=shelf.connect))
    return shelf


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a router of those genes, and a scripted model behind the search."""
    with ResponseRouter(genome=GENES, system2=lambda _: "") as router:
        save_router(tmp_path / "router.json", router)
    script = tmp_path / "script.json"
    script.write_text('"thinking it over\\nAnswer: 5\\n"\n' * 100)
    settings = Settings(RESPONSE_ROUTER=tmp_path / "router.json", CACHE="off", SEARCH_STRATEGY="best_of_n", SEARCH_CALLS=1)
    return settings.with_worker_model(Domain.MATH, f"scripted:{script}")


def test_what_a_specialist_is_sure_of_is_judged_logged_and_given_without_a_search(shelf: Shelf, settings: Settings, tmp_path: Path):
    with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        result = orchestrator.infer("The sum of 2 and 2?", "math", expected="4")

    assert (result.answer, result.verified, result.model, result.fingerprint) == ("4", True, "math", "weights of math")
    assert result.usage.calls == 1
    assert shelf.models["math"].asked == ["The sum of 2 and 2?"]
    assert shelf.models["math"].closed
    (run,) = read_runs(tmp_path / "logs")
    (trace,) = run.traces
    assert (run.strategy, run.model, trace.verdict.outcome, trace.text) == ("single", "math", Outcome.PASS, "2 + 2 = 4\nAnswer: 4\n")


def test_weights_that_a_server_does_not_tell_are_not_made_up(shelf: Shelf, settings: Settings):
    shelf.tells_weights = False
    with Orchestrator(settings) as orchestrator:
        result = orchestrator.infer("The sum of 2 and 2?", "math", expected="4")
    assert (result.answer, result.model, result.fingerprint) == ("4", "math", None)


def test_what_is_refuted_is_searched_and_both_are_logged(shelf: Shelf, settings: Settings, tmp_path: Path):
    with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        result = orchestrator.infer("The sum of 2 and 3?", "math", expected="5")

    assert (result.answer, result.verified) == ("5", True)
    assert result.model.startswith("scripted")
    assert {run.model: run.traces[0].verdict.outcome for run in read_runs(tmp_path / "logs")} == {
        "math": Outcome.FAIL,
        result.model: Outcome.PASS,
    }


@pytest.mark.parametrize("named", ["best_of_n", None])
def test_a_named_strategy_and_an_unsure_specialist_leave_it_to_the_search(
    shelf: Shelf, settings: Settings, tmp_path: Path, named: str | None
):
    if named is None:
        shelf.scripts["math"] = sure("Answer: 4\n", 0.2)
    with Orchestrator(settings) as orchestrator:
        result = orchestrator.infer("The sum of 2 and 3?", "math", strategy=named)

    assert result.model.startswith("scripted")
    assert bool(shelf.loads) == (named is None)


def test_many_questions_go_to_the_specialists_first_and_the_bounds_of_a_search_are_not_theirs(shelf: Shelf, settings: Settings):
    tasks = [Task(f"The sum of {n} and {n}?", Domain.MATH, str(2 * n)) for n in (2, 3)]
    with Orchestrator(settings.changed(SEARCH_COMPLETION_TOKENS=1)) as orchestrator:
        (result,) = orchestrator.infer_many(tasks[:1])
    assert (result.answer, result.verified) == ("4", True)


def test_a_batch_that_goes_on_asks_neither_specialists_nor_the_search_again(shelf: Shelf, settings: Settings, tmp_path: Path):
    tasks = [Task(f"The sum of {n} and {n}?", Domain.MATH, str(2 * n)) for n in (2, 3)]
    with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        first = orchestrator.infer_many(tasks, resume=True)
    with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        again = orchestrator.infer_many(tasks, resume=True)

    assert [r.run_id for r in again] == [r.run_id for r in first]
    assert again[0].model == "math"
    assert again[1].model.startswith("scripted")
    assert shelf.models["math"].asked == [task.prompt for task in tasks]
    assert len(list(read_runs(tmp_path / "logs"))) == 3


def test_a_batch_whose_search_was_broken_off_does_not_ask_the_specialists_again(shelf: Shelf, settings: Settings, tmp_path: Path):
    task = Task("The sum of 2 and 3?", Domain.MATH, "5")
    broken = settings.with_worker_model(Domain.MATH, "scripted:nowhere")
    with Orchestrator(broken, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        assert orchestrator.infer_many([task])[0].error
    with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
        (result,) = orchestrator.infer_many([task], resume=True)

    assert result.verified
    assert shelf.loads == ["math"]


def test_another_seed_asks_the_specialists_anew(shelf: Shelf, settings: Settings, tmp_path: Path):
    task = Task("The sum of 2 and 2?", Domain.MATH, "4")
    for seed in (1, 2, 2):
        with Orchestrator(settings.changed(SEED=seed), enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
            assert orchestrator.infer_many([task], resume=True)[0].model == "math"

    assert len(list(read_runs(tmp_path / "logs"))) == 2


def test_another_router_is_asked_anew(shelf: Shelf, settings: Settings, tmp_path: Path):
    task = Task("The sum of 2 and 2?", Domain.MATH, "4")
    for threshold in (0.8, 0.7):
        with ResponseRouter(threshold, genome=GENES, system2=lambda _: "") as router:
            save_router(tmp_path / "router.json", router)
        with Orchestrator(settings, enable_logging=True, log_dir=tmp_path / "logs") as orchestrator:
            assert orchestrator.infer_many([task], resume=True)[0].verified

    assert len(list(read_runs(tmp_path / "logs"))) == 2


def test_specialists_that_cannot_answer_are_told_of_once(shelf: Shelf, settings: Settings, caplog: pytest.LogCaptureFixture):
    shelf.scripts.clear()
    with caplog.at_level(logging.WARNING), Orchestrator(settings) as orchestrator:
        for n in (3, 4):
            assert orchestrator.infer(f"The sum of 1 and {n}?", "math").answer == "5"
    assert [record.message for record in caplog.records].count(
        "the specialists of RESPONSE_ROUTER can't answer, so that all is searched: there is no math: train it (told once)"
    ) == 1


def test_a_router_that_is_not_there_is_an_error_before_anything_is_asked(tmp_path: Path):
    with pytest.raises(ConfigError, match="can't read the router file"):
        Orchestrator(Settings(RESPONSE_ROUTER=tmp_path / "none.json"))
