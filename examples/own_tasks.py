"""Collect, learn and deploy in one page, with the embedded model: `python examples/own_tasks.py`."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from core.config import Settings
from core.orchestrator import Orchestrator
from core.tasks.draw import draw
from core.types import Split
from finetune_setup import finetune_worker


def main() -> None:
    """Your own tasks would come from core.tasks.files.read_tasks."""
    tasks = draw("math", 200, Split.TRAIN, random.Random(7))
    with tempfile.TemporaryDirectory() as folder:
        logs, adapter = Path(folder) / "logs", Path(folder) / "adapter"
        with Orchestrator(enable_logging=True, log_dir=logs) as orchestrator:
            results = orchestrator.infer_many(tasks)
        print(f"{sum(r.verified for r in results)} of {len(results)} verified")
        finetune_worker("embedded", "math", adapter, logs, epochs=1, batch_size=32, lr=2e-3)
        with Orchestrator(Settings(MATH_WORKER_MODEL=str(adapter))) as orchestrator:
            print(orchestrator.infer("Solve 17*6+23", strategy="single").text)


if __name__ == "__main__":
    main()
