"""From one generation to the individuals of the next: parents chosen, copied, crossed, mutated; best ones sent to other islands."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from core.errors import ConfigError
from finetune.evolution.chance import Borrowed, stream, wants_rng
from finetune.evolution.config import GAConfig
from finetune.evolution.records import Evaluated
from finetune.evolution.select import parents

T = TypeVar("T")


class Variation(Generic[T]):
    """The user's functions, which only ever get copies."""

    def __init__(
        self,
        config: GAConfig,
        borrowed: Borrowed,
        initialize_fn: Callable[..., T],
        mutate_fn: Callable[..., T],
        crossover_fn: Callable[..., T],
        copy_fn: Callable[[T], T],
    ) -> None:
        self.config, self._borrowed = config, borrowed
        self._initialize, self._initialize_asks = initialize_fn, wants_rng(initialize_fn)
        self._mutate, self._mutate_asks = mutate_fn, wants_rng(mutate_fn)
        self._crossover, self._crossover_asks = crossover_fn, wants_rng(crossover_fn)
        self._copy_fn = copy_fn

    def new(self, rng: random.Random) -> T:
        """One individual of the first generation."""
        return self._copy_fn(_given(self._initialize(rng=rng) if self._initialize_asks else self._initialize(), "initialize_fn"))

    def litters(self, islands: Sequence[Sequence[Evaluated[T]]], generation: int) -> list[list[T | Evaluated[T]]]:
        """The new individuals of each island, clones as the parents that they are; no islands yet is the first generation."""
        spared = 0 if self.config.selection == "nsga2" or not islands else self.config.elitism_count
        litters: list[list[T | Evaluated[T]]] = []
        for place, size in enumerate(self.config.island_sizes()):
            rng = stream(self._borrowed.seed, "breed", generation, place)
            self._borrowed.follow("vary", generation, place)
            litters.append(self._bred(islands[place], size - spared, rng) if islands else [self.new(rng) for _ in range(size)])
        return litters

    def _bred(self, population: Sequence[Evaluated[T]], count: int, rng: random.Random) -> list[T | Evaluated[T]]:
        chosen = [population[i] for i in parents(population, 2 * count, self.config, rng)]
        crossing, mutating, draw, copy = self.config.crossover_rate, self.config.mutation_rate, rng.random, self._copy_fn
        cross = partial(self._crossover, rng=rng) if self._crossover_asks else self._crossover
        mutate = partial(self._mutate, rng=rng) if self._mutate_asks else self._mutate
        litter: list[T | Evaluated[T]] = []
        for one, other in zip(chosen[::2], chosen[1::2], strict=True):
            if draw() < crossing:
                child = _given(cross(one.copy(one.item), other.copy(other.item)), "crossover_fn")
                litter.append(_given(mutate(copy(child)), "mutate_fn") if draw() < mutating else child)
            else:
                litter.append(_given(mutate(one.copy(one.item)), "mutate_fn") if draw() < mutating else one)
        return litter


def migrated(islands: Sequence[Sequence[Evaluated[T]]], migrants: int) -> list[list[Evaluated[T]]]:
    """The best of each island take the place of the worst of the next one, all at once."""
    ranked = [sorted(island, key=lambda member: member.score, reverse=True) for island in islands]
    return [[*ranked[i - 1][:migrants], *island[: len(island) - migrants]] for i, island in enumerate(ranked)]


def _given(individual: T, name: str) -> T:
    if individual is None:
        raise ConfigError(f"{name} returned None: return the individual, also when it was changed in place")
    return individual
