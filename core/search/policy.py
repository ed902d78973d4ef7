"""What all policies share: tickets and their counts, the verified answer that ends a search, reflections, and a guard on the values."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from core.search.tree import Child, Node, Plan, Signal, Ticket, Tree
from core.types import NodeRecord, Outcome

ENOUGH_ENDS = 20  # finished attempts, before the values may be called uninformative
LATEST_ENDS = 512  # what of them is looked at, so that a look costs the same however long a search has been
SHARE_TO_SAMPLE = 4  # then one in so many of the calls that are left goes to whole answers from the root


@dataclass(slots=True)
class Flight:
    """A ticket that is under way."""

    node: Node
    n: int


class TreePolicy:
    """Base of the policies: a subclass says in `choose` which node to ask next and for what."""

    stops_when_verified = True

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tree = Tree(plan)
        self.answer: Node | None = None
        self.lessons: tuple[str, ...] = ()
        self.remarks: list[tuple[str, str]] = []
        self._calls = 0
        self._numbers = 0
        self._flying: dict[int, Flight] = {}
        self._failures: set[str] = set()
        self._to_reflect: deque[tuple[Node, str]] = deque()
        self._ends: deque[tuple[float, float]] = deque(maxlen=LATEST_ENDS)
        self._ended = 0
        self._next_look = ENOUGH_ENDS
        self._to_sample = 0
        self._guarded = False

    @property
    def solved(self) -> bool:
        """Whether a verified answer has ended it."""
        return self.answer is not None and self.stops_when_verified

    @property
    def root(self) -> Node:
        """Where everything starts."""
        return self.tree.root

    def choose(self) -> Ticket | None:
        """The next ticket, made by `step` or `whole`; None when there is nothing to ask for now."""
        raise NotImplementedError

    def learn(self, node: Node, ticket: Ticket, fresh: Sequence[Node]) -> None:
        """What a subclass makes of new nodes below `node`."""

    def ask(self) -> Ticket | Signal:
        """Reflections first, then the guard's samples, then what the policy chooses."""
        ticket = None
        if not self.solved and self._calls < self.plan.calls:
            ticket = self._reflection() or self._sample() or self.choose()
        if ticket is not None:
            return ticket
        return Signal.WAIT if self._flying and not self.solved else Signal.DONE

    def tell(self, ticket: Ticket, children: Sequence[Child]) -> None:
        """Grow the tree, back values up, note the first verified answer."""
        flight = self._flying.pop(ticket.number)
        self._calls -= not children
        if ticket.reflect:
            self._take_lesson(flight.node, children)
            return
        before = len(self.tree.pruned)
        fresh = self.tree.land(flight.node, ticket.first, ticket.n, children)
        self.remarks += [("prune", node.path) for node in self.tree.pruned[before:]]
        self.answer = self.answer or next((node for node in fresh if node.outcome is Outcome.PASS), None)
        self._note_failures(flight.node, children, fresh)
        if not self.solved:
            self.learn(flight.node, ticket, fresh)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """The tree so far."""
        return self.tree.records()

    def step(self, node: Node, n: int) -> Ticket:
        """A ticket for n next steps."""
        return self._ticket(node, n, whole=node.depth >= self.plan.depth)

    def whole(self, node: Node, n: int) -> Ticket:
        """A ticket for n answers to the end."""
        return self._ticket(node, n, whole=True)

    @property
    def calls_left(self) -> int:
        """How many requests the plan still allows."""
        return self.plan.calls - self._calls

    @property
    def flying(self) -> bool:
        """Whether any ticket is under way."""
        return bool(self._flying)

    def _ticket(self, node: Node, n: int, whole: bool) -> Ticket:
        ticket = Ticket(self._numbers, node.path, node.prefix, n, node.numbered, whole, lessons=self.lessons)
        self._calls += 1
        self._numbers += 1
        self._flying[ticket.number] = Flight(node, n)
        self.tree.issue(node, n)
        return ticket

    def _reflection(self) -> Ticket | None:
        if not self._to_reflect:
            return None
        node, about = self._to_reflect.popleft()
        ticket = Ticket(self._numbers, node.path, node.prefix, 1, 0, whole=True, reflect=True, about=about, lessons=self.lessons)
        self._calls += 1
        self._numbers += 1
        self._flying[ticket.number] = Flight(node, 1)
        return ticket

    def _take_lesson(self, node: Node, children: Sequence[Child]) -> None:
        said = [child.text.strip() for child in children if child.text.strip()]
        if said and said[0] not in self.lessons:
            self.lessons = (*self.lessons, said[0])
            self.remarks.append(("reflect", node.path))

    def _note_failures(self, parent: Node, children: Sequence[Child], fresh: Sequence[Node]) -> None:
        feedback = {child.text: child.feedback for child in children if child.feedback}
        for node in fresh:
            if not node.terminal:
                continue
            self._watch_values(parent, node)
            about = feedback.get(node.text, "")
            wanted = node.outcome is Outcome.FAIL and about and about not in self._failures
            if wanted and len(self._failures) < self.plan.reflections and not self.solved:
                self._failures.add(about)
                self._to_reflect.append((node, about))

    def _watch_values(self, parent: Node, end: Node) -> None:
        """Search is bounded by its values: where they say nothing about outcomes, whole answers from the root are the better buy."""
        if parent.prior is None or self._guarded:
            return
        self._ends.append((parent.prior, end.W))
        self._ended += 1
        if self._ended >= self._next_look:
            self._next_look = self._ended * 5 // 4
            correlation = rank_correlation(self._ends)
            if correlation is not None and correlation <= 0:
                self._guarded = True
                self._to_sample = self.calls_left // SHARE_TO_SAMPLE
                self.remarks.append(("guard", f"values say nothing about outcomes (rank correlation {correlation:.2f})"))

    def _sample(self) -> Ticket | None:
        if not self._to_sample:
            return None
        self._to_sample -= 1
        return self.whole(self.root, self.plan.width)


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, ties given their mean rank; None where one side does not vary."""
    one, other = _ranks([a for a, _ in pairs]), _ranks([b for _, b in pairs])
    mean = (len(pairs) + 1) / 2
    covariance = sum((a - mean) * (b - mean) for a, b in zip(one, other, strict=True))
    spread = sum((a - mean) ** 2 for a in one) * sum((b - mean) ** 2 for b in other)
    return float(covariance / spread**0.5) if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in range(start, end):
            ranks[order[place]] = (start + 1 + end) / 2
        start = end
    return ranks
