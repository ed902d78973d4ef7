"""From individuals to individuals with fitness: equal ones once, in batches, side by side; failures told with their individual."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, SupportsFloat, TypeVar

from core.errors import ConfigError
from finetune.evolution.chance import Borrowed, stream_name
from finetune.evolution.config import GAConfig
from finetune.evolution.identity import copy_of, flat_key, key_of
from finetune.evolution.pools import Here, Job, Pool, Raised, raised
from finetune.evolution.records import Evaluated, Failure, FitnessError, Value, shortened

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Round(Generic[T]):
    """Individuals of one generation, equal ones as one; `new` are those that have no fitness yet."""

    members: list[Evaluated[T]]
    new: list[Evaluated[T]]


class Evaluator(Generic[T]):
    """Remembers fitnesses. `evaluations` counts all that were computed; `failures` are those that came to nothing."""

    def __init__(self, config: GAConfig, borrowed: Borrowed, key_fn: Callable[[T], Hashable | None], copy_fn: Callable[[T], T]) -> None:
        self.config, self._borrowed = config, borrowed
        self.evaluations = 0
        self.failures: list[Failure] = []
        self._key_fn, self._copy_fn = key_fn, copy_fn
        # then a flat list is told from others once, for its key and its copies
        self._usual = config.memoise and key_fn is key_of and copy_fn is copy_of
        self._memo: dict[Hashable, Evaluated[T]] = {}
        self._shape: int | None = None  # numbers of a fitness, 0 when it is no sequence
        self._plain = False  # fitness is one number each

    def sort_out(self, newcomers: Sequence[T | Evaluated[T]]) -> Round[T]:
        """Which of them need a fitness. One that was evaluated is the clone of a parent."""
        memoise, usual, recall = self.config.memoise, self._usual, self._memo.get
        members: list[Evaluated[T]] = []
        new: list[Evaluated[T]] = []
        asked: dict[Hashable, Evaluated[T]] = {}
        for newcomer in newcomers:
            if type(newcomer) is Evaluated:  # isinstance takes long to say no
                if memoise and newcomer.value is not None:
                    members.append(newcomer)
                    continue
                newcomer = newcomer.item
            item: T = newcomer  # type: ignore[assignment]
            flat = flat_key(item) if usual else None
            key = flat or self.key(item)
            member = None if key is None else recall(key) or asked.get(key)
            if member is None:
                copy: Callable[[Any], Any] = list.copy if flat else self._copy_fn
                member = Evaluated(item, None, -1, key, copy)
                new.append(member)
                if key is not None:
                    asked[key] = member
            members.append(member)
        return Round(members, new)

    def key(self, item: T) -> Hashable | None:
        """What it is remembered by, if it is."""
        return self._key_fn(item) if self.config.memoise else None

    def evaluate(self, round: Round[T], generation: int, pool: Pool) -> None:
        """Gives all of them a fitness. Raises FitnessError at the first failure when failures stop the run."""
        values = self._values(round.new, generation, pool)
        for number, (member, value) in enumerate(zip(round.new, values, strict=True), self.evaluations):
            member.settle(value, number)
        self.evaluations += len(round.new)
        self.remember(round.new)

    def remember(self, members: Sequence[Evaluated[T]]) -> None:
        """Their fitness need not be computed again; a failure is tried again."""
        if self._shape is None:
            for member in members:
                if isinstance(member.value, tuple):
                    self._note_shape(len(member.value))
        self._memo.update((member.key, member) for member in members if member.key is not None and member.value is not None)
        for key in list(islice(self._memo, max(0, len(self._memo) - self.config.memo_size))):
            del self._memo[key]

    def _values(self, members: Sequence[Evaluated[T]], generation: int, pool: Pool) -> Sequence[Value | None]:
        # side by side, Python's own generator can't follow a seed: there, fitness_fn asks for an rng
        if self.config.parallel == "none":
            self._borrowed.follow("fitness", generation)
        else:
            self._borrowed.give_back()
        if isinstance(pool, Here) and pool.function and not self.config.batch_size:
            return self._values_here(pool.function, members, generation)
        items = [member.item for member in members]
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
                stream_name(self._borrowed.seed, "fitness", generation, batch[0]),
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

    def _values_here(self, function: Callable[[Any], Any], members: Sequence[Evaluated[T]], generation: int) -> list[Value | None]:
        """The short way, for a fitness that is quicker than the detour through a pool."""
        values: list[Value | None] = []
        for member in members:
            try:
                found = function(member.copy(member.item))
            except Exception as error:  # noqa: BLE001  it is reported with its individual
                found = raised(error)
            plain = self._plain and type(found) is float and found == found
            values.append(found if plain else self._value(found, member.item, generation))
        return values

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
