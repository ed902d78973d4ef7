"""Which traces are wanted: by domain, verdict, reward, weights, time and words."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, TypedDict

from sqlalchemy import Select, String, literal_column

from core.errors import ConfigError
from core.types import Domain, Outcome, Split
from logs import search
from logs.tables import RUN, TASK, TRACE


class Wanted(TypedDict, total=False):
    """What may be asked of a trace. What is left out or None is not asked; times are in seconds since 1970, `until` not included."""

    domain: Domain | str | None
    split: Split | str | None
    outcome: Outcome | str | None
    min_reward: float | None
    max_reward: float | None
    worker: str | None
    model: str | None
    fingerprint: str | None
    strategy: str | None
    since: float | None
    until: float | None
    text: str | None


def choose(query: Select[Any], wanted: Wanted, dialect: str) -> Select[Any]:
    """A query over traces beside their task and run, narrowed. Raises ConfigError for a name or a number that can't be."""
    unknown = sorted(set(wanted) - set(Wanted.__annotations__))
    if unknown:
        raise ConfigError(f"traces can't be chosen by {unknown[0]!r}: choose by {', '.join(Wanted.__annotations__)}")
    for name, kind, column in (
        ("domain", Domain, TRACE.c.domain),
        ("split", Split, TASK.c.split),
        ("outcome", Outcome, TRACE.c.outcome),
    ):
        if (value := wanted.get(name)) is not None:
            # the index by domain holds the verdict too, but SQLite would rather go by the verdict and read every row for its domain
            by_domain = dialect == "sqlite" and name == "outcome" and wanted.get("domain") is not None
            query = query.where((literal_column("+trace.outcome", String) if by_domain else column) == checked(kind, value))
    for name in ("worker", "model", "fingerprint"):
        if (value := wanted.get(name)) is not None:
            query = query.where(TRACE.c[name] == value)
    if (strategy := wanted.get("strategy")) is not None:
        query = query.where(RUN.c.strategy == strategy)
    if (least := _number(wanted, "min_reward")) is not None:
        query = query.where(TRACE.c.reward >= least)
    if (most := _number(wanted, "max_reward")) is not None:
        query = query.where(TRACE.c.reward <= most)
    if (since := _number(wanted, "since")) is not None:
        query = query.where(TRACE.c.created >= since)
    if (until := _number(wanted, "until")) is not None:
        query = query.where(TRACE.c.created < until)
    if (words := wanted.get("text")) is not None:
        query = query.where(search.containing(words, dialect))
    return query


def checked(kind: type[StrEnum], value: Any) -> str:
    """The value of a name, or a ConfigError with the names there are."""
    try:
        return kind(value).value
    except ValueError:
        raise ConfigError(f"there is no {kind.__name__.lower()} {value!r}: choose one of {', '.join(kind)}") from None


def _number(wanted: Wanted, name: str) -> float | None:
    value: Any = wanted.get(name)
    if value is not None and (not isinstance(value, int | float) or math.isnan(value)):
        raise ConfigError(f"{name} is {value!r}: give a number")
    return value
