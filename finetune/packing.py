"""Texts as one long row of token ids on the disk, and blocks of it to train on. No token is lost, none is cut off, and memory holds none.

A block shares its first token with the end of the block before, so that every token of a document is predicted once, but for the first,
which nothing stands before. Position ids begin anew with every document, which keeps the documents of a block from seeing each other.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from core.errors import TrainingError

IGNORED = -100


@dataclass(frozen=True)
class Tokens:
    """Token ids of all documents and where each begins, as memory-mapped files. `digest` is a hash of both."""

    ids: Any
    starts: Any
    digest: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def documents(self) -> int:
        """How many texts it was made of."""
        return len(self.starts)

    def blocks(self, length: int) -> Blocks:
        """To train on, of at most `length` tokens each."""
        return Blocks(self, length)


@dataclass(frozen=True)
class Blocks:
    """Blocks of a row of tokens by their number."""

    tokens: Tokens
    length: int

    def __len__(self) -> int:
        return max(1, -(-(len(self.tokens) - 1) // (self.length - 1)))

    def block(self, number: int) -> dict[str, list[int]]:
        """`input_ids`, `labels` and `position_ids` of a block. A document's first token has no label: nothing before it belongs to it."""
        import numpy as np

        begin = number * (self.length - 1)
        ids = np.asarray(self.tokens.ids[begin : begin + self.length], dtype=np.int64)
        starts = self.tokens.starts
        first = int(np.searchsorted(starts, begin, side="right"))
        last = int(np.searchsorted(starts, begin + len(ids)))
        inside = np.asarray(starts[first:last], dtype=np.int64) - begin
        labels = ids.copy()
        labels[inside] = IGNORED
        since = np.zeros(len(ids), dtype=np.int64)
        since[inside] = inside
        positions = np.arange(len(ids)) - np.maximum.accumulate(since)
        return {"input_ids": ids.tolist(), "labels": labels.tolist(), "position_ids": positions.tolist()}

    def dataset(self) -> Any:
        """As a dataset that reads a block when it is asked for."""
        from datasets import Dataset

        def read(batch: dict[str, list[int]]) -> dict[str, list[list[int]]]:
            blocks = [self.block(number) for number in batch["block"]]
            return {key: [block[key] for block in blocks] for key in blocks[0]}

        return Dataset.from_dict({"block": range(len(self))}).with_transform(read)

    def lengths(self) -> list[int]:
        """Tokens of each block."""
        rest = len(self.tokens) - (len(self) - 1) * (self.length - 1)
        return [self.length] * (len(self) - 1) + [rest]


class Spool:
    """Writes documents of token ids to two files in `folder`, which are removed when it is closed."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = folder / f".{name}.ids", folder / f".{name}.starts"
        self._files = tuple(path.open("wb") for path in self._paths)
        self._hash = hashlib.sha256()
        self._end = 0

    def add(self, ids: Iterable[int]) -> None:
        """One document."""
        row = array("I", ids)
        start = array("q", [self._end])
        self._end += len(row)
        for file, values in zip(self._files, (row, start), strict=True):
            self._hash.update(values.tobytes())
            try:
                file.write(values.tobytes())
            except OSError as error:
                raise TrainingError(f"can't write token ids to {file.name}: {error.strerror}; choose another output folder") from error

    def __len__(self) -> int:
        return self._end

    def read(self) -> Tokens:
        """What was written."""
        import numpy as np

        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        kinds = (np.uint32, np.int64)
        ids, starts = (np.memmap(path, dtype=kind, mode="r") for path, kind in zip(self._paths, kinds, strict=True))
        return Tokens(ids, starts, self._hash.hexdigest())

    def close(self) -> None:
        """Give the space back."""
        for file, path in zip(self._files, self._paths, strict=True):
            file.close()
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collate(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Blocks as tensors (rows, width). What pads is at position 0, a document of its own, and not trained."""
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": IGNORED, "position_ids": 0}
    return {key: torch.tensor([row[key] + [fill[key]] * (width - len(row[key])) for row in rows]) for key in fill}
