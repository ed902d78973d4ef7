"""Ready spaces: numbers, choices, lists, permutations, strings, dataclasses. Each makes individuals, varies one, crosses two.

None changes what it is given, and whatever comes out lies in the space.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.errors import ConfigError

if TYPE_CHECKING:
    from finetune.ge import Space

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Number:
    """A number from low to high; `whole` ones are rounded, `log` ones vary by factors. Mutation: a normal step of `sigma` of the range."""

    low: float
    high: float
    sigma: float = 0.1
    whole: bool = False
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"a number from {self.low} to {self.high} can't vary: give finite bounds, low below high")
        if self.log and self.low <= 0:
            raise ConfigError(f"low is {self.low}: with log=True it is above 0")
        if self.whole and math.ceil(self.low) > math.floor(self.high):
            raise ConfigError(f"there is no whole number from {self.low} to {self.high}: move the bounds apart")
        if not self.sigma > 0:
            raise ConfigError(f"sigma is {self.sigma}: give a share of the range above 0")

    def initialize(self, rng: random.Random) -> float:
        """Evenly spread, on the logarithmic scale with `log`."""
        return self._back(rng.uniform(self._on_scale(self.low), self._on_scale(self.high)))

    def mutate(self, individual: float, rng: random.Random) -> float:
        """A normal step; one that leads out of the range ends at its edge. A whole number always moves."""
        width = self._on_scale(self.high) - self._on_scale(self.low)
        step = rng.gauss(0, self.sigma * width)
        moved = self._back(self._on_scale(individual) + step)
        if self.whole and moved == individual:
            return self._whole(individual + math.copysign(1, step))
        return moved

    def crossover(self, first: float, second: float, rng: random.Random) -> float:
        """Anywhere between the two."""
        return self._back(rng.uniform(self._on_scale(first), self._on_scale(second)))

    def _on_scale(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _back(self, place: float) -> float:
        value = math.exp(place) if self.log else place
        return self._whole(value) if self.whole else min(max(value, self.low), self.high)

    def _whole(self, value: float) -> int:
        return min(max(round(value), math.ceil(self.low)), math.floor(self.high))


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One of several options."""

    options: Sequence[T]

    def __post_init__(self) -> None:
        _enough(self.options, "options")

    def initialize(self, rng: random.Random) -> T:
        """Any of them."""
        return rng.choice(self.options)

    def mutate(self, individual: T, rng: random.Random) -> T:
        """Another one, where there is another."""
        return rng.choice([option for option in self.options if option != individual] or self.options)

    def crossover(self, first: T, second: T, rng: random.Random) -> T:
        """One of the two."""
        return rng.choice((first, second))


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of `length` numbers from low to high. Mutation moves each with chance 1/length, and at least one."""

    length: int
    low: float
    high: float
    sigma: float = 0.1
    whole: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"length is {self.length}: a list to evolve has 1 number or more")
        self._gene()

    def initialize(self, rng: random.Random) -> list[float]:
        """Each evenly spread."""
        gene = self._gene()
        return [gene.initialize(rng) for _ in range(self.length)]

    def mutate(self, individual: list[float], rng: random.Random) -> list[float]:
        """Normal steps."""
        gene, moved = self._gene(), list(individual)
        places = [i for i in range(len(moved)) if rng.random() < 1 / len(moved)]
        for i in places or [rng.randrange(len(moved))]:
            moved[i] = gene.mutate(moved[i], rng)
        return moved

    def crossover(self, first: list[float], second: list[float], rng: random.Random) -> list[float]:
        """Each from either parent."""
        return [rng.choice(pair) for pair in zip(first, second, strict=True)]

    def _gene(self) -> Number:
        return Number(self.low, self.high, self.sigma, self.whole)


@dataclass(frozen=True, slots=True)
class Permutations(Generic[T]):
    """All orders of some items, which must differ."""

    items: Sequence[T]

    def __post_init__(self) -> None:
        _enough(self.items, "items")
        if any(item in self.items[:i] for i, item in enumerate(self.items)):
            raise ConfigError("an item occurs twice: give items that differ, for example numbered ones")

    def initialize(self, rng: random.Random) -> list[T]:
        """Any order."""
        return rng.sample(list(self.items), len(self.items))

    def mutate(self, individual: list[T], rng: random.Random) -> list[T]:
        """Two swapped, one moved, or a stretch turned round."""
        if len(individual) < 2:
            return list(individual)
        moved = list(individual)
        i, j = sorted(rng.sample(range(len(moved)), 2))
        how = rng.randrange(3)
        if how == 0:
            moved[i], moved[j] = moved[j], moved[i]
        elif how == 1:
            moved.insert(i, moved.pop(j))
        else:
            moved[i : j + 1] = moved[i : j + 1][::-1]
        return moved

    def crossover(self, first: list[T], second: list[T], rng: random.Random) -> list[T]:
        """Order crossover (Davis, 1985): a stretch of the first, the rest in the order of the second."""
        i, j = sorted(rng.choices(range(len(first) + 1), k=2))
        stretch = first[i:j]
        rest = [item for item in second if item not in stretch]
        return rest[:i] + stretch + rest[i:]


@dataclass(frozen=True, slots=True)
class Items(Generic[T]):
    """Lists of `least` to `most` items out of some, repeats allowed."""

    items: Sequence[T]
    least: int = 1
    most: int = 10

    def __post_init__(self) -> None:
        _enough(self.items, "items")
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ConfigError(f"lists of {self.least} to {self.most} items can't be made: 0 <= least <= most, and most is 1 or more")

    def initialize(self, rng: random.Random) -> list[T]:
        """Any length, any items."""
        return rng.choices(self.items, k=rng.randint(self.least, self.most))

    def mutate(self, individual: list[T], rng: random.Random) -> list[T]:
        """One item replaced, put in, or taken out, whichever the length allows."""
        moved, n = list(individual), len(individual)
        ways = ["replace"] * (n > 0) + ["insert"] * (n < self.most) + ["remove"] * (n > self.least)
        way = rng.choice(ways)
        if way == "insert":
            moved.insert(rng.randint(0, n), rng.choice(self.items))
        elif way == "remove":
            del moved[rng.randrange(n)]
        else:
            i = rng.randrange(n)
            moved[i] = rng.choice([item for item in self.items if item != moved[i]] or self.items)
        return moved

    def crossover(self, first: list[T], second: list[T], rng: random.Random) -> list[T]:
        """The beginning of one and the end of the other, each cut in its own place, as long as the lengths allow."""
        head = rng.randint(0, len(first))
        tail = rng.randint(max(0, self.least - head), max(0, self.most - head))
        child = first[:head] + second[max(0, len(second) - tail) :]
        return child if len(child) >= self.least else list(first)


@dataclass(frozen=True, slots=True)
class Strings:
    """Texts of `least` to `most` characters of an alphabet."""

    alphabet: str
    least: int = 1
    most: int = 10

    def __post_init__(self) -> None:
        self._items()

    def initialize(self, rng: random.Random) -> str:
        """Any length, any characters."""
        return "".join(self._items().initialize(rng))

    def mutate(self, individual: str, rng: random.Random) -> str:
        """One character replaced, put in, or taken out."""
        return "".join(self._items().mutate(list(individual), rng))

    def crossover(self, first: str, second: str, rng: random.Random) -> str:
        """The beginning of one and the end of the other."""
        return "".join(self._items().crossover(list(first), list(second), rng))

    def _items(self) -> Items[str]:
        return Items(tuple(self.alphabet), self.least, self.most)


class Fields(Generic[T]):
    """A dataclass some of whose fields evolve: `Fields(npc, temperature=Number(0, 1.5))`. The others stay as in the template."""

    def __init__(self, template: T, /, **spaces: Space[Any]) -> None:
        if not dataclasses.is_dataclass(template) or isinstance(template, type):
            raise ConfigError(f"{template!r} is no dataclass instance: give one whose fields are to evolve")
        there = {field.name for field in dataclasses.fields(template) if field.init}
        if not spaces or not spaces.keys() <= there:
            unknown = ", ".join(sorted(spaces.keys() - there)) or "no field"
            raise ConfigError(f"{unknown} can't evolve: name fields of {type(template).__name__}, which are {', '.join(sorted(there))}")
        self.template, self.spaces = template, spaces

    def initialize(self, rng: random.Random) -> T:
        """Each field as in the template or drawn anew, by the toss of a coin."""
        return self._with(self.template, {name: space.initialize(rng) for name, space in self.spaces.items() if rng.random() < 0.5})

    def mutate(self, individual: T, rng: random.Random) -> T:
        """One field mutated; one that is not set yet is drawn."""
        name = rng.choice(sorted(self.spaces))
        space, value = self.spaces[name], getattr(individual, name)
        return self._with(individual, {name: space.initialize(rng) if value is None else space.mutate(value, rng)})

    def crossover(self, first: T, second: T, rng: random.Random) -> T:
        """Each field of the first, of the second, or crossed."""
        return self._with(first, {name: self._crossed(name, first, second, rng) for name in self.spaces})

    def _crossed(self, name: str, first: T, second: T, rng: random.Random) -> Any:
        a, b = getattr(first, name), getattr(second, name)
        way = rng.randrange(3)
        if way < 2 or a is None or b is None or a == b:
            return (a, b)[way % 2]
        return self.spaces[name].crossover(a, b, rng)

    def _with(self, individual: T, values: dict[str, Any]) -> T:
        return dataclasses.replace(individual, **values)  # type: ignore[type-var]


def _enough(options: Sequence[Any], name: str) -> None:
    if len(options) < 1:
        raise ConfigError(f"{name} is empty: there is nothing to evolve")
