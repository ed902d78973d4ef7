"""`ratchet loop`: one small round for real, and what a user may hand in wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from core import slots
from core.apps.cli import main
from core.apps.loop import Shop, add_command
from core.config import Settings
from core.errors import ConfigError, TaskError
from core.types import Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    return parser.parse_args(["loop", *words])


def own_tasks(path: Path, count: int = 60) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"Solve {n}+{n + 1}", "reference": str(2 * n + 1)}) + "\n" for n in range(count)))
    return path


@pytest.mark.slow
def test_a_small_round_runs_to_its_report_and_a_second_call_does_nothing_more(tmp_path: Path, capsys: Any):
    words = ["loop", "--out", str(tmp_path / "loop"), "--registry", str(tmp_path / "adapters"), "--rounds", "1", "--per-round", "12"]
    words += ["--gate", "12", "--report", "0", "--attempts", "4", "--epochs", "1", "--device", "cpu"]

    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0
    second = capsys.readouterr().out

    steps = ["collect", "build", "train", "register", "evaluate", "gate", "swap", "report"]
    assert [line.split()[2] for line in first.splitlines() if line.startswith("round 1")] == steps
    assert "round 1" not in second
    assert "with fewer than 100 the gate will hardly ever promote" in first
    assert "not enough data" in (tmp_path / "loop" / "report.md").read_text() or "reject" in (tmp_path / "loop" / "report.md").read_text()
    assert slots.read(tmp_path / "adapters", "math").base == "embedded"


def test_own_tasks_fall_on_three_sides_and_are_asked_again_when_all_were_asked(tmp_path: Path):
    file = own_tasks(tmp_path / "tasks.jsonl")
    shop = Shop(options("--tasks", str(file), "--per-round", "1000", "--out", str(tmp_path)), Settings())

    sides = [{task.key for task in found} for found in (shop.tasks(Split.GATE), shop.tasks(Split.REPORT), shop._round_tasks(1))]

    assert sum(map(len, sides)) == len(set.union(*sides)) == 60
    assert {task.key for task in shop._round_tasks(2)} == sides[2]


def test_generated_tasks_of_a_round_are_new_and_the_same_in_each_run(tmp_path: Path):
    shop, again = (Shop(options("--per-round", "20", "--gate", "5", "--report", "5", "--out", str(tmp_path)), Settings()) for _ in "ab")

    rounds = [[task.key for task in shop._round_tasks(number)] for number in (1, 2, 3)]

    assert rounds == [[task.key for task in again._round_tasks(number)] for number in (1, 2, 3)]
    assert len({key for keys in rounds for key in keys}) == 60
    assert shop.tasks(Split.GATE) == again.tasks(Split.GATE)


def test_traces_are_collected_counted_and_learnt_from_in_one_place(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    settings = Settings(STORE_URL=url)

    assert Shop(options("--out", str(tmp_path)), settings).log_dir == url
    own = Shop(options("--out", str(tmp_path), "--log-dir", str(tmp_path / "logs")), settings)
    assert (own.log_dir, own._where(), own.traces()) == (str(tmp_path / "logs"), {"STORE_URL": None}, 0)


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["--live"], ConfigError, "--gate-tasks"),
        (["--tasks", "nowhere.jsonl"], TaskError, "can't read tasks"),
        (["--source", "astrology"], ConfigError, "astrology"),
    ],
)
def test_what_can_not_be_used_is_told_before_anything_is_asked(words: list[str], error: type, told: str, tmp_path: Path):
    with pytest.raises(error, match=told):
        Shop(options(*words, "--out", str(tmp_path)), Settings())


def test_too_few_new_traces_are_told_where_nobody_waits(tmp_path: Path, capsys: Any):
    file = own_tasks(tmp_path / "gate.jsonl")
    words = ["loop", "--live", "--gate-tasks", str(file), "--min-new", "5", "--out", str(tmp_path / "loop")]

    assert main([*words, "--registry", str(tmp_path / "adapters")]) == 1

    assert "0 new traces, and --min-new asks for 5" in capsys.readouterr().err
