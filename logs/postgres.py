"""A store in a PostgreSQL database, which several hosts write: how it is reached, and what its errors mean.

PostgreSQL's text holds no null byte: in what a model wrote one becomes U+FFFD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from core.errors import StoreError

CONNECT_SECONDS = 5
NULL, REPLACEMENT = "\x00", "\ufffd"
ESCAPED_NULL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
SWAPPED = ("40001", "40P01", "55P03")  # another writer was in the way: the same transaction may well succeed
GONE = ("08", "57P", "53300")  # no connection, the server is going down or coming up, too many clients


def writer(url: URL) -> Engine:
    """One connection for one thread, seen to be alive before each transaction."""
    return _engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)


@lru_cache(maxsize=32)
def reader(url: URL) -> Engine:
    """Connections whose transactions see the database as it was when they began, and change nothing. None is kept."""
    return _engine(url, poolclass=NullPool).execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def without_nulls(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose texts PostgreSQL can hold; JSON is seen to where it is written."""
    return [
        {name: value.replace(NULL, REPLACEMENT) if type(value) is str and NULL in value else value for name, value in row.items()}
        for row in rows
    ]


def _engine(url: URL, **pool: Any) -> Engine:
    alive = {"keepalives_idle": 30, "tcp_user_timeout": 20_000}
    try:
        return create_engine(
            url,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "ratchet", **alive},
            json_serializer=_json,
            **pool,
        )
    except ModuleNotFoundError as error:
        raise StoreError('a store in PostgreSQL needs psycopg: pip install "ratchet-agents[postgres]"') from error


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return ESCAPED_NULL.sub(rf"\1{REPLACEMENT}", text) if "\\u0000" in text else text


def _state(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) or ""


def is_locked(error: BaseException) -> bool:
    """Whether another writer was in the way."""
    return _state(error) in SWAPPED


def is_gone(error: BaseException) -> bool:
    """Whether the server can't be reached, for now."""
    if not isinstance(error, DBAPIError) or not type(error.orig).__module__.startswith("psycopg"):
        return False
    state = _state(error)
    return error.connection_invalidated or state.startswith(GONE) or (not state and type(error.orig).__name__ == "OperationalError")


def remedy(error: BaseException) -> str | None:
    """What to do about an error of PostgreSQL's."""
    if is_gone(error):
        return "can't be reached: see that the server runs and that STORE_URL names it rightly"
    return next((told for start, told in REMEDIES.items() if _state(error).startswith(start)), None)


REMEDIES = {
    "23": "refused it: each run and trace needs an id of its own, and a trace the id of its run",
    "25006": "may not be written to: connect to the server that takes writes",
    "28": "refused the user or the password: check STORE_URL",
    "3D000": "does not exist: create the database first",
    "42501": "may not be written to by this user: grant it the right to create tables",
    "42P07": "holds tables of another program: give Ratchet a database or a schema of its own",
    "53100": "can't grow, its disk is full: make room",
}
