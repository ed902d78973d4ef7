"""The account of a dataset: what came into every filter, what it dropped with examples, what is left. Nothing goes missing unnamed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import TrainingError
from core.types import Record

EXAMPLES = 3
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Example(Record):
    """Something that was dropped: its id and the beginning of what it said, or of why it fell."""

    id: str
    told: str


@dataclass(frozen=True, slots=True)
class Sieve(Record):
    """One filter: what came in, what it dropped, what is left. `examples` are the first few that fell."""

    name: str
    came: int
    dropped: int
    examples: tuple[Example, ...] = ()

    @property
    def left(self) -> int:
        """What the next filter gets."""
        return self.came - self.dropped


@dataclass(frozen=True, slots=True)
class Funnel(Record):
    """All filters in order; every row that came in is either left at the end or counted at the filter that dropped it."""

    sieves: tuple[Sieve, ...]

    @property
    def came(self) -> int:
        """Rows before the first filter."""
        return self.sieves[0].came if self.sieves else 0

    @property
    def left(self) -> int:
        """Rows after the last filter."""
        return self.sieves[-1].left if self.sieves else 0

    @property
    def strictest(self) -> str:
        """The name of the filter that dropped most; "" when nothing was dropped."""
        worst = max(self.sieves, key=lambda sieve: sieve.dropped, default=None)
        return worst.name if worst and worst.dropped else ""

    def __str__(self) -> str:
        rows = [f"  {s.name:<28} -{s.dropped:<7} {s.left}" for s in self.sieves]
        return "\n".join([f"{'traces':<30} {'':<8} {self.came}", *rows])

    def told(self) -> str:
        """The table with examples below each filter that dropped something."""
        lines = [f"{'traces':<30} {'':<8} {self.came}"]
        for sieve in self.sieves:
            lines.append(f"  {sieve.name:<28} -{sieve.dropped:<7} {sieve.left}")
            lines += [f"      {example.id}  {example.told}" for example in sieve.examples]
        return "\n".join(lines)


class Tally:
    """Counts what falls, in the order in which the filters stand. A stream goes through it once, and no row is held."""

    def __init__(self, names: Sequence[str]) -> None:
        self.came = 0
        self._dropped = dict.fromkeys(names, 0)
        self._examples: dict[str, list[Example]] = {name: [] for name in names}

    def drop(self, name: str, id: str, told: str) -> None:
        """One row fell at this filter."""
        self._dropped[name] += 1
        examples = self._examples[name]
        if len(examples) < EXAMPLES:
            examples.append(Example(id, beginning(told)))

    def wants(self, name: str) -> bool:
        """Whether more examples of this filter would be shown."""
        return len(self._examples[name]) < EXAMPLES

    def funnel(self, left: int) -> Funnel:
        """The account. Raises TrainingError when it doesn't add up to what is left: then a row was lost without a name."""
        sieves, came = [], self.came
        for name, dropped in self._dropped.items():
            sieves.append(Sieve(name, came, dropped, tuple(self._examples[name])))
            came -= dropped
        if came != left:
            raise TrainingError(f"{self.came} rows came and the filters account for {self.came - came}, but {left} are left: report this")
        return Funnel(tuple(sieves))


def funnel_from(values: Iterable[dict[str, Any]]) -> Funnel:
    """A funnel as it was written to a card."""
    return Funnel(tuple(Sieve(v["name"], v["came"], v["dropped"], tuple(Example(**e) for e in v["examples"])) for v in values))


def beginning(text: str) -> str:
    """The first words on one line."""
    line = " ".join(text[: 4 * SHOWN].split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
