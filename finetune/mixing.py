"""How much of what goes into a dataset: tasks in an order that the seed decides, hard ones first if asked, no domain above its share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from core.errors import TrainingError
from core.types import Record


@dataclass(frozen=True, slots=True)
class Portion(Record):
    """What one task gives: so many rows. `pass_rate` is the share of its attempts that passed; None where that is unknown."""

    task_id: str
    domain: str
    rows: int
    pass_rate: float | None = None


def draw(seed: int, name: str) -> float:
    """A number in (0, 1) that follows from the seed and the name, and from nothing else."""
    return (int.from_bytes(blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big") + 0.5) / 2**64


def in_order(portions: Sequence[Portion], seed: int, *, hard_first: bool = False) -> list[int]:
    """Places of the portions as they go into the dataset. Hard first: a weighted draw, a task that fails twice as often comes sooner.

    The weights are 1 - pass rate (Efraimidis and Spirakis, 2006: by u^(1/w)); tasks of unknown rate count as half solved.
    """

    def key(place: int) -> tuple[float, str]:
        portion = portions[place]
        u = draw(seed, portion.task_id)
        if hard_first:
            weight = max(1 - (0.5 if portion.pass_rate is None else portion.pass_rate), 1e-3)
            return -math.log(u) / weight, portion.task_id
        return u, portion.task_id

    return sorted(range(len(portions)), key=key)


def shared_out(portions: Sequence[Portion], max_share: float, limit: int | None) -> list[Literal["share", "limit"] | None]:
    """What each falls at: its domain's share, the limit, or nothing. First come, first served.

    Raises TrainingError when the share can't be kept by the domains there are.
    """
    counts: Counter[str] = Counter()
    for portion in portions:
        counts[portion.domain] += portion.rows
    most = _most_of_one(list(counts.values()), max_share)
    if counts and not most:
        raise TrainingError(
            f"no domain may have more than {max_share:.0%} of the rows, but there are only these: {', '.join(sorted(counts))}. "
            "Raise max_share, or collect other domains"
        )
    taken: Counter[str] = Counter()
    fate: list[Literal["share", "limit"] | None] = []
    for portion in portions:
        if taken[portion.domain] + portion.rows > most:
            fate.append("share")
        elif limit is not None and taken.total() + portion.rows > limit:
            fate.append("limit")
        else:
            taken[portion.domain] += portion.rows
            fate.append(None)
    return fate


def _most_of_one(counts: Sequence[int], share: float) -> int:
    """The greatest number of rows that one domain may have so that none has more than its share of what is left."""
    if share >= 1:
        return max(counts, default=0)
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if min(middle, max(counts)) <= share * sum(min(count, middle) for count in counts) + 1e-9:
            low = middle
        else:
            high = middle - 1
    return low
