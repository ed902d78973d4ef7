"""The demonstration at a toy size: everything it promises is there, twice the same, and nothing is lost when it is killed."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.apps.control import ShuffledVerdicts
from core.apps.demo import Options, Sizes, run_demo
from core.types import Domain, Outcome, Task

TOY = Sizes(collect=(48, 48), levels=((1, 2), (1, 2)), attempts=(8, 4), gate=24, report=24, search=8)
ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # TRL and transformers announce renamed options
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # torch: pin_memory without an accelerator
]


def toy(out: Path, **options: Any) -> dict[str, Any]:
    return run_demo(Options(out, sizes=TOY, threads=1, **options), Console(quiet=True))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo")
    return out, toy(out)


def test_the_report_holds_every_figure_a_script_would_check(demo):
    out, _ = demo
    report = json.loads((out / "report.json").read_text())
    for key in ("before", "after", "steps_forced"):
        record = report["report"][key]
        assert 0 <= record["interval"][0] <= record["accuracy"] <= record["interval"][1] <= 1
        assert record["n"] == TOY.report
        assert sum(level["n"] for level in record["by_level"].values()) == TOY.report
        assert set(record["by_domain"]) == {"math"}
    assert len(report["rounds"]) == len(TOY.collect)
    for entry in report["rounds"]:
        assert {"accuracy", "interval", "n", "promoted", "p_value", "phases"} <= set(entry)
    assert report["search"]["before"]["n"] == report["search"]["after"]["n"] == TOY.search
    assert report["seconds"] > 0
    assert report["peak_memory_mb"] > 0
    assert report["seed"] == 0


def test_the_folder_holds_page_picture_database_and_export(demo):
    out, report = demo
    assert (out / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    assert "held-out problems" in (out / "report.md").read_text()
    assert (out / "traces.csv").stat().st_size > 0
    database = sqlite3.connect(out / "traces.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    for entry in report["rounds"]:
        assert sum(f["dropped"] for f in entry["funnel"]) <= entry["funnel"][0]["came"]


def test_the_same_seed_gives_the_same_table(demo, tmp_path):
    _, first = demo
    second = toy(tmp_path / "again")
    for report in (first, second):
        for entry in report["rounds"]:
            entry.pop("phases")
    assert first["report"] == second["report"]
    assert first["rounds"] == second["rounds"]
    assert first["search"] == second["search"]


@pytest.mark.timeout(900)
def test_a_killed_demo_leaves_a_database_that_opens(tmp_path):
    rng = random.Random(4)
    for attempt in range(2):
        out = tmp_path / str(attempt)
        command = [sys.executable, "-m", "core.apps.cli", "demo", "--quick", "--out", str(out)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (out / "traces.sqlite").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        database = sqlite3.connect(out / "traces.sqlite")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


def test_shuffled_verdicts_keep_their_share_and_lose_their_meaning():
    right = [Task(f"Solve {i}+{i}", Domain.MATH, reference=str(2 * i)) for i in range(400)]
    shuffled = ShuffledVerdicts(0)
    outcomes = [(i % 2 == 0, shuffled(task, f"Answer: {2 * i if i % 2 == 0 else -1}").outcome) for i, task in enumerate(right)]
    passed = sum(outcome is Outcome.PASS for _, outcome in outcomes)
    wrong_passed = sum(outcome is Outcome.PASS for truth, outcome in outcomes if not truth)
    assert 150 < passed < 250
    assert wrong_passed > 60
