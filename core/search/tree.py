"""The tree that searches grow, and the words they speak with their driver: Ticket out, Children in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from core.types import NodeRecord, Outcome, Record

NEUTRAL = 0.2  # what a failed attempt backs up; 0 costs 14 points of solve-rate at 256 samples (shared/reference/search.md)
WIDEST = 4  # a node whose children all failed is expanded again, up to this many times the plan's width
BARREN = 2  # expansions in a row without a new child, after which a node is given up
REFUTED = 0.0  # the value of a step that was checked and is wrong


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """How a search may grow.

    width: samples in one expansion. batch: samples in one request, None for all of them. depth: steps a path. calls: requests in all.
    exploration: c of UCT, for values in [0, 1]. reflections: how often a failure may be thought about. horizon: steps to an answer,
    where that is known. prune: steps that were checked and are wrong are given up.
    """

    width: int = 4
    depth: int = 16
    calls: int = 24
    exploration: float = 0.3
    batch: int | None = None
    reflections: int = 0
    horizon: int | None = None
    prune: bool = False


@dataclass(frozen=True, slots=True)
class Ticket(Record):
    """Please continue `prefix` n times: by one step, or (`whole`) to the end. Samples of a node are numbered from `first`.

    A `reflect` ticket asks what went wrong instead: `prefix` is the attempt that failed, `about` what is known of the failure.
    `lessons` are the reflections so far, to be put before the model.
    """

    number: int
    path: str
    prefix: str
    n: int
    first: int
    whole: bool
    reflect: bool = False
    about: str = ""
    lessons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Child(Record):
    """One continuation, judged. value in [0, 1] or None when nothing is known; outcome only where the attempt is finished.

    key names the state that is reached, where different texts can lead to the same one; None: the text itself. feedback says what is
    known of a failure, in words that a model may see.
    """

    text: str
    terminal: bool
    value: float | None = None
    outcome: Outcome | None = None
    key: str | None = None
    feedback: str = ""

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
    """A search: synchronous, no I/O, no clock, no randomness of its own. `remarks` gathers what it decided beside its tickets."""

    remarks: list[tuple[str, str]]

    @property
    def solved(self) -> bool:
        """Whether a verified answer has ended it."""
        ...

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
    """A partial or finished answer. N visits, O in flight, W sum and `best` maximum of the values backed up through it.

    `asked` counts samples that have come or are on their way, `numbered` the numbers given to them: those of a call that failed while
    later ones were on their way are not given again. `prior` is the value it came with, `live` are the children that are not closed,
    `ready` counts those that select may go to.
    """

    text: str
    index: int = 0
    parent: Node | None = None
    path: str = ""
    depth: int = 0
    prior: float | None = None
    terminal: bool = False
    outcome: Outcome | None = None
    children: list[Node] = field(default_factory=list)
    live: list[Node] = field(default_factory=list)
    N: int = 0
    O: int = 0  # noqa: E741  the literature's name (Liu et al., 2020, WU-UCT)
    W: float = 0.0
    best: float = 0.0
    asked: int = 0
    numbered: int = 0
    pending: int = 0
    barren: int = 0
    ready: int = 0
    selectable: bool = True
    closed: bool = False
    whole: str | None = None

    @property
    def prefix(self) -> str:
        """All text from the root to here."""
        if self.whole is None:
            self.whole = self.text if self.parent is None else self.parent.prefix + self.text
        return self.whole

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


class Tree:
    """Nodes and the counts that must add up: what is in flight, what is open, what may be selected.

    A state that is reached a second time is not made again: nowhere when children name their state by a key, among siblings otherwise.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = Node("")
        self.size = 1
        self.merged = 0
        self.pruned: list[Node] = []
        self._known: set[tuple[str, bool]] = set()
        self._most = plan.width * WIDEST

    def select(self) -> Node | None:
        """Down by UCT to a node that may be expanded; None when all that is open waits for an answer.

        What is in flight counts as visits, and lowers a value until it has come (WU-UCT).
        """
        node, c, sqrt = self.root, self.plan.exploration, math.sqrt
        while not self.expandable(node):
            if not node.ready:
                return None
            log_visits = math.log(node.N + node.O + 1)
            best, best_score = node, -1.0
            for child in node.live:
                if child.selectable:
                    visits = child.N + child.O
                    if not visits:
                        best = child
                        break
                    value = 0.5 * (child.W + child.best * child.N) if child.N else 0.5 / (1 + visits) * visits
                    score = value / visits + c * sqrt(log_visits / visits)
                    if score > best_score:
                        best, best_score = child, score
            node = best
        return node

    def expandable(self, node: Node) -> bool:
        """Whether more samples may be asked of it now: up to the width, and beyond it when nothing else is open below."""
        if node.closed or node.barren >= BARREN:
            return False
        if node.asked < self.plan.width:
            return not node.pending or self.plan.batch is not None
        return not node.pending and not node.live and node.asked < self._most

    def issue(self, node: Node, n: int) -> None:
        """n samples of a node are on their way."""
        node.asked += n
        node.numbered += n
        node.pending += n
        above: Node | None = node
        while above is not None:
            above.O += 1
            above = above.parent
        self._refresh(node)

    def land(self, node: Node, first: int, n: int, children: Sequence[Child]) -> list[Node]:
        """n samples have come, or with no children have failed. Returns the nodes that are new."""
        node.pending -= n
        fresh = [made for index, child in enumerate(children, first) if (made := self._adopt(node, index, child))]
        if children:
            node.barren = 0 if fresh else node.barren + 1
        else:
            node.asked -= n
            if first + n == node.numbered:
                node.numbered = first
        self._back_up(node, [made.W for made in fresh if made.N])
        self._refresh(node)
        return fresh

    def close(self, node: Node) -> None:
        """Give a node up, with all that is below it."""
        if not node.closed:
            node.barren = BARREN
            node.closed = True
            self._notice(node, was_selectable=node.selectable, was_closed=False)

    def records(self) -> tuple[NodeRecord, ...]:
        """The tree as records, parents before children."""
        found: list[NodeRecord] = []
        stack = [self.root]
        while stack:
            node = stack.pop()
            found.append(NodeRecord(node.path, node.text, node.N, node.value, node.terminal, node.outcome))
            stack += reversed(node.children)
        return tuple(found)

    def _adopt(self, parent: Node, index: int, child: Child) -> Node | None:
        state = (child.key if child.key is not None else f"{parent.path}\0{child.text.strip()}", child.terminal)
        if state in self._known:
            self.merged += 1
            return None
        self._known.add(state)
        wrong = self.plan.prune and not child.terminal and child.value is not None and child.value <= REFUTED
        closed = child.terminal or wrong
        path = f"{parent.path}.{index}" if parent.path else str(index)
        node = Node(child.text, index, parent, path, parent.depth + 1, child.value, child.terminal, child.outcome)
        parent.children.append(node)
        if closed:
            node.closed, node.selectable = True, False
        else:
            parent.live.append(node)
            parent.ready += 1
        self.size += 1
        if wrong:
            self.pruned.append(node)
        worth = child.worth
        if worth is not None:
            node.N, node.W, node.best = 1, worth, worth
        return node

    @staticmethod
    def _back_up(node: Node, values: Sequence[float]) -> None:
        """What landed below a node is no longer in flight there, nor above; its values count as visits."""
        visits, total, best = len(values), sum(values), max(values, default=0.0)
        above: Node | None = node
        while above is not None:
            above.O -= 1
            above.N += visits
            above.W += total
            if best > above.best:
                above.best = best
            above = above.parent

    def _refresh(self, node: Node) -> None:
        """Whether a node is closed and may be selected, after its counts have changed; upwards as far as that changes anything."""
        was_selectable, was_closed = node.selectable, node.closed
        if not was_closed and not node.terminal:
            spent = node.barren >= BARREN or node.asked >= self._most
            node.closed = spent and not node.live and not node.pending
        node.selectable = not node.closed and (node.ready > 0 or self.expandable(node))
        if (was_selectable, was_closed) != (node.selectable, node.closed):
            self._notice(node, was_selectable, was_closed)

    def _notice(self, node: Node, was_selectable: bool, was_closed: bool) -> None:
        node.selectable = node.selectable and not node.closed
        parent = node.parent
        if parent is None:
            return
        parent.ready += node.selectable - was_selectable
        if node.closed and not was_closed:
            parent.live.remove(node)
        self._refresh(parent)
