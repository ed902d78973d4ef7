"""Whether an answer follows from its steps, and which chains with letters are identities."""

from __future__ import annotations

import pytest

from core.types import Domain, Outcome, Task
from core.verifiers.math.steps import check_steps, follows, step_value
from core.verifiers.math.verifier import verify

SUM = Task("Solve 17*6+23", Domain.MATH)
EQUATION = Task("Solve for x: 3x + 7 = 25", Domain.MATH)
EXPAND = Task("Expand (x+1)(x-2)", Domain.MATH)
WITHOUT_GAP = [
    (SUM, "Answer: 125"),
    (SUM, "17*6 = 102\n102 + 23 = 125\nAnswer: 125"),
    (SUM, "17*6 + 23\n= 102 + 23\n= 125\nAnswer: 125"),
    (SUM, "102 + 23 = \\boxed{125}"),
    (SUM, "17*6 = 102 and 102 + 23 = 125\n125 - 23 = 102\nAnswer: 125"),
    (SUM, "Some words.\nAnswer: 125"),
    (EQUATION, "3x = 18\nAnswer: x = 6"),
    (EQUATION, "3x = 25 - 7 = 18\nx = 18/3 = 6\nAnswer: 6"),
    (EQUATION, "3x = 18 => x = 6\n3*6 + 7 = 25\nAnswer: x = 6"),
]
WITH_GAP = [
    (SUM, "17*6 = 102\nAnswer: 125"),
    (SUM, "102 + 23 = 125\n100 + 2 = 102\nAnswer: 125"),
    (SUM, "1 = 1\nAnswer: 125"),
    (EQUATION, "25 - 7 = 18\nAnswer: x = 6"),
    (EQUATION, "8x - 5x = 3x\nAnswer: x = 6"),
    (EQUATION, "x = x\nAnswer: 6"),
]


@pytest.mark.parametrize(("task", "text"), WITHOUT_GAP)
def test_an_answer_that_follows_from_its_steps_passes(task: Task, text: str):
    assert follows(task, text)
    assert verify(task, text).passed


@pytest.mark.parametrize(("task", "text"), WITH_GAP)
def test_a_right_answer_after_a_gap_abstains(task: Task, text: str):
    verdict = verify(task, text)

    assert verdict.outcome is Outcome.ABSTAIN
    assert "gap" in verdict.reason


def test_with_a_reference_a_gap_is_no_matter():
    assert verify(SUM.replace(reference="125"), "17*6 = 102\nAnswer: 125").passed


def test_a_chain_that_starts_from_the_question_must_be_an_identity():
    right = "(x+1)(x-2) = x^2 - 2x + x - 2 = x^2 - x - 2\n"
    wrong = "(x+1)(x-2) = x^2 + x - 2\n"

    assert check_steps(EXPAND, right).share == 1.0
    assert check_steps(EXPAND, wrong).first_wrong
    assert step_value(EXPAND, wrong) == 0.0
    assert step_value(EXPAND, wrong + right) == 0.5
    assert verify(EXPAND, f"{wrong}Answer: x^2 - x - 2").outcome is Outcome.FAIL


def test_a_chain_that_starts_elsewhere_or_supposes_something_claims_nothing():
    for line in ("x = -1", "x^2 = 4", "let (x+1)(x-2) = 0", "u = x + 1", "(x+1)(x-2) < 5 = 5", "y = (x+1)(x-2)"):
        assert check_steps(EXPAND, line).checked == 0


def test_a_chain_that_is_repeated_is_checked_once_and_counted_each_time():
    steps = check_steps(EXPAND, "(x+1)(x-2) = x^2 - x - 2\n" * 200)

    assert (steps.checked, steps.right) == (200, 200)
