"""A dataset on disk: rows.jsonl and the card that accounts for them. It appears whole, never changes, and is checked when it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.errors import TrainingError
from core.types import Record
from finetune.datacard import Facts, page
from finetune.funnel import Funnel, funnel_from
from finetune.rows import AnyRow, Opinion, Pair, Prompt, Row
from finetune.spool import encoded

ROWS, CARD, PAGE = "rows.jsonl", "card.json", "card.txt"
FORMAT = "ratchet.dataset/1"
CLASSES: Mapping[str, type[Any]] = {"sft": Row, "dpo": Pair, "steps": Pair, "kto": Opinion, "prompts": Prompt}
NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in CLASSES.values()}


@dataclass(frozen=True, slots=True)
class Dataset(Record):
    """A dataset that was built. `sha256` is of the bytes of its rows; `facts` is all else on its card, as plain JSON."""

    folder: Path
    kind: str
    sha256: str
    rows: int
    plan: Mapping[str, Any]
    funnel: Funnel
    facts: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        """Its rows, streamed. Raises TrainingError when the file is not the one that the card is about."""
        return _rows(self)

    def __len__(self) -> int:
        return self.rows


def values_of(row: AnyRow, domain: str) -> dict[str, Any]:
    """A row as it stands in the file, in the order of its fields."""
    return {**{name: getattr(row, name) for name in NAMES[type(row)]}, "domain": domain}


def write(folder: Path, kind: str, plan: Mapping[str, Any], funnel: Funnel, rows: Iterable[Mapping[str, Any]], facts: Facts) -> Dataset:
    """Put a dataset of rows, as `values_of` gives them, in its folder; `facts` sees each go by.

    Raises TrainingError when it can't be written.
    """
    free(folder)
    part = folder.with_name(f".{folder.name}.{uuid4().hex}")
    digest, count = hashlib.sha256(), 0
    try:
        part.mkdir(parents=True)
        with (part / ROWS).open("wb") as file:
            for values in rows:
                facts.see(values)
                line = encoded(values)
                digest.update(line)
                count += 1
                file.write(line)
        made = Dataset(folder, kind, digest.hexdigest(), count, plan, funnel, facts.plain())
        card = {"format": FORMAT, **{name: made[name] for name in ("kind", "sha256", "rows", "plan", "facts")}}
        card["funnel"] = funnel.as_dict()["sieves"]
        (part / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (part / PAGE).write_text(page(kind, count, made.sha256, funnel, made.facts), encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        part.replace(folder)
    except OSError as error:
        raise TrainingError(f"can't write the dataset {folder} ({error}): choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return made


def load(folder: str | Path) -> Dataset:
    """A dataset from its folder. Raises TrainingError when there is none, or when its card is damaged."""
    path = Path(folder)
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT or card["kind"] not in CLASSES:
            raise TrainingError(f"{path} holds a dataset of another version ({card['format']!r}): build it again")
        return Dataset(path, card["kind"], card["sha256"], card["rows"], card["plan"], funnel_from(card["funnel"]), card["facts"])
    except FileNotFoundError as error:
        raise TrainingError(f"there is no dataset in {path}: build one with `ratchet data build`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"the card of the dataset in {path} is damaged ({error}): build it again") from error


def check_offered(dataset: Dataset, trained: int) -> None:
    """Raises TrainingError unless every row of the dataset was trained on."""
    if trained != dataset.rows:
        raise TrainingError(f"the dataset {dataset.folder} offered {dataset.rows} rows and {trained} were trained on: raise max_length")


def free(folder: Path) -> None:
    """Raises TrainingError when something is in the folder: a dataset never changes."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"{folder} is not empty, and a dataset never changes: choose another folder")


def _rows(dataset: Dataset) -> Iterator[AnyRow]:
    kind = CLASSES[dataset.kind]
    names = NAMES[kind]
    digest, count = hashlib.sha256(), 0
    try:
        with (dataset.folder / ROWS).open("rb") as file:
            for line in file:
                digest.update(line)
                count += 1
                values = json.loads(line)
                yield kind(**{name: values[name] for name in names})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"row {count} of {dataset.folder} can't be read ({error}): build the dataset again") from error
    if digest.hexdigest() != dataset.sha256:
        raise TrainingError(f"the rows in {dataset.folder} are not those its card is about: somebody changed them; build it again")
