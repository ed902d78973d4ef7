"""Texts from a dataset on the Hub, or from the files of a local directory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.providers.remote import first_line

TEXTS = (".txt", ".md", ".rst", ".text")
COLUMNS = ("text", "content")
SLICE = re.compile(r"^[\w.-]+(?:\[(?P<start>-?\d+)?(?P<start_share>%)?:(?P<stop>-?\d+)?(?P<stop_share>%)?\])?$")


def of_hub(name: str, split: str, options: Mapping[str, Any]) -> list[str]:
    """Of the dataset with that name."""
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split=split, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"can't fetch the dataset {name}: {first_line(error)}; a directory of text files works offline") from error
    return texts_of(rows)


def of_directory(folder: Path, split: str) -> list[str]:
    """Of the files below a directory in the order of their names, as far as the slice of the split reaches."""
    found = SLICE.match(split)
    if found is None:
        raise TrainingError(f"can't read the split {split!r}: write it like 'train', 'train[:1000]' or 'train[10%:20%]'")
    texts: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (*TEXTS, ".jsonl") and path.is_file()):
        texts += _read(path)
    if not texts:
        raise TrainingError(f"{folder} holds no text: files that end in {', '.join(TEXTS)} or .jsonl are read")
    ends = (_place(found["start"], found["start_share"], len(texts)), _place(found["stop"], found["stop_share"], len(texts)))
    return texts[slice(*ends)]


def texts_of(rows: Iterable[Any]) -> list[str]:
    """Each row's `text`, else its `content`, else the row as a string."""
    return [text_of(row) for row in rows]


def text_of(row: Any) -> str:
    """Of one row."""
    if isinstance(row, Mapping):
        for column in COLUMNS:
            if isinstance(row.get(column), str):
                return str(row[column])
    return str(row)


def _read(path: Path) -> list[str]:
    try:
        if path.suffix != ".jsonl":
            return [path.read_text(encoding="utf-8")]
        with path.open(encoding="utf-8") as file:
            return texts_of(json.loads(line) for line in file if line.strip())
    except (OSError, ValueError) as error:
        raise TrainingError(f"can't read {path}: {first_line(error)}") from error


def _place(number: str | None, share: str | None, count: int) -> int | None:
    if number is None:
        return None
    return round(int(number) * count / 100) if share else int(number)
