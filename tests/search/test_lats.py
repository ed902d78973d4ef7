import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_drivers import check_counts

from core.search.best_of_n import BestOfN
from core.search.lats import FRUITLESS, Lats
from core.search.levels import Beam, Levels
from core.search.tree import NEUTRAL, WIDEST, Child, Plan, Signal, Ticket
from core.types import Outcome

RIGHT = ("b\n", "d\n", "a\n")
WORDS = ("a\n", "b\n", "c\n", "d\n", "e\n", "f\n")


def step(text, value=None):
    return Child(text, terminal=False, value=value)


def failed(text):
    return Child(text, True, 0.0, Outcome.FAIL)


def run(policy, propose):
    """All tickets of a search that is driven one at a time."""
    tickets = []
    while (ticket := policy.ask()) is not Signal.DONE:
        assert isinstance(ticket, Ticket)
        tickets.append(ticket)
        policy.tell(ticket, propose(ticket))
    return tickets


def puzzle(ticket, seed):
    """Three steps, each one of six words; only one path verifies. A step's value is the share of right words so far, and noise."""
    found = []
    for index in range(ticket.first, ticket.first + ticket.n):
        rng = random.Random(f"{seed} {ticket.path} {index}")
        said = ticket.prefix.splitlines(keepends=True)
        more = [rng.choice(WORDS) for _ in range(3 - len(said) if ticket.whole else 1)]
        path = (*said, *more)
        right = sum(a == b for a, b in zip(path, RIGHT, strict=False))
        if len(path) == 3:
            found.append(Child("".join(more), True, None, Outcome.PASS if right == 3 else Outcome.FAIL))
        else:
            found.append(step("".join(more), 0.2 + 0.6 * right / len(path) + 0.2 * rng.random()))
    return found


def solve(policy, seed):
    """(solved, words written)"""
    words = 0

    def propose(ticket):
        nonlocal words
        found = puzzle(ticket, seed)
        words += sum(len(child.text.split()) for child in found)
        return found

    run(policy, propose)
    return any(node.outcome is Outcome.PASS for node in policy.nodes()), words


def test_a_ticket_expands_n_ways():
    policy = Lats(Plan(width=4))

    ticket = policy.ask()
    policy.tell(ticket, [step(word, 0.5) for word in WORDS[:4]])

    assert (ticket.n, ticket.prefix, ticket.whole) == (4, "", False)
    assert [node.path for node in policy.nodes()] == ["", "0", "1", "2", "3"]


def test_the_tree_branches_below_the_root_too():
    policy = Lats(Plan(width=3, calls=24, depth=5))

    run(policy, lambda t: [failed(f"{t.path} {i}") if t.whole else step(f"{t.path} {i}\n", 0.5) for i in range(t.n)])

    branches = Counter(node.path.rpartition(".")[0] for node in policy.nodes() if node.path)
    assert branches[""] == 3
    assert sum(count >= 3 for parent, count in branches.items() if parent) >= 3


def test_the_most_promising_new_child_is_simulated_to_the_end():
    policy = Lats(Plan(width=3))
    policy.tell(policy.ask(), [step("a\n", 0.2), step("b\n", 0.9), step("c\n", 0.4)])

    ticket = policy.ask()

    assert (ticket.path, ticket.prefix, ticket.n, ticket.whole) == ("1", "b\n", 1, True)


def test_a_simulation_is_backed_up_and_moves_the_selection():
    policy = Lats(Plan(width=2, exploration=0))
    policy.tell(policy.ask(), [step("a\n", 0.5), step("b\n", 0.45)])

    policy.tell(policy.ask(), [failed("wrong")])

    values = {node.path: (node.visits, node.value) for node in policy.nodes()}
    assert values["0"] == (2, pytest.approx(0.5 * (0.5 + NEUTRAL) / 2 + 0.5 * 0.5))
    assert values[""][0] == 3
    assert policy.ask().path == "1"


def test_a_verified_answer_ends_the_search_at_once_and_its_path_is_the_whole_text():
    policy = Lats(Plan(width=2, calls=99))
    policy.tell(policy.ask(), [step("a\n", 0.5), step("b\n", 0.4)])

    policy.tell(policy.ask(), [Child("Answer: 4", True, 1.0, Outcome.PASS)])

    assert policy.ask() is Signal.DONE
    assert policy.answer.prefix == "a\nAnswer: 4"
    assert policy.answer.path == "0.0"


def test_a_verified_answer_in_an_expansion_ends_the_search_before_any_simulation():
    policy = Lats(Plan(width=2))

    policy.tell(policy.ask(), [step("a\n", 0.9), Child("4", True, 1.0, Outcome.PASS)])

    assert policy.ask() is Signal.DONE


def test_what_comes_in_after_the_end_changes_nothing_about_the_answer():
    policy = Lats(Plan(width=2))
    policy.tell(policy.ask(), [step("a\n", 0.5), step("b\n", 0.4)])
    one, two = policy.ask(), policy.ask()

    policy.tell(two, [Child("first", True, 1.0, Outcome.PASS)])
    policy.tell(one, [Child("second", True, 1.0, Outcome.PASS)])

    assert policy.answer.text == "first"
    assert policy.ask() is Signal.DONE
    assert policy.root.O == 0


def test_a_failed_end_backs_up_neutral_so_that_its_parent_is_not_written_off():
    policy = Lats(Plan(width=2))
    policy.tell(policy.ask(), [failed("x"), step("a\n", 0.5)])

    assert {node.text: node.value for node in policy.nodes()}["x"] == NEUTRAL


def test_without_exploration_the_better_branch_is_always_taken():
    policy = Lats(Plan(width=2, calls=40, exploration=0, depth=30))

    tickets = run(policy, lambda t: [failed("x")] if t.whole else [step("low\n", 0.1), step("high\n", 0.9)])

    assert all(set(t.prefix.split()) <= {"high"} for t in tickets)


def test_with_much_exploration_visits_spread():
    def visits(c):
        policy = Lats(Plan(width=4, calls=60, exploration=c))
        run(policy, lambda t: [failed("x")] if t.whole else [step(f"{i}\n", 0.9 if i == 0 else 0.4) for i in range(t.n)])
        return [node.visits for node in policy.nodes() if node.path.isdigit()]

    greedy, curious = visits(0), visits(10)

    assert max(greedy) > 4 * sorted(greedy)[-2]
    assert max(curious) < 2 * min(curious)


def test_tickets_in_flight_push_the_next_one_elsewhere():
    policy = Lats(Plan(width=2, exploration=0.5))
    policy.tell(policy.ask(), [step("a\n", 0.5), step("b\n", 0.5)])
    policy.tell(policy.ask(), [failed("x")])

    one, two = policy.ask(), policy.ask()

    assert {one.path, two.path} == {"0", "1"}
    assert policy.ask() is Signal.WAIT


def test_at_full_depth_whole_answers_are_asked_for():
    policy = Lats(Plan(width=2, depth=1, calls=5))

    tickets = run(policy, lambda t: [failed(f"{t.first + i}") if t.whole else step(f"{i}\n", 0.5) for i in range(t.n)])

    assert [t.whole for t in tickets] == [False, True, True, True, True]


def test_a_failed_call_is_rolled_back_and_asked_again_with_the_same_samples():
    policy = Lats(Plan(width=3))
    first = policy.ask()

    policy.tell(first, ())
    again = policy.ask()

    assert (again.number, again.first, again.n, again.path) == (1, first.first, first.n, first.path)


def test_a_node_that_only_repeats_itself_is_given_up():
    policy = Lats(Plan(width=2, calls=500))

    tickets = run(policy, lambda t: [failed("the same")] * t.n)

    assert len(tickets) == 1 + FRUITLESS
    assert policy.root.closed


def test_a_node_whose_children_all_failed_is_widened_up_to_a_limit_and_then_whole_answers_are_asked_for():
    policy = Lats(Plan(width=2, calls=50))

    tickets = run(policy, lambda t: [failed(f"{t.first + i}") for i in range(t.n)])

    assert sum(t.n for t in tickets if not t.whole) == 2 * WIDEST
    assert len(tickets) == 50
    assert all(t.path == "" for t in tickets if t.whole)


def test_the_same_answers_make_the_same_tree():
    one, again, other = Lats(Plan()), Lats(Plan()), Lats(Plan())
    for policy, seed in ((one, 1), (again, 1), (other, 2)):
        solve(policy, seed)

    assert one.nodes() == again.nodes()
    assert one.nodes() != other.nodes()


def test_a_puzzle_with_one_right_path_is_solved_more_often_than_by_as_many_words_of_whole_answers():
    searched = [solve(Lats(Plan(width=4, depth=3, calls=24)), seed) for seed in range(100)]
    guessed = [solve(BestOfN(Plan(width=4, calls=8)), seed) for seed in range(100)]

    assert sum(words for _, words in searched) < sum(words for _, words in guessed)
    assert sum(found for found, _ in searched) > 2 * sum(found for found, _ in guessed)


children = st.lists(
    st.builds(
        lambda kind, value, word: (
            step(f"{word}\n", value) if kind == "step" else Child(word, True, None if kind == "abstain" else 0.0, Outcome(kind))
        ),
        st.sampled_from(["step", "step", "step", "fail", "abstain"]),
        st.one_of(st.none(), st.floats(0, 1)),
        st.sampled_from("abcdefgh"),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("strategy", [Lats, BestOfN, Levels, Beam])
def test_however_tickets_are_answered_the_counts_add_up(strategy, data):
    plan = Plan(width=data.draw(st.integers(1, 4)), depth=data.draw(st.integers(1, 4)), calls=data.draw(st.integers(1, 30)))
    policy, flying, calls, ended = strategy(plan), [], 0, False
    failures = 0
    for _ in range(6 * plan.calls + 40):
        signal = policy.ask()
        if isinstance(signal, Ticket):
            assert not ended
            assert signal.number == calls
            assert signal.n >= 1
            calls += 1
            flying.append(signal)
        ended = ended or signal is Signal.DONE
        if signal is Signal.WAIT:
            assert flying
        if ended and not flying:
            break
        if flying and (signal in (Signal.WAIT, Signal.DONE) or data.draw(st.booleans())):
            ticket = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            told = data.draw(children)[: ticket.n]
            if ticket.whole:
                told = [child if child.terminal else failed(child.text) for child in told]
            told = told or ([failed("late")] if failures > plan.calls else [])  # what fails for ever is for the driver to end
            failures += not told
            policy.tell(ticket, told)

    assert policy.ask() is Signal.DONE
    assert not flying
    assert calls - failures <= plan.calls
    check_counts(policy.root)
