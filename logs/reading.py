"""What the store holds: traces streamed or page by page, runs with their trees, sums by hour, domain or worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from sqlalchemy import Connection, Select, func, select, tuple_

from core.errors import ConfigError, StoreError
from core.types import Record, Run, Trace
from logs.chosen import Wanted, choose
from logs.database import existing, reading
from logs.place import Place
from logs.rows import node_of, run_of, select_runs, select_traces, trace_of
from logs.tables import NODE, RUN, TALLY, TRACE
from logs.tally import HOUR

ROWS_AT_ONCE = 500
MAX_PAGE = 1_000

SumsBy = Literal["hour", "day", "domain", "worker", "model", "fingerprint", "outcome"]


@dataclass(frozen=True, slots=True)
class Page(Record):
    """Some traces, and what to hand to `read_page` as `after` for the next ones; None when these were the last."""

    traces: tuple[Trace, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Sums(Record):
    """Of the traces that share `name`: an hour or a day as its first second, a domain, a worker. `reward` is the mean of the known."""

    name: str | float
    traces: int
    outcomes: dict[str, int]
    reward: float | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float


def read_traces(where: str | Path | Place, *, limit: int | None = None, **wanted: Unpack[Wanted]) -> Iterator[Trace]:
    """Stored traces, oldest first, streamed. `where` is a log folder or a URL. Raises StoreError when there is no store."""
    place = existing(where)
    query = select_traces().order_by(TRACE.c.created, TRACE.c.id).limit(limit)
    return _stream_traces(place, choose(query, wanted, _dialect(place)))


def read_page(
    where: str | Path | Place, *, size: int = 50, after: str | None = None, oldest_first: bool = False, **wanted: Unpack[Wanted]
) -> Page:
    """So many traces, newest first; a page costs the same wherever it stands, and new traces don't shift it."""
    if not 1 <= size <= MAX_PAGE:
        raise ConfigError(f"a page has 1 to {MAX_PAGE} traces, not {size}")
    place = existing(where)
    key = tuple_(TRACE.c.created, TRACE.c.id)
    order = (TRACE.c.created, TRACE.c.id) if oldest_first else (TRACE.c.created.desc(), TRACE.c.id.desc())
    query = choose(select_traces(), wanted, _dialect(place)).order_by(*order).limit(size + 1)
    if after is not None:
        last = tuple_(*_cursor(after))
        query = query.where(key > last if oldest_first else key < last)
    with reading(place) as connection:
        traces = [trace_of(row) for row in connection.execute(query)]
    more = len(traces) > size
    return Page(tuple(traces[:size]), f"{traces[size - 1].created!r}:{traces[size - 1].id}" if more else None)


def read_trace(where: str | Path | Place, trace_id: str) -> Trace:
    """One trace. Raises StoreError when it is not there."""
    place = existing(where)
    with reading(place) as connection:
        row = connection.execute(select_traces().where(TRACE.c.id == trace_id)).one_or_none()
    if row is None:
        raise StoreError(f"no trace {trace_id!r} in {place}: see `ratchet traces list` for the ids")
    return trace_of(row)


def read_run(where: str | Path | Place, run_id: str) -> Run:
    """One run with its tree and its traces. Raises StoreError when it is not there."""
    place = existing(where)
    with reading(place) as connection:
        row = connection.execute(select_runs().where(RUN.c.id == run_id)).one_or_none()
        if row is None:
            raise StoreError(f"no run {run_id!r} in {place}: check the id, and flush the store that was given it")
        return whole_run(connection, row)


def read_runs(where: str | Path | Place, *, limit: int | None = None) -> Iterator[Run]:
    """Stored runs with their trees, oldest first, streamed. Raises StoreError when there is no store."""
    return _stream_runs(existing(where), select_runs().order_by(RUN.c.created, RUN.c.id).limit(limit))


def count_traces(where: str | Path | Place, **wanted: Unpack[Wanted]) -> int:
    """How many traces are wanted."""
    place = existing(where)
    chosen = choose(select_traces(), wanted, _dialect(place)).with_only_columns(func.count(), maintain_column_froms=True)
    with reading(place) as connection:
        return int(connection.execute(chosen).scalar_one())


def summary(where: str | Path | Place) -> dict[str, dict[str, int]]:
    """How many traces there are of each outcome in each domain: `{"math": {"pass": 3, "fail": 1}}`."""
    return {str(each.name): each.outcomes for each in read_sums(where, "domain")}


def read_sums(where: str | Path | Place, by: SumsBy = "domain", *, since: float | None = None, until: float | None = None) -> list[Sums]:
    """Sums over all traces, in the order of the names. `since` and `until` (not included) count whole hours."""
    if by not in get_args(SumsBy):
        raise ConfigError(f"there are no sums by {by!r}: choose one of {', '.join(get_args(SumsBy))}")
    hours = {"hour": 1, "day": 24}.get(by)
    name = TALLY.c.hour - (TALLY.c.hour % hours + hours) % hours if hours else TALLY.c[by]
    added = ("traces", "rewarded", "reward", "calls", "prompt_tokens", "completion_tokens", "cost", "seconds")
    query = select(name.label("name"), TALLY.c.outcome, *(func.sum(TALLY.c[each]).label(each) for each in added))
    if since is not None:
        query = query.where(TALLY.c.hour >= since // HOUR)
    if until is not None:
        query = query.where(TALLY.c.hour < until / HOUR)
    with reading(existing(where)) as connection:
        rows = connection.execute(query.group_by(name, TALLY.c.outcome).order_by(name, TALLY.c.outcome)).all()
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return [_sums(float(name * HOUR) if hours else name, found) for name, found in groups.items()]


def _sums(name: str | float, rows: list[Any]) -> Sums:
    rewarded = int(sum(row.rewarded for row in rows))
    return Sums(
        name=name,
        traces=int(sum(row.traces for row in rows)),
        outcomes={row.outcome: int(row.traces) for row in rows},
        reward=float(sum(row.reward for row in rows) / rewarded) if rewarded else None,
        calls=int(sum(row.calls for row in rows)),
        prompt_tokens=int(sum(row.prompt_tokens for row in rows)),
        completion_tokens=int(sum(row.completion_tokens for row in rows)),
        cost=float(sum(row.cost for row in rows)),
        seconds=float(sum(row.seconds for row in rows)),
    )


def _cursor(after: str) -> tuple[float, str]:
    created, _, trace_id = after.partition(":")
    try:
        return float(created), trace_id
    except ValueError:
        raise ConfigError(f"{after!r} is no place in the list: hand over what the last page gave as its next") from None


def _dialect(place: Place) -> str:
    return "sqlite" if place.path else "postgresql"


def _stream_traces(place: Place, query: Select[Any]) -> Iterator[Trace]:
    with reading(place) as connection, connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as rows:
        for row in rows:
            yield trace_of(row)


def _stream_runs(place: Place, query: Select[Any]) -> Iterator[Run]:
    with reading(place) as connection, connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as rows:
        for row in rows:
            yield whole_run(connection, row)


def whole_run(connection: Connection, row: Any) -> Run:
    """The run of a row of `select_runs`, with its tree and its traces."""
    nodes = connection.execute(select(NODE).where(NODE.c.run_id == row.id).order_by(NODE.c.place))
    traces = connection.execute(select_traces().where(TRACE.c.run_id == row.id).order_by(TRACE.c.place))
    return run_of(row, [node_of(node) for node in nodes], [trace_of(trace) for trace in traces])
