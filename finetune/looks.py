"""How often a held-out set has decided: every look spends some of its alpha, and when that is spent the set has to be refreshed.

One line of JSON a look, appended under a lock and on disk before the results may be looked at. The file is never shortened: a look
that was taken back would be a look that nobody paid for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError, TrainingError
from core.slots import locked
from core.types import Record, Task
from finetune.journal import append_line, read_lines

LOOKS, ALPHA = 10, 0.05


@dataclass(frozen=True, slots=True)
class Look(Record):
    """The leave to decide once with a held-out set, at `alpha`; 0 when its looks are used up, and then nothing can be promoted."""

    held_out: str
    number: int
    planned: int
    alpha: float
    what: str

    @property
    def used_up(self) -> bool:
        """True when the set has nothing left to spend."""
        return self.alpha == 0


def held_out_id(tasks: Iterable[Task]) -> str:
    """16 hex digits: the same tasks are the same held-out set, whatever their order. Raises TrainingError when there are none."""
    ids = sorted({task.id for task in tasks})
    if not ids:
        raise TrainingError("a held-out set needs at least one task")
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


class Looks:
    """The looks of all held-out sets of a project, in one file. `alpha` is what each set may spend in all, over the `planned` looks."""

    def __init__(self, path: str | Path, planned: int = LOOKS, alpha: float = ALPHA) -> None:
        if planned < 1 or not 0 < alpha < 1:
            raise ConfigError(f"looks are {planned} and alpha is {alpha}: a set is looked at once or more, and alpha lies between 0 and 1")
        self.path, self.planned, self.alpha = Path(path), planned, alpha

    def used(self, held_out: str) -> int:
        """How many decisions the set has served."""
        return len(self._of(held_out))

    def left(self, held_out: str) -> int:
        """How many more it may serve."""
        return _affordable(self.alpha - _spent(self._of(held_out)), self.alpha / self.planned)

    def take(self, held_out: str, what: str) -> Look:
        """The next look of a set, or the one that was taken before for the same `what`: a candidate beside a champion, by their hashes.

        What was spent under another plan stays spent. A look that can't be afforded has alpha 0 and is not recorded. Raises
        TrainingError when the file can't be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_name(f".{self.path.name}.lock")):
                taken = self._of(held_out)
                for known in taken:
                    if known.what == what:
                        return known
                price = self.alpha / self.planned
                if not _affordable(self.alpha - _spent(taken), price):
                    return Look(held_out, len(taken), self.planned, 0.0, what)
                look = Look(held_out, len(taken) + 1, self.planned, price, what)
                append_line(self.path, look.as_dict())
                return look
        except OSError as error:
            raise TrainingError(f"can't keep the looks in {self.path} ({error}): choose a place that can be written") from error

    def _of(self, held_out: str) -> list[Look]:
        return [look for look in map(self._look, read_lines(self.path)) if look.held_out == held_out]

    def _look(self, values: Any) -> Look:
        try:
            look = Look(**values)
            if not (0 < look.alpha < 1 and isinstance(look.held_out, str) and isinstance(look.what, str)):
                raise ValueError("no look")
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{self.path} holds {json.dumps(values)[:80]}, which is no look: take the file from a backup") from error
        return look


def _spent(looks: list[Look]) -> float:
    return math.fsum(look.alpha for look in looks)


def _affordable(purse: float, price: float) -> int:
    return max(0, math.floor(purse / price + 1e-9))
