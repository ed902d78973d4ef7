"""A task as one text: all of it that its answer and its verdict depend on, so that equal texts mean the same task."""

from __future__ import annotations

import json
from uuid import uuid4

from core.types import Task


def spelled(task: Task) -> str:
    """ASCII; the order of the metadata's keys does not count. Metadata that can't be spelled out make the task unlike any other."""
    parts = (task.domain, task.prompt, task.reference, task.family)
    try:
        return json.dumps((*parts, task.metadata), sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys of several types, or in circles, or nested a thousand deep
        return json.dumps((*parts, uuid4().hex))
