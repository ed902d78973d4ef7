"""Candidates and rows on the disk: written once and read again by their place, so that memory holds only numbers."""

from __future__ import annotations

import json
import marshal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

SIZE = 8  # bytes that say how many follow
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Spool:
    """A temporary file in `folder`, gone when it is closed: values in the interpreter's own form, which is read fastest."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by close
        self._end = 0
        self._reading = False

    def put(self, values: Mapping[str, Any]) -> int:
        """Write values; returns their place."""
        if self._reading:
            self._file.seek(self._end)
            self._reading = False
        place, packed = self._end, marshal.dumps(dict(values))
        self._end += self._file.write(len(packed).to_bytes(SIZE, "big") + packed)
        return place

    def get(self, place: int) -> dict[str, Any]:
        """The values at that place."""
        self._reading = True
        self._file.seek(place)
        size = int.from_bytes(self._file.read(SIZE), "big")
        found: dict[str, Any] = marshal.loads(self._file.read(size))
        return found

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encoded(values: Mapping[str, Any]) -> bytes:
    """One line of JSON, the same for the same values."""
    return _encode(values).encode() + b"\n"
