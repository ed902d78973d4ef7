"""The gate: exact statistics, and a champion that chance does not dethrone."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from core.errors import TrainingError
from core.types import Domain, Task
from finetune.evaluation import Evaluation
from finetune.gate import Decision, decide, decisions, judge, keep
from finetune.guards import accuracy_guard, ratio_guard
from finetune.looks import Looks


def test_a_copy_of_the_champion_is_never_promoted():
    rng = random.Random(0)
    for share in (0.0, 0.3, 1.0):
        right = [rng.random() < share for _ in range(200)]

        decision = decide(right, right)

        assert not decision.promoted
        assert decision.reason == "not better: 0 gained, 0 lost"
        assert decision.p_value == 1


def test_without_a_real_gain_few_of_2000_rounds_promote():
    rng = random.Random(0)

    def answers() -> list[bool]:
        return [rng.random() < 0.7 for _ in range(100)]

    promoted = sum(decide(answers(), answers()).promoted for _ in range(2_000))

    assert 0 < promoted < 100


def test_a_real_gain_is_promoted_and_counted():
    champion = [True] * 50 + [False] * 50
    candidate = [False] * 5 + [True] * 45 + [True] * 25 + [False] * 25

    decision = decide(champion, candidate)

    assert decision.promoted
    assert (decision.gained, decision.lost) == (25, 5)
    assert (decision.champion.right, decision.candidate.right) == (50, 70)
    assert decision.reason.startswith("better by more than chance")


def test_a_gain_that_chance_could_make_is_too_little_data_rather_than_no_gain():
    decision = decide([False] * 3 + [True], [True] * 3 + [False])

    assert not decision.promoted
    assert decision.reason.startswith("not enough data: 3 gained, 1 lost")


def test_a_loss_is_not_better():
    assert decide([True, True, False], [False, False, True]).reason == "not better: 1 gained, 2 lost"


def test_looks_share_alpha_between_them():
    champion, candidate = [False] * 6, [True] * 6

    assert decide(champion, candidate, alpha=0.05, looks=1).promoted
    spent = decide(champion, candidate, alpha=0.05, looks=5)

    assert spent.alpha == pytest.approx(0.01)
    assert not spent.promoted


def test_the_gate_refuses_results_that_do_not_pair():
    with pytest.raises(TrainingError, match="1 of the champion, 2 of the candidate"):
        decide([True], [True, False])


@pytest.mark.parametrize(("alpha", "looks"), [(0.0, 1), (1.0, 1), (0.05, 0)])
def test_the_gate_refuses_an_alpha_or_a_number_of_looks_that_means_nothing(alpha: float, looks: int):
    with pytest.raises(TrainingError, match="alpha"):
        decide([True], [True], alpha, looks)


def test_too_little_data_says_how_many_tasks_would_do():
    champion = [False] * 12 + [True] * 8 + [True, False] * 40

    decision = decide(champion, [True] * 12 + [False] * 8 + [True, False] * 40, looks=10)

    assert decision.verdict == "not enough data"
    assert decision.tasks_needed is not None
    assert decision.tasks_needed > 1_000
    assert f"about {decision.tasks_needed} held-out tasks" in decision.reason


def test_a_gain_that_is_too_small_for_any_number_of_tasks_says_so():
    champion = [False] * 1_001 + [True] * 1_000 + [True] * 8_000

    decision = decide(champion, [not right for right in champion[:2_001]] + champion[2_001:])

    assert decision.verdict == "not enough data"
    assert decision.tasks_needed is None
    assert "millions" in decision.reason


def test_rewards_are_decided_by_a_permutation_test():
    rng = random.Random(0)
    champion = [rng.random() * 0.8 for _ in range(60)]

    better = decide(champion, [r + 0.05 + 0.1 * rng.random() for r in champion])
    worse = decide(champion, [r - 0.05 for r in champion])

    assert (better.test, better.verdict, better.gained) == ("permutation", "promote", 60)
    assert better.at_least < better.gain < better.at_most
    assert better.gain == pytest.approx(better.candidate.accuracy - better.champion.accuracy)
    assert worse.verdict == "reject"


def test_a_gain_in_rewards_that_chance_could_make_says_how_many_tasks_would_do():
    rng = random.Random(1)
    champion = [0.5] * 40
    candidate = [0.5 + 0.3 * rng.gauss(0, 1) for _ in champion]
    candidate = [r - sum(candidate) / 40 + 0.52 for r in candidate]

    decision = decide(champion, candidate)

    assert decision.verdict == "not enough data"
    assert decision.tasks_needed is not None
    assert 700 < decision.tasks_needed < 3_500


def test_pairs_with_an_unknown_side_are_left_out_and_counted():
    champion: list[bool | float | None] = [False] * 60 + [True] * 38 + [None, True]
    candidate: list[bool | float | None] = [True] * 20 + [False] * 40 + [True] * 38 + [True, math.nan]

    decision = decide(champion, candidate)

    assert decision.promoted
    assert (decision.n, decision.unknown, decision.gained) == (98, 2, 20)


def test_with_more_than_5_percent_unknown_nothing_is_promoted():
    decision = decide([False] * 94 + [None] * 6, [True] * 100)

    assert (decision.verdict, decision.unknown) == ("reject", 6)
    assert "6 of 100 pairs have an unknown side" in decision.reason


def test_with_nothing_known_the_gate_does_not_answer():
    with pytest.raises(TrainingError, match="each of the 2 pairs"):
        decide([None, None], [True, True])
    with pytest.raises(TrainingError, match="at least one task"):
        decide([], [])


BETTER = ([False] * 40 + [True] * 60, [True] * 30 + [False] * 10 + [True] * 60)


def test_a_broken_guard_rejects_what_is_better():
    broken = accuracy_guard("code", [True] * 200, [True] * 150 + [False] * 50)

    decision = decide(*BETTER, guards=[broken])

    assert decision.verdict == "reject"
    assert decision.reason.startswith("a guard is broken: code: -25.0 points")
    assert decision.guards == (broken,)


def test_a_guard_that_can_not_tell_asks_for_data_instead_of_passing_vacuously():
    decision = decide(*BETTER, guards=[accuracy_guard("code", [True] * 40, [True] * 40)])

    assert (decision.verdict, decision.tasks_needed) == ("not enough data", 100)
    assert "at least 100" in decision.reason


def test_guards_that_hold_let_the_better_one_through():
    holding = [accuracy_guard("code", [True] * 200, [True] * 200), ratio_guard("cost", [1.0] * 100, [1.1] * 100)]

    assert decide(*BETTER, guards=holding).verdict == "promote"


def test_a_held_out_set_whose_looks_are_used_up_promotes_nothing_and_asks_to_be_refreshed(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl", planned=2)

    found = [decide(*BETTER, look=looks.take("set", f"candidate {i}")) for i in range(3)]

    assert [decision.verdict for decision in found] == ["promote", "promote", "not enough data"]
    assert [(decision.look, decision.looks, decision.held_out) for decision in found] == [(1, 2, "set"), (2, 2, "set"), (2, 2, "set")]
    assert found[0].alpha == pytest.approx(0.025)
    assert found[2].reason.startswith("refresh the set: the held-out set set has served its 2 looks")
    assert found[1].subject == "candidate 1"


@pytest.mark.slow
def test_a_copy_of_the_champion_is_promoted_in_fewer_than_5_of_100_sets_of_ten_looks():
    rng = random.Random(8)

    def right() -> list[bool]:
        return [rng.random() < 0.6 for _ in range(60)]

    promoted = sum(any(decide(right(), right(), looks=10).promoted for _ in range(10)) for _ in range(500))

    assert promoted < 25


def test_a_decision_is_kept_with_all_its_statistics(tmp_path: Path):
    path = tmp_path / "gate" / "decisions.jsonl"
    first = decide(*BETTER, guards=[accuracy_guard("code", [True] * 200, [True] * 200)], subject="7 beside 6")
    second = decide([0.1, 0.5, None] * 20 + [0.2] * 400, [0.2, 0.4, 0.9] * 20 + [0.2] * 400)

    keep(first, path)
    keep(second, path)

    assert decisions(path) == [first, second]
    assert all(set(json.loads(line)) == set(first.keys()) for line in path.read_text().splitlines())


def test_a_line_that_was_cut_off_is_written_over_by_the_next(tmp_path: Path):
    path = tmp_path / "decisions.jsonl"
    decision = decide(*BETTER)
    keep(decision, path)
    with path.open("a") as file:
        file.write('{"promoted": tr')

    assert decisions(path) == [decision]
    keep(decision, path)
    assert decisions(path) == [decision, decision]


def test_no_file_holds_no_decisions_and_another_file_is_refused(tmp_path: Path):
    assert decisions(tmp_path / "none.jsonl") == []
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(TrainingError, match="no decision"):
        decisions(tmp_path / "other.jsonl")


def test_a_decision_that_can_not_be_kept_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TrainingError, match="can't keep the decision"):
        keep(decide(*BETTER), tmp_path / "file" / "decisions.jsonl")


def test_a_decision_without_the_newer_fields_can_still_be_made():
    plain = decide([True], [False])

    assert Decision(False, "", plain.champion, plain.candidate, 0, 1, 1.0, 0.05).guards == ()


def evaluation(right: int, other: int = 120, tokens: int = 10) -> Evaluation:
    """200 tasks of mathematics and 120 of logic."""
    tasks = tuple(Task(f"Question {i}", Domain.MATH if i < 200 else Domain.LOGIC, "1") for i in range(320))
    answered = tuple(i < right if i < 200 else i - 200 < other for i in range(320))
    return Evaluation(tasks, answered, ("Answer: 1",) * 320, (True,) * 320, (tokens,) * 320)


def test_two_evaluations_are_judged_with_their_looks_and_guards_and_the_decision_is_kept(tmp_path: Path):
    looks, path = Looks(tmp_path / "looks.jsonl"), tmp_path / "decisions.jsonl"

    found = judge(evaluation(100), evaluation(150), looks, "b beside a", trained=Domain.MATH, kept=path)
    again = judge(evaluation(100), evaluation(150), looks, "b beside a", trained=Domain.MATH, kept=path)
    other = judge(evaluation(100), evaluation(150), looks, "c beside a", trained=Domain.MATH)

    assert found == again
    assert (found.verdict, found.n, found.look, other.look) == ("promote", 200, 1, 2)
    assert [guard.name for guard in found.guards] == ["logic", "format", "tokens"]
    assert decisions(path) == [found, again]


def test_a_gain_paid_for_with_another_domain_or_with_length_is_rejected(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl")

    elsewhere = judge(evaluation(100), evaluation(150, other=100), looks, "b", trained=Domain.MATH)
    longer = judge(evaluation(100), evaluation(150, tokens=13), looks, "c", trained=Domain.MATH)
    allowed = judge(evaluation(100), evaluation(150, tokens=13), looks, "d", trained=Domain.MATH, ratios={"tokens": 0.5})

    assert [decision.verdict for decision in (elsewhere, longer, allowed)] == ["reject", "reject", "promote"]
    assert "logic" in elsewhere.reason
    assert "tokens" in longer.reason
