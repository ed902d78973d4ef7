"""Language Agent Tree Search (Zhou et al., 2024) with in-flight counts as in WU-UCT (Liu et al., 2020).

Select by UCT, expand n ways, evaluate, simulate the most promising child to the end, back up, stop at the first verified answer.
Left out for now: reflection, duplicate states across branches, widths that follow from the budget.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from core.search.tree import Child, Node, Plan, Signal, Ticket, records
from core.types import NodeRecord, Outcome

WIDEST = 4  # a node whose children all failed is expanded again, up to this many times the plan's width
BARREN = 2  # expansions in a row without a new child, after which a node is given up


class Lats:
    """The policy: `ask` for tickets, `tell` it what came of them. Tickets may be answered in any order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = Node("")
        self.solved: Node | None = None
        self._calls = 0
        self._flying: dict[int, Node] = {}
        self._to_simulate: deque[Node] = deque()

    def ask(self) -> Ticket | Signal:
        """Simulations that are due come first, then the leaf that UCT leads to."""
        if self.solved or self._calls >= self.plan.calls or (self.root.closed and not self._to_simulate):
            return Signal.WAIT if self._flying and not self.solved else Signal.DONE
        if self._to_simulate:
            return self._ticket(self._to_simulate.popleft(), n=1, whole=True)
        node = self._select()
        if node is None:
            return Signal.WAIT if self._flying else Signal.DONE
        deep = node.depth >= self.plan.depth
        return self._ticket(node, n=self.plan.width, whole=deep)

    def tell(self, ticket: Ticket, children: Sequence[Child]) -> None:
        """Grow the tree, back values up, note a verified answer, and plan the simulation of the best new child."""
        node = self._flying.pop(ticket.number)
        node.pending -= ticket.n
        for above in node.lineage():
            above.O -= 1
        if not children:
            node.asked -= ticket.n
            return
        fresh = node.adopt(ticket.first, children)
        self.solved = self.solved or next((child for child in fresh if child.outcome is Outcome.PASS), None)
        promising = [child for child in fresh if not child.closed]
        if promising and not ticket.whole and not self.solved:
            self._to_simulate.append(max(promising, key=lambda c: (c.value, -c.index)))
        if node.barren >= BARREN:
            node.asked = max(node.asked, self.plan.width * WIDEST)
        node.close_upwards(self.plan.width * WIDEST)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """The tree so far."""
        return records(self.root)

    def _select(self) -> Node | None:
        """Down by UCT to a node that may be expanded; None when all that is open waits for an answer."""
        node = self.root
        while True:
            open_children = [child for child in node.children if not child.closed]
            if self._may_expand(node, open_children):
                return node
            if not open_children:
                return None
            ready = [child for child in open_children if not self._blocked(child)]
            if not ready:
                return None
            node = max(ready, key=lambda c: (self._score(c), -c.index))

    def _may_expand(self, node: Node, open_children: Sequence[Node]) -> bool:
        if node.pending or node.closed:
            return False
        return node.asked < self.plan.width or (not open_children and node.asked < self.plan.width * WIDEST)

    def _blocked(self, node: Node) -> bool:
        """Everything below waits: expanding more now would spend the budget on guesses about what is coming."""
        if node.closed:
            return True
        open_children = [child for child in node.children if not child.closed]
        if self._may_expand(node, open_children):
            return False
        return all(self._blocked(child) for child in open_children)

    def _score(self, node: Node) -> float:
        parent = node.parent or node
        visits = node.N + node.O
        if visits == 0:
            return math.inf
        return node.value + self.plan.exploration * math.sqrt(math.log(parent.N + parent.O + 1) / visits)

    def _ticket(self, node: Node, n: int, whole: bool) -> Ticket:
        ticket = Ticket(self._calls, node.path, node.prefix, n, node.asked, whole)
        self._calls += 1
        node.asked += n
        node.pending += n
        for above in node.lineage():
            above.O += 1
        self._flying[ticket.number] = node
        return ticket
