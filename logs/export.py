"""Traces for other programs: CSV that a spreadsheet can open without running what a model wrote, JSON lines, Parquet, a dataset.

Everything is streamed, and a file appears when it is whole.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

from core.errors import StoreError
from logs.chosen import Wanted
from logs.database import existing
from logs.flat import COLUMNS, read_rows
from logs.lines import line_of
from logs.place import Place
from logs.reading import read_runs

RUNS_AS_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
STEPS = tuple(COLUMNS).index("steps")
LINES_AT_ONCE = 200
ROWS_AT_ONCE = 2_000
ROWS_IN_GROUP = 50_000
QUOTE, TWICE = '"', '""'
MARK = "\0"
MAY_RUN = re.compile(f"{MARK}(?=[{re.escape(''.join(sorted(RUNS_AS_FORMULA)))}])")


def export_csv(where: str | Path | Place, path: str | Path | None = None, **wanted: Unpack[Wanted]) -> Path:
    """One row a trace, oldest first, into `path` or `traces.csv` beside the store.

    Text that a spreadsheet would take for a formula gets an apostrophe in front. Raises StoreError when there is no store or the
    file can't be written.
    """
    place = existing(where)
    rows = read_rows(place, wanted)
    with _whole(_target(place, path, "traces.csv")) as (part, target), part.open("x", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\r\n")
        while some := list(islice(rows, LINES_AT_ONCE)):
            file.write(_lines(some))
        _sync(file)
    return target


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Any table, as `export_csv` writes it: whole or not at all, texts guarded, everything that is neither text nor number as JSON."""
    with _whole(Path(path)) as (part, target), part.open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows([_cell(value) for value in row] for row in rows)
        _sync(file)
    return target


def export_jsonl(where: str | Path | Place, path: str | Path | None = None) -> Path:
    """One line a run, whole: its task, its tree, its traces. `logs.imports.import_jsonl` makes the same store of it."""
    place = existing(where)
    with _whole(_target(place, path, "traces.jsonl")) as (part, target), part.open("x", encoding="utf-8", newline="\n") as file:
        for run in read_runs(place):
            file.write(line_of(run))
        _sync(file)
    return target


def export_parquet(where: str | Path | Place, path: str | Path | None = None, **wanted: Unpack[Wanted]) -> Path:
    """One row a trace, oldest first, compressed; `steps` is a list, `metadata` and `reward_parts` are JSON. Needs pyarrow."""
    parquet = _needed("pyarrow.parquet")
    place = existing(where)
    with _whole(_target(place, path, "traces.parquet")) as (part, target):
        with parquet.ParquetWriter(part, _schema(), compression="zstd", compression_level=1) as file:
            for batch in _batches(place, wanted):
                file.write_batch(batch, row_group_size=ROWS_IN_GROUP)
        _sync_path(part)
    return target


def as_dataset(where: str | Path | Place, path: str | Path | None = None, **wanted: Unpack[Wanted]) -> Any:
    """A Hugging Face `Dataset` with a row a trace, mapped from the file `path` (`traces.arrow` beside the store). Needs datasets."""
    ipc, datasets = _needed("pyarrow.ipc"), _needed("datasets")
    place = existing(where)
    with _whole(_target(place, path, "traces.arrow")) as (part, target):
        with part.open("xb") as file, ipc.new_stream(file, _schema()) as stream:
            for batch in _batches(place, wanted):
                stream.write_batch(batch)
        _sync_path(part)
    return datasets.Dataset.from_file(str(target))


def _target(place: Place, path: str | Path | None, name: str) -> Path:
    return place.folder / name if path is None else Path(path)


@contextmanager
def _whole(target: Path) -> Iterator[tuple[Path, Path]]:
    """A file to write, which takes the target's name when all is well and is gone when not."""
    part = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        yield part, target
        part.replace(target)
    except OSError as error:
        raise StoreError(f"can't write {target} ({error}): choose another file") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_path(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    """As the module csv would write them, with every text in quotes: it looks at each letter, and long texts take their time there."""
    columns = map(_cells, zip(*rows, strict=True))
    return "".join([f"{','.join(cells)}\r\n" for cells in zip(*columns, strict=True)])


def _cells(column: Sequence[Any]) -> Sequence[str]:
    """The values of a column as they stand in the file. Texts are looked at together, each behind a mark."""
    first = column[0]
    if (first is None or isinstance(first, str)) and column.count(first) == len(column):
        return [_quoted(first)] * len(column)
    try:
        marked = MARK.join(["", *column])
    except TypeError:  # numbers and blanks
        return [_quoted(value) for value in column]
    if marked.count(MARK) != len(column):  # some stand in the texts
        return [_quoted(value) for value in column]
    inside = MAY_RUN.sub(f"{MARK}'", marked)[1:].replace(QUOTE, TWICE).replace(MARK, f"{QUOTE}{MARK}{QUOTE}")
    return f"{QUOTE}{inside}{QUOTE}".split(MARK)


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return f"{QUOTE}{_cell(value).replace(QUOTE, TWICE)}{QUOTE}"
    return "" if value is None else str(value)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"'{text}" if text and text[0] in RUNS_AS_FORMULA else text


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise StoreError(f'this needs {module.partition(".")[0]}: pip install "ratchet-agents[train]"') from error


def _schema() -> Any:
    arrow = _needed("pyarrow")
    kinds = {
        "text": arrow.string(),
        "json": arrow.string(),
        "number": arrow.float64(),
        "whole": arrow.int64(),
        "flag": arrow.bool_(),
    }
    return arrow.schema([(name, arrow.list_(arrow.string()) if name == "steps" else kinds[kind]) for name, kind in COLUMNS.items()])


def _batches(place: Place, wanted: Wanted) -> Iterator[Any]:
    arrow, schema = _needed("pyarrow"), _schema()
    rows = read_rows(place, wanted)
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        columns: list[Any] = list(zip(*chunk, strict=True))
        columns[STEPS] = [json.loads(steps) for steps in columns[STEPS]]
        arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        yield arrow.RecordBatch.from_arrays(arrays, schema=schema)
