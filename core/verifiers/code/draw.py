"""Arguments for property tests: drawn from strategies that are JSON, and made smaller.

{"int": [lo, hi]}, {"float": [lo, hi]}, {"bool": true}, {"none": true}, {"str": "alphabet", "size": [0, 10]}, {"list": S, "size": [0, 10],
"unique": true}, {"set": S}, {"tuple": [S, ...]}, {"dict": [S, S]}, {"choice": [values]}, {"one_of": [S, ...]}.

Our own and not hypothesis: its draws depend on which modules the process has loaded, and it writes into the working folder. A verdict has
to be the same everywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.types import Record
from core.verifiers.code.task import BrokenTask, plain_value, shape

MAX_NESTED = 8
MAX_SIZE = 200
MAX_ITEMS = 20_000
LARGEST = 1e300
MAX_TRIES = 50
EDGES = 0.25


@dataclass(frozen=True, slots=True)
class Strategy(Record):
    """How to draw a value, and the values to try instead of one, smallest first."""

    draw: Callable[[random.Random], Any]
    smaller: Callable[[Any], Iterator[Any]]


def strategy(spec: Any, nested: int = 0, room: int = MAX_ITEMS) -> Strategy:
    """The strategy that a JSON one stands for; `room` is how many values there may be in one drawn. Raises BrokenTask."""
    if not isinstance(spec, Mapping) or nested > MAX_NESTED or not spec:
        raise BrokenTask(f'{str(spec)[:60]} is no strategy (or nested deeper than {MAX_NESTED}): write one such as {{"int": [0, 9]}}')
    kind, *_ = spec
    content = spec[kind]
    least, most = _size(spec)
    room //= max(
        1, most if kind in ("list", "set", "dict") else len(content) if kind == "tuple" and isinstance(content, (list, tuple)) else 1
    )
    if not room:
        raise BrokenTask(f"a strategy may draw more than {MAX_ITEMS} values at once: give it smaller sizes")

    def inner(part: Any) -> Strategy:
        return strategy(part, nested + 1, room)

    match kind, content:
        case "int", [int(low), int(high)] if low <= high:
            return _integers(low, high)
        case "float", [int() | float() as low, int() | float() as high] if -LARGEST <= low <= high <= LARGEST:
            return _floats(float(low), float(high))
        case "bool", True:
            return _choice([False, True])
        case "none", True:
            return _choice([None])
        case "str", str() if content:
            return _joined(_rows(_choice(list(content)), least, most))
        case "list", Mapping():
            return _rows(inner(content), least, most, unique=spec.get("unique") is True)
        case "set", Mapping():
            return _hashed(_rows(inner(content), least, most, unique=True), set, list)
        case "tuple", [*parts]:
            return _tuples(list(map(inner, parts)))
        case "dict", [keys, values]:
            pairs = _tuples([inner(keys), inner(values)])
            return _hashed(_rows(pairs, least, most), dict, lambda table: list(table.items()))
        case "choice", [_, *_]:
            return _choice([plain_value(value) for value in content])
        case "one_of", [_, *_]:
            return _one_of(list(map(inner, content)))
    raise BrokenTask(f'{str(dict(spec))[:60]} is no strategy: write one such as {{"int": [0, 9]}} or {{"list": {{"int": [0, 9]}}}}')


def _integers(low: int, high: int) -> Strategy:
    aim = min(max(0, low), high)
    edges = sorted({n for n in (low, high, aim, aim + 1, aim - 1, low + 1, high - 1) if low <= n <= high})

    def draw(rng: random.Random) -> int:
        kind = rng.random()
        if kind < EDGES:
            return rng.choice((low, high) if kind < EDGES / 2 else edges)
        return rng.randint(max(low, aim - 20), min(high, aim + 20)) if kind < 0.5 else rng.randint(low, high)

    def smaller(value: int) -> Iterator[int]:
        step = value - aim
        while step:
            yield value - step
            step = int(step / 2) if abs(step) < 1 << 50 else step // 2 if step > 0 else -(-step // 2)

    return Strategy(draw, smaller)


def _floats(low: float, high: float) -> Strategy:
    aim = min(max(0.0, low), high)

    def draw(rng: random.Random) -> float:
        kind = rng.random()
        if kind < EDGES:
            return rng.choice((low, high, aim))
        value = rng.uniform(low, high)
        return min(max(float(round(value, rng.randint(0, 2))), low), high) if kind < 0.7 else value

    def smaller(value: float) -> Iterator[float]:
        for other in (aim, float(math.trunc(value)), round(value, 1), round(value, 2)):
            if low <= other <= high and len(repr(other)) + abs(other) < len(repr(value)) + abs(value):
                yield other

    return Strategy(draw, smaller)


def _choice(values: list[Any]) -> Strategy:
    def smaller(value: Any) -> Iterator[Any]:
        place = next((i for i, other in enumerate(values) if shape(other) == shape(value)), 0)
        yield from values[:place]

    return Strategy(lambda rng: rng.choice(values), smaller)


def _one_of(parts: list[Strategy]) -> Strategy:
    def smaller(value: Any) -> Iterator[Any]:
        rng = random.Random(0)
        yield from (part.draw(rng) for part in parts)

    return Strategy(lambda rng: rng.choice(parts).draw(rng), smaller)


def _tuples(parts: list[Strategy]) -> Strategy:
    def smaller(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        for place, part in enumerate(parts):
            for other in part.smaller(value[place]):
                yield (*value[:place], other, *value[place + 1 :])

    return Strategy(lambda rng: tuple(part.draw(rng) for part in parts), smaller)


def _rows(item: Strategy, least: int, most: int, unique: bool = False) -> Strategy:
    def draw(rng: random.Random) -> list[Any]:
        size = rng.choice((least, min(least + 1, most), most)) if rng.random() < EDGES else rng.randint(least, most)
        items: list[Any] = []
        seen = set()
        for _ in range(MAX_TRIES + size):
            if len(items) == size:
                break
            value = rng.choice(items) if items and not unique and rng.random() < EDGES else item.draw(rng)
            if not unique or shape(value) not in seen:
                items.append(value)
                seen.add(shape(value))
        return items

    def smaller(value: list[Any]) -> Iterator[list[Any]]:
        cut = len(value) - least
        while cut > 0:
            for start in range(0, len(value) - cut + 1, cut):
                yield value[:start] + value[start + cut :]
            cut //= 2
        for old in [] if unique else _repeated(value):
            for other in item.smaller(old):
                yield [other if shape(kept) == shape(old) else kept for kept in value]
        for place, old in enumerate(value):
            for other in item.smaller(old):
                if not unique or all(shape(other) != shape(kept) for kept in value):
                    yield [*value[:place], other, *value[place + 1 :]]

    return Strategy(draw, smaller)


def _repeated(items: list[Any]) -> list[Any]:
    """One of each that stands there more than once."""
    shapes = [shape(item) for item in items]
    return [item for place, item in enumerate(items) if shapes.count(shapes[place]) > 1 and shapes.index(shapes[place]) == place]


def _joined(rows: Strategy) -> Strategy:
    return Strategy(lambda rng: "".join(rows.draw(rng)), lambda text: ("".join(row) for row in rows.smaller(list(text))))


def _hashed(rows: Strategy, make: Callable[[Any], Any], take: Callable[[Any], list[Any]]) -> Strategy:
    def made(items: list[Any]) -> Any:
        try:
            return make(items)
        except TypeError:
            raise BrokenTask(f"a {make.__name__} can't hold {str(items)[:60]}: let its strategy draw numbers, texts or tuples") from None

    return Strategy(lambda rng: made(rows.draw(rng)), lambda value: (made(row) for row in rows.smaller(take(value))))


def _size(spec: Mapping[str, Any]) -> tuple[int, int]:
    match spec.get("size", [0, 10]):
        case [int(least), int(most)] if 0 <= least <= most <= MAX_SIZE:
            return least, most
    raise BrokenTask(f"the size {str(spec['size'])[:40]} is none: write [least, most], at most {MAX_SIZE}")
