"""From individuals to individuals with fitness: equal ones once, in batches, side by side; failures told with their individual."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, SupportsFloat, TypeVar

from core.errors import ConfigError
from finetune.evolution.chance import borrowed, stream_name
from finetune.evolution.config import GAConfig
from finetune.evolution.pools import Here, Job, Pool, Raised, raised
from finetune.evolution.records import Evaluated, Failure, FitnessError, Value, shortened

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Round(Generic[T]):
    """Individuals of one generation: `known` at their places, the others once each in `items`, wanted at `places`."""

    known: list[Evaluated[T] | None]
    items: list[T]
    keys: list[Hashable | None]
    places: list[list[int]]


class Evaluator(Generic[T]):
    """Remembers fitnesses. `evaluations` counts all that were computed; `failures` are those that came to nothing."""

    def __init__(self, config: GAConfig, seed: int, key_fn: Callable[[T], Hashable | None], copy_fn: Callable[[T], T]) -> None:
        self.config, self.seed = config, seed
        self.evaluations = 0
        self.failures: list[Failure] = []
        self._key_fn, self._copy_fn = key_fn, copy_fn
        self._memo: dict[Hashable, Evaluated[T]] = {}
        self._shape: int | None = None  # numbers of a fitness, 0 when it is no sequence
        self._plain = False  # fitness is one number each

    def sort_out(self, newcomers: Sequence[T | Evaluated[T]]) -> Round[T]:
        """Which of them need a fitness. One that was evaluated is the clone of a parent."""
        if not self.config.memoise:
            items = [found.item if isinstance(found, Evaluated) else found for found in newcomers]
            return Round([None] * len(items), items, [None] * len(items), [[i] for i in range(len(items))])
        round = Round[T]([], [], [], [])
        key_fn, recall = self._key_fn, self._memo.get
        asked: dict[Hashable, list[int]] = {}
        for i, newcomer in enumerate(newcomers):
            if type(newcomer) is Evaluated:
                if newcomer.value is not None:
                    round.known.append(newcomer)
                    continue
                newcomer = newcomer.item
            item: T = newcomer  # type: ignore[assignment]
            key = key_fn(item)
            found = None if key is None else recall(key)
            round.known.append(found)
            if found is not None:
                continue
            if key is None or key not in asked:
                places = [i]
                round.items.append(item)
                round.keys.append(key)
                round.places.append(places)
                if key is not None:
                    asked[key] = places
            else:
                asked[key].append(i)
        return round

    def evaluate(self, round: Round[T], generation: int, pool: Pool) -> tuple[list[Evaluated[T]], list[Evaluated[T]]]:
        """(all of them, those that were computed now). Raises FitnessError at the first failure when failures stop the run."""
        values = self._values(round.items, generation, pool)
        members, computed = list(round.known), []
        for item, key, places, value in zip(round.items, round.keys, round.places, values, strict=True):
            member = Evaluated(item, value, self.evaluations, key)
            self.evaluations += 1
            self.remember(member)
            computed.append(member)
            for place in places:
                members[place] = member
        return members, computed  # type: ignore[return-value]

    def remember(self, member: Evaluated[T]) -> None:
        """Its fitness need not be computed again; a failure is tried again."""
        if isinstance(member.value, tuple) and self._shape is None:
            self._note_shape(len(member.value))
        if member.key is None or member.value is None or not self.config.memoise:
            return
        self._memo[member.key] = member
        if len(self._memo) > self.config.memo_size:
            del self._memo[next(iter(self._memo))]

    def _values(self, items: Sequence[T], generation: int, pool: Pool) -> Sequence[Value | None]:
        # side by side, Python's own generator can't follow a seed: there, fitness_fn asks for an rng
        here = self.config.parallel == "none"
        scope: AbstractContextManager[None] = borrowed(self.seed, "fitness", generation) if here else nullcontext()
        with scope:
            if isinstance(pool, Here) and pool.function and not self.config.batch_size:
                return [self._value_here(pool.function, item, generation) for item in items]
            values: dict[int, Value | None] = {}
            again = self._gather(items, list(range(len(items))), self.config.batch_size, generation, pool, values)
            self._gather(items, again, 1, generation, pool, values)
        return [values[i] for i in range(len(items))]

    def _gather(
        self, items: Sequence[T], wanted: Sequence[int], size: int, generation: int, pool: Pool, values: dict[int, Value | None]
    ) -> list[int]:
        """Fills in `values`; returns those whose batch failed as a whole, to be asked about one by one."""
        batches = [wanted[first : first + max(size, 1)] for first in range(0, len(wanted), max(size, 1))]
        in_lists, copy = self.config.batch_size > 0, self._copy_fn
        jobs = [
            Job(
                [copy(items[i]) for i in batch] if in_lists else copy(items[batch[0]]),
                stream_name(self.seed, "fitness", generation, batch[0]),
            )
            for batch in batches
        ]
        again: list[int] = []
        for place, outcome in pool.outcomes(jobs):
            batch = batches[place]
            if isinstance(outcome, Raised) and len(batch) > 1:
                again += batch
                continue
            if isinstance(outcome, Raised) or not in_lists:
                values[batch[0]] = self._value(outcome, items[batch[0]], generation)
                continue
            for i, found in zip(batch, _as_many(outcome, len(batch)), strict=True):
                values[i] = self._value(found, items[i], generation)
        return sorted(again)

    def _value_here(self, function: Callable[[Any], Any], item: T, generation: int) -> Value | None:
        """The short way, for a fitness that is quicker than the detour through a pool."""
        try:
            found = function(self._copy_fn(item))
        except Exception as error:  # noqa: BLE001  it is reported with its individual
            found = raised(error)
        if type(found) is float and found == found and self._plain:
            return found
        return self._value(found, item, generation)

    def _value(self, found: Any, item: T, generation: int) -> Value | None:
        cause: BaseException | None = None
        if isinstance(found, Raised):
            reason, cause = found.reason, found.cause
        else:
            try:
                return self._shaped(number_or_numbers(found))
            except ValueError as error:
                reason = str(error)
        failure = Failure(generation, self._copy_fn(item), reason)
        if self.config.on_error == "stop":
            raise FitnessError(failure) from cause
        self.failures.append(failure)
        log.warning("the fitness of %s in generation %d %s: it counts as worst", shortened(item), generation, reason)
        return None

    def _shaped(self, value: Value) -> Value:
        shape = len(value) if isinstance(value, tuple) else 0
        if not shape and self.config.selection in ("lexicase", "nsga2"):
            raise ConfigError(f"fitness_fn returned {value!r}, selection={self.config.selection!r} needs a sequence of numbers")
        if self._shape not in (None, shape):
            now, before = (f"{n} numbers in a sequence" if n else "one number" for n in (shape, self._shape))
            raise ConfigError(f"fitness_fn returned {now}, and {before} earlier on: always return as many")
        self._note_shape(shape)
        return value

    def _note_shape(self, shape: int) -> None:
        self._shape, self._plain = shape, not shape


def number_or_numbers(found: Any) -> Value:
    """A float, or a tuple of them. Raises ValueError that says what it was instead."""
    shape = getattr(found, "shape", None)
    if isinstance(found, (list, tuple)) or (isinstance(shape, tuple) and len(shape) == 1):
        values = tuple(_number(part) for part in found)
        if not values:
            raise ValueError("is an empty sequence")
        return values
    return _number(found)


def _number(found: Any) -> float:
    if found is None:
        raise ValueError("is None: return a number")
    if isinstance(found, (str, bytes)) or not isinstance(found, SupportsFloat):
        raise ValueError(f"is {shortened(found)} ({type(found).__name__}): return a number")
    try:
        value = float(found)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"is {shortened(found)}, which is no number: {error}") from error
    if math.isnan(value):
        raise ValueError("is NaN")
    return value


def _as_many(found: Any, count: int) -> list[Any]:
    try:
        values = list(found)
    except TypeError:
        values = []
    if isinstance(found, (str, dict)) or len(values) != count:
        raise ConfigError(
            f"fitness_fn got a list of {count} and returned {shortened(found)}: with batch_size it returns a fitness for each"
        )
    return values
