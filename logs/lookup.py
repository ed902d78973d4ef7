"""Runs by their key: which searches have been made already, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from core.types import Run, Trace
from logs.database import existing, reading
from logs.place import Place
from logs.rows import run_of, select_runs, select_traces, trace_of
from logs.tables import RUN, TRACE

KEYS_AT_ONCE = 200


def read_finished(where: str | Path | Place, keys: Iterable[str]) -> Iterator[Run]:
    """Of each key the newest run that ended without an error, with its traces and without its tree. Raises StoreError without a store."""
    place, left = existing(where), iter(sorted(set(keys) - {""}))
    with reading(place) as connection:
        while some := list(islice(left, KEYS_AT_ONCE)):
            ids = select(RUN.c.id, RUN.c.key).where(RUN.c.key.in_(some), RUN.c.error.is_(None)).order_by(RUN.c.created, RUN.c.id)
            newest = {key: run_id for run_id, key in connection.execute(ids)}
            found = RUN.c.id.in_(newest.values())
            traces: dict[str, list[Trace]] = {}
            for row in connection.execute(select_traces().where(found).order_by(TRACE.c.run_id, TRACE.c.place)):
                traces.setdefault(row.run_id, []).append(trace_of(row))
            for row in connection.execute(select_runs().where(found)).all():
                yield run_of(row, [], traces.get(row.id, []))
