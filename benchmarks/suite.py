"""T7: `make test` in a fresh clone, installation included."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Figure, figure


def measure(ids: Sequence[str]) -> list[Figure]:
    """One run: it takes many minutes."""
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
        started = time.monotonic()
        subprocess.run(["make", "test"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        minutes = (time.monotonic() - started) / 60
    return [figure(ids[0], "make test, fresh clone", [round(minutes, 2)], "minutes", "under 15", minutes < 15)]
