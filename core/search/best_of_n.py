"""Best-of-n: whole answers, `width` at a time, until one is verified or the calls are used up. With n = 1 it is single-shot."""

from __future__ import annotations

from collections.abc import Sequence

from core.search.tree import Child, Node, Plan, Signal, Ticket, records
from core.types import NodeRecord, Outcome


class BestOfN:
    """The policy: every ticket asks for whole answers from the root."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = Node("")
        self.solved = False
        self._calls = 0
        self._flying = 0

    def ask(self) -> Ticket | Signal:
        """`width` more answers, unless one is verified or the calls are used up."""
        if self.solved or self._calls >= self.plan.calls:
            return Signal.WAIT if self._flying and not self.solved else Signal.DONE
        ticket = Ticket(self._calls, "", "", self.plan.width, self.root.asked, whole=True)
        self._calls += 1
        self._flying += 1
        self.root.asked += ticket.n
        return ticket

    def tell(self, ticket: Ticket, children: Sequence[Child]) -> None:
        """Keep the answers; the first verified one ends the search."""
        self._flying -= 1
        fresh = self.root.adopt(ticket.first, children)
        self.solved |= any(node.outcome is Outcome.PASS for node in fresh)

    def nodes(self) -> tuple[NodeRecord, ...]:
        """A root and its answers."""
        return records(self.root)


def single(plan: Plan) -> BestOfN:
    """One whole answer and no more."""
    return BestOfN(plan.replace(width=1, calls=1))
