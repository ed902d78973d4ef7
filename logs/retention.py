"""What is old, too much or unwanted goes from the store, and with it goes its text; who was trained on it is found and marked."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, Select, delete, exists, func, select
from sqlalchemy.exc import DBAPIError

from core.errors import ConfigError, StoreError
from core.types import Record
from logs import search, tally
from logs.database import existing, explained, open_for_writing
from logs.place import Place
from logs.tables import NODE, RUN, TASK, TRACE, VERDICT

AT_ONCE = 500
MANIFEST = "manifest.json"
MARK = "deleted_traces.json"
OPTIMIZE = "INSERT INTO trace_text (trace_text) VALUES ('optimize')"
CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
TABLES_OF_POSTGRES = ("feedback", "trace_words", "verdict", "trace", "node", "run", "task", "tally")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Removed(Record):
    """How much went, and the folders of adapters and datasets that hold something of it and are marked now."""

    traces: int
    runs: int
    holders: tuple[Path, ...] = ()


def delete_trace(where: str | Path | Place, trace_id: str, *, holders: Sequence[str | Path] = ()) -> Removed:
    """Remove a trace with its verdicts, and its run with the tree when no trace of it is left.

    In `holders`, folders that are looked through at all depths, each adapter or dataset whose manifest names the trace gets a
    `deleted_traces.json`. Raises StoreError when there is no such trace.
    """
    return delete_traces(where, [trace_id], holders=holders)


def delete_traces(where: str | Path | Place, trace_ids: Sequence[str], *, holders: Sequence[str | Path] = ()) -> Removed:
    """The same for several. All must be there, or none is removed."""
    _folders(holders)
    place = existing(where)
    wanted = list(dict.fromkeys(trace_ids))
    engine = open_for_writing(place)
    try:
        _forget_for_good(engine, place)
        with engine.begin() as connection:
            found = set(connection.execute(select(TRACE.c.id).where(TRACE.c.id.in_(wanted))).scalars())
            missing = [trace_id for trace_id in wanted if trace_id not in found]
            if missing:
                raise StoreError(f"no trace {missing[0]!r} in {place}: see `ratchet traces list` for the ids")
            runs = _remove(connection, wanted)
        _sweep(engine, place)
    except DBAPIError as error:
        raise explained(place, error) from error
    finally:
        engine.dispose()
    return Removed(len(wanted), runs, mark_holders(wanted, holders))


def prune(
    where: str | Path | Place,
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    holders: Sequence[str | Path] = (),
    now: float | None = None,
) -> Removed:
    """Remove whole runs: those made more than `older_than` seconds ago, then the oldest until at most `max_bytes` are taken up.

    In a SQLite file the freed room is given back to the disk, for which it takes as much again while it works.
    """
    if older_than is None and max_bytes is None:
        raise ConfigError("nothing says what is to go: give older_than, max_bytes or both")
    if (older_than is not None and older_than < 0) or (max_bytes is not None and max_bytes < 0):
        raise ConfigError("older_than and max_bytes are not negative")
    _folders(holders)
    place = existing(where)
    engine = open_for_writing(place)
    gone: list[str] = []
    runs = 0
    try:
        _forget_for_good(engine, place)
        if older_than is not None:
            before = (time.time() if now is None else now) - older_than
            runs += _remove_runs(engine, select(RUN.c.id).where(RUN.c.created < before), gone)
        if max_bytes is not None:
            runs += _shrink(engine, max_bytes, gone)
        if runs:
            _sweep(engine, place, compact=True)
    except DBAPIError as error:
        raise explained(place, error) from error
    finally:
        engine.dispose()
    return Removed(len(gone), runs, mark_holders(gone, holders))


def mark_holders(trace_ids: Sequence[str], folders: Sequence[str | Path]) -> tuple[Path, ...]:
    """The folders whose `manifest.json` names one of the traces; in each, `deleted_traces.json` names those that are gone."""
    gone = set(trace_ids)
    marked = []
    for folder in _folders(folders):
        for manifest in sorted(folder.rglob(MANIFEST)):
            held = gone & _held(manifest)
            if held:
                _mark(manifest.with_name(MARK), held)
                marked.append(manifest.parent)
    return tuple(dict.fromkeys(marked))


def _folders(folders: Sequence[str | Path]) -> list[Path]:
    for folder in folders:
        if not Path(folder).is_dir():
            raise StoreError(f"there is no folder {folder} to look for adapters and datasets in")
    return [Path(folder) for folder in folders]


def _held(manifest: Path) -> set[str]:
    with suppress(OSError, ValueError):
        values = json.loads(manifest.read_text(encoding="utf-8"))
        ids = values.get("trace_ids") if isinstance(values, dict) else None
        return {each for each in ids if isinstance(each, str)} if isinstance(ids, list) else set()
    return set()


def _mark(path: Path, held: set[str]) -> None:
    known: Any = []
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    everything = sorted(held | {each for each in (known if isinstance(known, list) else []) if isinstance(each, str)})
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        part.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StoreError(f"the traces are deleted, but {path} could not be written ({error}): note there that they are gone") from error


def _forget_for_good(engine: Engine, place: Place) -> None:
    """From now on what is deleted is overwritten with zeros."""
    if place.path:
        _outside_transactions(engine, "PRAGMA secure_delete=ON")


def _sweep(engine: Engine, place: Place, compact: bool = False) -> None:
    """No word of what was deleted stays in the index, in the log or in dead rows. Readers that still look at it may hold that up."""
    if place.path is None:
        _outside_transactions(engine, *(f"VACUUM {table}" for table in TABLES_OF_POSTGRES))
    else:
        _outside_transactions(engine, OPTIMIZE, *(["VACUUM"] if compact else []), CHECKPOINT)


def _outside_transactions(engine: Engine, *statements: str) -> None:
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        if engine.dialect.name == "postgresql":
            driver.autocommit = True
        for statement in statements:
            told = driver.execute(statement)
            if statement == CHECKPOINT and told.fetchone()[0]:
                logger.warning("another program still reads what was deleted: its text leaves the write-ahead log when that one ends")
            told.close()
        if engine.dialect.name == "postgresql":
            driver.autocommit = False
    except Exception as error:
        raise StoreError(f"the traces are deleted, but their room could not be swept: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _remove(connection: Connection, trace_ids: Sequence[str]) -> int:
    """The traces with all that hangs on them; the number of runs that went because nothing was left of them."""
    rows = connection.execute(select(TRACE).where(TRACE.c.id.in_(trace_ids))).mappings().all()
    tally.count(connection, [dict(row) for row in rows], -1)
    search.remove(connection, trace_ids)
    connection.execute(delete(VERDICT).where(VERDICT.c.trace_id.in_(trace_ids)))
    connection.execute(delete(TRACE).where(TRACE.c.id.in_(trace_ids)))
    left = ~exists().where(TRACE.c.run_id == RUN.c.id)
    empty = list(connection.execute(select(RUN.c.id).where(RUN.c.id.in_({row["run_id"] for row in rows}), left)).scalars())
    _remove_empty_runs(connection, empty, {row["task_id"] for row in rows})
    return len(empty)


def _remove_empty_runs(connection: Connection, run_ids: Sequence[str], task_ids: set[str]) -> None:
    """Runs without traces, and tasks without either."""
    tasks = task_ids | set(connection.execute(select(RUN.c.task_id).where(RUN.c.id.in_(run_ids))).scalars())
    connection.execute(delete(NODE).where(NODE.c.run_id.in_(run_ids)))
    connection.execute(delete(RUN).where(RUN.c.id.in_(run_ids)))
    unasked = ~exists().where(RUN.c.task_id == TASK.c.id) & ~exists().where(TRACE.c.task_id == TASK.c.id)
    connection.execute(delete(TASK).where(TASK.c.id.in_(tasks), unasked))


def _remove_runs(engine: Engine, chosen: Select[Any], gone: list[str]) -> int:
    """Group by group, so that others can write in between. The ids of the traces go into `gone`."""
    removed = 0
    while True:
        with engine.begin() as connection:
            runs = list(connection.execute(chosen.order_by(RUN.c.created, RUN.c.id).limit(AT_ONCE)).scalars())
            if not runs:
                return removed
            traces = list(connection.execute(select(TRACE.c.id).where(TRACE.c.run_id.in_(runs))).scalars())
            if traces:
                _remove(connection, traces)
            _remove_empty_runs(connection, runs, set())
            gone += traces
            removed += len(runs)


def _shrink(engine: Engine, max_bytes: int, gone: list[str]) -> int:
    """By the share of the room that a run takes up on the average, again until it is enough."""
    removed = 0
    while True:
        with engine.connect() as connection:
            size = _bytes(connection)
            runs = connection.execute(select(func.count()).select_from(RUN)).scalar_one()
        if size <= max_bytes or not runs:
            return removed
        surplus = max(1, int(runs * (1 - max_bytes / size)))
        with engine.connect() as connection:
            oldest = list(connection.execute(select(RUN.c.id).order_by(RUN.c.created, RUN.c.id).limit(surplus)).scalars())
        for group in _groups(oldest):
            removed += _remove_runs(engine, select(RUN.c.id).where(RUN.c.id.in_(group)), gone)
        _outside_transactions(engine, OPTIMIZE if engine.dialect.name == "sqlite" else "VACUUM FULL")


def _bytes(connection: Connection) -> int:
    """The room that is taken up, without what was freed already."""
    if connection.dialect.name == "postgresql":
        maps = "pg_relation_size('{0}', 'fsm') + pg_relation_size('{0}', 'vm')"
        told = f"SELECT pg_total_relation_size('{{0}}') - ({maps})"
        sizes = (connection.exec_driver_sql(told.format(table)) for table in TABLES_OF_POSTGRES)
        return sum(int(size.scalar_one()) for size in sizes)
    pages, free, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _groups(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
