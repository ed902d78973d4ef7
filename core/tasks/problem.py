"""A generated task together with how three authors would solve it; the solutions teach the embedded model and nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.types import Record, Task

Style = Literal["direct", "terse", "careful"]


@dataclass(frozen=True, slots=True)
class Problem(Record):
    """A task, its answer, and its solution as lines: `careful` writes every step, `terse` fewer, `direct` none."""

    task: Task
    answer: str
    careful: tuple[str, ...]
    terse: tuple[str, ...]

    def solution(self, style: Style) -> str:
        """The whole text one author writes. An author with nothing of his own to say writes the direct one."""
        lines = {"direct": (), "terse": self.terse, "careful": self.careful}[style]
        if self.task.family == "function":
            return "\n".join(lines) if lines else self.answer
        return "\n".join([*lines, f"Answer: {self.answer}"])
