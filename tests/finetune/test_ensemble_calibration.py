"""How sure a gene is, against how often it is right."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_specialists import Shelf, gene, sure
from sample_traces import failed, problems, solved

from core.errors import ConfigError, TrainingError
from core.types import Completion, Domain, Task
from finetune.model_ensembler import Calibration, ResponseRouter, fit, tasks_of

PAIRS = st.lists(st.tuples(st.floats(-30, 0), st.booleans()), min_size=20, max_size=60)


def overconfident(count: int, seed: int = 0) -> tuple[list[float], list[bool]]:
    """Of answers that are given with probability p only p squared are right."""
    rng = random.Random(seed)
    given = [rng.uniform(0.05, 1) for _ in range(count)]
    return [math.log(p) for p in given], [rng.random() < p * p for p in given]


@pytest.mark.parametrize(("method", "count"), [("platt", 150), ("isotonic", 2_000), ("auto", 150), ("auto", 2_000)])
def test_a_calibration_says_how_often_such_answers_are_right(method: Any, count: int):
    model = fit(*overconfident(count), method)

    assert model.method == ("platt" if count < 200 else "isotonic")
    assert [model(math.log(p)) for p in (0.3, 0.6, 0.9)] == pytest.approx([0.09, 0.36, 0.81], abs=0.2 if count < 200 else 0.1)


@given(PAIRS, st.sampled_from(["platt", "isotonic"]))
def test_it_is_a_share_rises_and_is_never_certain(pairs: list[tuple[float, bool]], method: Any):
    logprobs, right = zip(*pairs, strict=True)

    model = fit(logprobs, right, method)

    values = [model(-30 + i * 0.5) for i in range(61)]
    assert all(0 < value < 1 for value in values)
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    assert Calibration.of(json.loads(json.dumps(model.as_dict()))) == model


@pytest.mark.parametrize("right", [True, False])
def test_what_is_always_right_or_always_wrong_is_not_believed_entirely(right: bool):
    model = fit([-0.1 * i for i in range(20)], [right] * 20)

    assert (0.8 < model(-0.1) < 1) if right else (0 < model(-0.1) < 0.2)


def test_where_the_surer_is_the_more_often_wrong_only_the_rate_counts():
    model = fit([-0.1] * 15 + [-2.0] * 15, [False] * 15 + [True] * 15)

    assert model(-0.1) == model(-2.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("logprobs", "right", "method", "error"),
    [
        ([-1.0] * 19, [True] * 19, "auto", TrainingError),
        ([-1.0] * 20, [True] * 19, "auto", ConfigError),
        ([-1.0] * 20, [True] * 20, "guess", ConfigError),
        ([math.nan] * 20, [True] * 20, "auto", TrainingError),
    ],
)
def test_what_can_not_be_learned_from_is_refused(logprobs: list[float], right: list[bool], method: Any, error: type[Exception]):
    with pytest.raises(error):
        fit(logprobs, right, method)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "magic", "examples": 1, "right": 1, "scores": [], "values": []},
        {"method": "isotonic", "examples": 1, "right": 1, "scores": [], "values": []},
        {"method": "isotonic", "examples": 1, "right": 1, "scores": [0.0, -1.0], "values": [0.1, 0.2]},
        {"method": "isotonic", "examples": 1, "right": 1, "scores": [-1.0, 0.0], "values": [0.1, 1.2]},
        {"method": "platt", "examples": 1, "right": 1, "scores": [], "values": [], "slope": -1.0},
        {"method": "platt", "examples": 1, "right": 1, "scores": [], "values": [], "slope": float("inf")},
    ],
)
def test_a_damaged_calibration_is_refused(values: Any):
    with pytest.raises(ConfigError, match="calibrat"):
        Calibration.of(values)


def test_the_tasks_of_verified_traces_are_taken_once_with_the_verified_answer():
    one, other = problems(2)
    bare = solved(one).replace(task=Task("How many?", Domain.MATH), answer="7")

    tasks = tasks_of([solved(one), solved(one, "terse"), failed(other), bare])

    assert [(task.prompt, task.reference) for task in tasks] == [(one.task.prompt, one.task.reference), ("How many?", "7")]


def adding(query: str) -> Completion:
    """Sure and right of even sums, unsure and wrong of odd ones."""
    a, b = (int(part) for part in query.removeprefix("Add ").split(" and "))
    right = (a + b) % 2 == 0
    return Completion(f"Answer: {a + b if right else 0}", "end", math.log(0.9 if right else 0.5))


def test_a_router_measures_what_its_genes_confidence_is_worth():
    shelf = Shelf({"math": adding, "code": sure("Answer: 1")})
    tasks = [Task(f"Add {i} and 7", Domain.MATH, str(i + 7)) for i in range(60)]
    genome = [gene("math", "sum"), gene("code", "bug"), gene("math", "other", threshold=0.9), gene("none", path=None)]

    with ResponseRouter(system2=lambda _: "", connect=shelf.connect) as router:
        before = router.route_query("What is the sum", [gene("code", "sum")])["calibrated"]
        (found,) = router.calibrate(tasks, genome)
        result = router.route_query("Add 5 and 5", [gene("math", "add")])

    assert (found.model, found.judged, found.calibration.examples, found.calibration.right) == ("math", 60, 60, 30)
    assert found.brier < 0.05 < found.brier_before
    assert not before
    assert result["calibrated"]
    assert result["confidence"] > 0.9
    assert len(shelf.models["math"].asked) == 61


def test_a_gene_with_too_few_judged_answers_stays_uncalibrated_and_says_why(caplog: pytest.LogCaptureFixture):
    shelf = Shelf({"math": sure("Answer: 1", finish="length")})

    with ResponseRouter(system2=lambda _: "", connect=shelf.connect) as router:
        (found,) = router.calibrate([Task(f"Add {i} and 7", Domain.MATH, str(i + 7)) for i in range(30)], [gene("math")])

    assert (found.calibration, found.judged, router.calibrations) == (None, 0, {})
    assert "0 of its answers could be judged" in found.reason
    assert "stays uncalibrated" in caplog.text


def test_a_specialist_of_no_domain_that_no_task_calls_is_asked_them_all():
    shelf = Shelf({"sums": adding, "code": sure("Answer: 1")})
    tasks = [Task(f"Add {i} and 7", Domain.MATH, str(i + 7)) for i in range(24)]

    with ResponseRouter(system2=lambda _: "", connect=shelf.connect) as router:
        found = router.calibrate(tasks, [gene("sums", "never"), gene("code", "bug")])

    assert [(each.model, each.judged) for each in found] == [("sums", 24)]


def test_there_must_be_something_to_calibrate():
    with ResponseRouter(system2=lambda _: "") as router, pytest.raises(TrainingError, match="nothing to calibrate"):
        router.calibrate([Task("Add 1 and 2", Domain.MATH, "3")], [gene("math", path=None)])
