"""A quantity of a table as a typed query, checked against the columns, and its value recomputed by DuckDB: exact wherever it can be.

No SQL is made of words from a task or a model: columns go by their number, values are parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from core.types import Record
from core.verifiers.analysis.cells import rank_of
from core.verifiers.analysis.tables import Table
from core.verifiers.base import short

MAX_GROUPS = 50_000
TOO_LARGE = 10**37
ONE_COLUMN = ("value", "sum", "mean", "median", "min", "max", "std", "distinct")
AGGREGATES = ("value", "sum", "mean", "median", "min", "max", "count")
OPS = (*ONE_COLUMN, "count", "share", "argmax", "argmin", "difference", "change", "correlation", "trend", "slope")
EXACT_OPS = ("value", "count", "distinct", "sum", "min", "max")
Value = Fraction | float | frozenset[str] | str


class QueryError(ValueError):
    """The query does not fit the table. The message says what was found and what to write."""


class UndefinedError(QueryError):
    """The query fits, but the quantity does not exist: a mean of no rows, a share of nothing."""


@dataclass(frozen=True, slots=True)
class Condition(Record):
    """A filter on one column. Texts are compared to the letter, numbers exactly, dates by their place in time."""

    column: int
    sign: str
    value: str | Fraction


@dataclass(frozen=True, slots=True)
class Query(Record):
    """A quantity of a table. `by` is the column of groups, `between` two of them (a difference is the first minus the second, a change
    goes from the first to the second), `over` the column that a trend runs along or that is correlated, `within` the whole of a share."""

    op: str
    column: int | None = None
    where: tuple[Condition, ...] = ()
    by: int | None = None
    between: tuple[str | Fraction, ...] = ()
    over: int | None = None
    agg: str = "value"
    within: tuple[Condition, ...] = ()
    population: bool = False
    absolute: bool = False

    def told(self, table: Table) -> str:
        """In words, for a reason."""
        name = table.columns
        text = f"{self.op}({name[self.column].name if self.column is not None else 'rows'})"
        if self.op in ("argmax", "argmin", "difference", "change", "trend", "slope") and self.agg != "value":
            text = text.replace("(", f"({self.agg} of ", 1)
        text += f" by {name[self.by].name}" if self.by is not None and not self.between else ""
        text += f" of {' and '.join(map(_shown, self.between))}" if self.between else ""
        text += f" over {name[self.over].name}" if self.over is not None else ""
        filters = [f"{name[c.column].name} {c.sign} {_shown(c.value)}" for c in self.where]
        return text + (f" where {' and '.join(filters)}" if filters else "")


def recompute(query: Query, table: Table) -> Value:
    """The value of a query: an exact fraction, a float for roots, labels for groups, a word for a trend. Raises QueryError."""
    found = table.remember(query, lambda: _kept(query, table))
    if isinstance(found, QueryError):
        raise type(found)(*found.args)
    return found  # type: ignore[no-any-return]


def _kept(query: Query, table: Table) -> Value | QueryError:
    try:
        return _recompute(query, table)
    except QueryError as error:
        return type(error)(*error.args)  # without its traceback, which would keep the table


def _recompute(query: Query, table: Table) -> Value:
    op, column = query.op, query.column
    if op == "distinct":
        return Fraction(_one(f"count(DISTINCT c{column})", query.where, table))
    if op == "std":
        return _std(query, table)
    if op in AGGREGATES:
        return aggregate(op, column, query.where, table)
    if op == "share":
        return _share(query, table)
    if op in ("argmax", "argmin"):
        return _extreme(query, table)
    if op in ("difference", "change"):
        return _compared(query, table)
    if op == "correlation":
        return _correlation(query, table)
    return _along(query, table)


def aggregate(op: str, column: int | None, where: Sequence[Condition], table: Table) -> Fraction:
    """One number out of the rows that pass the filters. Raises UndefinedError when no row does and the number needs one."""
    if op == "count":
        return Fraction(_one("count(*)" if column is None else f"count(c{column})", where, table))
    c = f"c{column}"
    if op == "value":
        filters, values = _sql(where, table)
        rows = table.ask(f"SELECT {c} FROM t WHERE {filters} LIMIT 2", values)
        if len(rows) != 1 or rows[0][0] is None:
            many = f"{len(rows) if len(rows) < 2 else 'several'} rows" if len(rows) != 1 else "an empty cell"
            raise UndefinedError(f"one cell is asked for, and the filters leave {many}: add filters, or an op that aggregates")
        return Fraction(rows[0][0])
    if op == "median":
        return _median(c, where, table)
    number = _one(f"count({c})", where, table)
    if op == "sum" and not number:
        return Fraction(0)
    if not number:
        raise UndefinedError(f"there is no row with a number to take the {op} of")
    found = Fraction(_one(f"{'sum' if op in ('sum', 'mean') else op}({c})", where, table))
    return found / number if op == "mean" else found


def _median(c: str, where: Sequence[Condition], table: Table) -> Fraction:
    filters, values = _sql(where, table)
    number = table.ask(f"SELECT count({c}) FROM t WHERE {filters}", values)[0][0]
    if not number:
        raise UndefinedError("there is no row with a number to take the median of")
    middle = f"SELECT {c} FROM t WHERE {c} IS NOT NULL AND {filters} ORDER BY {c} LIMIT {2 - number % 2} OFFSET {(number - 1) // 2}"
    rows = table.ask(middle, values)
    return Fraction(sum(Fraction(row[0]) for row in rows), len(rows))


def _std(query: Query, table: Table) -> float:
    c = f"c{query.column}"
    number = _one(f"count({c})", query.where, table)
    if number < (1 if query.population else 2):
        raise UndefinedError("there are too few rows for a standard deviation")
    return _finite(_one(f"{'stddev_pop' if query.population else 'stddev_samp'}(CAST({c} AS DOUBLE))", query.where, table))


def _share(query: Query, table: Table) -> Fraction:
    op = "count" if query.column is None else "sum"
    whole = aggregate(op, query.column, query.within, table)
    if not whole:
        raise UndefinedError("a share of nothing is undefined: the whole is 0")
    return aggregate(op, query.column, (*query.within, *query.where), table) / whole


def _extreme(query: Query, table: Table) -> frozenset[str]:
    """The label of the best group; all of them when they tie."""
    by, best = query.by or 0, max if query.op == "argmax" else min
    if query.agg == "value" and query.column is not None:
        return _holders(query, by, aggregate("max" if query.op == "argmax" else "min", query.column, query.where, table), table)
    groups = _groups(query, by, table)
    extreme = best(value for _, value in groups)
    return frozenset(label for label, value in groups if value == extreme)


def _holders(query: Query, by: int, extreme: Fraction, table: Table) -> frozenset[str]:
    """The labels of the rows with that value, where each label has one row."""
    filters, values = _sql(query.where, table)
    held = f"FROM t WHERE c{by} IS NOT NULL AND c{query.column} IS NOT NULL AND {filters}"
    rows, labels = table.ask(f"SELECT count(*), count(DISTINCT c{by}) {held}", values)[0]
    if rows != labels:
        raise QueryError(f'{table.columns[by].name!r} groups several rows: add "agg": sum, mean, min, max or count')
    filters, values = _sql((*query.where, Condition(query.column or 0, "=", extreme)), table)
    found = table.ask(f"SELECT c{by} FROM t WHERE c{by} IS NOT NULL AND {filters} LIMIT {MAX_GROUPS}", values)
    if not found:
        raise UndefinedError("the row with that value has no label")
    return frozenset(row[0] if table.columns[by].kind != "number" else number_shown(Fraction(row[0])) for row in found)


def _groups(query: Query, by: int, table: Table) -> list[tuple[Any, Fraction]]:
    """Each group and its aggregate, exactly; in the order of the groups."""
    column, filters = table.columns[by], _sql(query.where, table)
    c = "1" if query.column is None else f"c{query.column}"
    key = f"r{by}" if column.kind == "date" else f"c{by}"
    value = {"sum": f"sum({c})", "mean": f"sum({c})", "count": f"count({c})", "max": f"max({c})"}.get(query.agg, f"min({c})")
    if query.agg == "median":
        raise QueryError("groups are compared by value, sum, mean, min, max or count, and not by median")
    order = f"GROUP BY {key} HAVING count({c}) > 0 ORDER BY {key} LIMIT {MAX_GROUPS + 1}"
    rows = table.ask(f"SELECT {key}, min(c{by}), {value}, count({c}) FROM t WHERE {key} IS NOT NULL AND {filters[0]} {order}", filters[1])
    if not rows:
        raise UndefinedError("the filters leave no group with a number in it")
    if len(rows) > MAX_GROUPS:
        raise QueryError(f"{column.name!r} has more than {MAX_GROUPS} groups: filter first")
    if query.agg == "value" and any(row[3] > 1 for row in rows):
        raise QueryError(f'{column.name!r} groups several rows: add "agg": sum, mean, min, max or count')
    return [
        (row[1] if column.kind != "number" else number_shown(Fraction(row[0])), Fraction(row[2]) / (row[3] if query.agg == "mean" else 1))
        for row in rows
    ]


def _compared(query: Query, table: Table) -> Fraction:
    by = query.by or 0
    first, second = (aggregate(query.agg, query.column, (*query.where, Condition(by, "=", value)), table) for value in query.between)
    if query.op == "difference":
        return abs(first - second) if query.absolute else first - second
    if not first:
        raise UndefinedError("a change relative to 0 is undefined")
    return (second - first) / abs(first)


def _correlation(query: Query, table: Table) -> float:
    x, y = f"c{query.column}", f"c{query.over}"
    filters, values = _sql(query.where, table)
    both = f"FROM t WHERE {x} IS NOT NULL AND {y} IS NOT NULL AND {filters}"
    row = table.ask(
        f"SELECT count(*), min({x}) = max({x}), min({y}) = max({y}), corr(CAST({x} AS DOUBLE), CAST({y} AS DOUBLE)) {both}", values
    )[0]
    if row[0] < 2 or row[1] or row[2] or row[3] is None:
        raise UndefinedError("a correlation needs two rows and columns that vary")
    return _finite(row[3])


def _along(query: Query, table: Table) -> Value:
    """The slope of the least-squares line, or its direction where the ends agree with it: up, down, flat, or mixed."""
    over = query.over or 0
    column = table.columns[over]
    points = [value for _, value in _groups(query, over, table)]
    if column.kind == "number":
        places = [Fraction(label) for label, _ in _groups(query, over, table)]
    else:
        places = [Fraction(i) for i in range(len(points))]
    if len(points) < 2:
        raise UndefinedError("a trend needs two points")
    n, sx, sy = len(points), sum(places), sum(points)
    rise = n * sum(x * y for x, y in zip(places, points, strict=True)) - sx * sy
    if query.op == "slope":
        return Fraction(rise) / (n * sum(x * x for x in places) - sx * sx)
    ends = points[-1] - points[0]
    if rise == 0 and len(set(points)) == 1:
        return "flat"
    return "up" if rise > 0 and ends > 0 else "down" if rise < 0 and ends < 0 else "mixed"


def steady(query: Query, table: Table) -> Literal["up", "down", "flat", "mixed"]:
    """Whether a quantity goes one way from every point to the next."""
    points = [value for _, value in _groups(query, query.over or 0, table)]
    signs = {(b > a) - (b < a) for a, b in pairwise(points)}
    return {1: "up", -1: "down", 0: "flat"}[signs.pop()] if len(signs) == 1 else "mixed"  # type: ignore[return-value]


def ends_labels(column: int, where: Sequence[Condition], table: Table) -> tuple[str, str]:
    """The first and the last date of a column, as it spells them."""
    filters, values = _sql(where, table)
    key = f"r{column}"
    row = table.ask(f"SELECT arg_min(c{column}, {key}), arg_max(c{column}, {key}) FROM t WHERE {key} IS NOT NULL AND {filters}", values)[0]
    if row[0] is None:
        raise UndefinedError("the filters leave no date")
    return row[0], row[1]


def _one(what: str, where: Sequence[Condition], table: Table) -> Any:
    filters, values = _sql(where, table)
    return table.ask(f"SELECT {what} FROM t WHERE {filters}", values)[0][0]


def _sql(where: Sequence[Condition], table: Table) -> tuple[str, list[Any]]:
    """Filters as SQL over numbered columns, and the values for its parameters."""
    parts: list[str] = ["true"]
    values: list[Any] = []
    for condition in where:
        column, value = table.columns[condition.column], condition.value
        if column.kind == "text":
            parts.append(f"c{condition.column} {condition.sign} ?")
            values.append(value)
        elif column.kind == "date":
            parts.append(f"r{condition.column} {condition.sign} ?")
            values.append(rank_of(column, str(value)))
        else:
            sign, bound = _bound(condition.sign, Fraction(value), column.scale)
            parts.append(
                f"c{condition.column} {sign} CAST(? AS DECIMAL(38,{column.scale}))"
                if bound
                else f"{sign} AND c{condition.column} IS NOT NULL"
            )
            values += [bound] if bound else []
    return " AND ".join(parts), values


def _bound(sign: str, value: Fraction, scale: int) -> tuple[str, str]:
    """A comparison with a number that the column's decimals can't spell, as one with its neighbour; nothing is rounded away."""
    steps = math.floor(value * 10**scale)
    whole = steps == value * 10**scale
    if sign in ("=", "!=") and not whole:
        return ("false" if sign == "=" else "true"), ""
    if abs(steps) >= TOO_LARGE:
        return ("true" if sign == "!=" or ((sign[0] == "<") == (steps > 0) and sign != "=") else "false"), ""
    if not whole:
        sign = "<=" if sign in ("<", "<=") else ">"
    return sign, format(Decimal(steps).scaleb(-scale), "f")


def _finite(value: Any) -> float:
    if value is None or not math.isfinite(value):
        raise UndefinedError("the quantity is undefined for these rows")
    return float(value)


def number_shown(value: Value) -> str:
    """A number in digits: in full when it ends, else to ten significant digits."""
    if isinstance(value, frozenset):
        return " and ".join(sorted(value))
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.10g}"
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 and value.denominator < 10**12:
        places = max(0, next(k for k in range(60) if (value * 10**k).denominator == 1))
        return format(Decimal(int(value * 10**places)).scaleb(-places), "f")
    return f"{float(value):.10g}"


def _shown(value: str | Fraction) -> str:
    return number_shown(value) if isinstance(value, Fraction) else short(value, 30)
