"""Runs from files: our own JSON lines, and the chat logs of an application, which become traces that are still to be judged.

A line that is there already is passed over, so an import can be repeated; lines before one that is wrong stay imported.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from core.errors import StoreError, TaskError
from core.types import Domain, Record, Run, Split
from logs import postgres
from logs.chats import runs_of_chat
from logs.database import explained, open_for_writing
from logs.inserting import Rows, write_rows
from logs.lines import FORMAT, run_from
from logs.place import Place, place_of
from logs.redact import Redactor
from logs.rows import rows_of
from logs.tables import RUN, TABLES, TASK

AT_ONCE = 200
MAX_LINE = 256 * 2**20

Read = Callable[[Any, str], Iterable[Run]]


@dataclass(frozen=True, slots=True)
class Imported(Record):
    """What came in, what was there already, and what could not be used, by reason."""

    runs: int
    traces: int
    known: int
    unusable: Mapping[str, int]


def import_jsonl(where: str | Path | Place, path: str | Path, *, redact: Redactor | None = None) -> Imported:
    """What `export_jsonl` wrote, into this store: trees, verdicts, splits and all. Raises StoreError with the line that is wrong."""
    return _import(where, path, redact, lambda values, _: [run_from(values)])


def import_chats(
    where: str | Path | Place,
    path: str | Path,
    route: Callable[[str], Domain],
    *,
    redact: Redactor | None = None,
    now: Callable[[], float] = time.time,
) -> Imported:
    """OpenAI-style chat logs: a line is `{"messages": [...]}`, or a request with its response, or the two as a batch writes them.

    What the user asked last becomes a task, with the turns before it; each answer a trace that abstains until it is judged. A line may
    carry `domain` and `reference`; without, `route` says where a question belongs. Raises StoreError with the line that is wrong.
    """
    return _import(where, path, redact, lambda values, line_id: runs_of_chat(values, line_id, route, now()))


def import_file(where: str | Path | Place, path: str | Path, route: Callable[[str], Domain], *, redact: Redactor | None = None) -> Imported:
    """Either of the two, whichever the first line is."""
    _, first = next(_lines(Path(path)), (0, {}))
    if isinstance(first, Mapping) and first.get("format") == FORMAT:
        return import_jsonl(where, path, redact=redact)
    return import_chats(where, path, route, redact=redact)


def _import(where: str | Path | Place, path: str | Path, redact: Redactor | None, read: Read) -> Imported:
    source, place = Path(path), place_of(where)
    unusable: Counter[str] = Counter()
    runs = _read_runs(source, read, unusable)
    first = next(runs, None)  # a file that can't be read leaves no store behind
    engine = open_for_writing(place)
    counts: Counter[str] = Counter()
    try:
        left = (run for part in ([] if first is None else [first], runs) for run in part)
        while group := list(islice(left, AT_ONCE)):
            counts += _write(engine, place, group, redact or Redactor())
    finally:
        engine.dispose()
    return Imported(counts["runs"], counts["traces"], counts["known"], dict(unusable))


def _read_runs(path: Path, read: Read, unusable: Counter[str]) -> Iterator[Run]:
    for number, values in _lines(path):
        line_id = hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:24]
        try:
            yield from read(values, line_id)
        except TaskError as error:
            unusable[str(error)] += 1
        except StoreError as error:
            raise StoreError(f"line {number} of {path}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON of each line that isn't blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                if len(line) > MAX_LINE:
                    raise StoreError(f"line {number} of {path} is longer than {MAX_LINE >> 20} MiB: is it JSON lines?")
                if line.strip():
                    yield number, _json(line, number, path)
    except OSError as error:
        raise StoreError(f"can't read {path} ({error}): give a file of JSON lines") from error


def _json(line: bytes, number: int, path: Path) -> Any:
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"line {number} of {path} is no JSON ({error}): give a file with one JSON object a line") from error


def _write(engine: Engine, place: Place, runs: list[Run], redact: Redactor) -> Counter[str]:
    """One transaction; what has been there before is passed over."""
    try:
        with engine.begin() as connection:
            known = set(connection.execute(select(RUN.c.id).where(RUN.c.id.in_([run.id for run in runs]))).scalars())
            new = {run.id: run for run in reversed(runs) if run.id not in known}
            rows = _rows([redact.run(run) for run in reversed(new.values())], place)
            if new:
                write_rows(connection, rows)
    except Exception as error:
        raise StoreError(f"an import stopped: {explained(place, error)}") from error
    return Counter(runs=len(new), traces=sum(len(run.traces) for run in new.values()), known=len(runs) - len(new))


def _rows(runs: list[Run], place: Place) -> Rows:
    rows: Rows = {table: [] for table in TABLES}
    for run in runs:
        splits = {trace.task.id: Split(trace.split).value for trace in run.traces}
        for table, found in rows_of(run).items():
            rows[table] += [{**row, "split": splits.get(row["id"], row["split"])} for row in found] if table is TASK else found
    if place.path is None:
        rows = {table: postgres.without_nulls(found) for table, found in rows.items()}
    return rows
