"""What happens in a search, as events: the tree is a fold over them, and a search that was killed goes on from their log.

A log is a file of JSON lines: a header that says which search it is, then one event a line. A last line that was cut off is left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from core.errors import SearchError
from core.search.tree import Child, Plan, Ticket, Tree
from core.types import NodeRecord, Outcome, Record, Usage

Kind = Literal["ask", "tell", "verdict", "fail", "cancel", "reflect", "prune", "cut", "guard", "stop"]
VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event(Record):
    """One thing that happened. `number` is its ticket's, -1 where there is none; `path` is the node's; `data` is plain JSON."""

    kind: Kind
    number: int = -1
    path: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def asked(ticket: Ticket) -> Event:
    """A ticket went out."""
    return Event(
        "ask", ticket.number, ticket.path, {"n": ticket.n, "first": ticket.first, "whole": ticket.whole, "reflect": ticket.reflect}
    )


def told(ticket: Ticket, children: Sequence[Child], usage: Usage, *, cached: bool = False, late: bool = False) -> Event:
    """Its answer came; `late` when the search had ended, and the tree did not take it up."""
    rows = [
        {"text": c.text, "terminal": c.terminal, "value": c.value, "outcome": c.outcome, "key": c.key, "feedback": c.feedback}
        for c in children
    ]
    used = {"calls": usage.calls, "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "cost": usage.cost}
    grows = not (late or ticket.reflect)
    return Event(
        "tell", ticket.number, ticket.path, {"first": ticket.first, "children": rows, "usage": used, "cached": cached, "grows": grows}
    )


def children_of(event: Event) -> tuple[Child, ...]:
    """The children that a "tell" holds."""
    return tuple(
        Child(c["text"], c["terminal"], c["value"], None if c["outcome"] is None else Outcome(c["outcome"]), c["key"], c["feedback"])
        for c in event.data["children"]
    )


def usage_of(event: Event) -> Usage:
    """What a "tell" used."""
    return Usage(**event.data["usage"])


def fold(events: Iterable[Event]) -> tuple[NodeRecord, ...]:
    """The tree that the events tell of, parents before children: the same that the search holds."""
    tree = Tree(Plan())
    nodes = {"": tree.root}
    for event in events:
        if event.kind == "tell" and event.data["grows"]:
            node = nodes[event.path]
            children = children_of(event)
            tree.issue(node, len(children))
            for fresh in tree.land(node, event.data["first"], len(children), children):
                nodes[fresh.path] = fresh
    return tree.records()


class EventLog:
    """Events into a file as they happen. One writer; what stands in the file outlives the process.

    A file that takes no more (a full disk) ends the log, with one warning, and never the search. So does an event that must not be
    written: with something else in its place the search would go on as another one; from what stands before it, it goes on as it was.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], may_write: Callable[[Event], bool] = lambda event: True) -> None:
        """Begins the file, or goes on with one that has the same header. Raises SearchError when it can't be written."""
        self.path = path
        self._may_write = may_write
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO | None = path.open("a", encoding="utf-8")
            if self._file.tell() == 0:
                self._write({"version": VERSION, **header})
        except OSError as error:
            raise SearchError(f"can't write the log {path} ({error}): choose another folder") from error

    def append(self, event: Event) -> None:
        """One line more, handed to the system at once."""
        if self._file is None:
            return
        if not self._may_write(event):
            log.info("the log %s ends here, before an event with a secret: if the search is broken off, it goes on from here", self.path)
            self.close()
            return
        try:
            self._write({"kind": event.kind, "number": event.number, "path": event.path, "data": event.data})
        except OSError as error:
            log.warning("the log %s takes no more (%s): this search can't be resumed if it is broken off", self.path, error)
            self.close()

    def close(self) -> None:
        """Idempotent."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            log.debug("what was still to be written of %s is lost: %s", self.path, error)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row, ensure_ascii=True) + "\n")
            self._file.flush()


def read_log(path: Path, header: Mapping[str, Any]) -> list[Event]:
    """The events of a log with this header; none when there is no log or it tells of another search, and then it is removed.

    Whatever stands behind the last whole line is cut off the file, so that it can be written on.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SearchError(f"can't read the log {path} ({error}): remove it, or choose another folder") from error
    whole, _, rest = text.rpartition(b"\n")
    events = _events(whole, header)
    try:
        if events is None:
            path.unlink()
        elif rest:
            with path.open("r+b") as file:
                file.truncate(len(whole) + 1)
    except OSError as error:
        raise SearchError(f"can't mend the log {path} ({error}): remove it, or choose another folder") from error
    return events or []


def _events(lines: bytes, header: Mapping[str, Any]) -> list[Event] | None:
    """None when the lines are damaged or another search's."""
    try:
        first, *rows = (json.loads(line) for line in lines.split(b"\n"))
        if first != {"version": VERSION, **header}:
            return None
        return [Event(row["kind"], row["number"], row["path"], row["data"]) for row in rows]
    except (ValueError, TypeError, KeyError):
        return None
