"""Which traces made a dataset or an adapter, and what holds a trace: read from rows and manifests, so that it can't be out of date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import TrainingError
from core.types import Record
from finetune.adapters import Registry, Version
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


@dataclass(frozen=True, slots=True)
class Learner(Record):
    """An adapter that has learnt from some of the traces asked for: from those that its manifest names, or by a dataset that holds them."""

    version: Version
    trace_ids: tuple[str, ...]
    dataset: Path | None


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


def learners(registry: str | Path, trace_ids: Iterable[str], held: Iterable[Held] = ()) -> list[Learner]:
    """The adapters of a registry that have learnt from any of the traces; `held` are the datasets that hold them, from `holding`."""
    asked, datasets = frozenset(trace_ids), {each.sha256: each.folder for each in held}
    found: list[Learner] = []
    for version in Registry(registry).list() if Path(registry).is_dir() else ():
        if version.manifest is None:
            continue
        named = tuple(sorted(asked.intersection(version.manifest.trace_ids)))
        dataset = datasets.get(str(version.manifest.dataset.get("sha256", "")))
        if named or dataset:
            found.append(Learner(version, named, dataset))
    return found


def dataset_of(version: Version, root: str | Path) -> Dataset:
    """The dataset that an adapter was trained on, wherever below `root` it stands now. Raises TrainingError when it is not there."""
    sha256 = version.manifest.dataset.get("sha256") if version.manifest else None
    if not sha256:
        raise TrainingError(f"the manifest of {version.reference} names no dataset: only its traces are known")
    for card in sorted(Path(root).rglob(CARD)):
        dataset = load(card.parent)
        if dataset.sha256 == sha256:
            return dataset
    raise TrainingError(f"no dataset below {root} is the one of {version.reference} ({sha256}): look in another folder")
