import random

import pytest
from test_lats import run, solve

from core.search.best_of_n import BestOfN
from core.search.levels import KEPT_POWER, LAST_KEPT, Beam, Levels
from core.search.policy import ENOUGH_ENDS, rank_correlation
from core.search.tree import Child, Plan
from core.types import Outcome


def steps(depth, value=lambda path: 0.5):
    """A proposer of distinct steps that ends at a depth."""

    def propose(ticket):
        found = []
        for index in range(ticket.first, ticket.first + ticket.n):
            path = f"{ticket.path}.{index}"
            if ticket.whole or path.count(".") >= depth:
                found.append(Child(f"end {path}", True, 0.0, Outcome.FAIL))
            else:
                found.append(Child(f"{path}\n", False, value(path)))
        return found

    return propose


def test_widths_follow_from_the_budget_and_grow_with_the_depth():
    def samples_by_depth(calls):
        policy = Levels(Plan(width=4, calls=calls, horizon=3))
        tickets = run(policy, steps(depth=2))
        counts = [0, 0, 0]
        for ticket in tickets:
            counts[ticket.prefix.count("\n")] += ticket.n
        return counts

    small, large = samples_by_depth(16), samples_by_depth(64)

    assert small[0] < small[1] < small[2]
    assert all(b > 2 * a for a, b in zip(small, large, strict=True))


def test_the_best_nodes_of_a_level_are_kept():
    policy = Levels(Plan(width=4, calls=16, horizon=3))

    tickets = run(policy, steps(depth=2, value=lambda path: random.Random(path).random()))

    first_level = {node.path: node.value for node in policy.nodes() if node.path and "." not in node.path}
    expanded = {t.path for t in tickets if t.path in first_level}
    best = sorted(first_level, key=first_level.__getitem__, reverse=True)
    assert best[0] in expanded
    assert best[-1] not in expanded


def test_how_long_answers_are_is_learned_from_a_probe():
    policy = Levels(Plan(width=4, calls=30))

    first = policy.ask()

    assert first.whole
    assert first.n < 4


def test_a_share_that_only_brings_repeats_goes_to_the_next_best_node():
    policy = Levels(Plan(width=2, calls=40, horizon=2))

    def propose(ticket):
        if not ticket.path:
            return [Child(f"{i}\n", False, 1 - i / 100) for i in range(ticket.first, ticket.first + ticket.n)]
        return [Child("always the same", True, 0.0, Outcome.FAIL)] * ticket.n

    tickets = run(policy, propose)

    kept = round(LAST_KEPT * (40 * 2) ** KEPT_POWER)
    assert len({t.path for t in tickets if t.path}) > kept


def test_a_beam_keeps_as_many_as_it_expands_at_each_depth():
    policy = Beam(Plan(width=3, calls=100))

    tickets = run(policy, steps(depth=4))

    widths = {}
    for ticket in tickets:
        widths.setdefault(ticket.prefix.count("\n"), set()).add(ticket.path)
    assert [len(paths) for _, paths in sorted(widths.items())] == [1, 3, 3, 3, 3][: len(widths)]
    assert all(t.n == 3 for t in tickets)


def test_level_by_level_beats_whole_answers_where_steps_have_values():
    searched = [solve(Levels(Plan(width=4, depth=3, calls=24)), seed) for seed in range(100)]
    guessed = [solve(BestOfN(Plan(width=4, calls=8)), seed) for seed in range(100)]

    assert sum(found for found, _ in searched) > 1.5 * sum(found for found, _ in guessed)


def test_values_that_say_the_opposite_of_the_outcomes_send_a_quarter_of_the_rest_to_whole_answers():
    """Finished attempts get the more partial credit the less was thought of the step before them."""
    policy = Levels(Plan(width=4, calls=100, horizon=2))

    def propose(ticket):
        value = lambda path: random.Random(path).random()  # noqa: E731
        if ticket.whole and not ticket.path:
            return [Child(f"w{ticket.number}.{i}", True, 0.2, Outcome.FAIL) for i in range(ticket.n)]
        if ticket.path:
            return [Child(f"{ticket.path} {ticket.first + i}", True, 1 - value(ticket.path), Outcome.FAIL) for i in range(ticket.n)]
        return [Child(f"{i}\n", False, value(str(i))) for i in range(ticket.first, ticket.first + ticket.n)]

    remarks = []
    while True:
        ticket = policy.ask()
        if not hasattr(ticket, "path"):
            break
        policy.tell(ticket, propose(ticket))
        remarks += [text for kind, text in policy.remarks if kind == "guard"]
        policy.remarks.clear()
        if remarks and not policy.root.asked:
            break

    assert len(remarks) == 1
    assert "rank correlation -" in remarks[0]


def test_rank_correlation_is_spearmans():
    assert rank_correlation([(1, 10), (2, 20), (3, 30)]) == pytest.approx(1)
    assert rank_correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 1), (1, 2), (2, 2), (3, 3)]) == pytest.approx(0.8333, abs=1e-4)
    assert rank_correlation([(i, 0.2) for i in range(ENOUGH_ENDS)]) is None
