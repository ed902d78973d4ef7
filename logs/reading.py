"""What the store holds, streamed: traces by domain, split, outcome, reward and time; runs with their trees; counts."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, func, select

from core.errors import ConfigError, StoreError
from core.types import Domain, Outcome, Run, Split, Trace
from logs.database import existing, reading
from logs.rows import node_of, run_of, select_runs, select_traces, trace_of
from logs.tables import NODE, RUN, TASK, TRACE

ROWS_AT_ONCE = 500


def read_traces(
    log_dir: str | Path,
    *,
    domain: Domain | str | None = None,
    split: Split | str | None = None,
    outcome: Outcome | str | None = None,
    min_reward: float | None = None,
    since: float | None = None,
    limit: int | None = None,
) -> Iterator[Trace]:
    """Stored traces, oldest first, streamed. `since` is in seconds since 1970. Raises StoreError when there is no store."""
    query = select_traces().order_by(TRACE.c.created, TRACE.c.id).limit(limit)
    if domain is not None:
        query = query.where(TRACE.c.domain == _checked(Domain, domain))
    if split is not None:
        query = query.where(TASK.c.split == _checked(Split, split))
    if outcome is not None:
        query = query.where(TRACE.c.outcome == _checked(Outcome, outcome))
    if min_reward is not None:
        query = query.where(TRACE.c.reward >= min_reward)
    if since is not None:
        query = query.where(TRACE.c.created >= since)
    return _stream_traces(existing(log_dir), query)


def read_run(log_dir: str | Path, run_id: str) -> Run:
    """One run with its tree and its traces. Raises StoreError when it is not there."""
    path = existing(log_dir)
    with reading(path) as connection:
        row = connection.execute(select_runs().where(RUN.c.id == run_id)).one_or_none()
        if row is None:
            raise StoreError(f"no run {run_id!r} in {path}: check the id, and flush the store that was given it")
        return _whole_run(connection, row)


def read_runs(log_dir: str | Path, *, limit: int | None = None) -> Iterator[Run]:
    """Stored runs with their trees, oldest first, streamed. Raises StoreError when there is no store."""
    return _stream_runs(existing(log_dir), select_runs().order_by(RUN.c.created, RUN.c.id).limit(limit))


def summary(log_dir: str | Path) -> dict[str, dict[str, int]]:
    """How many traces there are of each outcome in each domain: `{"math": {"pass": 3, "fail": 1}}`."""
    counts: dict[str, dict[str, int]] = {}
    query = select(TRACE.c.domain, TRACE.c.outcome, func.count()).group_by(TRACE.c.domain, TRACE.c.outcome)
    with reading(existing(log_dir)) as connection:
        for domain, outcome, count in connection.execute(query):
            counts.setdefault(domain, {})[outcome] = count
    return counts


def _stream_traces(path: Path, query: Select[Any]) -> Iterator[Trace]:
    with reading(path) as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}):
            yield trace_of(row)


def _stream_runs(path: Path, query: Select[Any]) -> Iterator[Run]:
    with reading(path) as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}):
            yield _whole_run(connection, row)


def _whole_run(connection: Connection, row: Any) -> Run:
    nodes = connection.execute(select(NODE).where(NODE.c.run_id == row.id).order_by(NODE.c.place))
    traces = connection.execute(select_traces().where(TRACE.c.run_id == row.id).order_by(TRACE.c.place))
    return run_of(row, [node_of(node) for node in nodes], [trace_of(trace) for trace in traces])


def _checked(kind: type[StrEnum], value: str) -> str:
    try:
        return kind(value).value
    except ValueError:
        raise ConfigError(f"there is no {kind.__name__.lower()} {value!r}: choose one of {', '.join(kind)}") from None
