"""Queries as a task's metadata states them: every key is checked against the table, and a wrong one is told with what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from core.types import Record
from core.verifiers.analysis.cells import exact, rank_of
from core.verifiers.analysis.queries import AGGREGATES, OPS, Condition, Query, QueryError
from core.verifiers.analysis.tables import Table
from core.verifiers.base import short

MAX_CONDITIONS = 20
SIGNS = ("=", "!=", "<", "<=", ">", ">=")
QUERY_KEYS = ("op", "column", "where", "by", "between", "over", "agg", "within", "population", "absolute")
KEYS = frozenset((*QUERY_KEYS, "percent", "decimals", "tolerance", "equals"))


@dataclass(frozen=True, slots=True)
class Spec(Record):
    """What a task asks for in its metadata: a query, and how its value is to be given."""

    query: Query
    percent: bool = False
    decimals: int | None = None
    tolerance: tuple[Fraction, Fraction] | None = None
    equals: str | None = None


def read_spec(spec: Any, table: Table) -> Spec:
    """A structured query from a task's metadata. Raises QueryError that says which key is wrong and what it may be."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("op"), str) or spec["op"] not in OPS:
        raise QueryError(f'{short(repr(spec))} is no query: write {{"op": ..., "column": ...}} with op one of {", ".join(OPS)}')
    unknown = [key for key in spec if key not in KEYS]
    if unknown:
        raise QueryError(f"a query has no key {short(repr(unknown[0]))}: the keys are {', '.join(sorted(KEYS))}")
    column, by, over = (_column(spec, key, table) for key in ("column", "by", "over"))
    where, within = (_conditions(spec.get(key, ()), table) for key in ("where", "within"))
    flags = [spec.get(key, False) for key in ("percent", "population", "absolute")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise QueryError("percent, population and absolute are true or false")
    between = _between(spec.get("between", ()), by, table)
    agg = spec.get("agg", "value")
    if agg not in AGGREGATES:
        raise QueryError(f"agg {short(repr(agg))} is unknown: choose one of {', '.join(AGGREGATES)}")
    query = Query(spec["op"], column, where, by, between, over, agg, within, flags[1], flags[2])
    check_query(query, table)
    decimals = spec.get("decimals")
    if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= 12):
        raise QueryError(f"decimals is a whole number from 0 to 12, and not {short(repr(decimals))}")
    equals = spec.get("equals")
    if equals is not None and (isinstance(equals, bool) or not isinstance(equals, str | int | float)):
        raise QueryError(f"equals is the number or the label that the question states, and not {short(repr(equals))}")
    return Spec(query, flags[0], decimals, _tolerance(spec.get("tolerance")), None if equals is None else str(equals))


def check_query(query: Query, table: Table) -> None:
    """Raises QueryError where a query lacks a column or has one of the wrong type."""
    op = query.op
    counts = op == "count" or (op in ("argmax", "argmin", "difference", "change", "trend", "slope") and query.agg == "count")
    if query.column is None and not counts and op not in ("share",):
        raise QueryError(f'{op} needs "column": the columns are {_names(table)}')
    if query.column is not None and op not in ("distinct", "count") and not counts:
        _need_numbers(query.column, table)
    if op in ("argmax", "argmin", "difference", "change") and query.by is None:
        raise QueryError(f'{op} needs "by", the column of the groups: the columns are {_names(table)}')
    if op in ("difference", "change") and len(query.between) != 2:
        raise QueryError(f'{op} needs "between": [A, B], two values of {table.columns[query.by or 0].name!r}')
    if op in ("correlation", "trend", "slope") and query.over is None:
        raise QueryError(f'{op} needs "over", another column: the columns are {_names(table)}')
    if op == "correlation":
        _need_numbers(query.over or 0, table)
    if op in ("trend", "slope") and table.columns[query.over or 0].kind == "text":
        raise QueryError(
            f"{table.columns[query.over or 0].name!r} has no order: {op} runs over numbers, dates, months, quarters or weekdays"
        )
    if op == "share" and not query.where:
        raise QueryError('share needs "where": [[COLUMN, "=", VALUE]], the part of the whole')


def _column(spec: Mapping[str, Any], key: str, table: Table) -> int | None:
    name = spec.get(key)
    if name is None:
        return None
    found = table.index(name) if isinstance(name, str) else None
    if found is None:
        raise QueryError(f"there is no column {short(repr(name))}: the columns are {_names(table)}")
    return found


def _conditions(given: Any, table: Table) -> tuple[Condition, ...]:
    if not isinstance(given, list | tuple) or len(given) > MAX_CONDITIONS:
        raise QueryError(f'{short(repr(given))} is no filter: write "where": [[COLUMN, SIGN, VALUE], ...], at most {MAX_CONDITIONS}')
    return tuple(sorted((_condition(part, table) for part in given), key=repr))


def _condition(part: Any, table: Table) -> Condition:
    if not isinstance(part, list | tuple) or len(part) != 3 or part[1] not in SIGNS:
        raise QueryError(f"{short(repr(part))} is no filter: write [COLUMN, SIGN, VALUE] with SIGN one of {' '.join(SIGNS)}")
    column = _column({"column": part[0]}, "column", table)
    if column is None:
        raise QueryError(f"a filter names a column: the columns are {_names(table)}")
    if table.columns[column].kind == "text" and part[1] not in ("=", "!="):
        raise QueryError(f"{table.columns[column].name!r} is text and has no order: filter it with = or !=")
    return Condition(column, part[1], _value(part[2], column, table))


def _value(value: Any, column: int, table: Table) -> str | Fraction:
    found = table.columns[column]
    if found.kind == "number":
        number = exact(value)
        if number is None:
            raise QueryError(f"{found.name!r} holds numbers: compare it with one of at most 24 digits, and not with {short(repr(value))}")
        return number
    if not isinstance(value, str) or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise QueryError(f"{found.name!r} holds {found.kind}: compare it with a text, and not with {short(repr(value))}")
    if found.kind == "date" and rank_of(found, value) is None:
        raise QueryError(f"{short(repr(value))} is not spelled like the dates of {found.name!r}: write it as they are")
    return value


def _between(given: Any, by: int | None, table: Table) -> tuple[str | Fraction, ...]:
    if not isinstance(given, list | tuple) or len(given) not in (0, 2) or (given and by is None):
        raise QueryError(f'{short(repr(given))} are no two groups: write "by": COLUMN, "between": [A, B]')
    return tuple(_value(value, by or 0, table) for value in given)


def _tolerance(given: Any) -> tuple[Fraction, Fraction] | None:
    if given is None:
        return None
    wrong = f'{short(repr(given))} is no tolerance: write {{"abs": 0.01}} or {{"rel": 0.001}}, numbers from 0 up and rel below 1'
    if not isinstance(given, Mapping) or not given or not set(given) <= {"abs", "rel"}:
        raise QueryError(wrong)
    for bound in given.values():
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 <= bound < math.inf:
            raise QueryError(wrong)
    if given.get("rel", 0) >= 1:
        raise QueryError(wrong)
    return Fraction(given.get("abs", 0)), Fraction(given.get("rel", 0))


def _need_numbers(column: int, table: Table) -> None:
    found = table.columns[column]
    if found.kind != "number":
        odd = f" ({found.odd!r} is none)" if found.odd else ""
        raise QueryError(f"column {found.name!r} holds {found.kind}, not numbers{odd}: name another, or clean it")


def _names(table: Table) -> str:
    return short(", ".join(column.name for column in table.columns), 300)
