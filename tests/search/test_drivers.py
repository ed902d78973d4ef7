import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ProviderError, SearchError
from core.search.best_of_n import BestOfN, SelfConsistency
from core.search.budget import Budget
from core.search.drivers import FAILURES, Proposal, drive
from core.search.events import fold
from core.search.lats import Lats
from core.search.levels import Beam, Levels
from core.search.search import Search
from core.search.tree import Child, Plan, Signal
from core.types import Outcome, Usage

POLICIES = [Lats, Levels, Beam, BestOfN, SelfConsistency]
ONE = Usage(1, 10, 5)


def run(search, propose, **options):
    asyncio.run(drive(search, propose, **options))
    return search


def answers(ticket, seed=0, passes=0.02):
    """What a model would say: it follows from the seed and the ticket's place alone."""
    found = []
    for index in range(ticket.first, ticket.first + ticket.n):
        rng = random.Random(f"{seed} {ticket.path} {index}")
        if ticket.whole or rng.random() < 0.3:
            right = rng.random() < passes
            found.append(Child(f"end {rng.random()}", True, None, Outcome.PASS if right else Outcome.FAIL))
        else:
            found.append(Child(f"step {rng.random()}\n", False, rng.random()))
    return found


def model(latency=None, seed=0, passes=0.02):
    """A proposer that takes `latency()` turns of the loop for an answer."""

    async def propose(ticket):
        for _ in range(latency() if latency else 0):
            await asyncio.sleep(0)
        return Proposal(answers(ticket, seed, passes), ONE)

    return propose


def test_a_search_is_driven_to_its_end():
    asked = []

    async def propose(ticket):
        asked.append(ticket)
        return Proposal([Child("wrong", True, 0.0, Outcome.FAIL)] * ticket.n)

    search = run(Search(BestOfN(Plan(width=2, calls=3))), propose)

    assert [ticket.number for ticket in asked] == [0, 1, 2]
    assert search.stopped == "exhausted"


def test_a_verified_answer_is_the_last_thing_that_is_asked_for():
    asked = []

    async def propose(ticket):
        asked.append(ticket)
        return Proposal([Child("right", True, 1.0, Outcome.PASS)])

    search = run(Search(Lats(Plan(calls=50))), propose)

    assert len(asked) == 1
    assert search.ask() is Signal.DONE
    assert search.stopped == "verified"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError("a bug")])
def test_what_propose_raises_comes_out_and_leaves_a_readable_tree_without_tickets_in_flight(error):
    search = Search(Lats(Plan(width=2)))

    async def propose(ticket):
        if ticket.number == 2:
            raise error
        return Proposal([Child(f"{ticket.number}.{i}\n", False, 0.5) for i in range(ticket.n)])

    async def interrupted():
        with pytest.raises(type(error)):
            await drive(search, propose)

    asyncio.run(interrupted())

    assert [node.path for node in search.nodes()] == ["", "0", "0.0", "1"]
    assert search.policy.root.O == search.policy.root.pending == 0


def test_a_call_that_failed_is_made_again_with_the_same_samples():
    seen = []

    async def propose(ticket):
        seen.append((ticket.path, ticket.first))
        if len(seen) == 1:
            raise ProviderError("a hiccup")
        return Proposal(answers(ticket))

    run(Search(BestOfN(Plan(width=2, calls=3))), propose)

    assert seen[0] == seen[1]


def test_calls_that_go_on_failing_end_the_search_with_their_error():
    asked = 0

    async def propose(ticket):
        nonlocal asked
        asked += 1
        raise ProviderError("the server is gone")

    search = Search(Lats(Plan(calls=50)))
    with pytest.raises(ProviderError, match="the server is gone"):
        run(search, propose)

    assert search.spent.used.calls == 0
    assert asked == FAILURES


@pytest.mark.parametrize("policy", [Lats, BestOfN])
def test_a_model_that_answers_nothing_is_not_asked_for_ever(policy):
    asked = 0

    async def propose(ticket):
        nonlocal asked
        asked += 1
        return Proposal((), Usage(1, 10, 0))

    search = Search(policy(Plan(calls=50)))
    with pytest.raises(SearchError, match="no completion at all"):
        run(search, propose)

    assert asked == FAILURES
    assert search.spent.used.prompt_tokens == 10 * FAILURES


def test_a_policy_that_waits_for_nothing_is_an_error_and_no_endless_loop():
    class Lost(BestOfN):
        def ask(self):
            return Signal.WAIT

    with pytest.raises(SearchError, match="Lost waits although nothing is in flight"):
        run(Search(Lost(Plan())), model())


def test_side_by_side_never_more_run_than_allowed_and_all_of_them_do():
    running, most = 0, 0

    async def propose(ticket):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return Proposal(answers(ticket, passes=0))

    run(Search(BestOfN(Plan(width=1, calls=30))), propose, concurrency=7)

    assert most == 7


@pytest.mark.parametrize("policy", POLICIES)
def test_in_an_ordered_window_latencies_change_nothing_about_the_tree(policy):
    def tree(latency_seed):
        rng = random.Random(latency_seed)
        events = []
        search = Search(policy(Plan(width=3, calls=60, horizon=4)), emit=events.append)
        run(search, model(lambda: rng.randint(0, 9) ** 2, passes=0), concurrency=6)
        return search.nodes(), events

    assert tree(1) == tree(2) == tree(3)


def test_running_free_the_same_search_still_adds_up():
    rng = random.Random(0)
    search = Search(Lats(Plan(width=3, calls=60)))

    run(search, model(lambda: rng.randint(0, 9), passes=0), concurrency=6, ordered=False)

    assert search.spent.used == Usage(60, 600, 300)


def test_a_verified_answer_cancels_what_is_in_flight_and_its_price_is_wasted():
    cancelled = []

    async def propose(ticket):
        if ticket.number == 0:
            return Proposal([Child("right", True, 1.0, Outcome.PASS)], ONE)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(ticket.number)
            raise
        return Proposal(())

    search = run(Search(BestOfN(Plan(width=1, calls=9))), propose, concurrency=4)

    assert cancelled == [1, 2, 3]
    assert (search.spent.used, search.under_way) == (ONE, ())


def test_answers_that_came_in_after_the_winner_are_paid_for_and_wasted():
    async def propose(ticket):
        right = ticket.number == 0
        return Proposal([Child("x", True, 1.0, Outcome.PASS if right else Outcome.FAIL)], ONE)

    search = run(Search(BestOfN(Plan(width=1, calls=9))), propose, concurrency=4)

    assert search.spent.used == Usage(4, 40, 20)
    assert search.spent.wasted == Usage(3, 30, 15)


def test_two_searches_at_once_share_nothing():
    alone = [run(Search(Lats(Plan(width=3, calls=40))), model(seed=seed)).nodes() for seed in (1, 2)]

    async def both():
        searches = [Search(Lats(Plan(width=3, calls=40))) for _ in range(2)]
        rng = random.Random(0)
        await asyncio.gather(*(drive(s, model(lambda: rng.randint(0, 3), seed)) for s, seed in zip(searches, (1, 2), strict=True)))
        return [search.nodes() for search in searches]

    assert asyncio.run(both()) == alone


@settings(max_examples=120, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 10**6),
    concurrency=st.integers(1, 8),
    ordered=st.booleans(),
    width=st.integers(1, 4),
    calls=st.integers(1, 40),
    tokens=st.one_of(st.none(), st.integers(0, 200)),
    stop_after=st.one_of(st.none(), st.integers(1, 30)),
)
def test_with_delays_failures_and_cancellations_visits_flights_and_budgets_add_up(
    policy, seed, concurrency, ordered, width, calls, tokens, stop_after
):
    rng = random.Random(seed)
    events, paid = [], []
    plan = Plan(width=width, calls=calls, depth=rng.randint(1, 5), batch=rng.choice([None, 1]), reflections=rng.randint(0, 3))
    search = Search(policy(plan), Budget(completion_tokens=tokens), estimate=lambda ticket: Usage(1, 0, 5 * ticket.n), emit=events.append)

    async def propose(ticket):
        for _ in range(rng.randint(0, 4)):
            await asyncio.sleep(0)
        if rng.random() < 0.1:
            raise ProviderError("now and then")
        paid.append(ticket)
        if stop_after and len(paid) >= stop_after:
            raise asyncio.CancelledError
        children = [Child("think again", False)] if ticket.reflect else answers(ticket, seed, 0.01)
        return Proposal([c.replace(feedback="wrong") if c.outcome is Outcome.FAIL else c for c in children], Usage(1, 7, 5 * ticket.n))

    async def driven():
        try:
            await drive(search, propose, concurrency=concurrency, ordered=ordered)
        except (ProviderError, asyncio.CancelledError):
            return

    asyncio.run(driven())

    assert search.under_way == ()
    assert search.ledger.reserved == 0
    assert search.policy._calls <= plan.calls
    assert tokens is None or search.spent.used.completion_tokens <= tokens
    check_counts(search.policy.root)
    assert [(n.path, n.text, n.visits) for n in fold(events)] == [(n.path, n.text, n.visits) for n in search.nodes()]


def check_counts(root):
    """N and W of a node are its own back-up and its children's; nothing is in flight or pending; indices are unique."""
    stack = [root]
    while stack:
        node = stack.pop()
        below, above = sum(child.N for child in node.children), sum(child.W for child in node.children)
        assert node.N - below in ((0,) if node is root else (0, 1))
        assert node.W - above == pytest.approx(0, abs=1e-9) or node.N - below == 1
        assert node.O == node.pending == 0
        assert len({child.index for child in node.children}) == len(node.children)
        assert all(child.index < node.numbered for child in node.children)
        assert node.ready == sum(child.selectable for child in node.children)
        assert node.live == [child for child in node.children if not child.closed]
        stack += node.children
