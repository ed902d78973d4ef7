"""The queue of a store and the thread that empties it: redaction, rows, one transaction for a group of runs."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from core.errors import StoreError
from core.types import Run
from logs import postgres, sqlite
from logs.database import explained, is_gone, is_locked, open_for_writing
from logs.inserting import Rows, write_rows
from logs.place import Place
from logs.redact import Redactor
from logs.rows import rows_of
from logs.tables import RUN, TABLES, TASK

GROUP_RUNS = 256
GROUP_NODES = 20_000
LONGEST_PAUSE = 2.0
SLOW = "the disk is slow, or another program holds the file"

logger = logging.getLogger(__name__)


class Writer:
    """Holds no reference to its TraceStore, so that a forgotten one is closed. `losses` counts dropped runs by kind of reason."""

    def __init__(self, place: Place, queue_size: int, redact: Redactor | None) -> None:
        self.losses: Counter[str] = Counter()
        self.last_error: str | None = None
        self._place = place
        self._redact = redact
        self._engine = open_for_writing(place)
        self._inode = place.path.stat().st_ino if place.path else None
        self._queue_size = queue_size
        self._queue: deque[Run] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._accepted = 0
        self._settled = 0
        self._lost_since_flush = 0
        self._closing = False
        self._giving_up = threading.Event()
        self._stopped = False
        self._trouble: str | None = None
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
        self._lose(1, *refusal)
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
            raise StoreError(f"the writer of {self._place} has stopped with {missing} runs unwritten: open a new TraceStore")
        if missing > 0:
            raise StoreError(f"{missing} runs are not yet in {self._place} after {timeout:g} s: {self._trouble or SLOW}")
        if lost:
            raise StoreError(f"{lost} runs could not be written to {self._place}: {self.last_error}")

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
            self._giving_up.set()
            self._thread.join(2 * sqlite.BUSY_MILLISECONDS / 1000)

    def _running(self) -> bool:
        """False once the thread has ended, and in a forked child, where it never was."""
        return not self._stopped and self._thread.is_alive()

    def _refusal(self, run: object) -> tuple[str, str] | None:
        """The kind of reason, and the reason."""
        if not isinstance(run, Run):
            return "no run", f"{type(run).__name__} is not a Run"
        if self._closing:
            return "closed", "the store is closed: open a new TraceStore"
        if not self._running():
            return "closed", "the writer is not running in this process: open a new TraceStore"
        if len(self._queue) >= self._queue_size:
            return "queue full", f"the queue of {self._queue_size} runs is full: {self._trouble or SLOW}"
        return None

    def _lose(self, runs: int, kind: str, reason: str) -> None:
        with self._lock:
            first = not self.losses
            self.losses[kind] += runs
            self.last_error = reason
        if first:
            logger.warning("traces are being lost, %s: %s (told once; TraceStore.dropped counts them)", self._place, reason)

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
                self._lose(unwritten, "not written", "the writer stopped")

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
            if len(runs) == 1 or self._giving_up.is_set():
                reason = f"run {runs[0].id!r}: {explained(self._place, error)}"
                self._lose_accepted(len(runs), self._redact.known(reason) if self._redact else reason)
            else:
                for run in runs:
                    self._write([run])

    def _insert(self, runs: list[Run]) -> None:
        """One transaction. A lock, and a server that has gone, are waited out for as long as the store is open."""
        rows = self._rows(runs)
        pause, uncertain = 0.05, False
        while True:
            try:
                self._commit(rows, unless_there=uncertain)
            except DBAPIError as error:
                if self._giving_up.is_set() or not (is_locked(error) or is_gone(error)):
                    raise
                if is_gone(error):
                    uncertain = True  # the commit may have come through and only its acknowledgement been lost
                    self._wait_for_server(error, pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._trouble = None
                return

    def _rows(self, runs: list[Run]) -> Rows:
        rows: Rows = {table: [] for table in TABLES}
        redact = self._redact.up_to_date() if self._redact else None
        for run in runs:
            for table, found in rows_of(redact.run(run) if redact else run).items():
                rows[table] += found
        if self._place.path is None:
            rows = {table: postgres.without_nulls(found) for table, found in rows.items()}
            rows[TASK].sort(key=lambda row: str(row["id"]))  # so that no two writers wait for each other
        return rows

    def _wait_for_server(self, error: DBAPIError, pause: float) -> None:
        if self._trouble is None:
            self._trouble = str(explained(self._place, error))
            logger.warning("traces wait in memory: %s (told once)", self._trouble)
        self._giving_up.wait(pause)

    def _commit(self, rows: Rows, unless_there: bool = False) -> None:
        if self._giving_up.is_set():
            raise StoreError(f"{self._place} could not be written before the store had to close")
        path = self._place.path
        if path and (not path.exists() or path.stat().st_ino != self._inode):
            raise StoreError(f"{path} was removed or replaced while it was open: open a new TraceStore")
        with self._engine.begin() as connection:
            if not (unless_there and _is_there(connection, rows)):
                write_rows(connection, rows)

    def _lose_accepted(self, runs: int, reason: str) -> None:
        with self._lock:
            self._lost_since_flush += runs
        self._lose(runs, "not written", reason)


def _is_there(connection: Connection, rows: Rows) -> bool:
    wanted = {row["id"] for row in rows[RUN]}
    return len(connection.execute(select(RUN.c.id).where(RUN.c.id.in_(wanted))).all()) == len(wanted) > 0
