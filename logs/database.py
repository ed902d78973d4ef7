"""The database behind the store: opened for writing, read as it is now, its errors explained; SQLite and PostgreSQL look alike."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.errors import StoreError
from logs import postgres, sqlite
from logs.place import FILE, Place, place_of
from logs.schema import bring_up_to_date, stored_version
from logs.tables import SCHEMA_VERSION

__all__ = ["FILE", "existing", "explained", "is_gone", "is_locked", "open_for_writing", "reading"]

OPENING_SECONDS = 10.0
_known: dict[str, tuple[int, int]] = {}  # files that were seen to hold a store of today's schema, which never goes back


def open_for_writing(place: Place) -> Engine:
    """One connection for one thread, the schema brought up to date. Raises StoreError that says what is wrong with the database."""
    engine = sqlite.writer(place.path) if place.path else postgres.writer(place.url)
    try:
        _prepare(engine, place)
    except (sqlite3.Error, DBAPIError) as error:
        engine.dispose()
        raise explained(place, error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _prepare(engine: Engine, place: Place) -> None:
    """Makes or changes the tables. SQLite's step to write-ahead logging doesn't wait for its lock: processes that start together retry."""
    deadline = time.monotonic() + OPENING_SECONDS
    while True:
        try:
            with engine.begin() as connection:
                bring_up_to_date(connection, place.told)
            return
        except (sqlite3.Error, DBAPIError) as error:
            if time.monotonic() > deadline or not is_locked(error):
                raise
            time.sleep(0.02)


def existing(where: str | Path | Place) -> Place:
    """The place, once it is known to hold a store of today's schema."""
    place = place_of(where)
    file = _file(place)
    if file is not None and _known.get(str(place.path)) == file:
        return place
    if place.path is None or file is not None:
        with reading(place) as connection:
            version = stored_version(connection, place.told)
        if version == SCHEMA_VERSION:
            if file is not None:
                _known[str(place.path)] = file
            return place
        if version:
            open_for_writing(place).dispose()
            return place
    found = place.folder if place.path and place.path.name == FILE else place
    raise StoreError(f"no traces in {found}: create the Orchestrator with enable_logging=True and ask it something first")


def _file(place: Place) -> tuple[int, int] | None:
    """Which file it is, for as long as it is not replaced; None when there is none, or on a server."""
    try:
        found = place.path.stat() if place.path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found and found.st_size else None


@contextmanager
def reading(place: Place) -> Iterator[Connection]:
    """A read-only connection that sees the store as it is now, whoever writes meanwhile."""
    engine = sqlite.reader(place.path) if place.path else postgres.reader(place.url)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        raise explained(place, error) from error


def is_locked(error: BaseException) -> bool:
    """Whether another writer is in the way, for now."""
    return sqlite.is_locked(error) or postgres.is_locked(error)


def is_gone(error: BaseException) -> bool:
    """Whether there is no server to reach, for now."""
    return postgres.is_gone(error)


def explained(place: Place, error: BaseException) -> StoreError:
    """A database error as one line that says what to do."""
    if isinstance(error, StoreError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    remedy = sqlite.remedy(error) or postgres.remedy(error)
    return StoreError(f"{place} {remedy} ({told})" if remedy else f"{place}: {told}")
