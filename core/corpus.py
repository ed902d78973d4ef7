"""A full-text index over documents: built once, kept up to date by what has changed, searched read-only from any thread.

SQLite FTS5 does the work. The new index is written beside the old one and takes its place when it is whole.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from core.documents import File, Piece, files_in, fingerprint, pieces_of
from core.errors import ConfigError
from core.types import Record

FORMAT = "ratchet-corpus-1"
BATCH = 5_000
MAX_TERMS = 64
MAX_FOUND = 1_000
MAX_MATCHES = 20_000
COMMON_FROM = 2_000
MAX_QUERY = 10_000
TERM = re.compile(r"[^\W_]+")
SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, hash TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, skipped TEXT NOT NULL
);
CREATE TABLE common (term TEXT PRIMARY KEY, held INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE passages USING fts5(
    text, source UNINDEXED, start UNINDEXED, cut UNINDEXED, tokenize = "unicode61 remove_diacritics 2"
);
"""
COMMON_WORDS = (
    "a an the of in on at to from by with for and or is are was were be been do does did has have had it its he she they his her that this"
    " what which who whom whose when where why how many much as than not"
)
COMMON = frozenset(COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """Characters `start` up to `end` of a source; the higher the score, the better it fits. `cut`: it begins or ends inside a sentence."""

    source: str
    start: int
    end: int
    text: str
    score: float
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Built(Record):
    """What a build did. `unchanged` documents were kept as they stood; `skipped` counts what could not be read, by reason."""

    documents: int
    passages: int
    unchanged: int
    skipped: Mapping[str, int] = field(default_factory=dict)


def build(documents: Path, index: Path, *, table: str | None = None, column: str = "text", key: str | None = None) -> Built:
    """Index a folder of .txt, .md, .rst, .jsonl and .csv files, one such file, or a `table` of a SQLite file.

    Rows hold their text in `column` and are called `file#key`, or `file#number`. A second build into the same index reads only
    documents whose time, size or content changed. Raises ConfigError when nothing can be read, or when the index is something else.
    """
    documents, index = Path(documents), Path(index)
    if not documents.exists():
        raise ConfigError(f"there are no documents at {documents}: name a folder, a text, JSONL or CSV file, or a SQLite file")
    if index.is_dir():
        raise ConfigError(f"the index {index} is a folder: name a file, such as {index / 'corpus.sqlite'}")
    options = repr((str(table), column, str(key)))
    fresh = index.with_name(f".{index.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        if _fits(index, options):
            shutil.copyfile(index, fresh)
        built = _fill(documents, fresh, index, options, (table, column, key))
        _to_disk(fresh)
        os.replace(fresh, index)
    except (OSError, UnicodeError, sqlite3.Error) as error:
        raise ConfigError(f"the index {index} can't be built: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return built


class Corpus:
    """An index, open for reading. Safe to search from any thread; close it, or use it in a `with`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, index: Path) -> Self:
        """Raises ConfigError when there is no index, or something else."""
        index = Path(index)
        if not index.is_file():
            raise ConfigError(f"there is no corpus at {index}: make one with core.corpus.build(folder, index)")
        connection = sqlite3.connect(f"{index.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        try:
            if _format(connection) != FORMAT:
                raise ConfigError(f"{index} is no corpus of this version: make one with core.corpus.build(folder, index)")
            connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, passages, row)")
        except sqlite3.Error as error:
            connection.close()
            raise ConfigError(f"{index} is no corpus: make one with core.corpus.build(folder, index)") from error
        except ConfigError:
            connection.close()
            raise
        return cls(connection)

    def search(self, query: str, k: int = 10, *, every: bool = False) -> list[Passage]:
        """The k best passages, at most 1,000, by BM25. A query is words and nothing else; with `every` a passage must hold them all.

        Words that most passages hold are left out of the ranking, so that it takes milliseconds whatever is asked.
        """
        wanted = _terms(query)
        k = max(0, min(int(k), MAX_FOUND))
        if not wanted or not k:
            return []
        try:
            with self._lock:
                return [_passage(row) for row in self._matches(wanted, k, every)]
        except sqlite3.Error as error:
            raise ConfigError(f"the corpus can't be searched, build it again: {error}") from error

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT coalesce(sum(last - first + 1), 0) FROM documents").fetchone()[0])

    def close(self) -> None:
        """Give back the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _matches(self, wanted: list[str], k: int, every: bool) -> list[tuple[object, ...]]:
        counts = {term: self._held_by(term) for term in wanted}
        by_rarity = sorted((term for term in wanted if counts[term]), key=lambda term: counts[term])
        if not by_rarity or (every and len(by_rarity) < len(wanted)):
            return []
        if every:
            return self._ranked(by_rarity, " AND ", k, ranked=counts[by_rarity[0]] <= MAX_MATCHES)
        chosen: list[str] = []
        total = 0
        for term in by_rarity:
            total += counts[term]
            if chosen and total > MAX_MATCHES:
                break
            chosen.append(term)
        if counts[chosen[0]] <= MAX_MATCHES:
            return self._ranked(chosen, " OR ", k)
        found = self._ranked(by_rarity, " AND ", k, ranked=False)
        return found or self._ranked(by_rarity[:1], " OR ", k, ranked=False)

    def _held_by(self, term: str) -> int:
        """How many passages hold a term. To count the very common ones takes long: the index has them ready."""
        folded = _folded(term)
        row = self._connection.execute("SELECT held FROM common WHERE term = ?", (folded,)).fetchone()
        row = row or self._connection.execute("SELECT doc FROM temp.vocabulary WHERE term = ?", (folded,)).fetchone()
        return int(row[0]) if row else 0

    def _ranked(self, terms: list[str], join: str, k: int, ranked: bool = True) -> list[tuple[object, ...]]:
        match = join.join(f'"{term}"' for term in terms)
        score, order = ("-bm25(passages)", "ORDER BY rank, rowid") if ranked else ("0.0", "")
        query = f"SELECT source, start, text, {score}, cut FROM passages WHERE passages MATCH ? {order} LIMIT ?"
        return self._connection.execute(query, (match, k)).fetchall()


def _fill(documents: Path, fresh: Path, index: Path, options: str, how: tuple[str | None, str, str | None]) -> Built:
    skipped: Counter[str] = Counter()
    with closing(sqlite3.connect(fresh, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -65536")
        if not _has_schema(database):
            database.executescript(SCHEMA)
            database.executemany("INSERT INTO about VALUES (?, ?)", [("format", FORMAT), ("options", options)])
        database.execute("BEGIN")
        known = {row[0]: row[1:] for row in database.execute("SELECT name, size, modified, hash, first, last, skipped FROM documents")}
        unchanged, seen = 0, set()
        for file in files_in(documents, skipped):
            if file.path.resolve() == index.resolve():
                continue
            unchanged += _take(database, file, known.get(file.name), how, skipped)
            seen.add(file.name)
        for name in set(known) - seen:
            _forget(database, name, known[name])
        counted, passages = database.execute(
            "SELECT count(*), coalesce(sum(last - first + 1), 0) FROM documents WHERE last >= first"
        ).fetchone()
        if not passages:
            told = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common(8)) or "it is empty"
            raise ConfigError(f"{documents} holds no readable documents: {told}")
        database.execute("COMMIT")
        if unchanged < counted or set(known) - seen:
            _count_common(database)
    return Built(counted, passages, unchanged, dict(skipped))


def _take(
    database: sqlite3.Connection,
    file: File,
    known: tuple[object, ...] | None,
    how: tuple[str | None, str, str | None],
    skipped: Counter[str],
) -> bool:
    """Bring one document up to date; True when it was so already."""
    if known is not None and known[:2] == (file.size, file.modified):
        skipped.update(_unpacked(str(known[5])))
        return True
    hashed, reason = fingerprint(file.path)
    if known is not None and hashed and known[2] == hashed:
        database.execute("UPDATE documents SET size = ?, modified = ? WHERE name = ?", (file.size, file.modified, file.name))
        skipped.update(_unpacked(str(known[5])))
        return True
    if known is not None:
        _forget(database, file.name, known)
    if reason:
        skipped[reason] += 1
        return False
    lost: Counter[str] = Counter()
    first = database.execute("SELECT coalesce(max(rowid), 0) + 1 FROM passages").fetchone()[0]
    count = _insert(database, first, file.name, pieces_of(file.path, *how, lost))
    packed = "\n".join(f"{number} {why}" for why, number in lost.items())
    database.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (file.name, file.size, file.modified, hashed, first, first + count - 1, packed),
    )
    skipped.update(lost)
    return False


def _insert(database: sqlite3.Connection, first: int, name: str, pieces: Iterator[Piece]) -> int:
    rows = ((rowid, p.text, f"{name}#{p.row}" if p.row else name, p.start, int(p.cut)) for rowid, p in enumerate(pieces, first))
    count = 0
    while batch := list(itertools.islice(rows, BATCH)):
        database.executemany("INSERT INTO passages (rowid, text, source, start, cut) VALUES (?, ?, ?, ?, ?)", batch)
        count += len(batch)
    return count


def _count_common(database: sqlite3.Connection) -> None:
    database.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, passages, row)")
    database.execute("DELETE FROM common")
    database.execute("INSERT INTO common SELECT term, doc FROM temp.vocabulary WHERE doc > ?", (COMMON_FROM,))


def _forget(database: sqlite3.Connection, name: str, known: tuple[object, ...]) -> None:
    database.execute("DELETE FROM passages WHERE rowid BETWEEN ? AND ?", (known[3], known[4]))
    database.execute("DELETE FROM documents WHERE name = ?", (name,))


def _fits(index: Path, options: str) -> bool:
    """Whether there is an index that was built with the same options. Anything that is no index of ours is never overwritten."""
    if not index.exists() or index.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"{index.resolve().as_uri()}?mode=ro", uri=True)) as database:
            if not _format(database).startswith("ratchet-corpus-"):
                raise ConfigError(f"{index} is a database of another kind: name another file for the index")
            kept = database.execute("SELECT value FROM about WHERE name = 'options'").fetchone()
            return _format(database) == FORMAT and kept == (options,)
    except sqlite3.Error as error:
        raise ConfigError(f"{index} is no index: name another file, or delete it") from error


def _format(database: sqlite3.Connection) -> str:
    row = database.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
    return str(row[0]) if row else ""


def _has_schema(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone() is not None


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _terms(query: str) -> list[str]:
    """The words of a query, once each: the common ones only when there are no others."""
    found = list(dict.fromkeys(term.casefold() for term in TERM.findall(query[:MAX_QUERY])))
    rare = [term for term in found if term not in COMMON]
    return (rare or found)[:MAX_TERMS]


def _folded(term: str) -> str:
    """As the tokenizer writes it: small letters without marks."""
    return "".join(sign for sign in unicodedata.normalize("NFD", term.casefold()) if not unicodedata.combining(sign))


def _unpacked(text: str) -> dict[str, int]:
    pairs = (line.partition(" ") for line in text.split("\n") if line)
    return {why: int(number) for number, _, why in pairs}


def _passage(row: tuple[object, ...]) -> Passage:
    source, start, text, score, cut = row
    begin = int(str(start))
    return Passage(str(source), begin, begin + len(str(text)), str(text), float(str(score)), bool(cut))
