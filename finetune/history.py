"""What happened to the adapters of a registry: one JSON line a change, only ever appended, from which their states are read back."""

from __future__ import annotations

import getpass
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import AdapterError, TrainingError
from core.slots import Slot, locked
from core.types import Record
from finetune.journal import append_line, read_lines

FILE = "journal.jsonl"
State = Literal["candidate", "rejected", "canary", "champion", "retired"]
What = Literal["add", "decide", "reject", "canary", "stop canary", "promote", "rollback", "retire", "share"]


@dataclass(frozen=True, slots=True)
class Entry(Record):
    """One change. `states` are the new ones by reference; `statistics` is what it was decided on, as plain JSON.

    `slot` and its `epoch` from then on, where one was changed; `against` is what served there. `forced`: against the gate, or without it.
    `time` is in seconds since 1970.
    """

    what: What
    reference: str
    states: Mapping[str, State] = field(default_factory=dict)
    slot: str = ""
    epoch: int = 0
    against: str = ""
    who: str = ""
    why: str = ""
    forced: bool = False
    statistics: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0


class History:
    """The journal of a registry. Any number of processes may append."""

    def __init__(self, registry: Path, who: str = "", now: Callable[[], float] = time.time) -> None:
        self.path = registry / FILE
        self._who, self._now = who or user(), now

    def append(self, entry: Entry) -> Entry:
        """Who and when are added; it is on disk when this returns. Raises AdapterError when it can't be written."""
        told = entry.replace(who=entry.who or self._who, time=self._now(), statistics=plain(entry.statistics))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_name(f".{FILE}.lock")):
                append_line(self.path, told.as_dict())
        except OSError as error:
            raise AdapterError(f"can't write {self.path} ({error}): nothing was changed") from error
        return told

    def entries(self) -> list[Entry]:
        """All, oldest first. Raises AdapterError when a line is damaged."""
        try:
            return [Entry(**line) for line in read_lines(self.path)]
        except (TrainingError, TypeError) as error:
            raise AdapterError(f"the journal {self.path} is damaged ({error}): restore it from a backup") from error


def states(entries: Iterable[Entry], slots: Iterable[Slot]) -> dict[str, State]:
    """The state of each adapter that was ever spoken of.

    What the slots name is champion or canary, whatever the journal says: a process that was killed between the two has written of a
    change that did not come to be.
    """
    found: dict[str, State] = {}
    for entry in entries:
        found |= {reference: state for reference, state in entry.states.items() if state not in ("champion", "canary")}
    for slot in slots:
        if slot.canary:
            found[slot.canary] = "canary"
        if slot.champion:
            found[slot.champion] = "champion"
    return found


def plain(value: Any) -> Any:
    """As JSON can hold it: records as dictionaries, what is not finite as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Record):
        return plain(value.as_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
