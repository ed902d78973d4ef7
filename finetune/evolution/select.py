"""Who becomes a parent: tournament, rank and lexicase selection. Each draws many parents at once, as indices into the population."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import comb
from typing import Any

from finetune.evolution.config import GAConfig
from finetune.evolution.records import Evaluated


def parents(population: Sequence[Evaluated[Any]], count: int, config: GAConfig, rng: random.Random) -> list[int]:
    """`count` draws with replacement."""
    if config.selection == "lexicase":
        return [lexicase(population, config.lexicase_epsilon, rng) for _ in range(count)]
    n = len(population)
    if config.selection == "nsga2":  # they stand in the order of fronts and crowding already
        return rng.choices(range(n), cum_weights=tournament_weights(n, min(2, n)), k=count)
    by_rank = config.selection == "rank"
    weights = rank_weights(n, config.rank_pressure) if by_rank else tournament_weights(n, config.tournament_size)
    return rng.choices(_best_first(population, rng), cum_weights=weights, k=count)


@lru_cache(maxsize=64)
def tournament_weights(n: int, size: int) -> tuple[float, ...]:
    """Cumulative chances of the ranks, best first, to win a tournament of `size` distinct individuals out of n.

    All of it loses against rank r or better unless it was drawn from the n - r others: 1 - C(n - r, size) / C(n, size).
    """
    whole = comb(n, size)
    return tuple((whole - comb(n - rank, size)) / whole for rank in range(1, n + 1))


@lru_cache(maxsize=64)
def rank_weights(n: int, pressure: float) -> tuple[float, ...]:
    """Cumulative weights of linear ranking (Baker, 1985), best first."""
    if n == 1:
        return (1.0,)
    return tuple(accumulate(2 - pressure + 2 * (pressure - 1) * (n - 1 - rank) / (n - 1) for rank in range(n)))


def lexicase(population: Sequence[Evaluated[Any]], epsilon: float, rng: random.Random) -> int:
    """Cases in random order; who isn't within epsilon of the best of a case leaves (Spector, 2012; La Cava, 2016)."""
    left = [i for i, member in enumerate(population) if member.value is not None]
    if not left:
        return rng.randrange(len(population))
    values: list[tuple[float, ...]] = [member.value for member in population]  # type: ignore[misc]
    cases = list(range(len(values[left[0]])))
    rng.shuffle(cases)
    for case in cases:
        if len(left) == 1:
            break
        bar = max(values[i][case] for i in left) - epsilon
        left = [i for i in left if values[i][case] >= bar]
    return rng.choice(left)


def _best_first(population: Sequence[Evaluated[Any]], rng: random.Random) -> list[int]:
    """Indices by score; equal ones in random order, so that being old is no advantage on a plateau."""
    scores = [member.score for member in population]
    order = list(range(len(scores)))
    if len(set(scores)) < len({member.id for member in population}):
        rng.shuffle(order)
    order.sort(key=scores.__getitem__, reverse=True)
    return order
