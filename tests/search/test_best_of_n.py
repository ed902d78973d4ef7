from core.search.best_of_n import BestOfN, single
from core.search.tree import NEUTRAL, Child, Plan, Signal
from core.types import Outcome


def answers(*outcomes):
    return [Child(f"{i}: {outcome}", True, None, outcome) for i, outcome in enumerate(outcomes)]


def test_whole_answers_are_asked_for_until_the_calls_are_used_up():
    policy = BestOfN(Plan(width=3, calls=2))
    tickets = []

    while (ticket := policy.ask()) is not Signal.DONE:
        tickets.append(ticket)
        policy.tell(ticket, answers(*[Outcome.FAIL] * 3))

    assert [(t.n, t.first, t.whole, t.prefix) for t in tickets] == [(3, 0, True, ""), (3, 3, True, "")]


def test_the_first_verified_answer_ends_the_search_whatever_is_in_flight():
    policy = BestOfN(Plan(width=2, calls=9))
    one, two = policy.ask(), policy.ask()

    policy.tell(two, answers(Outcome.FAIL, Outcome.PASS))
    assert policy.ask() is Signal.DONE
    policy.tell(one, ())
    assert policy.ask() is Signal.DONE


def test_the_last_call_is_waited_for():
    policy = BestOfN(Plan(width=2, calls=1))
    ticket = policy.ask()

    assert policy.ask() is Signal.WAIT
    policy.tell(ticket, answers(Outcome.FAIL, Outcome.ABSTAIN))
    assert policy.ask() is Signal.DONE


def test_a_failed_answer_backs_up_neutral():
    policy = BestOfN(Plan(width=2, calls=1))
    policy.tell(policy.ask(), [Child("a", True, 0.0, Outcome.FAIL), Child("b", True, 1.0, Outcome.PASS)])

    root, failed, passed = policy.nodes()

    assert (root.visits, failed.value, passed.value) == (2, NEUTRAL, 1.0)


def test_single_asks_exactly_once():
    for told in (answers(Outcome.FAIL), answers(Outcome.PASS)):
        policy = single(Plan(width=7, calls=40))
        ticket = policy.ask()
        policy.tell(ticket, told)

        assert (ticket.n, ticket.whole) == (1, True)
        assert policy.ask() is Signal.DONE
