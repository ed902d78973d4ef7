"""A store in a SQLite file: one connection that writes, connections that only read, and what its errors mean."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from core.errors import StoreError

BUSY_MILLISECONDS = 5_000


def writer(path: Path) -> Engine:
    """One connection for one thread; each transaction takes the file's write lock as it begins."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the folder {path.parent} ({error}): choose another log_dir") from error
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


@lru_cache(maxsize=32)
def reader(path: Path) -> Engine:
    """Connections that see the file as it was when they began, whoever writes meanwhile. None is kept; the compiled queries are."""
    uri = f"file:{quote(str(path))}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False),
        poolclass=NullPool,
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _connect(path: Path) -> sqlite3.Connection:
    """In autocommit, since SQLAlchemy says when a transaction begins; used by one thread at a time."""
    connection = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 when the error is not SQLite's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another program holds the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def remedy(error: BaseException) -> str | None:
    """What to do about an error of SQLite's."""
    return REMEDIES.get(_code(error))


REMEDIES = {
    sqlite3.SQLITE_BUSY: "is locked by another program: close it or wait for it",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: see that it is a file and its folder may be written to, or choose another log_dir",
    sqlite3.SQLITE_CONSTRAINT: "refused it: each run and trace needs an id of its own, and a trace the id of its run",
    sqlite3.SQLITE_CORRUPT: "is damaged: move it away to begin a new one, or put a copy in its place",
    sqlite3.SQLITE_FULL: "can't grow, the disk is full: make room",
    sqlite3.SQLITE_NOTADB: "is damaged or no trace store: move it away to begin a new one, or put a copy in its place",
    sqlite3.SQLITE_READONLY: "may not be written to: change its permissions or choose another log_dir",
}
