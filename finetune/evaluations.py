"""Evaluations on disk: what a worker answered on held-out tasks is asked once, since neither adapters nor tasks change."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from core.slots import replace_file
from core.types import Task
from finetune.evaluation import Evaluation

COLUMNS = ("right", "texts", "ended", "tokens", "cost", "seconds")

Ask = Callable[[str, Sequence[Task]], Evaluation]


class Evaluations:
    """In a folder, by the worker's name and the tasks. `ask` evaluates what is not there."""

    def __init__(self, folder: str | Path, ask: Ask) -> None:
        self.folder, self._ask = Path(folder), ask

    def of(self, spec: str, tasks: Sequence[Task]) -> Evaluation:
        """That worker's answers to these tasks. A file that can't be read is made again."""
        name = sha256("\0".join((spec, *(task.id for task in tasks))).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.json"
        with suppress(OSError, ValueError, TypeError, KeyError):
            return _read(json.loads(path.read_text(encoding="utf-8")), tasks)
        found = self._ask(spec, tasks)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps({"worker": spec, **{name: getattr(found, name) for name in COLUMNS}}) + "\n")
        return found


def _read(values: dict[str, Any], tasks: Sequence[Task]) -> Evaluation:
    columns = [tuple(values[name]) for name in COLUMNS]
    if any(len(column) not in (0, len(tasks)) for column in columns) or len(columns[0]) != len(tasks):
        raise ValueError("not as many answers as tasks")
    return Evaluation(tuple(tasks), *columns)
