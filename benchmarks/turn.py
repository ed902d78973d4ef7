"""T1 to T4 and T6: the demonstration over three seeds, and its control with shuffled verdicts, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure

SEEDS = (0, 1, 2)


def measure(ids: Sequence[str]) -> list[Figure]:
    """Three runs of about five minutes, and one more for T4."""
    with tempfile.TemporaryDirectory() as folder:
        found: list[Figure] = []
        if set(ids) - {"T4"}:
            found += _rise([_demo(Path(folder) / str(seed), seed) for seed in SEEDS])
        if "T4" in ids:
            found.append(_control(_demo(Path(folder) / "control", 0, "--control", "shuffled")))
        return found


def _demo(out: Path, seed: int, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "core.apps.cli", "demo", "--out", str(out), "--seeds", str(seed), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def _rise(reports: Sequence[dict[str, Any]]) -> list[Figure]:
    def shares(*path: str) -> list[float]:
        found = []
        for report in reports:
            record: Any = report
            for key in path:
                record = record[key]
            found.append(100 * record["accuracy"])
        return found

    before, forced, after = (shares("report", key) for key in ("before", "steps_forced", "after"))
    gain = [b - a for a, b in zip(before, after, strict=True)]
    beyond = [b - a for a, b in zip(forced, after, strict=True)]
    apart = all(r["report"]["before"]["interval"][1] < r["report"]["after"]["interval"][0] for r in reports)
    promotions = [r["promotions"] for r in reports]
    sure = all(r["report"]["p_value_against_steps_forced"] < 0.001 for r in reports)
    searched = shares("search", "after")
    seconds, memory = [r["seconds"] for r in reports], [r["peak_memory_mb"] for r in reports]
    ends = {"before": median(before), "after": median(after)}
    met = min(gain) >= 30 and apart and min(promotions) >= 2
    return [
        figure("T1", "make demo, installation not counted", seconds, "s", "at most 360", max(seconds) <= 360),
        figure("T2", "rise on the report split", gain, "points", "at least 30, intervals apart, 2 promotions", met, ends),
        figure("T2", "promotions", promotions, "of 3 rounds", "at least 2", min(promotions) >= 2),
        figure(
            "T2b",
            "rise over the base forced to write steps",
            beyond,
            "points",
            "at least 8, p < .001",
            min(beyond) >= 8 and sure,
            {"forced": median(forced)},
        ),
        figure("T3", "with search, after", searched, "%", "reported", None, {"with search, before": median(shares("search", "before"))}),
        figure("T6", "peak memory of the demo", memory, "MB", "under 2000", max(memory) < 2000),
    ]


def _control(report: dict[str, Any]) -> Figure:
    ends = {"before": 100 * report["report"]["before"]["accuracy"], "after": 100 * report["report"]["after"]["accuracy"]}
    return figure("T4", "promotions with shuffled verdicts", [report["promotions"]], "of 3 rounds", "none", report["promotions"] == 0, ends)
