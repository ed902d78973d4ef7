"""A store as a stream of attempts: a million pass without a record being made of what is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.tasks.splits import split_of
from core.types import Domain, Split, Task
from finetune.heldout import Question
from finetune.rules import Attempt
from logs.chosen import Wanted
from logs.database import existing
from logs.flat import rows_at_once
from logs.place import Place

FIELDS = tuple(name for name in Attempt._fields if name not in ("asked", "right_side"))
NAMES = (*FIELDS, "family", "level", "reference", "metadata")
OF_ATTEMPT = len(FIELDS)
FAMILY, LEVEL, REFERENCE, METADATA = range(OF_ATTEMPT, len(NAMES))
TASK_ID, DOMAIN, SPLIT, QUERY = map(FIELDS.index, ("task_id", "domain", "split", "query"))


class Attempts:
    """Stored attempts, oldest first. What is derived from a task's id is worked out once a task."""

    def __init__(self, where: str | Path | Place) -> None:
        self.place = existing(where)
        self._right: dict[str, int] = {}
        self._last = Question("", "")

    def __iter__(self) -> Iterator[tuple[Attempt, Sequence[Any]]]:
        """Each attempt with the stored row it is of."""
        for chunk in self._chunks({}):
            for row in chunk:
                yield self._attempt(row), row

    def held_out(self) -> Iterator[Question]:
        """The questions of the held-out side that the store has seen."""
        seen: set[str] = set()
        for split in (Split.GATE, Split.REPORT):
            for chunk in self._chunks({"split": split}):
                for row in chunk:
                    if row[TASK_ID] not in seen:
                        seen.add(row[TASK_ID])
                        yield self._attempt(row).asked

    def _chunks(self, wanted: Wanted) -> Iterator[Sequence[Sequence[Any]]]:
        return rows_at_once(self.place, wanted, NAMES)

    def _attempt(self, row: Sequence[Any]) -> Attempt:
        task_id, query = row[TASK_ID], row[QUERY]
        known = self._right.get(task_id)
        if known is None:
            known = self._right[task_id] = _bits(task_id, row[DOMAIN], row[SPLIT], query)
        if self._last.id != task_id or self._last.prompt != query:
            self._last = Question(task_id, query, row[FAMILY] if known & 2 and row[FAMILY] else "")
        return Attempt._make((*row[:OF_ATTEMPT], self._last, known & 1 == 1))


def extra_of(row: Sequence[Any]) -> dict[str, Any]:
    """What a verifier needs to know of the task beside its prompt; `metadata` is JSON."""
    return {"reference": row[REFERENCE], "metadata": row[METADATA] or "{}", "family": row[FAMILY], "level": row[LEVEL]}


def _bits(task_id: str, domain: str, split: str, query: str) -> int:
    """1: it may be trained on, by its record, and by its key where the prompt is the key. 2: it has a key of its own."""
    right = split == Split.TRAIN
    task = Task(query, Domain(domain)) if query.strip() else None
    if task is None or task.id != task_id:
        return 2 | right
    return int(right and split_of(task) is Split.TRAIN)
