"""Whole answers from the root: until one is verified (best-of-n), all of them for a vote (self-consistency), or just one (single)."""

from __future__ import annotations

from core.search.policy import TreePolicy
from core.search.tree import Plan, Ticket


class BestOfN(TreePolicy):
    """`width` answers at a time, until one is verified or the calls are used up."""

    def choose(self) -> Ticket | None:
        """More answers: they do not depend on each other, so nothing is waited for."""
        return self.whole(self.root, self.plan.width)


class SelfConsistency(BestOfN):
    """All the answers that the calls allow (Wang et al., 2023). Which one most of them give is for whoever has the answers."""

    stops_when_verified = False


def single(plan: Plan) -> BestOfN:
    """One whole answer and no more."""
    return BestOfN(plan.replace(width=1, calls=1))
