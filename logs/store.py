"""The trace store: one SQLite file that many processes write and read, where a run stands whole or not at all.

`put` hands a run to a writer thread and returns at once; `flush` waits until it is on the disk. A store belongs to the process that
opened it: after a fork, open another.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Table, insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError

from core.errors import StoreError
from core.types import Run
from logs.database import BUSY_MILLISECONDS, FILE, explained, is_locked, open_for_writing
from logs.rows import rows_of
from logs.tables import TABLES, TASK

GROUP_RUNS = 256
GROUP_NODES = 20_000
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


class _Writer:
    """The queue and the thread that empties it. Holds no reference to its TraceStore, so that a forgotten one is closed."""

    def __init__(self, path: Path, queue_size: int) -> None:
        self.dropped = 0
        self.last_error: str | None = None
        self._path = path
        self._engine = open_for_writing(path)
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
                self._lose_accepted(len(runs), f"run {runs[0].id!r}: {explained(self._path, error)}")
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
                if self._giving_up or not is_locked(error):
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
