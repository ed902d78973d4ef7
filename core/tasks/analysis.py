"""Small tables as CSV text, and questions whose answer is computed from them."""

from __future__ import annotations

import random

from core.tasks.logic import PEOPLE
from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
COLUMNS = ("score", "sales", "points", "visits")


def generate(rng: random.Random, level: int) -> Problem:
    """A table of 2 to 5 rows; its total, its maximum, or who has the maximum."""
    names = rng.sample(PEOPLE, level + 1)
    values = rng.sample(range(2, 60), level + 1)
    column = rng.choice(COLUMNS)
    table = "\n".join([f"name,{column}", *(f"{n},{v}" for n, v in zip(names, values, strict=True))])
    kind = rng.choice(("total", "maximum", "leader"))
    top = max(values)
    if kind == "total":
        question, answer, careful = f"What is the total {column}?", str(sum(values)), _running_sum(values)
    elif kind == "maximum":
        question, answer, careful = f"What is the highest {column}?", str(top), [f"{names[values.index(top)]},{top}"]
    else:
        leader = names[values.index(top)]
        question, answer, careful = f"Who has the highest {column}?", leader, [f"{leader},{top}"]
    task = Task(
        f"Data:\n{table}\nQuestion: {question}",
        Domain.ANALYSIS,
        reference=answer,
        level=level,
        family=kind,
        metadata={"data": table},
    )
    return Problem(task, answer, careful=tuple(careful), terse=tuple(careful[-1:]) if kind == "total" else ())


def _running_sum(values: list[int]) -> list[str]:
    lines, total = [], values[0]
    for value in values[1:]:
        lines.append(f"{total}+{value}={total + value}")
        total += value
    return lines
