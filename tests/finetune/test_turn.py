"""One turn of the ratchet, with a real training run and an evaluation that says what the test wants it to say."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sample_traces import failed, problems, solved

from core.types import Outcome, Split, Task, Verdict
from finetune.adapters import read_manifest
from finetune.evaluation import Evaluation
from finetune.turn import MIN_PAIRS, Turn, TurnPlan, build, turn

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
PLAN = TurnPlan(device="cpu")
GATE = tuple(problem.task for problem in problems(20, split=Split.GATE))
FRESH = [attempt for p in problems(MIN_PAIRS) for attempt in (solved(p), failed(p))]


def evaluation(right: int, tasks: tuple[Task, ...] = GATE) -> Evaluation:
    return Evaluation(tasks, tuple(i < right for i in range(len(tasks))), ("",) * len(tasks))


def a_turn(folder: Path, candidate: int, told: list[str]) -> Turn:
    def on_step(phase: str):
        return lambda step, steps: told.append(f"{phase} {step}/{steps}")

    def evaluate(adapter: str) -> Evaluation:
        told.append(f"evaluate {Path(adapter).name}")
        return evaluation(candidate)

    return turn(FRESH, [], "embedded", evaluation(8), evaluate, folder, PLAN, seed=0, on_step=on_step)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Turn, list[str]]:
    told: list[str] = []
    return a_turn(tmp_path_factory.mktemp("loop") / "better", 20, told), told


@pytest.mark.slow
def test_a_candidate_that_is_better_is_promoted(promoted: tuple[Turn, list[str]]):
    done, _ = promoted

    assert done.promoted
    assert done.reason.startswith("better by more than chance")
    assert done.decision is not None
    assert (done.decision.gained, done.decision.lost) == (12, 0)
    assert done.decision.alpha == pytest.approx(0.05 / PLAN.looks)


@pytest.mark.slow
def test_a_turn_trains_both_ways_then_evaluates_and_says_where_its_time_went(promoted: tuple[Turn, list[str]]):
    done, told = promoted

    phases = [line.split()[0] for line in told]
    assert phases == sorted(phases, key=["sft", "dpo", "evaluate"].index)
    assert set(phases) == {"sft", "dpo", "evaluate"}
    assert set(done.phases) == {"build", "sft", "dpo", "evaluate"}
    assert (done.rows, done.pairs) == (MIN_PAIRS, MIN_PAIRS)


@pytest.mark.slow
def test_the_adapter_of_a_turn_is_registered_with_the_traces_behind_it(promoted: tuple[Turn, list[str]]):
    done, _ = promoted
    assert done.adapter is not None

    manifest = read_manifest(done.adapter)

    assert manifest.trainer == "sft+dpo"
    assert set(manifest.trace_ids) == {trace.id for trace in FRESH}
    assert manifest.fingerprint == done.metrics["fingerprint"]
    assert not (done.adapter / "ref").exists()


@pytest.mark.slow
def test_a_candidate_that_is_not_better_is_kept_but_not_promoted(tmp_path: Path):
    done = a_turn(tmp_path / "same", 8, [])

    assert not done.promoted
    assert done.reason == "not better: 0 gained, 0 lost"
    assert done.adapter is not None
    assert read_manifest(done.adapter).trainer == "sft+dpo"


@pytest.mark.parametrize("verdict", [Outcome.FAIL, Outcome.ABSTAIN])
def test_without_verified_traces_there_is_no_adapter_and_the_turn_says_why(verdict: Outcome, tmp_path: Path):
    unverified = [solved(p, verdict=Verdict(verdict, None, "")) for p in problems(5)]

    def evaluate(adapter: str) -> Evaluation:
        raise AssertionError(f"there is nothing to evaluate in {adapter}")

    done = turn(unverified, [], "embedded", evaluation(8), evaluate, tmp_path / "none", PLAN, seed=0)

    assert (done.adapter, done.decision, done.evaluation, done.promoted) == (None, None, None, False)
    assert done.reason == "no verified traces to train on"
    assert {s.name: s.dropped for s in done.funnel.sieves}["not verified"] == 5
    assert not (tmp_path / "none").exists()


def test_earlier_traces_are_replayed_in_rows_but_not_in_pairs():
    fresh, past = problems(5), problems(9)[5:]
    attempts = [attempt for p in past for attempt in (solved(p), solved(p, "terse"), failed(p))]

    rows, pairs, funnel = build([solved(p) for p in fresh], attempts, PLAN.replace(replay=3), random.Random(0))

    assert [row.task_id for row in rows[:5]] == [p.task.id for p in fresh]
    assert len({row.task_id for row in rows[5:]} & {p.task.id for p in past}) == len(rows[5:]) == 3
    assert pairs == []
    assert funnel.came == funnel.left == 5


def test_held_out_traces_are_neither_learnt_nor_replayed():
    held_out = [attempt for p in problems(6, split=Split.GATE) for attempt in (solved(p), failed(p))]

    rows, pairs, funnel = build(held_out, held_out, PLAN, random.Random(0))

    assert (rows, pairs) == ([], [])
    assert funnel.sieves[0].dropped == len(held_out)
