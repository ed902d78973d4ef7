"""The gate: exact statistics, and a champion that chance does not dethrone."""

from __future__ import annotations

import random
from itertools import product

import pytest

from core.errors import TrainingError
from finetune.gate import decide, mcnemar, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_has_the_published_ends(right: int, n: int, low: float, high: float):
    found = wilson(right, n)

    assert (found.accuracy, found.right, found.n) == (right / n, right, n)
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)


def test_nothing_evaluated_has_no_interval():
    with pytest.raises(TrainingError, match="at least one task"):
        wilson(0, 0)


@pytest.mark.parametrize(("gained", "lost"), [(g, n - g) for n in (0, 1, 5, 10) for g in range(n + 1)])
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_good(gained: int, lost: int):
    tosses = list(product((0, 1), repeat=gained + lost))

    assert mcnemar(gained, lost) == sum(sum(toss) >= gained for toss in tosses) / len(tosses)


def test_mcnemar_takes_thousands_of_discordant_tasks():
    assert mcnemar(2_000, 2_000) == pytest.approx(0.5, abs=0.01)
    assert 0 <= mcnemar(3_000, 1_000) < 1e-100


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


def test_a_gain_that_chance_could_make_is_too_little_evidence_rather_than_no_gain():
    decision = decide([False] * 3 + [True], [True] * 3 + [False])

    assert not decision.promoted
    assert decision.reason.startswith("not enough evidence: 3 gained, 1 lost")


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
