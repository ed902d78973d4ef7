"""Draw tasks from a generator: distinct, of one side of the fence, levels in equal shares or as asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Sequence
from typing import Any

from core.errors import TaskError
from core.registry import SOURCES, resolve
from core.tasks.problem import Problem
from core.tasks.splits import shown_in_pretraining, split_of
from core.types import Split, Task

TRIES = 2_000


def draw(
    source: str, count: int, split: Split, rng: random.Random, levels: Sequence[int] = (1, 2, 3, 4), known: Container[str] = ()
) -> list[Task]:
    """`count` tasks of a source, such as "math" or "gym:countdown", whose keys are new and not `known`.

    Never one that pretraining has shown. Raises TaskError when they run out.
    """
    generate = _generator(source)
    tasks: list[Task] = []
    seen: set[str] = set()
    for i in range(count):
        level = levels[i % len(levels)]
        for _ in range(TRIES):
            task: Task = generate(rng, level).task
            if task.key in seen or task.key in known or split_of(task) is not split or shown_in_pretraining(task):
                continue
            break
        else:
            raise TaskError(f"{source} has no more new tasks of level {level} in {split}: asked for {count}, found {i}")
        seen.add(task.key)
        tasks.append(task)
    return tasks


def _generator(source: str) -> Callable[[random.Random, int], Problem]:
    """The generator of that name; with a colon, of a family of it."""
    name, _, family = source.partition(":")
    generate: Any = resolve({**SOURCES, "gym": "core.tasks.gym:source"}, name)
    if name == "gym":
        if not family:
            raise TaskError("the gym has many families: name one, such as gym:countdown")
        generate = generate(family)
    found: Callable[[random.Random, int], Problem] = generate
    return found
