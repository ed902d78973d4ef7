"""What a verdict and its steps are worth."""

from __future__ import annotations

import pytest

from core.rewards import reward
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
    assert given.recipe == "verdict*0.5+flawless*0.3+steps*0.2 v1"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_an_error(share: float):
    with pytest.raises(ValueError, match="share"):
        reward(PASS, share)
