"""The rows of whole runs into their tables, with all that follows from them: sums, and words to search for.

Into SQLite they go as plain tuples, past SQLAlchemy's processing of each row, which takes three quarters of the time.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Connection, Table
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from logs import search, tally
from logs.tables import RUN, TABLES, TASK, TRACE, Values

Rows = dict[Table, list[Values]]

_json = json.JSONEncoder(ensure_ascii=False).encode


def write_rows(connection: Connection, rows: Rows) -> None:
    """In the transaction of the connection. A task that is there already stays as it is."""
    for table in TABLES:
        if rows[table] and connection.dialect.name == "postgresql":
            connection.execute(POSTGRES[table], rows[table])
        elif rows[table]:
            connection.exec_driver_sql(SQLITE[table], [VALUES[table](_with_json(row, JSONS[table])) for row in rows[table]])
    if rows[TRACE]:
        tally.count(connection, rows[TRACE])
        search.add(connection, [row["id"] for row in rows[RUN]])


def _with_json(row: Values, names: tuple[str, ...]) -> Values:
    """The row; a copy where it holds JSON, as text."""
    return {**row, **{name: None if row[name] is None else _json(row[name]) for name in names}} if names else row


def _sqlite(table: Table) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    ending = " ON CONFLICT (id) DO NOTHING" if table is TASK else ""
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(table.columns))}){ending}"


def _postgres(table: Table) -> Any:
    return postgres_insert(table).on_conflict_do_nothing(index_elements=["id"]) if table is TASK else postgres_insert(table)


SQLITE = {table: _sqlite(table) for table in TABLES}
POSTGRES = {table: _postgres(table) for table in TABLES}
VALUES = {table: itemgetter(*(column.name for column in table.columns)) for table in TABLES}
JSONS = {table: tuple(column.name for column in table.columns if isinstance(column.type, JSON)) for table in TABLES}
