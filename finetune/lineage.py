"""Which traces made a dataset, and which datasets a trace is in: read from the rows themselves, so that it can't be out of date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.types import Record
from finetune.dataset import CARD, Dataset, load


@dataclass(frozen=True, slots=True)
class Origin(Record):
    """A row by its place in its dataset, from 0, and the task and the traces behind it."""

    row: int
    task_id: str
    trace_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held(Record):
    """A dataset that holds some of the traces asked for, and the places of the rows that do."""

    folder: Path
    sha256: str
    rows: tuple[int, ...]


def origins(dataset: Dataset) -> Iterator[Origin]:
    """Where each row comes from, in the order of the rows."""
    for place, row in enumerate(dataset):
        yield Origin(place, row.task_id, row.trace_ids)


def holding(root: str | Path, trace_ids: Iterable[str]) -> list[Held]:
    """The datasets below a folder that hold any of the traces: what a deletion touches. Sorted by folder."""
    asked = frozenset(trace_ids)
    found: list[Held] = []
    for card in sorted(Path(root).rglob(CARD)):
        if any(part.startswith(".") for part in card.relative_to(root).parts):
            continue
        dataset = load(card.parent)
        rows = tuple(origin.row for origin in origins(dataset) if not asked.isdisjoint(origin.trace_ids))
        if rows:
            found.append(Held(card.parent, dataset.sha256, rows))
    return found


def trained_on(held: Iterable[Held], adapters: Mapping[str, str]) -> list[str]:
    """Names of the adapters whose dataset is among those held; `adapters` gives each one's dataset hash."""
    hashes = {each.sha256 for each in held}
    return sorted(name for name, sha256 in adapters.items() if sha256 in hashes)
