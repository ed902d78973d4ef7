"""Small programming problems: a signature and its description, with examples, a `check(candidate)` text, a solution and wrong solutions."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core.tasks.problem import Problem
from core.types import Domain, Record, Task

FILE = Path(__file__).with_name("programming.jsonl")
FAMILY = "programming"
LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Exercise(Record):
    """A problem of the file. `solution` is whole and right; each of `mutants` is whole and differs from it in what it does."""

    task: Task
    solution: str
    mutants: tuple[str, ...]


@cache
def problems() -> tuple[Exercise, ...]:
    """All of them, in the order of the file. Level 1 to 4 is a quarter of them each, by the length of the solution."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").split("\n") if line]
    by_length = sorted(rows, key=lambda row: (len(row["solution"]), row["entry_point"]))
    levels = {row["entry_point"]: 1 + 4 * place // len(rows) for place, row in enumerate(by_length)}
    return tuple(_exercise(row, levels[row["entry_point"]]) for row in rows)


def generate(rng: random.Random, level: int) -> Problem:
    """One of the problems of a level, 1 to 4."""
    exercise = rng.choice([exercise for exercise in problems() if exercise.task.level == level])
    return Problem(exercise.task, f"```python\n{exercise.solution}```", careful=(), terse=())


def _exercise(row: dict[str, Any], level: int) -> Exercise:
    name, body = row["entry_point"], row["solution"]
    task = Task(
        f"Write this Python function.\n\n{row['prompt']}",
        Domain.CODE,
        reference=row["prompt"] + body,
        key=f"programming:{name}",
        level=level,
        family=FAMILY,
        metadata={"entry_point": name, "setup": row["prompt"], "tests": row["tests"], "test": row["test"], "doctest": True, "pure": True},
    )
    mutants = tuple(row["prompt"] + body.replace(right, wrong, 1) for right, wrong in row["mutants"])
    return Exercise(task, row["prompt"] + body, mutants)
