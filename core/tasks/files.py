"""Tasks from a file of JSON lines, one object a line: prompt, and if known reference, domain, key, level, metadata."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any

from core.errors import TaskError
from core.types import Domain, Task

FIELDS = {"prompt", "domain", "reference", "expected", "key", "level", "family", "metadata"}
KINDS = {"key": (str, NoneType), "level": (int, NoneType), "family": (str, NoneType), "metadata": (dict, NoneType)}


def read_tasks(path: str | Path) -> list[Task]:
    """All tasks of a file. `expected` is another name for `reference`; a task without a domain is math. Raises TaskError with the line."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"can't read tasks from {path}: {error}") from error
    tasks = [_task(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not tasks:
        raise TaskError(f'{path} holds no tasks: write one JSON object a line, such as {{"prompt": "Solve 17*6+23", "reference": "125"}}')
    return tasks


def _task(path: str | Path, number: int, line: str) -> Task:
    try:
        return _read(json.loads(line))
    except (ValueError, TaskError) as error:
        raise TaskError(f"{path}, line {number}: {error}") from error


def _read(values: Any) -> Task:
    if not isinstance(values, dict):
        raise TaskError(f"{values!r} is no JSON object: write the task's fields in braces")
    if unknown := sorted(set(values) - FIELDS):
        raise TaskError(f"unknown field {unknown[0]!r}, the fields are {', '.join(sorted(FIELDS))}")
    if "prompt" not in values:
        raise TaskError("there is no prompt: every task has one")
    expected, reference = values.pop("expected", None), values.pop("reference", None)
    reference = expected if reference is None else reference
    for field, kind in KINDS.items():
        if not isinstance(values.get(field), kind):
            raise TaskError(f"{field} is {values[field]!r}: write {' or '.join(k.__name__ for k in kind if k is not NoneType)}")
    given = {field: value for field, value in values.items() if value is not None}
    return Task(**{"domain": Domain.MATH, **given}, reference=None if reference is None else str(reference))
