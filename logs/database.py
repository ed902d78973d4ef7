"""The SQLite file behind the store: opened for writing, read as it is now, brought to today's schema, its errors explained."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from core.errors import StoreError
from logs.tables import SCHEMA_VERSION, UPGRADES, Base

FILE = "traces.sqlite"
BUSY_MILLISECONDS = 5_000
OPENING_SECONDS = 10.0


def open_for_writing(path: Path) -> Engine:
    """One connection for one thread, the schema brought up to date. Raises StoreError that says what is wrong with the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the folder {path.parent} ({error}): choose another log_dir") from error
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        _prepare(engine, path)
    except (sqlite3.Error, DBAPIError) as error:
        engine.dispose()
        raise explained(path, error) from error
    except StoreError:
        engine.dispose()
        raise
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


def _prepare(engine: Engine, path: Path) -> None:
    """Makes the tables. The step to write-ahead logging doesn't wait for its lock, so processes that start together try again."""
    deadline = time.monotonic() + OPENING_SECONDS
    while True:
        try:
            with engine.begin() as connection:
                version = _version(connection, path)
                for step in range(version, SCHEMA_VERSION) if version else ():
                    for statement in UPGRADES.get(step, ()):
                        connection.exec_driver_sql(statement)
                if version < SCHEMA_VERSION:
                    Base.metadata.create_all(connection)
                    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
        except (sqlite3.Error, DBAPIError) as error:
            if time.monotonic() > deadline or not is_locked(error):
                raise
            time.sleep(0.02)


def _version(connection: Connection, path: Path) -> int:
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this Ratchet knows {SCHEMA_VERSION}: upgrade Ratchet or choose another log_dir")
    return version


def existing(log_dir: str | Path) -> Path:
    """The file, once it is known to hold a store."""
    path = Path(log_dir) / FILE
    if path.exists():
        with reading(path) as connection:
            version = _version(connection, path)
        if version == SCHEMA_VERSION:
            return path
        if version:
            open_for_writing(path).dispose()
            return path
    raise StoreError(f"no traces in {log_dir}: create the Orchestrator with enable_logging=True and ask it something first")


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A read-only connection that sees the store as it is now, whoever writes meanwhile."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_MILLISECONDS / 1000, check_same_thread=False),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
    except DBAPIError as error:
        raise explained(path, error) from error
    finally:
        engine.dispose()


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 when the error is not SQLite's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another program holds the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


REMEDIES = {
    sqlite3.SQLITE_BUSY: "is locked by another program: close it or wait for it",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: see that it is a file and its folder may be written to, or choose another log_dir",
    sqlite3.SQLITE_CONSTRAINT: "refused it: each run and trace needs an id of its own, and a trace the id of its run",
    sqlite3.SQLITE_CORRUPT: "is damaged: move it away to begin a new one, or put a copy in its place",
    sqlite3.SQLITE_FULL: "can't grow, the disk is full: make room",
    sqlite3.SQLITE_NOTADB: "is damaged or no trace store: move it away to begin a new one, or put a copy in its place",
    sqlite3.SQLITE_READONLY: "may not be written to: change its permissions or choose another log_dir",
}


def explained(path: Path, error: BaseException) -> StoreError:
    """A database error as one line that says what to do."""
    if isinstance(error, StoreError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = f"{type(cause).__name__}: {cause}"
    remedy = REMEDIES.get(_code(error))
    return StoreError(f"{path} {remedy} ({told})" if remedy else f"{path}: {told}")
