"""What happens in a search, as events: the tree is a fold over them, and a search that was killed goes on from their log.

A log is a file of JSON lines: a header that says which search it is, then one event a line. A last line that was cut off is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from core.errors import SearchError
from core.search.tree import Child, Plan, Ticket, Tree
from core.types import NodeRecord, Outcome, Record, Usage

Kind = Literal["ask", "tell", "verdict", "fail", "cancel", "reflect", "prune", "cut", "guard", "stop"]
VERSION = 1


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
    """The tree that the events tell of, parents before children: the same that the search holds.

    Visits and values are those of the answers alone; a node's are what was backed up through it.
    """
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
    """Events into a file as they happen. One writer; what stands in the file outlives the process."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Begins the file, or goes on with one that has the same header. Raises SearchError when it can't be written."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a", encoding="utf-8")
            if self._file.tell() == 0:
                self._write({"version": VERSION, **header})
        except OSError as error:
            raise SearchError(f"can't write the log {path} ({error}): choose another folder") from error

    def append(self, event: Event) -> None:
        """One line more, handed to the system at once."""
        self._write({"kind": event.kind, "number": event.number, "path": event.path, "data": event.data})

    def close(self) -> None:
        """Idempotent."""
        self._file.close()

    def _write(self, row: Mapping[str, Any]) -> None:
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
    try:
        rows = [json.loads(line) for line in whole.split(b"\n")] if whole else []
    except ValueError:
        rows = []
    if not rows or rows[0] != {"version": VERSION, **header}:
        path.unlink()
        return []
    if rest:
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1)
    return [Event(row["kind"], row["number"], row["path"], row["data"]) for row in rows[1:]]
