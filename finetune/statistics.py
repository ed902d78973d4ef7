"""Statistics of two workers on the same tasks: shares and means, exact tests of paired results, bounds, and how many tasks it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from core.errors import TrainingError
from core.types import Record

Z95 = 1.959963984540054
ONE_SIDED_Z95 = 1.6448536269514722
EXACT_BELOW = 17
DRAWS = 20_000
AT_ONCE = 4_000_000
MOST_TASKS = 10_000_000


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """A share, or a mean reward, and its 95 % interval. `right` is the number of right answers, or the sum of the rewards."""

    accuracy: float
    low: float
    high: float
    right: float
    n: int

    def __str__(self) -> str:
        return f"{self.accuracy:6.1%} [{self.low:.1%}, {self.high:.1%}]"


def wilson(right: int, n: int) -> Interval:
    """The share right / n with its 95 % interval (Wilson, 1927); n must be positive."""
    if n <= 0:
        raise TrainingError("nothing was evaluated: give at least one task")
    p = right / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half), right, n)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval, by the normal approximation; a single value has no width. There must be one."""
    if not values:
        raise TrainingError("nothing was evaluated: give at least one task")
    mean, half = math.fsum(values) / len(values), Z95 * _standard_error(values)
    return Interval(mean, mean - half, mean + half, math.fsum(values), len(values))


def mcnemar(gained: int, lost: int) -> float:
    """One-sided exact p-value: the chance of at least `gained` of the discordant tasks if neither worker were better."""
    n, ways, tail = gained + lost, 1, 0
    for k in range(lost + 1):  # `lost` or fewer tails are `gained` or more heads
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return tail / (1 << n)


def permutation(differences: Sequence[float], seed: int = 0, draws: int = DRAWS) -> float:
    """One-sided p-value of a mean difference above 0: the chance of so large a sum if each difference could as well have been negative.

    Exact up to 16 differences that are not 0; beyond, drawn, and the observed signs count as one draw (Phipson and Smyth, 2010).
    """
    moved = [d for d in differences if d != 0]
    observed = math.fsum(moved)
    least = observed - 1e-9 * math.fsum(map(abs, moved))  # sums that are equal but for rounding are equal
    if len(moved) < EXACT_BELOW:
        sums = [0.0]
        for d in moved:
            sums = [s + signed for s in sums for signed in (d, -d)]
        return sum(s >= least for s in sums) / len(sums)
    import numpy

    rng, sizes = numpy.random.default_rng(seed), numpy.asarray(moved, float)
    rows, reached, left = max(1, AT_ONCE // len(moved)), 0, draws
    while left > 0:
        signs = rng.integers(0, 2, (min(rows, left), len(moved)), numpy.int8).astype(numpy.float32) * 2 - 1
        reached += int((signs @ sizes >= least).sum())
        left -= rows
    return (reached + 1) / (draws + 1)


def lower_bound(gained: int, lost: int, n: int, z: float = ONE_SIDED_Z95) -> float:
    """The one-sided 95 % lower bound of the difference of two paired shares, (gained - lost) / n (the score interval of Tango, 1998).

    Unlike Wald's it has a width without a single discordant task: 0 of 100 tells no more than that the loss is below 2.6 points.
    """
    low, high = -1.0, (gained - lost) / n
    for _ in range(60):
        middle = (low + high) / 2
        b = -gained - lost + (2 * n - gained + lost) * middle
        lost_then = (math.sqrt(max(0.0, b * b + 8 * n * lost * middle * (1 - middle))) - b) / (4 * n)
        variance = n * (2 * lost_then + middle * (1 - middle))
        if gained - lost - n * middle > z * math.sqrt(max(0.0, variance)):
            low = middle
        else:
            high = middle
    return low


def upper_bound(gained: int, lost: int, n: int, z: float = ONE_SIDED_Z95) -> float:
    """The one-sided 95 % upper bound of the same difference."""
    return -lower_bound(lost, gained, n, z)


def mean_bounds(differences: Sequence[float], z: float = ONE_SIDED_Z95) -> tuple[float, float]:
    """The one-sided 95 % lower and upper bound of a mean difference, by the normal approximation."""
    mean, half = math.fsum(differences) / len(differences), z * _standard_error(differences)
    return mean - half, mean + half


def tasks_for_gain(gained: int, lost: int, n: int, alpha: float, power: float = 0.8) -> int | None:
    """How many tasks it takes for McNemar to see the observed gain with that power (Connor, 1987, corrected for the exact test).

    None when nothing was gained, or when it would take more than ten million.
    """
    if gained <= lost:
        return None
    discordant, gain = (gained + lost) / n, (gained - lost) / n
    z_alpha, z_beta = _z(1 - alpha), _z(power)
    base = (z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(max(0.0, discordant - gain * gain))) ** 2 / gain**2
    return _counted(base + 1 / gain)


def tasks_for_mean(mean: float, deviation: float, alpha: float, power: float = 0.8) -> int | None:
    """How many tasks it takes to see a mean difference above 0 whose single differences have that standard deviation."""
    if mean <= 0:
        return None
    return _counted(((_z(1 - alpha) + _z(power)) * deviation / mean) ** 2)


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 of fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _standard_error(values: Sequence[float]) -> float:
    return deviation(values) / math.sqrt(len(values))


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _counted(tasks: float) -> int | None:
    return math.ceil(tasks) if tasks <= MOST_TASKS else None
