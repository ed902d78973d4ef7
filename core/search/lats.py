"""Language Agent Tree Search (Zhou et al., 2024) with in-flight counts as in WU-UCT (Liu et al., 2020).

Select by UCT, expand n ways, evaluate, simulate the most promising child to the end, back up, reflect on failures, stop at the first
verified answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from core.search.policy import TreePolicy
from core.search.tree import BARREN, Node, Plan, Ticket

FRUITLESS = BARREN + 2  # times in a row that the root only repeats itself, after which there is nothing left to ask


class Lats(TreePolicy):
    """The policy: `ask` for tickets, `tell` it what came of them. Tickets may be answered in any order."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._to_simulate: deque[Node] = deque()

    def choose(self) -> Ticket | None:
        """Simulations that are due come first, then the leaf that UCT leads to; when all is explored, whole answers from the root."""
        while self._to_simulate:
            node = self._to_simulate.popleft()
            if not node.closed:
                return self.whole(node, 1)
        leaf = self.tree.select()
        if leaf is not None:
            return self.step(leaf, self.plan.batch or self.plan.width)
        if self.root.closed and not self.flying and self.root.barren < FRUITLESS:
            return self.whole(self.root, self.plan.width)
        return None

    def learn(self, node: Node, ticket: Ticket, fresh: Sequence[Node]) -> None:
        """The best new child is followed to its end."""
        promising = [child for child in fresh if not child.closed]
        if promising and not ticket.whole:
            self._to_simulate.append(max(promising, key=lambda child: (child.value, -child.index)))
