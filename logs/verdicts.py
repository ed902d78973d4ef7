"""Stored traces judged again: the trace shows the newest verdict, and every verdict it ever had is kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from core.errors import StoreError
from core.types import Record, Reward, Trace, Verdict
from logs import tally
from logs.database import existing, explained, open_for_writing, reading
from logs.place import place_of
from logs.reading import read_traces
from logs.redact import Redactor
from logs.rows import verdict_of, verdict_row
from logs.tables import TRACE, VERDICT

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Change(Record):
    """A trace whose verdict became another."""

    trace: Trace
    before: Verdict
    after: Verdict


def rescore(
    log_dir: str | Path,
    judge: Callable[[Trace], Verdict],
    reward: Callable[[Trace, Verdict], Reward],
    *,
    domain: str | None = None,
    on_trace: Callable[[Trace], None] = lambda trace: None,
    redact: Redactor | None = None,
) -> Iterator[Change]:
    """Judge stored traces again, oldest first, and yield those whose outcome or score is another now.

    A verdict of another version, outcome or score is added to the history; one that says the same is not. Each group is one
    transaction, so that an interruption loses nothing but what was not yet judged. Raises StoreError when there is no store.
    """
    redact = redact or Redactor()
    traces = read_traces(log_dir, domain=domain)
    engine = open_for_writing(existing(log_dir))
    try:
        while group := list(islice(traces, AT_ONCE)):
            found = []
            for trace in group:
                found.append((trace, redact.verdict(judge(trace))))
                on_trace(trace)
            with engine.begin() as connection:
                for trace, verdict in found:
                    if _says_another(trace.verdict, verdict):
                        _add(connection, trace, verdict, reward(trace, verdict))
            yield from (Change(trace, trace.verdict, verdict) for trace, verdict in found if _differs(trace.verdict, verdict))
    except StoreError:
        raise
    except OSError as error:
        raise explained(place_of(log_dir), error) from error
    finally:
        engine.dispose()


def verdicts_of(log_dir: str | Path, trace_id: str) -> list[Verdict]:
    """All verdicts of a trace, the first one first. Raises StoreError when there is no such trace."""
    with reading(existing(log_dir)) as connection:
        rows = connection.execute(select(VERDICT).where(VERDICT.c.trace_id == trace_id).order_by(VERDICT.c.id)).all()
        if rows:
            return [verdict_of(row) for row in rows]
        row = connection.execute(select(TRACE).where(TRACE.c.id == trace_id)).one_or_none()
    if row is None:
        raise StoreError(f"no trace {trace_id!r} in {log_dir}: see `ratchet traces export` for the ids")
    return [verdict_of(row)]


def _says_another(old: Verdict, new: Verdict) -> bool:
    return _differs(old, new) or (old.verifier, old.version, old.evidence) != (new.verifier, new.version, new.evidence)


def _differs(old: Verdict, new: Verdict) -> bool:
    return (old.outcome, old.score) != (new.outcome, new.score)


def _add(connection: Connection, trace: Trace, verdict: Verdict, earned: Reward) -> None:
    now = time.time()
    row = verdict_row(verdict, earned)
    known = connection.execute(select(VERDICT.c.id).where(VERDICT.c.trace_id == trace.id).limit(1)).first()
    if known is None:
        first = verdict_row(trace.verdict, Reward(trace.reward, trace.reward_parts, trace.reward_recipe))
        _insert(connection, trace, first, trace.created)
    _insert(connection, trace, row, now)
    stands = connection.execute(select(TRACE).where(TRACE.c.id == trace.id)).mappings().one()
    tally.count(connection, [dict(stands)], -1)
    tally.count(connection, [{**stands, **row}])
    connection.execute(update(TRACE).where(TRACE.c.id == trace.id).values(row))


def _insert(connection: Connection, trace: Trace, row: dict[str, Any], created: float) -> None:
    name = f"{time.time_ns():016x}{uuid.uuid4().hex[:16]}"
    connection.execute(insert(VERDICT).values(id=name, trace_id=trace.id, created=created, **row))
