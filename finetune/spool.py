"""Candidates on the disk: lines that were written once and are read again by their place, so that memory holds only numbers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Spool:
    """A temporary file of JSON lines in `folder`, gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by close
        self._end = 0
        self._reading = False

    def put(self, values: Mapping[str, Any]) -> int:
        """Write a line; returns its place."""
        return self.append(encoded(values))

    def append(self, line: bytes) -> int:
        """Write the bytes of a line; returns its place."""
        if self._reading:
            self._file.seek(self._end)
            self._reading = False
        place = self._end
        self._end += self._file.write(line)
        return place

    def get(self, place: int) -> dict[str, Any]:
        """The values of the line at that place."""
        found: dict[str, Any] = json.loads(self.line(place))
        return found

    def line(self, place: int) -> bytes:
        """The bytes of the line at that place."""
        self._reading = True
        self._file.seek(place)
        return self._file.readline()

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
