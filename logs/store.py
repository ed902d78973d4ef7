"""The trace store: one SQLite file that many processes write and read, where a run stands whole or not at all.

`put` hands a run to a writer thread and returns at once; `flush` waits until it is on the disk. A store belongs to the process that
opened it: after a fork, open another.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Select, Table, create_engine, event, func, insert, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from core.errors import ConfigError, StoreError
from core.types import Domain, Outcome, Run, Split, Trace
from logs.tables import NODE, RUN, SCHEMA_VERSION, TABLES, TASK, TRACE, Base, node_of, rows_of, run_of, select_runs, select_traces, trace_of

FILE = "traces.sqlite"
BUSY_MILLISECONDS = 5_000
OPENING_SECONDS = 10.0
GROUP_RUNS = 256
GROUP_NODES = 20_000
ROWS_AT_ONCE = 500
SLOW = "the disk is slow, or another program holds the file"

logger = logging.getLogger(__name__)


class TraceStore:
    """Takes runs without making the caller wait. Raises StoreError when the file can't be opened for writing.

    What a normal exit of the interpreter finds in the queue is still written.
    """

    def __init__(self, log_dir: str | Path, *, queue_size: int = 10_000) -> None:
        self.path = (Path(log_dir) / FILE).absolute()
        self._writer = _Writer(self.path, queue_size)
        self._at_exit = weakref.finalize(self, self._writer.close, 30.0)

    def put(self, run: Run) -> bool:
        """Queue a run. Never raises, never waits; False, and counted in `dropped`, when it can't be taken."""
        return self._writer.put(run)

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was put before is durable. Raises StoreError when it is not, and says why."""
        self._writer.flush(timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Write what is queued and stop. What can't be written within `timeout` seconds is counted as dropped."""
        self._at_exit.detach()
        self._writer.close(timeout)

    @property
    def dropped(self) -> int:
        """Runs that were offered and are not in the store."""
        return self._writer.dropped

    @property
    def last_error(self) -> str | None:
        """Why the last of them was dropped."""
        return self._writer.last_error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_traces(
    log_dir: str | Path,
    *,
    domain: Domain | str | None = None,
    split: Split | str | None = None,
    outcome: Outcome | str | None = None,
    min_reward: float | None = None,
    since: float | None = None,
    limit: int | None = None,
) -> Iterator[Trace]:
    """Stored traces, oldest first, streamed. `since` is in seconds since 1970. Raises StoreError when there is no store."""
    query = select_traces().order_by(TRACE.c.created, TRACE.c.id).limit(limit)
    if domain is not None:
        query = query.where(TRACE.c.domain == _checked(Domain, domain))
    if split is not None:
        query = query.where(TASK.c.split == _checked(Split, split))
    if outcome is not None:
        query = query.where(TRACE.c.outcome == _checked(Outcome, outcome))
    if min_reward is not None:
        query = query.where(TRACE.c.reward >= min_reward)
    if since is not None:
        query = query.where(TRACE.c.created >= since)
    return _stream_traces(_existing(log_dir), query)


def read_run(log_dir: str | Path, run_id: str) -> Run:
    """One run with its tree and its traces. Raises StoreError when it is not there."""
    path = _existing(log_dir)
    with _reading(path) as connection:
        row = connection.execute(select_runs().where(RUN.c.id == run_id)).one_or_none()
        if row is None:
            raise StoreError(f"no run {run_id!r} in {path}: check the id, and flush the store that was given it")
        return _whole_run(connection, row)


def read_runs(log_dir: str | Path, *, limit: int | None = None) -> Iterator[Run]:
    """Stored runs with their trees, oldest first, streamed. Raises StoreError when there is no store."""
    return _stream_runs(_existing(log_dir), select_runs().order_by(RUN.c.created, RUN.c.id).limit(limit))


def summary(log_dir: str | Path) -> dict[str, dict[str, int]]:
    """How many traces there are of each outcome in each domain: `{"math": {"pass": 3, "fail": 1}}`."""
    counts: dict[str, dict[str, int]] = {}
    query = select(TRACE.c.domain, TRACE.c.outcome, func.count()).group_by(TRACE.c.domain, TRACE.c.outcome)
    with _reading(_existing(log_dir)) as connection:
        for domain, outcome, count in connection.execute(query):
            counts.setdefault(domain, {})[outcome] = count
    return counts


class _Writer:
    """The queue and the thread that empties it. Holds no reference to its TraceStore, so that a forgotten one is closed."""

    def __init__(self, path: Path, queue_size: int) -> None:
        self.dropped = 0
        self.last_error: str | None = None
        self._path = path
        self._engine = _open_for_writing(path)
        self._inode = path.stat().st_ino
        self._queue_size = queue_size
        self._queue: deque[Run] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._accepted = 0
        self._settled = 0
        self._lost_since_flush = 0
        self._closing = False
        self._giving_up = False
        self._stopped = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="ratchet-trace-writer", daemon=True)
        self._thread.start()

    def put(self, run: Run) -> bool:
        with self._lock:
            refusal = self._refusal(run)
            if refusal is None:
                self._queue.append(run)
                self._accepted += 1
                self._arrived.notify()
                return True
        self._lose(1, refusal)
        return False

    def flush(self, timeout: float) -> None:
        with self._lock:
            target = self._accepted
            self._progress.wait_for(lambda: self._settled >= target or not self._running(), timeout)
            missing = target - self._settled
            lost = self._lost_since_flush
            if missing <= 0:
                self._lost_since_flush = 0
        if missing > 0 and not self._running():
            raise StoreError(f"the writer of {self._path} has stopped with {missing} runs unwritten: open a new TraceStore")
        if missing > 0:
            raise StoreError(f"{missing} runs are not yet in {self._path} after {timeout:g} s: {SLOW}")
        if lost:
            raise StoreError(f"{lost} runs could not be written to {self._path}: {self.last_error}")

    def close(self, timeout: float) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closing = True
            self._arrived.notify()
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._giving_up = True
            self._thread.join(2 * BUSY_MILLISECONDS / 1000)

    def _running(self) -> bool:
        """False once the thread has ended, and in a forked child, where it never was."""
        return not self._stopped and self._thread.is_alive()

    def _refusal(self, run: object) -> str | None:
        if not isinstance(run, Run):
            return f"{type(run).__name__} is not a Run"
        if self._closing:
            return "the store is closed: open a new TraceStore"
        if not self._running():
            return "the writer is not running in this process: open a new TraceStore"
        if len(self._queue) >= self._queue_size:
            return f"the queue of {self._queue_size} runs is full: {SLOW}"
        return None

    def _lose(self, runs: int, reason: str) -> None:
        with self._lock:
            first = self.dropped == 0
            self.dropped += runs
            self.last_error = reason
        if first:
            logger.warning("traces are being lost, %s: %s (told once; TraceStore.dropped counts them)", self._path, reason)

    def _work(self) -> None:
        try:
            while group := self._next_group():
                self._write(group)
                with self._lock:
                    self._settled += len(group)
                    self._progress.notify_all()
        finally:
            self._engine.dispose()
            with self._lock:
                self._stopped = True
                unwritten = self._accepted - self._settled
                self._progress.notify_all()
            if unwritten:
                self._lose(unwritten, "the writer stopped")

    def _next_group(self) -> list[Run]:
        """What is queued, up to the size of a transaction; empty when the store is closed and all is written."""
        with self._lock:
            self._arrived.wait_for(lambda: self._queue or self._closing)
            group: list[Run] = []
            nodes = 0
            while self._queue and len(group) < GROUP_RUNS and nodes < GROUP_NODES:
                group.append(self._queue.popleft())
                nodes += len(group[-1].nodes)
            return group

    def _write(self, runs: list[Run]) -> None:
        """All in one transaction; when that fails, one by one, so that a bad run costs no other."""
        try:
            self._insert(runs)
        except Exception as error:  # noqa: BLE001 - nothing that a run holds may stop the writer
            if len(runs) == 1 or self._giving_up:
                self._lose_accepted(len(runs), f"run {runs[0].id!r}: {_explained(self._path, error)}")
            else:
                for run in runs:
                    self._write([run])

    def _insert(self, runs: list[Run]) -> None:
        """One transaction. A lock is waited out for as long as the store is open."""
        rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in TABLES}
        for run in runs:
            for table, found in rows_of(run).items():
                rows[table] += found
        while True:
            try:
                return self._commit(rows)
            except DBAPIError as error:
                if self._giving_up or not _is_locked(error):
                    raise

    def _commit(self, rows: dict[Table, list[dict[str, Any]]]) -> None:
        if self._giving_up:
            raise StoreError(f"{self._path} could not be written before the store had to close")
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            raise StoreError(f"{self._path} was removed or replaced while it was open: open a new TraceStore")
        with self._engine.begin() as connection:
            for table in TABLES:
                if rows[table]:
                    connection.execute(INSERTS[table], rows[table])

    def _lose_accepted(self, runs: int, reason: str) -> None:
        with self._lock:
            self._lost_since_flush += runs
        self._lose(runs, reason)


INSERTS = {table: insert(table) for table in TABLES} | {TASK: sqlite_insert(TASK).on_conflict_do_nothing(index_elements=["id"])}


def _open_for_writing(path: Path) -> Engine:
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
        raise _explained(path, error) from error
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
                if _version(connection, path) == 0:
                    Base.metadata.create_all(connection)
                    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
        except (sqlite3.Error, DBAPIError) as error:
            if time.monotonic() > deadline or not _is_locked(error):
                raise
            time.sleep(0.02)


def _version(connection: Connection, path: Path) -> int:
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this Ratchet knows {SCHEMA_VERSION}: upgrade Ratchet or choose another log_dir")
    return version


def _existing(log_dir: str | Path) -> Path:
    """The file, once it is known to hold a store."""
    path = Path(log_dir) / FILE
    if path.exists():
        with _reading(path) as connection:
            if _version(connection, path) > 0:
                return path
    raise StoreError(f"no traces in {log_dir}: create the Orchestrator with enable_logging=True and ask it something first")


@contextmanager
def _reading(path: Path) -> Iterator[Connection]:
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
        raise _explained(path, error) from error
    finally:
        engine.dispose()


def _stream_traces(path: Path, query: Select[Any]) -> Iterator[Trace]:
    with _reading(path) as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}):
            yield trace_of(row)


def _stream_runs(path: Path, query: Select[Any]) -> Iterator[Run]:
    with _reading(path) as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}):
            yield _whole_run(connection, row)


def _whole_run(connection: Connection, row: Any) -> Run:
    nodes = connection.execute(select(NODE).where(NODE.c.run_id == row.id).order_by(NODE.c.place))
    traces = connection.execute(select_traces().where(TRACE.c.run_id == row.id).order_by(TRACE.c.place))
    return run_of(row, [node_of(node) for node in nodes], [trace_of(trace) for trace in traces])


def _checked(kind: type[StrEnum], value: str) -> str:
    try:
        return kind(value).value
    except ValueError:
        raise ConfigError(f"there is no {kind.__name__.lower()} {value!r}: choose one of {', '.join(kind)}") from None


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 when the error is not SQLite's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def _is_locked(error: BaseException) -> bool:
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


def _explained(path: Path, error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = f"{type(cause).__name__}: {cause}"
    remedy = REMEDIES.get(_code(error))
    return StoreError(f"{path} {remedy} ({told})" if remedy else f"{path}: {told}")
