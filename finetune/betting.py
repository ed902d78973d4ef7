"""Two streams of outcomes compared after every single one: e-processes against "the mean of one keeps to this side of a line".

Blocks of both arms are bet on as in Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
optional stopping" (JSPI 230, 2024), with the null a half-plane as in Turner and Grünwald, "Exact anytime-valid confidence intervals for
contingency tables and beyond" (2022): the alternative's likelihood over that of its Kullback-Leibler projection on the null. The factors
are linear in an outcome, so that rewards in [0, 1] are bet on like rights and wrongs. By Ville's inequality the chance that wealth ever
reaches 1 / alpha while the null holds is at most alpha, whenever and however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from core.types import Record

LEAST_RATE, STEP = 1e-3, 0.1


@dataclass(frozen=True, slots=True)
class Line(Record):
    """The edge of a null hypothesis: canary = slope * champion + offset. `above` says that the null is the side of a greater canary."""

    slope: float
    offset: float
    above: bool

    def allows(self, champion: float, canary: float) -> bool:
        """Whether the null holds for these means."""
        edge = self.slope * champion + self.offset
        return canary >= edge if self.above else canary <= edge


class Bets:
    """Wealth that grows while the null is wrong. `alternatives` says for a champion's mean which means of the canary are bet on, in equal
    shares; a bet on what the null allows is not made.

    A block is what came since the last one, and is closed as soon as it has an outcome of both arms: that looks at arms and never at
    values, as the guarantee asks for. The means that are bet on come from earlier blocks alone. Traffic may change over time, as long as
    both arms of a block see the same.
    """

    def __init__(self, line: Line, alternatives: Sequence[float], relative: bool) -> None:
        """`relative`: the alternatives are differences from the edge of the null, otherwise they are the canary's means themselves."""
        self._line, self._alternatives, self._relative = line, tuple(alternatives), relative
        self._logs = [0.0] * len(self._alternatives)
        self._sum, self._n = 0.0, 0
        self._waiting: tuple[list[float], list[float]] = ([], [])
        self.wealth = 1.0
        """The e-value so far."""

    def tell(self, canary: bool, outcome: float) -> None:
        """One outcome in [0, 1] of an arm."""
        self._waiting[canary].append(outcome)
        if all(self._waiting):
            self._settle(*self._waiting)
            self._waiting = ([], [])

    def _settle(self, champion: list[float], canary: list[float]) -> None:
        rate = _rounded((self._sum + 0.5) / (self._n + 1))
        for i, alternative in enumerate(self._alternatives):
            bet = _bet(self._line, rate, alternative, self._relative, len(champion), len(canary))
            if bet:
                self._logs[i] += _gain(champion, bet[0]) + _gain(canary, bet[1])
        self._sum += math.fsum(champion)
        self._n += len(champion)
        self.wealth = math.fsum(math.exp(min(log, 600.0)) for log in self._logs) / len(self._logs)


@dataclass(frozen=True, slots=True)
class _Factor(Record):
    """An outcome y multiplies wealth by 1 + (y - p) slope; the logarithms for wrong and right are worked out."""

    p: float
    slope: float
    wrong: float
    right: float


def _gain(outcomes: list[float], factor: _Factor) -> float:
    """The logarithm of what the outcomes multiply wealth by."""
    right, wrong = outcomes.count(1.0), outcomes.count(0.0)
    gain = right * factor.right + wrong * factor.wrong
    if right + wrong < len(outcomes):
        gain += math.fsum(math.log1p((y - factor.p) * factor.slope) for y in outcomes if y not in (0.0, 1.0))
    return gain


@lru_cache(maxsize=1 << 16)
def _bet(line: Line, champion: float, alternative: float, relative: bool, n: int, m: int) -> tuple[_Factor, _Factor] | None:
    """The factors of a block with n outcomes of the champion and m of the canary. None when the alternative is no alternative."""
    edge = line.slope * champion + line.offset
    bet_on = (edge - alternative if line.above else edge + alternative) if relative else alternative
    canary = min(max(bet_on, LEAST_RATE), 1 - LEAST_RATE)
    if line.allows(champion, canary):
        return None
    p = _projected(line, champion, canary, n, m)
    return _factor(champion, p), _factor(canary, line.slope * p + line.offset)


def _factor(alternative: float, null: float) -> _Factor:
    slope = (alternative - null) / (null * (1 - null))
    return _Factor(null, slope, math.log1p(-null * slope), math.log1p((1 - null) * slope))


def _projected(line: Line, champion: float, canary: float, n: int, m: int) -> float:
    """The champion's mean at the point of the edge that is nearest to the alternative, by n and m times the Kullback-Leibler divergence."""
    low, high = max(0.0, -line.offset / line.slope), min(1.0, (1 - line.offset) / line.slope)
    for _ in range(60):
        p = (low + high) / 2
        q = line.slope * p + line.offset
        rises = n * (p - champion) / (p * (1 - p)) + line.slope * m * (q - canary) / (q * (1 - q))
        low, high = (low, p) if rises > 0 else (p, high)
    return (low + high) / 2


def _rounded(rate: float) -> float:
    """To a tenth of a logit: as good a bet, and one that was worked out before."""
    rate = min(max(rate, LEAST_RATE), 1 - LEAST_RATE)
    return 1 / (1 + math.exp(-round(math.log(rate / (1 - rate)) / STEP) * STEP))
