"""Budgets: reserved when a ticket is asked, settled when its answer is told, a hard stop in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.types import Record, Usage

NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Budget(Record):
    """What a search may use; None is no limit. cost is in US dollars, seconds are of the wall clock."""

    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Spent(Record):
    """Where a budget went. `used` holds all that was paid for, `wasted` the part whose answers came too late or never."""

    used: Usage = field(default_factory=Usage)
    wasted: Usage = field(default_factory=Usage)
    cached: Usage = field(default_factory=Usage)


class Ledger:
    """Keeps used and reserved amounts below the budget. A provider that doesn't tell its costs is not bounded by `cost`."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.spent = Spent()
        self._reserved: dict[int, Usage] = {}

    def reserve(self, number: int, estimate: Usage, elapsed: float = 0.0) -> str | None:
        """None when the ticket fits into what is left beside all that is under way; else the name of the limit that it would break."""
        total = self.spent.used + estimate
        for reserved in self._reserved.values():
            total = total + reserved
        broken = _broken(self.budget, total, elapsed)
        if broken is None:
            self._reserved[number] = estimate
        return broken

    def settle(self, number: int, usage: Usage, *, wasted: bool = False, cached: bool = False) -> None:
        """What a ticket has really used. What a cache answered costs nothing and is reported beside it."""
        del self._reserved[number]
        if cached:
            self.spent = self.spent.replace(cached=self.spent.cached + usage)
            return
        self.spent = self.spent.replace(used=self.spent.used + usage, wasted=self.spent.wasted + usage if wasted else self.spent.wasted)

    @property
    def reserved(self) -> int:
        """How many tickets are under way."""
        return len(self._reserved)


def _broken(budget: Budget, total: Usage, elapsed: float) -> str | None:
    if budget.calls is not None and total.calls > budget.calls:
        return "calls"
    if budget.prompt_tokens is not None and total.prompt_tokens > budget.prompt_tokens:
        return "prompt_tokens"
    if budget.completion_tokens is not None and total.completion_tokens > budget.completion_tokens:
        return "completion_tokens"
    if budget.cost is not None and (total.cost or 0.0) > budget.cost:
        return "cost"
    return "seconds" if budget.seconds is not None and elapsed >= budget.seconds else None
