"""Reads documents for an index: text and markdown files, rows of JSONL, CSV and SQLite tables, in pieces of bounded size.

Offsets count characters of the decoded text: of the file for text and markdown, of the row's text for rows.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from core.sentences import paragraphs, sentences
from core.types import Record

PROSE = frozenset(("", ".txt", ".text", ".md", ".markdown", ".rst"))
ROWS = frozenset((".jsonl", ".ndjson", ".csv", ".tsv"))
TABLES = frozenset((".sqlite", ".sqlite3", ".db"))
BLOCK = 1 << 20
MAX_FILE = 4 << 30
MAX_ROW = 4 << 20
MAX_KEPT = 4 << 20
GAPS = ("\n\n", "\r\n\r\n")
MAX_PASSAGE = 1_200
HEAD = 8_192


@dataclass(frozen=True, slots=True)
class Piece(Record):
    """A passage on its way to the index. `row` is "" or names the row; `cut`: it begins or ends inside a sentence."""

    row: str
    start: int
    end: int
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class File(Record):
    """A document, with what tells whether it has changed."""

    path: Path
    name: str
    size: int
    modified: int


def files_in(place: Path, skipped: Counter[str]) -> Iterator[File]:
    """The readable documents of a folder, sorted, or the one that is named. Links and hidden names are not followed."""
    if place.is_file():
        status = place.stat()
        yield File(place, place.name, status.st_size, status.st_mtime_ns)
        return

    def lost(_: OSError) -> None:
        skipped["not readable"] += 1

    for folder, folders, names in os.walk(place, onerror=lost):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            reason = _unfit(path)
            if reason:
                skipped[reason] += 1
                continue
            status = path.stat()
            yield File(path, path.relative_to(place).as_posix(), status.st_size, status.st_mtime_ns)


def fingerprint(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and why it can't be read as text, or "". Reads it once, a megabyte at a time."""
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    is_table, reason, size = path.suffix.lower() in TABLES, "", 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                size += len(block)
                digest.update(block)
                if size > MAX_FILE:
                    return "", f"larger than {MAX_FILE >> 30} GiB"
                if not is_table and not reason:
                    reason = _undecodable(decoder, block)
        if not is_table and not reason:
            reason = _undecodable(decoder, b"", final=True)
    except OSError:
        return "", "not readable"
    return digest.hexdigest(), reason


def pieces_of(path: Path, table: str | None, column: str, key: str | None, skipped: Counter[str]) -> Iterator[Piece]:
    """The passages of one document. `column` holds a row's text, `key` its name; without one a row is named by its number."""
    suffix = path.suffix.lower()
    if suffix in TABLES:
        rows = _table_rows(path, table, column, key, skipped)
    elif suffix in (".jsonl", ".ndjson"):
        rows = _json_rows(path, column, key, skipped)
    elif suffix in (".csv", ".tsv"):
        rows = _csv_rows(path, column, key, skipped)
    else:
        yield from _prose(path)
        return
    for row, said in rows:
        text = said if said.isascii() else said.encode("utf-8", "replace").decode()
        for start, end, cut in windows(text):
            yield Piece(row, start, end, text[start:end], cut)


def windows(text: str) -> Iterator[tuple[int, int, bool]]:
    """Paragraphs; long ones in runs of whole sentences of at most 1,200 characters; a longer sentence in cut parts."""
    if len(text) <= MAX_PASSAGE and "\n" not in text:
        start = len(text) - len(text.lstrip())
        if start < len(text):
            yield start, len(text.rstrip()), False
        return
    for start, end in paragraphs(text):
        if end - start <= MAX_PASSAGE:
            yield start, end, False
            continue
        first, last = start, start
        for one, other in sentences(text, start, end):
            if other - first > MAX_PASSAGE and last > first:
                yield first, last, False
                first = one
            if other - one > MAX_PASSAGE:
                yield from _parts(text, one, other)
                first = other
            last = other
        if last > first:
            lead = first + len(text[first:last]) - len(text[first:last].lstrip())
            yield lead, last, False


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    while start < end:
        stop = min(end, start + MAX_PASSAGE)
        if stop < end:
            space = max(text.rfind(sign, start + 1, stop) for sign in " \n\t")
            stop = space if space > start else stop
        yield start, stop, True
        start = stop
        while start < end and text[start].isspace():
            start += 1


def _unfit(path: Path) -> str:
    if path.is_symlink():
        return "link"
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "no file"
    if any("\ud800" <= sign <= "\udfff" for sign in str(path)):
        return "name is not UTF-8"
    if path.suffix.lower() not in PROSE | ROWS:
        return f"not a text format: {path.suffix.lower()[:20]}"
    return ""


def _undecodable(decoder: codecs.IncrementalDecoder, block: bytes, final: bool = False) -> str:
    if b"\0" in block[:HEAD]:
        return "binary"
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return "not UTF-8"
    return ""


def _prose(path: Path) -> Iterator[Piece]:
    """Reads blocks and lets go of whole paragraphs, so that a file of any size fits into memory."""
    offset, kept, forced = 0, "", False
    with path.open(encoding="utf-8-sig", newline="") as stream:
        while block := stream.read(BLOCK):
            kept += block
            ready = max(kept.rfind(gap) + len(gap) if gap in kept else 0 for gap in GAPS)
            cut_now = not ready and len(kept) > MAX_KEPT
            if cut_now:
                ready = max(kept.rfind("\n"), kept.rfind(" ")) + 1 or len(kept)
            yield from _pieces(kept[:ready], offset, forced, cut_now)
            forced = cut_now or (forced and not ready)
            offset, kept = offset + ready, kept[ready:]
    yield from _pieces(kept, offset, forced, False)


def _pieces(text: str, offset: int, cut_before: bool, cut_after: bool) -> Iterator[Piece]:
    found = list(windows(text))
    for number, (start, end, cut) in enumerate(found, 1):
        at_edge = (cut_before and number == 1) or (cut_after and number == len(found))
        yield Piece("", offset + start, offset + end, text[start:end], cut or at_edge)


def _json_rows(path: Path, column: str, key: str | None, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_ROW):
            number += 1
            if len(line) == MAX_ROW and not line.endswith(b"\n"):
                while len(rest := stream.readline(MAX_ROW)) == MAX_ROW and not rest.endswith(b"\n"):
                    pass
                skipped["row too long"] += 1
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line if number > 1 else line.removeprefix(codecs.BOM_UTF8))
            except (ValueError, RecursionError):
                skipped["row is no JSON"] += 1
                continue
            text = row.get(column) if isinstance(row, dict) else None
            if not isinstance(text, str) or not text.strip():
                skipped[f"row without {column!r}"] += 1
                continue
            yield _row_name(row.get(key) if key else None, number), text


def _csv_rows(path: Path, column: str, key: str | None, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = _next_row(reader, skipped) or []
        for wanted in (column, *([key] if key else [])):
            if wanted not in header:
                raise ConfigError(f"{path.name} has no column {wanted!r}: choose one of {', '.join(header[:20])[:300]}")
        place, named = header.index(column), header.index(key) if key else -1
        number = 1
        while (row := _next_row(reader, skipped)) is not None:
            number += 1
            if len(row) > max(place, named) and row[place].strip():
                yield _row_name(row[named] if key else None, number), row[place]
            elif row:
                skipped[f"row without {column!r}"] += 1


def _next_row(reader: Iterator[list[str]], skipped: Counter[str]) -> list[str] | None:
    while True:
        try:
            return next(reader)
        except StopIteration:
            return None
        except csv.Error:
            skipped["row is no CSV"] += 1


def _table_rows(path: Path, table: str | None, column: str, key: str | None, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
            if table is None or table not in tables:
                raise ConfigError(f"{path.name} has no table {table!r}: give table=, one of {', '.join(tables)[:300]}")
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({_name(table)})")]
            for wanted in (column, *([key] if key else [])):
                if wanted not in columns:
                    raise ConfigError(f"table {table} has no column {wanted!r}: choose one of {', '.join(columns)[:300]}")
            query = f"SELECT {_name(key) if key else 'NULL'}, {_name(column)} FROM {_name(table)}"
            for number, (name, text) in enumerate(database.execute(query), 1):
                if isinstance(text, str) and text.strip():
                    yield _row_name(name, number), text
                else:
                    skipped[f"row without {column!r}"] += 1
    except sqlite3.Error as error:
        raise ConfigError(f"{path} can't be read as a SQLite file: {error}") from error


def _row_name(name: object, number: int) -> str:
    named = str(name)[:200].encode("utf-8", "replace").decode().strip() if isinstance(name, (str, int)) else ""
    return named or str(number)


def _name(identifier: str) -> str:
    doubled = identifier.replace('"', '""')
    return f'"{doubled}"'
