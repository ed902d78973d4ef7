"""One row a trace, for tables: the columns of CSV, Parquet and datasets, read as they are stored, without records in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, func, select, type_coerce

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


def read_rows(place: Place, wanted: Wanted, names: Sequence[str] = tuple(COLUMNS)) -> Iterator[Row]:
    """One row after the other, oldest first, each with a value for every column named."""
    query, shaped = _query(place, names)
    query = choose(query, wanted, "sqlite" if place.path else "postgresql").order_by(TRACE.c.created, TRACE.c.id)
    options = {} if place.path else {"yield_per": ROWS_AT_ONCE}
    with reading(place) as connection, connection.execute(query, execution_options=options) as rows:
        # SQLite's own cursor: SQLAlchemy would look at each value once more
        stored: Any = rows.cursor if place.path else map(tuple, rows)
        yield from map(shaped, stored)


def _query(place: Place, names: Sequence[str]) -> tuple[Select[Any], Callable[[Row], Row]]:
    """What is asked of the database, and what makes a row of an answer.

    How a run asked its question is one piece of JSON for all its traces: it is taken apart here, once for those that follow each other.
    """
    stored = [name for name in names if name not in ASKED]
    asked = func.coalesce(*(_as_text(table.c.asked, place) for table in (TRACE, RUN))).label("as_asked")
    joined = TRACE.join(TASK, TASK.c.id == TRACE.c.task_id).join(RUN, RUN.c.id == TRACE.c.run_id)
    query = select(*(_column(name, place) for name in stored), asked).select_from(joined)
    order = {name: number for number, name in enumerate([*stored, "as_asked", *ASKED, "flag"])}
    last = order["as_asked"]
    complete = order.get("complete", last)  # where nobody asks for it, any place will do
    picked = itemgetter(*(order["flag" if name == "complete" else name] for name in names))
    before, no, yes = None, (), ()

    def shaped(row: Row) -> Row:
        nonlocal before, no, yes
        if row[last] != before:
            before = row[last]
            parts = _parts(json.loads(before))
            no, yes = (*parts, False), (*parts, True)
        found: Row = picked(row + (yes if row[complete] else no))
        return found

    return query, shaped


def _parts(asked: dict[str, Any]) -> Row:
    found = {**asked, "metadata": _compact(metadata) if (metadata := asked.get("metadata")) else "{}"}
    return tuple(map(found.get, ASKED.values()))


def _column(name: str, place: Place) -> ColumnElement[Any]:
    column: ColumnElement[Any] = TASK.c.split if name == "split" else TRACE.c[name]
    return _as_text(column, place).label(name) if COLUMNS[name] == "json" else column


def _as_text(column: ColumnElement[Any], place: Place) -> ColumnElement[Any]:
    """JSON as it is written."""
    return type_coerce(column, String) if place.path else cast(column, String)
