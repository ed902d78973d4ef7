import asyncio

import pytest

from core.errors import ProviderError, SearchError
from core.search.best_of_n import BestOfN
from core.search.drivers import drive
from core.search.lats import Lats
from core.search.tree import Child, Plan, Signal
from core.types import Outcome


def run(policy, propose):
    asyncio.run(drive(policy, propose))
    return policy


def test_a_search_is_driven_to_its_end():
    asked = []

    async def propose(ticket):
        asked.append(ticket)
        return [Child("wrong", True, 0.0, Outcome.FAIL)] * ticket.n

    run(BestOfN(Plan(width=2, calls=3)), propose)

    assert [ticket.number for ticket in asked] == [0, 1, 2]


def test_a_verified_answer_is_the_last_thing_that_is_asked_for():
    asked = []

    async def propose(ticket):
        asked.append(ticket)
        return [Child("right", True, 1.0, Outcome.PASS)]

    run(Lats(Plan(calls=50)), propose)

    assert len(asked) == 1


@pytest.mark.parametrize("error", [ProviderError("gone"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_propose_raises_comes_out_and_leaves_a_readable_tree_without_tickets_in_flight(error):
    policy = Lats(Plan(width=2))

    async def propose(ticket):
        if ticket.number == 2:
            raise error
        return [Child(f"{ticket.number}.{i}\n", False, 0.5) for i in range(ticket.n)]

    async def interrupted():
        with pytest.raises(type(error)):
            await drive(policy, propose)

    asyncio.run(interrupted())

    assert [node.path for node in policy.nodes()] == ["", "0", "0.0", "1"]
    assert policy.root.O == policy.root.pending == 0


def test_a_policy_that_waits_for_nothing_is_an_error_and_no_endless_loop():
    class Lost:
        def ask(self):
            return Signal.WAIT

    async def propose(ticket):
        return ()

    with pytest.raises(SearchError, match="Lost waits although nothing is in flight"):
        run(Lost(), propose)
