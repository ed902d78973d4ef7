"""Is the candidate better than the champion, by more than chance? Exact statistics on the same held-out tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import TrainingError
from core.types import Record

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """A share and its 95 % interval (Wilson, 1927)."""

    accuracy: float
    low: float
    high: float
    right: int
    n: int

    def __str__(self) -> str:
        return f"{self.accuracy:6.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """What the gate found: `gained` tasks only the candidate solves, `lost` tasks only the champion does."""

    promoted: bool
    reason: str
    champion: Interval
    candidate: Interval
    gained: int
    lost: int
    p_value: float
    alpha: float


def wilson(right: int, n: int) -> Interval:
    """The share right / n with its 95 % interval; n must be positive."""
    if n <= 0:
        raise TrainingError("nothing was evaluated: give at least one task")
    p = right / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half), right, n)


def mcnemar(gained: int, lost: int) -> float:
    """One-sided exact p-value: the chance of at least `gained` of the discordant tasks if neither worker were better."""
    n = gained + lost
    return sum(math.comb(n, k) for k in range(gained, n + 1)) / (1 << n)


def decide(champion: Sequence[bool], candidate: Sequence[bool], alpha: float = 0.05, looks: int = 1) -> Decision:
    """Promote only on evidence. alpha is shared equally (Bonferroni) between the looks that this held-out set is to serve.

    champion[i] and candidate[i] are about the same task under the same seed.
    """
    if not 0 < alpha < 1 or looks < 1:
        raise TrainingError(f"alpha is {alpha} and looks {looks}: alpha lies between 0 and 1, and a held-out set is looked at once or more")
    if len(champion) != len(candidate):
        raise TrainingError(f"the gate pairs results: {len(champion)} of the champion, {len(candidate)} of the candidate")
    gained = sum(b and not a for a, b in zip(champion, candidate, strict=True))
    lost = sum(a and not b for a, b in zip(champion, candidate, strict=True))
    p_value, spent = mcnemar(gained, lost), alpha / looks
    promoted = p_value < spent and gained > lost
    if promoted:
        reason = f"better by more than chance: p = {p_value:.2g} < {spent:.2g}"
    elif gained > lost:
        reason = f"not enough evidence: {gained} gained, {lost} lost, p = {p_value:.2g}; evaluate on more held-out tasks"
    else:
        reason = f"not better: {gained} gained, {lost} lost"
    n = len(champion)
    return Decision(promoted, reason, wilson(sum(champion), n), wilson(sum(candidate), n), gained, lost, p_value, spent)
