"""The tree that searches grow, and the words they speak with their driver: Ticket out, Children in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from core.types import NodeRecord, Outcome, Record

NEUTRAL = 0.2  # what a failed attempt backs up; 0 costs 14 points of solve-rate at 256 samples (shared/reference/search.md)


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """What a search may use: samples an expansion, steps a path, requests in all, and c of UCT for values in [0, 1]."""

    width: int = 4
    depth: int = 16
    calls: int = 24
    exploration: float = 0.3


@dataclass(frozen=True, slots=True)
class Ticket(Record):
    """Please continue `prefix` n times: by one step, or (`whole`) to the end. Samples of a node are numbered from `first`."""

    number: int
    path: str
    prefix: str
    n: int
    first: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Child(Record):
    """One continuation, judged. value in [0, 1] or None when nothing is known; outcome only where the attempt is finished."""

    text: str
    terminal: bool
    value: float | None = None
    outcome: Outcome | None = None

    @property
    def worth(self) -> float | None:
        """What it backs up: 1 for a PASS, NEUTRAL or more for any other finished attempt, else its value."""
        if self.outcome is Outcome.PASS:
            return 1.0
        return max(NEUTRAL, self.value or 0.0) if self.terminal else self.value


class Signal(Enum):
    """Instead of a ticket: nothing to do until something is told, or nothing to do any more."""

    WAIT = "wait"
    DONE = "done"


class Policy(Protocol):
    """A search: synchronous, no I/O, no clock, no randomness of its own."""

    def ask(self) -> Ticket | Signal:
        """The next request worth making, WAIT while answers are outstanding, or DONE."""
        ...

    def tell(self, ticket: Ticket, children: Sequence[Child]) -> None:
        """What came of a ticket; none when the call failed, which rolls its counts back."""
        ...

    def nodes(self) -> tuple[NodeRecord, ...]:
        """The tree so far, parents before children."""
        ...


@dataclass(slots=True, eq=False)
class Node:
    """A partial or finished answer. N visits, O in flight, W sum and `best` maximum of the values backed up through it."""

    text: str
    index: int = 0
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    N: int = 0
    O: int = 0  # noqa: E741  the literature's name (Liu et al., 2020, WU-UCT)
    W: float = 0.0
    best: float = 0.0
    asked: int = 0
    pending: int = 0
    barren: int = 0
    closed: bool = False
    terminal: bool = False
    outcome: Outcome | None = None

    @property
    def depth(self) -> int:
        """Steps from the root."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def path(self) -> str:
        """Sample indices from the root, joined by dots: the same in every run with the same samples."""
        if self.parent is None:
            return ""
        above = self.parent.path
        return f"{above}.{self.index}" if above else str(self.index)

    @property
    def prefix(self) -> str:
        """All text from the root to here."""
        return (self.parent.prefix if self.parent else "") + self.text

    @property
    def value(self) -> float:
        """Half the mean, half the maximum of what was backed up; 0.5 before anything was."""
        return 0.5 * self.W / self.N + 0.5 * self.best if self.N else 0.5

    def lineage(self) -> Iterator[Node]:
        """This node, its parent, and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def back_propagate(self, value: float) -> None:
        """One more visit with this value, here and all the way up."""
        for node in self.lineage():
            node.N += 1
            node.W += value
            node.best = max(node.best, value)

    def adopt(self, first: int, children: Sequence[Child]) -> list[Node]:
        """Make nodes of continuations and back up their worth; one that says what a sibling said already is not made again."""
        known = {(node.text.strip(), node.terminal) for node in self.children}
        fresh: list[Node] = []
        for index, child in enumerate(children, first):
            said = (child.text.strip(), child.terminal)
            if said in known:
                continue
            known.add(said)
            node = Node(child.text, index, self, closed=child.terminal, terminal=child.terminal, outcome=child.outcome)
            if child.worth is not None:
                node.back_propagate(child.worth)
            fresh.append(node)
        self.children += fresh
        self.barren = 0 if fresh else self.barren + 1
        return fresh

    def close_upwards(self, width: int) -> None:
        """Close every ancestor that has nothing open below it and may not be widened any more."""
        for node in self.lineage():
            if node.pending or any(not child.closed for child in node.children) or node.asked < width:
                return
            node.closed = True


def records(root: Node) -> tuple[NodeRecord, ...]:
    """The tree as records, parents before children."""
    found: list[NodeRecord] = []
    stack = [root]
    while stack:
        node = stack.pop()
        found.append(NodeRecord(node.path, node.text, node.N, node.value, node.terminal, node.outcome))
        stack += reversed(node.children)
    return tuple(found)
