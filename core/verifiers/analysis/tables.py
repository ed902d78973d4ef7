"""Tables from what a task holds: CSV text, JSON rows or a file become typed columns in a closed, in-memory DuckDB.

Numbers are exact decimals. What could be read in two ways (decimal or thousands comma, day or month first) is never guessed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import marshal
import re
import stat
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, islice
from operator import methodcaller
from pathlib import Path
from typing import Any

from core.verifiers.analysis.cells import Column, read_column
from core.verifiers.base import short

MAX_BYTES = 64 * 2**20
MAX_CELLS = 8_000_000
MAX_COLUMNS = 200
MAX_LABELS = 5_000
CHUNK = 50_000
KEPT_TABLES = 32
KEPT_CELLS = 2 * MAX_CELLS
KEPT_VALUES = 4_096
CELL_END = "\x1f"
DELIMITERS = ",;\t|"
FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
WHAT_DATA_IS = 'give metadata["data"] as CSV text, as a list of JSON rows, or as {"file": PATH}'
MISSING = 'tables are recomputed by DuckDB: pip install "ratchet-agents[verify]"'
CONFIG: dict[str, str | bool | int | float | list[str]] = {"threads": "1", "memory_limit": "1GB", "enable_external_access": "false"}


class TableError(ValueError):
    """The data is no table. The message says where and what to write."""


@dataclass(slots=True, weakref_slot=True)
class Table:
    """Typed columns of equal length, and the place in DuckDB that holds them: columns c0, c1, ... and for dates their rank r0, r1, ..."""

    columns: tuple[Column, ...]
    rows: int
    place: str
    labels: tuple[tuple[str, ...], ...]
    memory: dict[Any, Any] = field(default_factory=dict)

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query of ours over the name `t`. SQL is never made of words from a task or a model: those are parameters."""
        with _database().cursor() as cursor:
            return cursor.execute(sql.replace(" t ", f" {self.place} "), list(parameters)).fetchall()  # type: ignore[no-any-return]

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for a key; never None."""
        found = self.memory.get(key)
        if found is None:
            found = make()
            if len(self.memory) >= KEPT_VALUES:
                self.memory.clear()
            self.memory[key] = found
        return found

    def index(self, name: str) -> int | None:
        """Which column has that name."""
        return next((i for i, column in enumerate(self.columns) if column.name == name), None)

    @property
    def notes(self) -> list[str]:
        """What was read as missing."""
        return [f"{c.name}: {c.missing} cells missing" for c in self.columns if c.missing]


class Shelf:
    """The tables of the latest tasks, the least recently used one dropped first. Safe from any thread."""

    def __init__(self, tables: int, cells: int) -> None:
        self._tables, self._cells = tables, cells
        self._kept: OrderedDict[bytes, Table] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, make: Callable[[], Table]) -> Table:
        """The table of a key; made outside the lock, so that a large table keeps nobody waiting."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        table = make()
        dropped = []
        with self._lock:
            self._kept[key] = table
            while len(self._kept) > 1 and (len(self._kept) > self._tables or self._held() > self._cells):
                dropped.append(self._kept.popitem(last=False))
        return table

    def _held(self) -> int:
        return sum(table.rows * len(table.columns) for table in self._kept.values())


SHELF = Shelf(KEPT_TABLES, KEPT_CELLS)
NAMES = count(1)
SCHEMA = threading.RLock()


def read_table(data: Any) -> Table:
    """The table of a task's data: CSV text, JSON rows, or {"file": path, "format"?}. Raises TableError."""
    if isinstance(data, Mapping):
        path, kind, stamp = _file(data)
        return SHELF.get(_digest(stamp), lambda: _make(*_from_file(path, kind)))
    if isinstance(data, str):
        if len(data) > MAX_BYTES:
            raise TableError(f"the data has {len(data)} characters: at most {MAX_BYTES}; give a sample or an aggregate")
        return SHELF.get(_digest(data.encode("utf-8", "surrogatepass")), lambda: _make(*from_csv(data)))
    if isinstance(data, list | tuple):
        rows = list(data)
        return SHELF.get(_digest(_dumped(rows)), lambda: _make(*from_rows(rows)))
    raise TableError(f"the data is of type {type(data).__name__}: {WHAT_DATA_IS}")


def from_csv(text: str) -> tuple[list[str], list[list[str]], str]:
    """The header, the columns, and the delimiter: a comma, a semicolon, a tab or a bar, whichever cuts the first lines evenly."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    for sign in ("\0", CELL_END):
        if sign in text:
            raise TableError(f"line {text[: text.index(sign)].count(chr(10)) + 1} holds the control character {sign!r}: remove it")
    if not text.strip():
        raise TableError(f"the data is empty: {WHAT_DATA_IS}")
    delimiter = _delimiter(text)
    quick = _quick(text, delimiter)
    header, columns = quick if quick else _careful(text, delimiter)
    return _named(header), columns, delimiter


def from_rows(rows: list[Any]) -> tuple[list[str], list[list[str]], str]:
    """JSON rows: objects with text, numbers, true, false and null in them. A key that a row lacks is a missing cell."""
    names: dict[str, None] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            raise TableError(f"row {i + 1} of the data is no JSON object: {WHAT_DATA_IS}")
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS or len(names) * len(rows) > MAX_CELLS:
            raise TableError(f"the data has too many cells: at most {MAX_COLUMNS} columns and {MAX_CELLS} cells")
    if not names:
        raise TableError(f"the data is empty: {WHAT_DATA_IS}")
    return _named(list(names)), [[_cell(row.get(name), i, name) for i, row in enumerate(rows)] for name in names], ","


def _cell(value: Any, row: int, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**40):
        return repr(value)
    if isinstance(value, str):
        return value.replace(CELL_END, " ").replace("\0", " ").strip()
    raise TableError(f"row {row + 1}, {name!r}: {short(type(value).__name__)} is no cell: write text, a number, true, false or null")


def _delimiter(text: str) -> str:
    head = text[:20_000].split("\n")[:30]
    head = head[:-1] if len(head) > 1 and len(text) > 20_000 else head
    best, width = ",", 1
    for sign in DELIMITERS:
        try:
            widths = {len(row) for row in csv.reader(head, delimiter=sign, strict=True) if row}
        except csv.Error:
            continue
        if len(widths) == 1 and max(widths) > width:
            best, width = sign, max(widths)
    if width > 1:
        return best
    return max(DELIMITERS, key=head[0].count) if any(sign in head[0] for sign in DELIMITERS) else ","


def _quick(text: str, delimiter: str) -> tuple[list[str], list[list[str]]] | None:
    """Without quotes or blank lines a table is a plain grid: cut it at once."""
    if '"' in text or "\n\n" in text:
        return None
    lines = text.split("\n")
    widths = set(map(methodcaller("count", delimiter), lines))
    width = widths.pop() + 1
    if widths or width > MAX_COLUMNS or width * len(lines) > MAX_CELLS:
        return None
    cells = list(map(str.strip, delimiter.join(lines).split(delimiter)))
    return cells[:width], [cells[width + i :: width] for i in range(width)]


def _careful(text: str, delimiter: str) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        header = next(row for row in reader if row)
        if len(header) > MAX_COLUMNS:
            raise TableError(f"the table has {len(header)} columns: at most {MAX_COLUMNS}")
        columns: list[list[str]] = [[] for _ in header]
        cells = 0
        while chunk := list(islice(reader, CHUNK)):
            rows = [row for row in chunk if row]
            if any(len(row) != len(header) for row in rows):
                raise TableError(_ragged(text, delimiter, len(header)))
            cells += len(rows) * len(header)
            if cells > MAX_CELLS:
                raise TableError(f"the table has more than {MAX_CELLS} cells: give a sample or an aggregate")
            for column, part in zip(columns, zip(*rows, strict=True), strict=False):
                column.extend(map(str.strip, part))
    except csv.Error as error:
        raise TableError(f"line {reader.line_num} of the data is no CSV ({error}): double the quotes inside quoted cells") from None
    return [name.strip() for name in header], columns


def _ragged(text: str, delimiter: str, width: int) -> str:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    found = next(len(row) for row in reader if row and len(row) != width)
    return f"line {reader.line_num} of the data has {found} cells and the header has {width}: quote cells that hold a {delimiter!r}"


def _named(names: list[str]) -> list[str]:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if not name.strip():
            raise TableError(f"column {i + 1} of the data has no name: the first line names every column")
        if any("\ud800" <= sign <= "\udfff" for sign in name):
            raise TableError(f"the name of column {i + 1} of the data holds half of a UTF-16 pair: save it as UTF-8")
        if name in seen:
            raise TableError(f"two columns of the data are named {short(name)!r}: rename one")
        seen.add(name)
    return names


def _file(data: Mapping[str, Any]) -> tuple[Path, str, bytes]:
    name, kind = data.get("file"), data.get("format")
    if not isinstance(name, str) or not name or "\0" in name or (kind is not None and kind not in FORMATS.values()):
        raise TableError(
            f'{short(str(dict(data)))} is no table: write {{"file": PATH}}, with "format" csv, json or jsonl if PATH has no ending'
        )
    path = Path(name)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise TableError(
            f"the data file {short(name)} can't be read ({short(str(error))}): give a path that exists on this machine"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise TableError(f"{name} is no regular file: give a CSV, JSON or JSONL file")
    if found.st_size > MAX_BYTES:
        raise TableError(f"{name} has {found.st_size} bytes: at most {MAX_BYTES}; give a sample or an aggregate")
    kind = kind or FORMATS.get(path.suffix.lower())
    if kind is None:
        raise TableError(f'{name} has no known ending: add "format": "csv", "json" or "jsonl"')
    return path, kind, f"{path.resolve()}\0{kind}\0{found.st_mtime_ns}\0{found.st_size}".encode("utf-8", "surrogatepass")


def _from_file(path: Path, kind: str) -> tuple[list[str], list[list[str]], str]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise TableError(f"the data file {path} can't be read ({error.strerror}): allow this user to read it") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    if kind == "csv":
        return from_csv(text)
    try:
        rows = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} is no {kind.upper()} ({short(str(error))}): write one object a row") from None
    if not isinstance(rows, list):
        raise TableError(f"{path} holds no list: write [{{...}}, {{...}}], one object a row")
    return from_rows(rows)


def _make(names: list[str], columns: list[list[str]], delimiter: str) -> Table:
    rows = len(columns[0])
    if not rows:
        raise TableError("the data has a header and no rows: add rows")
    typed = [read_column(name, cells, delimiter) for name, cells in zip(names, columns, strict=True)]
    place = f"t{next(NAMES)}"
    chosen, sources, texts = [], [], []
    for i, (column, cells, ranks) in enumerate(typed):
        kind = f"DECIMAL({column.precision},{column.scale})" if column.kind == "number" else "VARCHAR"
        chosen.append(f"CAST(NULLIF(a{i}, '') AS {kind}) AS c{i}")
        sources.append(f"unnest(string_split(?, chr(31))) AS a{i}")
        texts.append(CELL_END.join(cells))
        if ranks:
            chosen.append(f"CAST(NULLIF(b{i}, '') AS BIGINT) AS r{i}")
            sources.append(f"unnest(string_split(?, chr(31))) AS b{i}")
            texts.append(CELL_END.join(ranks))
    for text in texts:
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise TableError("the data holds half of a UTF-16 pair: save it as UTF-8")
    with SCHEMA, _database().cursor() as cursor:
        cursor.execute(f"CREATE TABLE {place} AS SELECT {', '.join(chosen)} FROM (SELECT {', '.join(sources)})", texts)
    labels = tuple(_labels(column, cells) for column, cells, _ in typed)
    table = Table(tuple(column for column, _, _ in typed), rows, place, labels)
    weakref.finalize(table, _drop, place).atexit = False
    return table


def _labels(column: Column, cells: Sequence[str]) -> tuple[str, ...]:
    """The distinct texts of a column; none when there are too many to be recognised in a sentence."""
    if column.kind == "number":
        return ()
    if len(set(cells)) > MAX_LABELS + 1:
        return ()
    found = dict.fromkeys(cells)
    found.pop("", None)
    return tuple(found)


def _drop(place: str) -> None:
    with SCHEMA, _database().cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {place}")


@lru_cache(maxsize=1)
def _database() -> Any:
    """One closed database for the process: no files, no network, no extensions, no way to change that."""
    try:
        import duckdb
    except ImportError:
        raise TableError(MISSING) from None
    connection = duckdb.connect(":memory:", config=CONFIG)
    connection.execute("SET lock_configuration = true")
    return connection


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _dumped(rows: list[Any]) -> bytes:
    try:
        return marshal.dumps([dict(row) if isinstance(row, Mapping) else row for row in rows], 2)
    except ValueError:
        raise TableError(f"the rows of the data hold something that is no text, number, true, false or null: {WHAT_DATA_IS}") from None


PROMPT = re.compile(r"(?:Data|Table):\n(.+?)\n(?:\n+|(?=Question:))", re.DOTALL)


def table_in_prompt(prompt: str) -> str | None:
    """The CSV lines between `Data:` at the very beginning and the question or the first blank line."""
    found = PROMPT.match(prompt) if len(prompt) <= MAX_BYTES else None
    return found[1] if found and "\n" in found[1] else None
