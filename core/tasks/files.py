"""Tasks from a file of JSON lines, one object a line: prompt, and if known reference, domain, key, level, metadata."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import TaskError
from core.types import Domain, Task

FIELDS = {"prompt", "domain", "reference", "expected", "key", "level", "family", "metadata"}


def read_tasks(path: Path) -> list[Task]:
    """All tasks of a file. `expected` is another name for `reference`; a task without a domain is math. Raises TaskError with the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"can't read tasks from {path}: {error}") from error
    tasks = [_task(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not tasks:
        raise TaskError(f'{path} holds no tasks: write one JSON object a line, such as {{"prompt": "Solve 17*6+23", "reference": "125"}}')
    return tasks


def _task(path: Path, number: int, line: str) -> Task:
    try:
        values = json.loads(line)
        unknown = sorted(set(values) - FIELDS)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}, the fields are {', '.join(sorted(FIELDS))}")
        expected, reference = values.pop("expected", None), values.pop("reference", None)
        reference = expected if reference is None else reference
        domain = Domain(values.pop("domain", Domain.MATH))
        return Task(values.pop("prompt"), domain, None if reference is None else str(reference), **values)
    except (ValueError, TypeError, KeyError, AttributeError, TaskError) as error:
        raise TaskError(f"{path}, line {number}: {error}") from error
