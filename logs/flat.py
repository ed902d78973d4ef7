"""One row a trace, for tables: the columns of CSV, Parquet and datasets, read as they are stored, without records in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal_column, select, type_coerce

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


def rows_at_once(place: Place, wanted: Wanted) -> Iterator[Sequence[Sequence[Any]]]:
    """Some thousand rows after the other, oldest first, each with a value for every column."""
    sqlite = place.path is not None
    joined = TRACE.join(TASK, TASK.c.id == TRACE.c.task_id).join(RUN, RUN.c.id == TRACE.c.run_id)
    query = select(*(_column(name, sqlite) for name in COLUMNS)).select_from(joined).order_by(TRACE.c.created, TRACE.c.id)
    query = choose(query, wanted, "sqlite" if sqlite else "postgresql")
    with reading(place) as connection, connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as rows:
        yield from rows.partitions()


def _column(name: str, sqlite: bool) -> ColumnElement[Any]:
    if name in ASKED:
        return (_asked_sqlite if sqlite else _asked_postgres)(ASKED[name]).label(name)
    column = {"split": TASK.c.split}.get(name)
    column = TRACE.c[name] if column is None else column
    if COLUMNS[name] != "json":
        return column
    return type_coerce(column, String).label(name) if sqlite else cast(column, String).label(name)


def _asked_sqlite(name: str) -> ColumnElement[Any]:
    asked = func.coalesce(type_coerce(TRACE.c.asked, String), type_coerce(RUN.c.asked, String))
    return asked.op("->" if name == "metadata" else "->>")(literal_column(f"'$.{name}'"))


def _asked_postgres(name: str) -> ColumnElement[Any]:
    asked = func.coalesce(type_coerce(TRACE.c.asked, String), type_coerce(RUN.c.asked, String))
    value = type_coerce(asked.op("->>")(literal_column(f"'{name}'")), String)
    return cast(value, TASK.c.level.type) if name == "level" else value
