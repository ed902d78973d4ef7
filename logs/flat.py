"""One row a trace, for tables: the columns of CSV, Parquet and datasets, read as they are stored, without records in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Select, String, cast, func, select, type_coerce

from logs.chosen import Wanted, choose
from logs.database import reading
from logs.place import Place
from logs.tables import RUN, TASK, TRACE

ROWS_AT_ONCE = 2_000

# name -> kind; the kinds are text, json (text that is JSON), number, whole and flag
COLUMNS = {
    "id": "text",
    "run_id": "text",
    "task_id": "text",
    "domain": "text",
    "split": "text",
    "family": "text",
    "level": "whole",
    "query": "text",
    "reference": "text",
    "answer": "text",
    "text": "text",
    "steps": "json",
    "outcome": "text",
    "score": "number",
    "reason": "text",
    "evidence": "text",
    "verifier": "text",
    "verifier_version": "text",
    "verdict_ms": "number",
    "reward": "number",
    "reward_parts": "json",
    "reward_recipe": "text",
    "isolation": "text",
    "complete": "flag",
    "worker": "text",
    "directive": "text",
    "model": "text",
    "fingerprint": "text",
    "node": "text",
    "calls": "whole",
    "prompt_tokens": "whole",
    "completion_tokens": "whole",
    "cost": "number",
    "seconds": "number",
    "created": "number",
    "metadata": "json",
}
ASKED = {"family": "family", "level": "level", "query": "prompt", "reference": "reference", "metadata": "metadata"}
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Row = tuple[Any, ...]


def rows_at_once(place: Place, wanted: Wanted, names: Sequence[str] = tuple(COLUMNS)) -> Iterator[list[Row]]:
    """Some thousand rows after the other, oldest first, each with a value for every column named."""
    query, shaped = _query(place, names)
    query = choose(query, wanted, "sqlite" if place.path else "postgresql").order_by(TRACE.c.created, TRACE.c.id)
    options = {} if place.path else {"yield_per": ROWS_AT_ONCE}
    with reading(place) as connection, connection.execute(query, execution_options=options) as rows:
        for chunk in _raw(rows) if place.path else rows.partitions():
            yield [shaped(row) for row in chunk]


def _query(place: Place, names: Sequence[str]) -> tuple[Select[Any], Callable[[Sequence[Any]], Row]]:
    """What is asked of the database, and what makes a row of an answer.

    How a run asked its question is one piece of JSON for all its traces: it is taken apart here, once for those that follow each other.
    """
    stored = [name for name in names if name not in ASKED]
    asked = func.coalesce(*(_as_text(table.c.asked, place) for table in (TRACE, RUN))).label("as_asked")
    joined = TRACE.join(TASK, TASK.c.id == TRACE.c.task_id).join(RUN, RUN.c.id == TRACE.c.run_id)
    query = select(*(_column(name, place) for name in stored), asked).select_from(joined)
    order = {name: number for number, name in enumerate([*stored, *ASKED, "flag"])}
    last = len(stored)
    complete = order["complete"] if "complete" in stored else None
    if complete is not None:
        order["complete"] = last + len(ASKED)
    picked = itemgetter(*(order[name] for name in names))
    before, parts = None, ()

    def shaped(row: Sequence[Any]) -> Row:
        nonlocal before, parts
        if row[last] != before:
            before = row[last]
            parts = _parts(json.loads(before))
        flag = () if complete is None else (bool(row[complete]),)
        found: Row = picked((*row[:last], *parts, *flag))
        return found

    return query, shaped


def _parts(asked: dict[str, Any]) -> Row:
    return tuple(_compact(asked.get(part) or {}) if name == "metadata" else asked.get(part) for name, part in ASKED.items())


def _raw(rows: CursorResult[Any]) -> Iterator[Sequence[Any]]:
    """Past SQLAlchemy, which would look at each value once more."""
    assert rows.cursor is not None
    while chunk := rows.cursor.fetchmany(ROWS_AT_ONCE):
        yield chunk


def _column(name: str, place: Place) -> ColumnElement[Any]:
    column: ColumnElement[Any] = TASK.c.split if name == "split" else TRACE.c[name]
    return _as_text(column, place).label(name) if COLUMNS[name] == "json" else column


def _as_text(column: ColumnElement[Any], place: Place) -> ColumnElement[Any]:
    """JSON as it is written."""
    return type_coerce(column, String) if place.path else cast(column, String)
