"""Rounds of the loop: real datasets, training, registry and gate; a world that collects and evaluates as the test wants it to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, run_of, solved

from core import slots
from core.apps.loop import seconds_of
from core.errors import ConfigError, TrainingError
from core.types import Outcome, Split, Verdict
from finetune.evaluation import Evaluation
from finetune.loop import STEPS, Loop, LoopPlan
from logs.rounds import read_rounds
from logs.store import TraceStore

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
PLAN = LoopPlan(learning_rate=4e-3, epochs=1.0, batch_size=16, device="cpu")
HELD_OUT = {split: [problem.task for problem in problems(120, split=split)] for split in (Split.GATE, Split.REPORT)}
TRAIN = problems(64)


class Interrupted(Exception):
    """Ctrl-C, or the power."""


class Scripted:
    """Collects 16 solved problems a round; each adapter solves `gain` tasks more than the base, by its version."""

    def __init__(self, folder: Path, gains: dict[int, int], stop_after: str = "") -> None:
        self.logs, self.gains, self.stop_after = folder / "logs", gains, stop_after
        self.asked: list[str] = []
        self.verdict = Verdict(Outcome.PASS, 1.0, "equal")

    def tasks(self, split: Split) -> list[Any]:
        return HELD_OUT[split]

    def collect(self, number: int) -> dict[str, Any]:
        self.asked.append(f"collect {number}")
        with TraceStore(self.logs, redact=None) as store:
            for problem in TRAIN[16 * (number - 1) : 16 * number]:
                store.put(run_of(solved(problem), failed(problem)))
            store.flush()
        return {"tasks": 16}

    def evaluate(self, spec: str, tasks: Any) -> Evaluation:
        self.asked.append(f"evaluate {spec}")
        version = int(spec.rpartition("@")[2]) if "@" in spec else 0
        right = 40 + self.gains.get(version, 0)
        return Evaluation(tuple(tasks), tuple(i < right for i in range(len(tasks))), ("Answer: 1",) * len(tasks))

    def tell(self, number: int, step: str, values: Any) -> None:
        if step == self.stop_after:
            self.stop_after = ""
            raise Interrupted

    def progress(self, number: int, step: str) -> None:
        return None


def loop_in(folder: Path, world: Scripted, plan: LoopPlan = PLAN) -> Loop:
    return Loop(plan, world, folder / "loop", where=world.logs, registry=folder / "adapters", now=lambda: 1_790_000_000.0)


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scripted]:
    folder = tmp_path_factory.mktemp("rounds")
    world = Scripted(folder, {1: 40, 2: 40})
    loop_in(folder, world).run(2)
    return folder, world


@pytest.mark.slow
def test_what_is_better_serves_and_what_is_as_good_does_not(two_rounds: tuple[Path, Scripted]):
    folder, _ = two_rounds
    slot = slots.read(folder / "adapters", "math")

    assert (slot.champion, slot.previous, slot.epoch) == ("math@1", None, 2)
    first, second = (json.loads((folder / "loop" / "rounds" / name / "state.json").read_text()) for name in ("001", "002"))
    assert list(first) == list(STEPS)
    assert (first["gate"]["verdict"], second["gate"]["verdict"]) == ("promote", "reject")
    assert second["evaluate"]["champion"] == "adapter:math@1"
    assert second["gate"]["look"] == 2


@pytest.mark.slow
def test_later_rounds_learn_from_all_that_was_collected(two_rounds: tuple[Path, Scripted]):
    folder, _ = two_rounds

    rows = [json.loads((folder / "loop" / "rounds" / name / "state.json").read_text())["build"]["sft"]["rows"] for name in ("001", "002")]

    assert rows == [16, 32]


@pytest.mark.slow
def test_nobody_is_evaluated_twice_on_the_same_tasks(two_rounds: tuple[Path, Scripted]):
    _, world = two_rounds

    assert sorted(name for name in world.asked if name.startswith("evaluate")) == sorted(
        [f"evaluate {spec}" for spec in ("embedded", "adapter:math@1", "adapter:math@2")] * 2  # gate and report
    )


@pytest.mark.slow
def test_the_reports_say_what_was_decided_and_why(two_rounds: tuple[Path, Scripted]):
    folder, _ = two_rounds
    page, first = (folder / "loop" / "report.md").read_text(), (folder / "loop" / "rounds" / "001" / "round.md").read_text()

    assert "2 rounds, 1 promotions" in page
    assert "`slot:math` is served by `adapter:math@1`" in page
    assert (folder / "loop" / "rounds.png").read_bytes().startswith(b"\x89PNG")
    assert "| not verified | 32 | 16 |" in first
    assert "40 tasks only the candidate solves, 0 only the champion" in first


@pytest.mark.slow
def test_rounds_stand_in_the_store_beside_their_traces(two_rounds: tuple[Path, Scripted]):
    _, world = two_rounds

    kept = read_rounds(world.logs, "math")

    assert [(made.number, made.outcome, made.reference) for made in kept] == [(1, "promoted", "math@1"), (2, "reject", "math@2")]
    assert kept[0].steps["build"]["sft"]["rows"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("step", ["train", "gate"])
def test_a_round_that_was_broken_off_goes_on_where_it_stopped(step: str, two_rounds: tuple[Path, Scripted], tmp_path: Path):
    done, _ = two_rounds
    if step == "gate":  # the costly steps are taken from a loop that has made them
        shutil.copytree(done / "loop" / "rounds" / "001" / "adapter", tmp_path / "loop" / "rounds" / "001" / "adapter")
    world = Scripted(tmp_path, {1: 40}, stop_after=step)

    with pytest.raises(Interrupted):
        loop_in(tmp_path, world).run(1)
    [found] = loop_in(tmp_path, world).run(1)

    assert found.done
    assert found.promoted
    assert world.asked.count("collect 1") == 1
    assert slots.read(tmp_path / "adapters", "math").champion == "math@1"
    registry = loop_in(tmp_path, world).registry
    assert [entry.what for entry in registry.history("math@1")] == ["add", "decide", "promote"]


@pytest.mark.slow
def test_a_champion_that_came_in_between_is_compared_with(two_rounds: tuple[Path, Scripted], tmp_path: Path):
    done, _ = two_rounds
    shutil.copytree(done / "loop" / "rounds" / "001" / "adapter", tmp_path / "loop" / "rounds" / "001" / "adapter")
    world = Scripted(tmp_path, {1: 40, 2: 70}, stop_after="gate")
    with pytest.raises(Interrupted):
        loop_in(tmp_path, world).run(1)
    loop = loop_in(tmp_path, world)
    other = loop.registry.add(done / "loop" / "rounds" / "002" / "adapter", "math", run="another's")
    loop.registry.promote(other.reference, "math", force=True)

    [found] = loop.run(1)

    assert found.steps["evaluate"]["champion"] == "adapter:math@2"
    assert not found.promoted
    assert slots.read(tmp_path / "adapters", "math").champion == "math@2"


def test_a_round_without_verified_traces_trains_nothing_and_says_why(tmp_path: Path):
    class Unlucky(Scripted):
        def collect(self, number: int) -> dict[str, Any]:
            with TraceStore(self.logs, redact=None) as store:
                for problem in TRAIN[:4]:
                    store.put(run_of(failed(problem)))
                store.flush()
            return {"tasks": 4}

    world = Unlucky(tmp_path, {})
    [found] = loop_in(tmp_path, world).run(1)

    assert set(found.steps) == {"collect", "build", "report"}
    assert "most fell at 'not verified'" in found.steps["build"]["nothing"]
    assert "nothing to train on" in (tmp_path / "loop" / "report.md").read_text()
    assert slots.read(tmp_path / "adapters", "math").champion is None


def test_a_build_that_failed_is_no_round_without_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise TrainingError("can't write the dataset: no space left on device")

    monkeypatch.setattr("finetune.loop.build_dataset", full)
    loop = loop_in(tmp_path, Scripted(tmp_path, {}))

    with pytest.raises(TrainingError, match="no space left"):
        loop.run(1)

    assert list(loop.rounds_done(1)) == ["collect"]


def test_a_folder_belongs_to_one_plan(tmp_path: Path):
    loop_in(tmp_path, Scripted(tmp_path, {}))

    with pytest.raises(TrainingError, match=r"learning_rate = 0\.004, not 0\.1"):
        loop_in(tmp_path, Scripted(tmp_path, {}), PLAN.replace(learning_rate=0.1))


def test_a_damaged_state_is_an_error_that_says_what_to_remove(tmp_path: Path):
    loop = loop_in(tmp_path, Scripted(tmp_path, {}))
    (tmp_path / "loop" / "rounds" / "001").mkdir(parents=True)
    (tmp_path / "loop" / "rounds" / "001" / "state.json").write_text("{")

    with pytest.raises(TrainingError, match="remove the folder of that round"):
        loop.run(1)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21_600), ("1.5d", 129_600)])
def test_times_are_read(text: str, seconds: float):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "0h", "-1h", "1 week"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ConfigError, match="such as 6h"):
        seconds_of(text)
