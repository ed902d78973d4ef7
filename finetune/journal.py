"""Files of one JSON value a line, only ever appended to. What was appended is on disk; a last line that was cut off is not counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.slots import sync_folder


def append_line(path: Path, value: Any) -> None:
    """One more line, on disk before this returns. Raises OSError when it can't be written, and then the file is as it was."""
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    new = not path.exists()
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = _whole(file, end)
        if whole < end:
            file.truncate(whole)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, whole)
            raise
    if new:
        sync_folder(path.parent)


def read_lines(path: Path) -> list[Any]:
    """All values; none where there is no file. Raises TrainingError when a line that is whole can't be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"can't read {path} ({error.strerror}): check who may read it") from error
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}): take it from a backup") from error


def _whole(file: Any, end: int) -> int:
    """Where the last line that is whole ends."""
    step, at = 4096, end
    while at > 0:
        start = max(0, at - step)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        at = start
    return 0
