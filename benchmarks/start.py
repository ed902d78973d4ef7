"""T5: how long `import core.orchestrator` takes in a fresh interpreter, and that it brings no torch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.record import Figure, figure

RUNS = 7


def measure(ids: Sequence[str]) -> list[Figure]:
    """Whole processes, the bare interpreter beside it."""
    light = "import core.orchestrator, sys; sys.exit('torch' in sys.modules)"
    seconds = [_seconds(light) for _ in range(RUNS + 1)][1:]
    bare, torch = _seconds("pass"), _seconds("import torch")
    return [
        figure(
            ids[0],
            "import core.orchestrator",
            seconds,
            "s",
            "under 1, without torch",
            max(seconds) < 1,
            {"bare interpreter": round(bare, 3), "import torch": round(torch, 3)},
        )
    ]


def _seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started
