"""Verified answers kept for the next time: the same question exactly or, with an embedding model, one that means the same.

What is served without being judged again was asked in the same words, without a reference, and answered by the same worker. Anything
else is judged for the task at hand, as if the worker had just said it, and only a PASS is served. A cache that breaks is told once and
left alone: answers then come from the worker.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from core.meaning import Embed, Nearest, may_mean_the_same, packed
from core.tasks.spelling import spelled
from core.types import Domain, Evidence, Outcome, Record, Result, Task, Usage, Verdict, normalise_prompt

log = logging.getLogger(__name__)

FILE = "cache.sqlite"
VERSION = 1
OPENING_SECONDS = 5.0
BUSY_SECONDS = 0.5
MAX_CHARACTERS = 200_000
NEAR_TRIED = 3
# A PASS of these rests on samples of what was asked: tests, or the form of the piece. From a worker that was given the task they are
# enough, but they don't show that an answer to another task is one to this.
NEVER_NEAR = (Domain.CODE, Domain.CREATIVE)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

TABLES = (
    "DROP TABLE IF EXISTS answer",
    "CREATE TABLE answer (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, near TEXT NOT NULL, prompt TEXT NOT NULL,"
    " result TEXT NOT NULL, reward REAL NOT NULL, vector BLOB, used INTEGER NOT NULL)",
    "CREATE INDEX answer_used ON answer (used)",
    "CREATE INDEX answer_near ON answer (near, id)",
    f"PRAGMA user_version = {VERSION}",
)
INSERT = "INSERT OR REPLACE INTO answer (key, near, prompt, result, reward, vector, used) VALUES (?, ?, ?, ?, ?, ?, ?)"
EVICT = "DELETE FROM answer WHERE id IN (SELECT id FROM answer ORDER BY used DESC, id DESC LIMIT -1 OFFSET ?)"
NEAR = "SELECT id, vector FROM answer WHERE near = ? AND id > ? AND length(vector) = ? ORDER BY id"

Judge = Callable[[Task, str], tuple[Verdict, float | None]]


@dataclass(frozen=True, slots=True)
class Rules(Record):
    """What is kept and served. `trust`: a stored verdict may stand; False where verdicts rest on more than the task and the text."""

    size: int = 10_000
    min_reward: float = 0.9
    similarity: float = 0.9
    trust: bool = True


def worker_version(*parts: str | None) -> str:
    """All that makes a worker's answers its own: its model's name and fingerprint, its directive, what counts as verified."""
    return _digest(*parts)


class AnswerCache:
    """Answers in a SQLite file that several processes share. Safe from any thread; nothing that happens to the file raises.

    `embed` turns texts into vectors; without it only exact matches are served. `embedder` names it, since the vectors of two models
    don't compare.
    """

    def __init__(self, path: Path, rules: Rules | None = None, *, embed: Embed | None = None, embedder: str = "") -> None:
        self.path, self.rules = path, rules or Rules()
        self._embed, self._embedder = embed, embedder
        self._nearest: dict[tuple[str, int], Nearest] = {}
        self._lock = threading.RLock()
        self._file: sqlite3.Connection | None = None
        try:
            self._file = _open(path)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def find(self, task: Task, worker: str, judge: Judge) -> Result | None:
        """An earlier answer to this task by this worker (see `worker_version`), or None. `judge` gives a verdict and a reward."""
        start = time.monotonic()
        if len(task.prompt) > MAX_CHARACTERS:
            return None
        try:
            found = self._exact(task, worker, judge) or self._near(task, worker, judge)
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return None if found is None else found.replace(seconds=time.monotonic() - start)

    def keep(self, task: Task, worker: str, result: Result) -> bool:
        """Remember an answer, if it is verified and good enough. True when it is kept."""
        good = result.verified and not result.cached and result.reward is not None and result.reward >= self.rules.min_reward
        if not good or self._file is None or len(task.prompt) + len(result.text) > MAX_CHARACTERS:
            return False
        try:
            prompt, kept = json.dumps(task.prompt), json.dumps(result.as_dict())
        except (TypeError, ValueError, RecursionError):  # details that are no plain JSON, from a verifier of the user's own
            return False
        row = (_key(task, worker), self._group(task, worker), prompt, kept, result.reward, self._vector(task), time.time_ns())
        try:
            self._write((INSERT, row), (EVICT, (self.rules.size,)))
        except sqlite3.Error as error:
            self._give_up(error)
            return False
        return True

    def close(self) -> None:
        """Idempotent; a closed cache finds nothing and keeps nothing."""
        with self._lock:
            if self._file:
                self._file.close()
            self._file = None

    def __len__(self) -> int:
        rows = self._rows("SELECT count(*) FROM answer")
        return int(rows[0][0]) if rows else 0

    def _exact(self, task: Task, worker: str, judge: Judge) -> Result | None:
        for row in self._rows("SELECT id, prompt, result, reward FROM answer WHERE key = ?", _key(task, worker)):
            alone = task.reference is None and not task.metadata  # a reference is checked each time, and metadata may name files
            stands = self.rules.trust and alone and row[1] == json.dumps(task.prompt)
            return self._served(row, task, None if stands else judge)
        return None

    def _near(self, task: Task, worker: str, judge: Judge) -> Result | None:
        """Of the most similar questions that differ in nothing that is sure to matter, the first whose answer passes here too."""
        vector = self._vector(task)
        if vector is None:
            return None
        tried = 0
        for number in self._neighbours(self._group(task, worker), vector):
            rows = self._rows("SELECT id, prompt, result, reward FROM answer WHERE id = ?", number)
            if not rows or not may_mean_the_same(task.prompt, str(json.loads(rows[0][1]))):
                continue
            if found := self._served(rows[0], task, judge):
                return found
            tried += 1
            if tried == NEAR_TRIED:
                break
        return None

    def _neighbours(self, group: str, vector: bytes) -> list[int]:
        with self._lock:
            nearest = self._nearest.get((group, len(vector)))
            if nearest is None or len(nearest) > 2 * self.rules.size:  # too many that are gone by now
                nearest = self._nearest[group, len(vector)] = Nearest()
            for number, other in self._rows(NEAR, group, nearest.last, len(vector)):
                nearest.add(number, other)
            return nearest.to(vector, self.rules.similarity)

    def _served(self, row: tuple[int, str, str, float], task: Task, judge: Judge | None) -> Result | None:
        """The answer of a row, judged for this task unless its verdict stands."""
        number, _, kept, reward = row
        result = _result_of(kept)
        if result is None or reward < self.rules.min_reward:
            return None
        if judge is not None:
            verdict, earned = judge(task, result.text)
            if not verdict.passed or earned is None or earned < self.rules.min_reward:
                return None
            result = result.replace(verdict=verdict, reward=earned)
        try:
            self._write(("UPDATE answer SET used = ? WHERE id = ?", (time.time_ns(), number)))
        except sqlite3.Error as error:
            self._give_up(error)
        return result

    def _group(self, task: Task, worker: str) -> str:
        return _digest(worker, task.domain.value, self._embedder)

    def _vector(self, task: Task) -> bytes | None:
        if self._embed is None or task.domain in NEVER_NEAR:
            return None
        try:
            with self._lock:
                return packed(self._embed([task.prompt])[0])
        except Exception:  # whatever an embedding model may do, the question is still to be answered
            log.exception("the embedding model of the cache broke: only exact matches are served from now on")
            self._embed = None
            return None

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._file.execute(query, values).fetchall() if self._file else []

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        with self._lock:
            if self._file is None:
                return
            self._file.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    self._file.execute(statement, values)
                self._file.execute("COMMIT")
            except sqlite3.Error:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def _give_up(self, error: Exception) -> None:
        """Another process in the way is no reason to; anything else is, and is told once."""
        if _is_busy(error):
            return
        self.close()
        told = "answers will come, but none from the cache: %s can't be used (%s): move it away, or name another CACHE_FILE"
        log.warning(told, self.path, error)


def _open(path: Path) -> sqlite3.Connection:
    """In autocommit, its table made. SQLite's step to write-ahead logging doesn't wait for its lock: those who start together retry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    deadline = time.monotonic() + OPENING_SECONDS
    while True:
        try:
            return _prepared(file)
        except sqlite3.Error as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                file.close()
                raise
            time.sleep(0.02)


def _prepared(file: sqlite3.Connection) -> sqlite3.Connection:
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")  # the last answers may be lost with the power; none is ever half there
    if file.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return file
    file.execute("BEGIN IMMEDIATE")
    try:
        if file.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for statement in TABLES:
                file.execute(statement)
        file.execute("COMMIT")
    except sqlite3.Error:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    return file


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY


def _key(task: Task, worker: str) -> str:
    """Case and spacing don't make a new question, unless it holds code."""
    prompt = task.prompt if task.domain is Domain.CODE else normalise_prompt(task.prompt)
    return _digest(worker, spelled(task.replace(prompt=prompt)))


def _digest(*parts: str | None) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()


def _result_of(kept: str) -> Result | None:
    """None when another version has written it otherwise."""
    try:
        values = json.loads(kept)
        verdict = Verdict(
            **{**values["verdict"], "outcome": Outcome(values["verdict"]["outcome"]), "evidence": Evidence(values["verdict"]["evidence"])}
        )
        told = {"domain": Domain(values["domain"]), "steps": tuple(values["steps"]), "usage": Usage(), "verdict": verdict, "cached": True}
        return Result(**{**values, **told})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
