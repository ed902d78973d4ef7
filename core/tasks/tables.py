"""Tables with groups and months: questions with the query that answers them, and claims that are true or false by construction."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from core.tasks.problem import Problem
from core.types import Domain, Record, Task

LEVELS = (1, 2, 3, 4)
GROUPS = {
    "region": ("north", "south", "east", "west", "centre"),
    "product": ("tea", "coffee", "juice", "milk", "cocoa"),
    "shop": ("Oslo", "Lima", "Cairo", "Quito", "Delhi"),
}
MEASURES = ("sales", "visits", "returns", "calls", "orders")
MONTHS = ("Jan", "Feb", "Mar", "Apr")
SHAPES = {1: (4, 1), 2: (3, 2), 3: (4, 2), 4: (4, 4)}  # groups, months


@dataclass(frozen=True, slots=True)
class Asked(Record):
    """A question, its query as metadata, its answer, and the arithmetic on the way."""

    question: str
    ask: dict[str, Any]
    answer: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn(Record):
    """A drawn table: `rows` are (group, month, first measure, second measure)."""

    by: str
    measure: str
    other: str
    rows: tuple[tuple[str, str, int, int], ...]

    def of(self, group: str | None = None, month: str | None = None, over: int | None = None) -> list[int]:
        """The first measure of the rows that pass."""
        return [r[2] for r in self.rows if group in (None, r[0]) and month in (None, r[1]) and (over is None or r[2] > over)]

    @property
    def groups(self) -> list[str]:
        """Each group once."""
        return list(dict.fromkeys(row[0] for row in self.rows))

    @property
    def months(self) -> list[str]:
        """Each month once, in order."""
        return list(dict.fromkeys(row[1] for row in self.rows))


def generate(rng: random.Random, level: int) -> Problem:
    """One table and one question: level 1 a list of groups, 2 months too, 3 shares and claims, 4 correlations and trends."""
    drawn = _draw(rng, level)
    family, make = rng.choice(FAMILIES[level])
    asked = make(drawn, rng)
    if asked is None:
        return generate(rng, level)
    text = _csv(drawn, level)
    claim = f"Claim: {asked.question}\n" if family == "claim" else ""
    question = "Is the claim true?" if claim else asked.question
    task = Task(
        f"Data:\n{text}\n{claim}Question: {question}",
        Domain.ANALYSIS,
        reference=asked.answer,
        level=level,
        family=f"table_{family}",
        metadata={"data": text, "ask": asked.ask},
    )
    return Problem(task, asked.answer, careful=asked.lines, terse=asked.lines[-1:])


def _draw(rng: random.Random, level: int) -> Drawn:
    groups, months = SHAPES[level]
    by = rng.choice(tuple(GROUPS))
    measure, other = rng.sample(MEASURES, 2)
    names = rng.sample(GROUPS[by], groups)
    values = rng.sample(range(2, 100), groups * months)
    rows = [(name, month) for month in MONTHS[:months] for name in names]
    steady = rng.randrange(groups)  # the values of one group go one way, so that there is a trend to ask for
    values[steady::groups] = sorted(values[steady::groups], reverse=rng.random() < 0.5)
    return Drawn(by, measure, other, tuple((*row, value, rng.randrange(1, 60)) for row, value in zip(rows, values, strict=True)))


def _csv(drawn: Drawn, level: int) -> str:
    two = level >= 3
    head = [drawn.by, *(["month"] if level > 1 else []), drawn.measure, *([drawn.other] if two else [])]
    lines = [[row[0], *([row[1]] if level > 1 else []), str(row[2]), *([str(row[3])] if two else [])] for row in drawn.rows]
    return "\n".join(",".join(line) for line in [head, *lines])


def _total(drawn: Drawn, rng: random.Random) -> Asked:
    ask: dict[str, Any] = {"op": "sum", "column": drawn.measure}
    group = rng.choice(drawn.groups) if len(drawn.months) > 1 else None
    where = [[drawn.by, "=", group]] if group else []
    values = drawn.of(group)
    return Asked(f"What is the total {drawn.measure}{_in(group)}?", {**ask, "where": where}, str(sum(values)), _running(values))


def _mean(drawn: Drawn, rng: random.Random) -> Asked:
    group = rng.choice(drawn.groups) if len(drawn.months) > 1 else None
    values = drawn.of(group)
    ask = {"op": "mean", "column": drawn.measure, "where": [[drawn.by, "=", group]] if group else [], "decimals": 2}
    answer = rounded(Fraction(sum(values), len(values)), 2)
    lines = (*_running(values), f"{sum(values)}/{len(values)}={answer}")
    return Asked(f"What is the mean {drawn.measure}{_in(group)}? Round to 2 decimals.", ask, answer, lines)


def _median(drawn: Drawn, rng: random.Random) -> Asked:
    month = rng.choice(drawn.months) if len(drawn.months) > 1 else None
    values = sorted(drawn.of(month=month))
    middle = Fraction(values[(len(values) - 1) // 2] + values[len(values) // 2], 2)
    ask = {"op": "median", "column": drawn.measure, "where": [["month", "=", month]] if month else []}
    return Asked(f"What is the median {drawn.measure}{_in(month)}?", ask, rounded(middle, 1) if middle.denominator > 1 else str(middle))


def _count(drawn: Drawn, rng: random.Random) -> Asked:
    bound = rng.choice(sorted(drawn.of())[:-1])
    ask = {"op": "count", "where": [[drawn.measure, ">", bound]]}
    return Asked(f"How many rows are there with {drawn.measure} over {bound}?", ask, str(len(drawn.of(over=bound))))


def _leader(drawn: Drawn, rng: random.Random) -> Asked | None:
    most = rng.random() < 0.5
    totals = {group: sum(drawn.of(group)) for group in drawn.groups}
    best = (max if most else min)(totals.values())
    leaders = [group for group, total in totals.items() if total == best]
    if len(leaders) > 1:
        return None
    one = len(drawn.months) == 1
    ask = {"op": "argmax" if most else "argmin", "column": drawn.measure, "by": drawn.by, "agg": "value" if one else "sum"}
    question = f"Which {drawn.by} has the {'highest' if most else 'lowest'} {'' if one else 'total '}{drawn.measure}?"
    return Asked(question, ask, leaders[0], tuple(f"{group}: {total}" for group, total in totals.items()) if one else ())


def _difference(drawn: Drawn, rng: random.Random) -> Asked:
    first, second = rng.sample(drawn.groups, 2)
    one = len(drawn.months) == 1
    a, b = sum(drawn.of(first)), sum(drawn.of(second))
    ask = {"op": "difference", "column": drawn.measure, "by": drawn.by, "between": [first, second], "agg": "value" if one else "sum"}
    question = f"What is the difference in {'' if one else 'total '}{drawn.measure} between {first} and {second}?"
    lines = (*(() if one else (*_running(drawn.of(first)), *_running(drawn.of(second)))), f"{max(a, b)}-{min(a, b)}={abs(a - b)}")
    return Asked(question, {**ask, "absolute": True}, str(abs(a - b)), lines)


def _share(drawn: Drawn, rng: random.Random) -> Asked:
    group = rng.choice(drawn.groups)
    part, whole = sum(drawn.of(group)), sum(drawn.of())
    ask = {"op": "share", "column": drawn.measure, "where": [[drawn.by, "=", group]], "percent": True, "decimals": 1}
    question = f"What percentage of total {drawn.measure} comes from {group}? Round to 1 decimal place."
    return Asked(question, ask, f"{rounded(Fraction(100 * part, whole), 1)}%")


def _correlation(drawn: Drawn, rng: random.Random) -> Asked | None:
    xs, ys = [row[2] for row in drawn.rows], [row[3] for row in drawn.rows]
    n = len(xs)
    cross = n * sum(x * y for x, y in zip(xs, ys, strict=True)) - sum(xs) * sum(ys)
    spread = (n * sum(x * x for x in xs) - sum(xs) ** 2) * (n * sum(y * y for y in ys) - sum(ys) ** 2)
    if not spread:
        return None
    ask = {"op": "correlation", "column": drawn.measure, "over": drawn.other, "decimals": 2}
    answer = rounded(Fraction(cross / math.sqrt(spread)), 2)
    return Asked(f"What is the correlation between {drawn.measure} and {drawn.other}? Round to 2 decimals.", ask, answer)


def _trend(drawn: Drawn, rng: random.Random) -> Asked:
    group = rng.choice([group for group in drawn.groups if _is_steady(drawn.of(group))])
    values = drawn.of(group)
    ask = {"op": "trend", "column": drawn.measure, "over": "month", "where": [[drawn.by, "=", group]]}
    return Asked(f"Does {drawn.measure} in {group} rise or fall over month?", ask, "rise" if values[-1] > values[0] else "fall")


def _claim(drawn: Drawn, rng: random.Random) -> Asked:
    """A sentence about a total, which is so, or is what another group has, or is off by a little."""
    group, neighbour = rng.sample(drawn.groups, 2)
    truth = sum(drawn.of(group))
    stated = truth if rng.random() < 0.5 else rng.choice((sum(drawn.of(neighbour)), truth + rng.choice((-1, 1, 10))))
    ask = {"op": "sum", "column": drawn.measure, "where": [[drawn.by, "=", group]], "equals": stated}
    sentence = f"The total {drawn.measure} in {group} is {stated}."
    return Asked(sentence, ask, "yes" if stated == truth else "no", _running(drawn.of(group)))


def _is_steady(values: Sequence[int]) -> bool:
    return list(values) in (sorted(values), sorted(values, reverse=True))


def rounded(value: Fraction, places: int) -> str:
    """A number to so many decimals, halves away from zero."""
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return format(exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP), "f")


def _running(values: Sequence[int]) -> tuple[str, ...]:
    lines, total = [], values[0]
    for value in values[1:]:
        lines.append(f"{total}+{value}={total + value}")
        total += value
    return tuple(lines)


def _in(name: str | None) -> str:
    return f" in {name}" if name else ""


Maker = Callable[[Drawn, random.Random], Asked | None]
FAMILIES: dict[int, tuple[tuple[str, Maker], ...]] = {
    1: (("total", _total), ("leader", _leader), ("difference", _difference), ("count", _count)),
    2: (("total", _total), ("leader", _leader), ("mean", _mean), ("count", _count), ("claim", _claim)),
    3: (("median", _median), ("share", _share), ("difference", _difference), ("mean", _mean), ("claim", _claim), ("leader", _leader)),
    4: (("correlation", _correlation), ("trend", _trend), ("share", _share), ("mean", _mean), ("claim", _claim), ("median", _median)),
}
