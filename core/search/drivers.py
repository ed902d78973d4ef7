"""The driver between a policy and the world: asks, has the tickets answered, tells. One ticket at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from core.errors import SearchError
from core.search.tree import Child, Policy, Signal, Ticket

Propose = Callable[[Ticket], Awaitable[Sequence[Child]]]


async def drive(policy: Policy, propose: Propose) -> None:
    """Run a search to its end. What `propose` raises comes out as it is; the tree so far stays readable in the policy."""
    while (ticket := policy.ask()) is not Signal.DONE:
        if not isinstance(ticket, Ticket):
            raise SearchError(f"{type(policy).__name__} waits although nothing is in flight: it lost count of its tickets")
        try:
            children = await propose(ticket)
        except BaseException:
            policy.tell(ticket, ())
            raise
        policy.tell(ticket, children)
