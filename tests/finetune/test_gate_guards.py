"""Guards: what must not be lost, and when a guard can't tell."""

from __future__ import annotations

import math
import random

import pytest

from core.errors import TrainingError
from core.types import Domain, Task
from finetune.evaluation import Evaluation
from finetune.guards import accuracy_guard, evaluation_guards, ratio_guard, well_formed


def answers(n: int, right: int) -> list[bool]:
    return [i < right for i in range(n)]


def test_a_copy_holds_from_100_tasks_on():
    guard = accuracy_guard("code", answers(100, 60), answers(100, 60))

    assert guard.holds
    assert guard.bound == pytest.approx(-0.0263, abs=1e-4)
    assert guard.reason == "code: +0.0 points, at worst -2.6, allowed -3.0"


def test_fewer_than_100_tasks_can_not_hold_however_they_end():
    for candidate in (answers(99, 60), answers(99, 99), answers(99, 0)):
        guard = accuracy_guard("code", answers(99, 60), candidate)

        assert guard.state == "can't tell"
        assert guard.tasks_needed == 100
        assert "at least 100" in guard.reason


def test_a_loss_beyond_the_margin_breaks_the_guard():
    guard = accuracy_guard("code", answers(400, 300), answers(400, 280))

    assert guard.state == "broken"
    assert (guard.champion, guard.candidate) == (0.75, 0.7)


def test_a_small_loss_on_few_tasks_can_not_tell_and_says_how_many_would():
    guard = accuracy_guard("code", answers(150, 100), answers(150, 97))

    assert guard.state == "can't tell"
    assert guard.tasks_needed is not None
    assert 1_100 < guard.tasks_needed < 1_300


def test_the_tasks_that_a_guard_asks_for_grow_with_what_turns_over():
    champion = answers(400, 200)
    calm, lively = ([right != (i % every == 0) for i, right in enumerate(champion)] for every in (40, 10))

    found = [accuracy_guard("code", champion, candidate, margin=0.01).tasks_needed or 0 for candidate in (calm, lively)]

    assert found[1] == pytest.approx(4 * found[0], rel=0.01)


def test_with_as_many_tasks_as_it_takes_a_guard_tells_in_four_of_five():
    rng = random.Random(1)

    def outcome(n: int) -> list[float]:
        return [rng.choice((1.0, -1.0)) if rng.random() < 0.1 else 0.0 for _ in range(n)]

    needed = round(0.1 * ((1.645 + 0.842) / 0.03) ** 2)
    held = sum(accuracy_guard("x", [0.5] * needed, [0.5 + d / 2 for d in outcome(needed)], margin=0.015).holds for _ in range(200))

    assert 0.7 <= held / 200 <= 0.9


def test_rewards_are_guarded_by_their_mean():
    champion = [0.5 + 0.1 * (i % 3) for i in range(120)]

    assert accuracy_guard("style", champion, [r + 0.05 for r in champion]).holds
    assert accuracy_guard("style", champion, [r - 0.05 for r in champion]).state == "broken"


def test_unknown_pairs_are_left_out_and_too_many_of_them_tell_nothing():
    few = accuracy_guard("code", [None, *answers(120, 60)], [True, *answers(120, 60)])
    many = accuracy_guard("code", [math.nan] * 20 + answers(120, 60), [True] * 20 + answers(120, 60))

    assert (few.unknown, few.n, few.state) == (1, 120, "holds")
    assert (many.unknown, many.n, many.state) == (20, 120, "can't tell")


def test_cost_may_grow_by_a_fifth_and_no_more():
    champion = [1.0 + (i % 5) for i in range(200)]

    assert ratio_guard("cost", champion, [1.1 * c for c in champion]).holds
    assert ratio_guard("cost", champion, [1.3 * c for c in champion]).state == "broken"
    found = ratio_guard("cost", champion, champion)
    assert (found.holds, found.bound, found.limit) == (True, pytest.approx(1.0), 1.2)


def test_a_ratio_that_chance_could_carry_over_the_limit_can_not_tell():
    guard = ratio_guard("seconds", [1.0] * 120, [0.2, 2.1] * 60)

    assert guard.state == "can't tell"
    assert guard.bound == pytest.approx(1.15 + 1.645 * 0.95 / 120**0.5, abs=0.01)
    assert guard.tasks_needed is not None
    assert guard.tasks_needed > 1_000


def test_a_champion_too_uncertain_to_divide_by_can_not_tell():
    guard = ratio_guard("cost", [0.0] * 119 + [1.0], [0.01] * 119 + [0.0])

    assert guard.state == "can't tell" or guard.state == "broken"
    assert guard.bound is None


def test_something_where_there_was_nothing_is_too_much():
    assert ratio_guard("cost", [0.0] * 100, [0.0] * 100).holds
    assert ratio_guard("cost", [0.0] * 100, [0.1] * 100).state == "broken"


def test_costs_that_nobody_knows_can_not_tell():
    guard = ratio_guard("cost", [None] * 200, [None] * 200)

    assert (guard.state, guard.n, guard.unknown) == ("can't tell", 0, 200)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1])
def test_a_margin_is_a_share(margin: float):
    with pytest.raises(TrainingError, match="margin"):
        accuracy_guard("code", [True], [True], margin)


def test_a_ratio_of_negative_values_is_refused():
    with pytest.raises(TrainingError, match="negative"):
        ratio_guard("cost", [-1.0] * 100, [1.0] * 100)


def evaluation(n: int, text: str, ended: bool = True, tokens: int = 10) -> Evaluation:
    tasks = tuple(Task(f"Question {i}", Domain.LOGIC if i % 2 else Domain.MATH, "1") for i in range(n))
    return Evaluation(tasks, (True,) * n, (text,) * n, ended=(ended,) * n, tokens=(tokens,) * n)


def test_two_evaluations_give_a_guard_for_each_other_domain_format_and_length():
    champion, candidate = evaluation(240, "Answer: 1"), evaluation(240, "Answer: 1", tokens=13)

    found = {guard.name: guard for guard in evaluation_guards(champion, candidate, Domain.MATH)}

    assert list(found) == ["logic", "format", "tokens"]
    assert (found["logic"].n, found["logic"].state) == (120, "holds")
    assert (found["format"].n, found["format"].state) == (240, "holds")
    assert found["tokens"].state == "broken"


def test_answers_that_do_not_end_or_can_not_be_read_break_the_format():
    champion = evaluation(200, "Answer: 1")

    for bad in (evaluation(200, "Answer: 1", ended=False), evaluation(200, "")):
        (found,) = [g for g in evaluation_guards(champion, bad, ratios={}) if g.name == "format"]
        assert found.state == "broken"
    assert well_formed(champion) == [True] * 200


def test_a_column_that_was_not_kept_can_not_tell():
    plain = Evaluation(evaluation(120, "").tasks, (True,) * 120, ("Answer: 1",) * 120)

    (_, found) = evaluation_guards(plain, plain, ratios={"cost": 0.2})

    assert (found.name, found.state) == ("cost", "can't tell")


def test_guards_are_named_by_columns_that_there_are():
    with pytest.raises(TrainingError, match="there is no guard by 'speed'"):
        evaluation_guards(evaluation(120, "1"), evaluation(120, "1"), ratios={"speed": 0.2})


def test_evaluations_of_different_tasks_are_not_compared():
    with pytest.raises(TrainingError, match="different tasks"):
        evaluation_guards(evaluation(120, "1"), evaluation(121, "1"))
