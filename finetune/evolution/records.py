"""What comes out of an evolution: a row for each generation, the failures, the individuals with their fitness."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from core.errors import TrainingError
from core.types import Record
from finetune.evolution.identity import copy_of

T = TypeVar("T")
Value = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Generation(Record):
    """One generation, as `history` keeps it. Failed individuals are counted and in none of the other figures."""

    generation: int
    best_fitness: float
    """of this generation; -inf when every individual failed"""
    avg_fitness: float
    worst_fitness: float
    std_fitness: float
    best_so_far: float
    distinct: int
    """different individuals in it"""
    evaluations: int
    """fitnesses that were computed for it"""
    repeats: int
    """individuals whose fitness was known already"""
    failed: int
    objectives: tuple[float, ...] = ()
    """best of each case or objective, where fitness is a sequence"""
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Failure(Record):
    """A fitness that raised, or was no number."""

    generation: int
    individual: Any
    reason: str


class FitnessError(TrainingError):
    """A fitness that raised or was no number; `individual` is what it was asked about."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            f"the fitness of {shortened(failure.individual)} in generation {failure.generation} {failure.reason}: "
            'correct fitness_fn, or set on_error="worst" to go on without this individual'
        )
        self.failure = failure
        self.individual = failure.individual


class Evaluated(Generic[T]):
    """An individual with its fitness. It is shared between generations, so that nobody may change `item`.

    `value` is what fitness_fn gave, None when it failed or was not asked yet; `score` is the one number to compare by: the mean of a
    sequence. `copy(item)` is a deep copy.
    """

    __slots__ = ("copy", "id", "item", "key", "score", "value")

    def __init__(self, item: T, value: Value | None, id: int, key: Hashable, copy: Callable[[T], T] = copy_of) -> None:
        self.item = item
        self.value = value
        self.id = id
        self.key = key
        self.copy = copy
        self.score = -math.inf if value is None else _score(value)

    def settle(self, value: Value | None, id: int) -> None:
        """What fitness_fn gave; `id` counts the fitnesses that were computed."""
        self.value = value
        self.id = id
        self.score = value if type(value) is float else _score(value)


def _score(value: Value | None) -> float:
    if value is None:
        return -math.inf
    return math.fsum(value) / len(value) if isinstance(value, tuple) else value


def shortened(individual: object, length: int = 200) -> str:
    """Its repr, cut."""
    text = repr(individual)
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def summary(population: Sequence[Evaluated[T]], **counted: Any) -> Generation:
    """The figures of one generation."""
    fine = [member for member in population if member.value is not None]
    scores = [member.score for member in fine]
    vectors = [member.value for member in fine if type(member.value) is tuple]
    mean = sum(scores) / len(scores) if scores else math.nan
    finite = scores and math.isfinite(mean)
    return Generation(
        best_fitness=max(scores, default=-math.inf),
        avg_fitness=mean,
        worst_fitness=min(scores, default=-math.inf),
        std_fitness=math.dist(scores, [mean] * len(scores)) / math.sqrt(len(scores)) if finite else math.nan,
        distinct=len({member.id if member.key is None else member.key for member in population}),
        failed=len(population) - len(scores),
        objectives=tuple(map(max, zip(*vectors, strict=True))),
        **counted,
    )
