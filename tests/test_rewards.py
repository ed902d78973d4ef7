"""What a verdict and its steps are worth."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from core.rewards import WEIGHTS, checked_weights, reward
from core.types import Outcome, Verdict

PASS, FAIL = Verdict(Outcome.PASS, 1.0, ""), Verdict(Outcome.FAIL, 0.0, "")


def test_a_pass_with_all_steps_right_or_none_to_check_is_worth_one():
    assert reward(PASS, 1.0).value == 1.0
    assert reward(PASS).value == 1.0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.999])
def test_a_pass_with_a_wrong_step_stays_below_what_is_trained_on(share: float):
    assert 0.5 <= reward(PASS, share).value < 0.7


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_a_fail_is_worth_little(share: float | None):
    assert 0 <= reward(FAIL, share).value <= 0.2


@pytest.mark.parametrize("outcome", [Outcome.ABSTAIN, Outcome.ERROR])
def test_what_was_not_judged_has_no_value(outcome: Outcome):
    assert reward(Verdict(outcome, 1.0, ""), 1.0).value is None


def test_the_parts_and_the_recipe_are_recorded():
    given = reward(PASS, 0.5)

    assert given.parts == {"verdict": 1.0, "flawless": 0.0, "steps": 0.5}
    assert given.recipe == "verdict*0.5+flawless*0.3+steps*0.2+partial*0.2 v2"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_an_error(share: float):
    with pytest.raises(ValueError, match="share"):
        reward(PASS, share)


def test_partial_credit_ranks_failures_and_stays_below_every_pass():
    nearly, hardly = (reward(Verdict(Outcome.FAIL, score, "")).value for score in (0.9, 0.1))

    assert 0 < hardly < nearly <= 0.2


def test_brevity_is_worth_something_to_a_pass_alone():
    weights = checked_weights({"length": 0.1})

    assert reward(PASS, length=0.1, weights=weights).value > reward(PASS, length=0.9, weights=weights).value
    assert reward(FAIL, length=0.0, weights=weights).value == 0
    assert reward(PASS, length=0.9).value == 1.0  # unless it is asked for, length is worth nothing


@pytest.mark.parametrize("weights", [{"charm": 1.0}, {"steps": -1.0}, {"verdict": 0.0}, {"cost": float("nan")}])
def test_weights_that_make_no_sense_are_an_error(weights: dict[str, float]):
    with pytest.raises(ConfigError, match="reward"):
        checked_weights(weights)


def test_the_weights_that_were_used_stand_in_the_recipe():
    assert "cost*0.25" in reward(PASS, cost=0.5, weights={**WEIGHTS, "cost": 0.25}).recipe
