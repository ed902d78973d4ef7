"""Statistics: against what can be worked out by hand, against going through all cases, and against simulation."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from core.errors import TrainingError
from finetune.statistics import (
    lower_bound,
    mcnemar,
    mean_bounds,
    mean_interval,
    permutation,
    tasks_for_gain,
    tasks_for_mean,
    upper_bound,
    wilson,
)


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
    with pytest.raises(TrainingError, match="at least one task"):
        mean_interval([])


def test_a_mean_has_an_interval_around_it_and_a_single_value_none():
    found = mean_interval([0.2, 0.4, 0.6, 0.8])

    assert found.accuracy == pytest.approx(0.5)
    assert found.high - found.accuracy == pytest.approx(1.96 * math.sqrt(0.2 / 3) / 2, abs=1e-4)
    assert (mean_interval([0.3]).low, mean_interval([0.3]).high) == (0.3, 0.3)


@pytest.mark.parametrize(("gained", "lost"), [(g, n - g) for n in (0, 1, 5, 10) for g in range(n + 1)])
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_good(gained: int, lost: int):
    tosses = list(product((0, 1), repeat=gained + lost))

    assert mcnemar(gained, lost) == sum(sum(toss) >= gained for toss in tosses) / len(tosses)


def test_mcnemar_takes_thousands_of_discordant_tasks():
    assert mcnemar(2_000, 2_000) == pytest.approx(0.5, abs=0.01)
    assert 0 <= mcnemar(3_000, 1_000) < 1e-100


def test_a_permutation_of_few_differences_goes_through_all_signs():
    differences = [0.5, -0.1, 0.3, 0.3, 0.0, -0.2]
    moved = [d for d in differences if d]
    sums = [sum(s * abs(d) for s, d in zip(signs, moved, strict=True)) for signs in product((1, -1), repeat=len(moved))]

    assert permutation(differences) == sum(s >= sum(moved) - 1e-12 for s in sums) / len(sums)


def test_a_permutation_of_rights_and_wrongs_is_mcnemar():
    assert permutation([1.0] * 9 + [-1.0] * 4 + [0.0] * 30) == pytest.approx(mcnemar(9, 4))
    assert permutation([1.0] * 40 + [-1.0] * 20) == pytest.approx(mcnemar(40, 20), abs=0.003)


def test_a_drawn_permutation_is_never_0_and_depends_on_its_seed_alone():
    sure = [0.5] * 40

    assert permutation(sure, draws=999) == 1 / 1000
    rng = random.Random(0)
    unsure = [rng.gauss(0.05, 1) for _ in range(60)]
    assert permutation(unsure, seed=1) == permutation(unsure, seed=1) != permutation(unsure, seed=2)


def test_without_differences_a_permutation_shows_nothing():
    assert permutation([]) == permutation([0.0, 0.0]) == 1


def test_a_permutation_of_no_difference_is_below_5_percent_in_about_5_of_100():
    rng = random.Random(3)

    low = sum(permutation([rng.gauss(0, 1) for _ in range(12)]) < 0.05 for _ in range(400))

    assert 8 <= low <= 34


def test_even_without_a_discordant_task_a_bound_has_a_width():
    assert lower_bound(0, 0, 100) == pytest.approx(-0.0263, abs=1e-4)
    assert lower_bound(0, 0, 1_000) == pytest.approx(-0.0027, abs=1e-4)


def test_bounds_solve_the_score_equation_and_mirror_each_other():
    n, gained, lost = 200, 30, 12
    low = lower_bound(gained, lost, n)

    b = -gained - lost + (2 * n - gained + lost) * low
    lost_then = (math.sqrt(b * b + 8 * n * lost * low * (1 - low)) - b) / (4 * n)
    score = (gained - lost - n * low) / math.sqrt(n * (2 * lost_then + low * (1 - low)))
    assert score == pytest.approx(1.6449, abs=1e-3)
    assert low < (gained - lost) / n < upper_bound(gained, lost, n)
    assert upper_bound(lost, gained, n) == -low


@pytest.mark.parametrize(("gain", "loss", "n"), [(0.02, 0.05, 100), (0.1, 0.1, 150), (0.0, 0.02, 300)])
def test_the_lower_bound_lies_above_the_truth_in_about_5_of_100(gain: float, loss: float, n: int):
    rng = random.Random(5)
    missed = 0
    for _ in range(600):
        drawn = [rng.random() for _ in range(n)]
        gained, lost = sum(x < gain for x in drawn), sum(gain <= x < gain + loss for x in drawn)
        missed += lower_bound(gained, lost, n) > gain - loss

    assert missed <= 45


def test_bounds_of_a_mean_widen_with_its_spread():
    assert mean_bounds([0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1))
    low, high = mean_bounds([0.0, 0.2] * 50)
    assert (low + high) / 2 == pytest.approx(0.1)
    assert high - low == pytest.approx(2 * 1.645 * 0.1005 / 10, abs=1e-4)


@pytest.mark.parametrize(("alpha", "gain", "least", "most"), [(0.05, 0.1, 140, 185), (0.005, 0.1, 275, 320), (0.005, 0.05, 1_100, 1_250)])
def test_the_tasks_that_a_gain_takes_give_it_a_power_of_80_percent(alpha: float, gain: float, least: int, most: int):
    needed = tasks_for_gain(round(10_000 * (0.25 + gain) / 2), round(10_000 * (0.25 - gain) / 2), 10_000, alpha)

    assert needed is not None
    assert least <= needed <= most
    rng = random.Random(7)
    found = 0
    for _ in range(400):
        drawn = [rng.random() for _ in range(needed)]
        found += mcnemar(sum(x < (0.25 + gain) / 2 for x in drawn), sum((0.25 + gain) / 2 <= x < 0.25 for x in drawn)) < alpha
    assert 0.74 <= found / 400 <= 0.87


def test_no_number_of_tasks_shows_what_is_not_there():
    assert tasks_for_gain(5, 5, 100, 0.05) is None
    assert tasks_for_gain(4, 5, 100, 0.05) is None
    assert tasks_for_gain(5_001, 5_000, 100_000, 0.05) is None
    assert tasks_for_mean(0.0, 1.0, 0.05) is None
    assert tasks_for_mean(0.1, 0.4, 0.05) == 99


def test_with_many_tasks_the_score_bound_is_walds():
    share, deviation = 64 / 1_600, math.sqrt((150 + 86) - 64**2 / 1_600) / 1_600

    assert lower_bound(150, 86, 1_600, 1.96) == pytest.approx(share - 1.96 * deviation, abs=5e-4)
    assert upper_bound(150, 86, 1_600, 1.96) == pytest.approx(share + 1.96 * deviation, abs=5e-4)
