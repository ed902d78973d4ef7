"""Sums by hour, domain, worker, weights and outcome, kept true in the transactions that change traces: a million need not be counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from logs.tables import TALLY, Values

HOUR = 3600
LAST_HOUR = 2**31 - 1
KEY = tuple(column.name for column in TALLY.primary_key)
SUMS = tuple(column.name for column in TALLY.columns if column.name not in KEY)
MOST = 10**12  # that one trace adds to a sum: what it claims beyond is no measurement, and sums of it would not fit their columns
USED = ("calls", "prompt_tokens", "completion_tokens", "cost", "seconds")


def count(connection: Connection, rows: Iterable[Values], sign: int = 1) -> None:
    """Add traces, as rows of their table, or take them away with sign -1. In the order of the key, so that writers never wait in a ring."""
    sums: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found = sums.setdefault(_key(row), [0] * len(SUMS))
        for place, value in enumerate(_values(row)):
            found[place] += sign * value
    if not sums:
        return
    insert = postgres_insert(TALLY) if connection.dialect.name == "postgresql" else sqlite_insert(TALLY)
    added = {name: TALLY.c[name] + insert.excluded[name] for name in SUMS}
    statement = insert.on_conflict_do_update(index_elements=KEY, set_=added)
    connection.execute(statement, [dict(zip((*KEY, *SUMS), (*key, *sums[key]), strict=True)) for key in sorted(sums)])
    if sign < 0:
        connection.execute(delete(TALLY).where(TALLY.c.traces == 0))


def _key(row: Values) -> tuple[Any, ...]:
    hour = int(max(-LAST_HOUR, min(LAST_HOUR, row["created"] // HOUR)))
    return hour, row["domain"], row["worker"], row["model"], row["fingerprint"] or "", row["outcome"]


def _values(row: Values) -> tuple[float, ...]:
    reward = row["reward"]
    return 1, int(reward is not None), *(max(-MOST, min(MOST, value or 0)) for value in (reward, *(row[name] for name in USED)))
