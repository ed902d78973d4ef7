"""Full-text search over questions and answers: FTS5 in SQLite, tsvector in PostgreSQL. Long texts are searched by their beginning."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, text
from sqlalchemy.sql import TextClause

from core.errors import ConfigError
from logs.tables import TRACE

PART = re.compile(r'"([^"]*)"|(\S+)')
MAX_QUERY = 500

SQLITE = (
    "CREATE TABLE searchable (number INTEGER PRIMARY KEY, trace_id VARCHAR NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE trace_text USING fts5(query, text, content='')",
)
POSTGRES = (
    "CREATE TABLE trace_words (trace_id VARCHAR PRIMARY KEY REFERENCES trace (id) ON DELETE CASCADE, words TSVECTOR NOT NULL)",
    "CREATE INDEX ix_trace_words ON trace_words USING gin (words)",
)
_words = (
    "substr(coalesce(coalesce(t.asked, r.asked) ->> '{0}', ''), 1, 50000){1}substr(t.text, 1, 50000)"
    " FROM trace t JOIN run r ON r.id = t.run_id"
)
SQLITE_WORDS = _words.format("$.prompt", ", ").replace("FROM trace t", "FROM searchable s JOIN trace t ON t.id = s.trace_id")
POSTGRES_WORDS = _words.format("prompt", " || ' ' || ").replace(" FROM", ") FROM")


def create(connection: Connection) -> None:
    """The index, empty."""
    for statement in POSTGRES if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(statement)


def add(connection: Connection, run_ids: Sequence[str]) -> None:
    """Make the traces of runs that were just written findable."""
    for statement in _adding(connection, "run_id"):
        connection.execute(statement, {"ids": list(run_ids)})


def remove(connection: Connection, trace_ids: Sequence[str]) -> None:
    """Before the traces are deleted: SQLite's index forgets a text only when it is told it once more."""
    if connection.dialect.name == "postgresql":
        return  # the rows go with their traces
    told = "INSERT INTO trace_text (trace_text, rowid, query, text) SELECT 'delete', s.number, "
    for statement in (f"{told}{SQLITE_WORDS} WHERE t.id IN :ids", "DELETE FROM searchable WHERE trace_id IN :ids"):
        connection.execute(_expanding(statement), {"ids": list(trace_ids)})


def containing(wanted: str, dialect: str) -> ColumnElement[bool]:
    """Traces that hold every word of a query; words in double quotes stand together, `run*` stands for all that begins so."""
    parts = [(phrase or word, not phrase and word.endswith("*")) for phrase, word in PART.findall(wanted[:MAX_QUERY])]
    parts = [(part, prefix) for part, prefix in parts if re.search(r"\w", part)]
    if not parts:
        raise ConfigError(f"there is no word in {wanted[:60]!r}: give one or more words to search for")
    return TRACE.c.id.in_(_postgres(parts) if dialect == "postgresql" else _sqlite(parts))


def _sqlite(parts: list[tuple[str, bool]]) -> TextClause:
    query = " ".join('"' + part.replace('"', '""').replace("\0", " ") + '"' + "*" * prefix for part, prefix in parts)
    found = "SELECT rowid FROM trace_text WHERE trace_text MATCH :words"
    return text(f"SELECT trace_id FROM searchable WHERE number IN ({found})").bindparams(words=query)


def _postgres(parts: list[tuple[str, bool]]) -> TextClause:
    terms, values = [], {}
    for place, (part, prefix) in enumerate(parts):
        part = part.replace("\0", " ")
        if prefix:
            terms.append(f"to_tsquery('simple', :word{place})")
            values[f"word{place}"] = "'" + part.rstrip("*").replace("\\", "\\\\").replace("'", "''") + "':*"
        else:
            terms.append(f"phraseto_tsquery('simple', :word{place})")
            values[f"word{place}"] = part
    return text(f"SELECT trace_id FROM trace_words WHERE words @@ ({' && '.join(terms)})").bindparams(**values)


def _adding(connection: Connection, chosen_by: str) -> list[TextClause]:
    if connection.dialect.name == "postgresql":
        return [_expanding(f"INSERT INTO trace_words SELECT t.id, to_tsvector('simple', {POSTGRES_WORDS} WHERE t.{chosen_by} IN :ids")]
    return [
        _expanding(f"INSERT INTO searchable (trace_id) SELECT id FROM trace WHERE {chosen_by} IN :ids ORDER BY created, id"),
        _expanding(f"INSERT INTO trace_text (rowid, query, text) SELECT s.number, {SQLITE_WORDS} WHERE t.{chosen_by} IN :ids"),
    ]


def _expanding(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("ids", expanding=True))
