"""A store as a stream of attempts: a million pass without a record being made of what is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from core.tasks.splits import split_of
from core.types import Domain, Split, Task
from finetune.heldout import Question
from finetune.rules import Attempt
from logs.database import existing
from logs.flat import read_rows
from logs.place import Place

FIELDS = tuple(name for name in Attempt._fields if name not in ("asked", "right_side"))
NAMES = (*FIELDS, "family", "level", "reference", "metadata")
OF_ATTEMPT = len(FIELDS)
FAMILY, LEVEL, REFERENCE, METADATA = range(OF_ATTEMPT, len(NAMES))
AT_ONCE = 100
OF_TASK = ("task_id", "domain", "split", "query", "family")
_of_task = itemgetter(*map(NAMES.index, OF_TASK))


class Attempts:
    """Stored attempts, oldest first. What is derived from a task's id is worked out once a task."""

    def __init__(self, where: str | Path | Place) -> None:
        self.place = existing(where)
        self._right: dict[str, int] = {}
        self._last = Question("", "")

    def __iter__(self) -> Iterator[tuple[Attempt, Sequence[Any]]]:
        """Each attempt with the stored row it is of."""
        rows = read_rows(self.place, {}, NAMES)
        while some := list(islice(rows, AT_ONCE)):  # what takes them works through some faster than through each as it comes
            for row in some:
                yield Attempt._make(row[:OF_ATTEMPT] + self._asked(*_of_task(row))), row

    def held_out(self) -> Iterator[Question]:
        """The questions of the held-out side that the store has seen."""
        seen: set[str] = set()
        for split in (Split.GATE, Split.REPORT):
            for task_id, *rest in read_rows(self.place, {"split": split}, OF_TASK):
                if task_id not in seen:
                    seen.add(task_id)
                    yield self._asked(task_id, *rest)[0]

    def _asked(self, task_id: str, domain: str, split: str, query: str, family: str | None) -> tuple[Question, bool]:
        """The question, and whether it may be trained on."""
        known = self._right.get(task_id)
        if known is None:
            known = self._right[task_id] = _bits(task_id, domain, split, query)
        if self._last.id != task_id or self._last.prompt != query:
            self._last = Question(task_id, query, family if known & 2 and family else "")
        return self._last, known & 1 == 1


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
