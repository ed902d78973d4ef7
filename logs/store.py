"""The trace store: one SQLite file that many processes write, or one PostgreSQL database that many hosts write. A run stands whole or not.

`put` hands a run to a writer thread and returns at once; `flush` waits until it is on the disk. A store belongs to the process that
opened it: after a fork, open another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from core.types import Run
from logs import leaving
from logs.place import Place, place_of
from logs.redact import Redactor
from logs.writer import Writer


class TraceStore:
    """Takes runs without making the caller wait. Raises StoreError when the file or the database can't be opened for writing.

    `where` is a folder, `sqlite:///FILE` or `postgresql://...`. What a normal exit of the interpreter, or SIGTERM, finds in the queue
    is still written. `redact` takes secrets out of everything before it is written; None keeps every word.
    """

    def __init__(self, where: str | Path | Place, *, queue_size: int = 10_000, redact: Redactor | None = Redactor()) -> None:  # noqa: B008
        self.place = place_of(where)
        self._writer = Writer(self.place, queue_size, redact)
        self._take_back = leaving.close_behind(self, self._writer, 30.0)
        leaving.close_on_sigterm(self._writer)

    @property
    def path(self) -> Path | None:
        """The file; None where the store is on a server."""
        return self.place.path

    def put(self, run: Run) -> bool:
        """Queue a run. Never raises, never waits; False, and counted in `dropped`, when it can't be taken."""
        return self._writer.put(run)

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was put before is durable. Raises StoreError when it is not, and says why."""
        self._writer.flush(timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Write what is queued and stop. What can't be written within `timeout` seconds is counted as dropped."""
        self._take_back()
        self._writer.close(timeout)

    @property
    def dropped(self) -> int:
        """Runs that were offered and are not in the store."""
        return sum(self._writer.losses.values())

    @property
    def losses(self) -> Mapping[str, int]:
        """How many of them for which kind of reason."""
        return dict(self._writer.losses)

    @property
    def last_error(self) -> str | None:
        """Why the last of them was dropped."""
        return self._writer.last_error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
