"""Questions that state formally what is to be computed are computed again, and an answer must have the form that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import Domain, Evidence, Outcome, Task
from core.verifiers.math.calculus import read_task
from core.verifiers.math.verifier import verify

RIGHT = {
    "Differentiate x^2+3x with respect to x": ["2x + 3", "f'(x) = 3 + 2x", "dy/dx = 2x+3", "y' = 2x + 3"],
    "What is the derivative of \\sin(x^2)?": ["2x\\cos(x^2)", "\\cos(x^2) * 2x"],
    "Find the second derivative of x^4 at x = 2": ["48"],
    "Find f'(x) if f(x) = e^{2x}": ["2e^{2x}"],
    "Find the derivative of a x^2 with respect to x": ["2ax"],
    "Evaluate the integral of x^2 from 0 to 1": ["1/3", "\\frac{1}{3}"],
    "What is \\int_0^1 e^x dx?": ["e - 1", "-1 + e"],
    "Compute \\int_{0}^{\\pi} \\sin(x) \\, dx": ["2"],
    "Find the integral of 2x with respect to x": ["x^2 + C", "x^2", "x^2 - 7"],
    "Integrate 1/x": ["\\ln|x| + C", "\\ln x + C"],
    "Integrate x e^x": ["xe^x - e^x + C", "(x-1)e^x"],
    "Solve x^2 - 5x + 6 = 0": ["x = 2 or x = 3", "3 and 2", "{2, 3}", "x = 2, x = 3", "x = 2, 3"],
    "Solve x^2 = 4": ["±2", "x = \\pm 2", "2, -2"],
    "Find the roots of x^2 - 2x - 1 = 0": ["1 \\pm \\sqrt{2}", "\\frac{2 \\pm \\sqrt{8}}{2}"],
    "Solve x^2 + 1 = 0 over the reals": ["no solution"],
    "Solve x^2 + 1 = 0": ["\\pm i"],
    "Solve 1/x = 2": ["1/2", "x = 0.5"],
    "Solve x + y = 5, x - y = 1": ["x = 3, y = 2", "(3, 2)", "(x, y) = (3, 2)", "y = 2 and x = 3"],
    "Solve the system of equations 2x + y = 7 and x - y = 2 for x and y": ["x = 3, y = 1"],
    "Expand (x+1)(x-2)": ["x^2 - x - 2"],
    "Factor x^2 - 5x + 6": ["(x-2)(x-3)", "(3-x)(2-x)"],
    "Factor x^3 - x completely": ["x(x-1)(x+1)"],
    "Simplify 2x + 3x": ["5x"],
    "Simplify \\frac{x^2-1}{x-1}": ["x + 1"],
}
WRONG = {
    "Differentiate x^2+3x with respect to x": ["2x", "x^2 + 3x", "2x + 3 + C", "3", "banana"],
    "Find the second derivative of x^4 at x = 2": ["32", "12*4", "12x^2"],
    "Evaluate the integral of x^2 from 0 to 1": ["1/2", "0.333", "1/3 + C", "1/3 - 0", "x^3/3"],
    "What is \\int_0^1 e^x dx?": ["1.718", "e"],
    "Find the integral of 2x with respect to x": ["2x^2", "x^2 + x", "x^2 + y", "x^2 + Cx", "x^2 + C + c"],
    "Solve x^2 - 5x + 6 = 0": [
        "2",
        "x = 2",
        "2, 4",
        "(2, 3)",
        "no solution",
        "x^2 = 5x - 6",
        "x = 4/2 or x = 3",
        "2, 3, 4",
        "y = 2 or y = 3",
    ],
    "Solve x^2 = 4": ["2", "5", "x^2 = 4"],
    "Solve x^2 + 1 = 0 over the reals": ["\\pm i", "1"],
    "Solve x^2 + 1 = 0": ["i", "1"],
    "Solve x + y = 5, x - y = 1": ["x = 2, y = 3", "3", "x = 3", "x = 5 - y", "(2, 3)"],
    "Expand (x+1)(x-2)": ["(x-2)(x+1)", "x(x-2) + (x-2)", "x^2 + x - 2"],
    "Factor x^2 - 5x + 6": ["x(x-5) + 6", "(x+2)(x-3)", "6 - 5x + x^2"],
    "Factor x^3 - x completely": ["x(x^2-1)"],
    "Simplify 2x + 3x": ["3x + 2x", "6x"],
}
UNDECIDED = {
    "Simplify 2x + 3x": ["x + 4x"],
    "Solve x^2 + 1 = 0": ["no solution", "no real solutions"],
    "Expand (x+1)(x-2)": ["x^2 - 2x + x - 2", "e^{\\ln((x+1)(x-2))}"],
    "Expand (x+1)^2": ["|x+1|^2"],
    "Evaluate the integral of 1/x from -1 to 1": ["0"],
    "Evaluate the integral of 1/x^2 from -1 to 1": ["-2"],
    "Factor 2x^2 + 6x + 4": ["(2x+2)(x+2)"],
    "Differentiate a x^2": ["2ax"],
    "Differentiate \\log x": ["1/x"],
    "Differentiate 1/2x": ["1/2"],
    "Solve x + y = 4": ["x = 2, y = 2"],
    "Solve \\sin x = 0": ["0"],
    "Solve x^5 - x - 1 = 0": ["1"],
    "Solve x y = 6, x + y = 5": ["x = 2, y = 3"],
    "Differentiate x^2 and then integrate it": ["x^2"],
    "Expand the business": ["x"],
}


def flat(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(prompt, answer) for prompt, answers in table.items() for answer in answers]


def judged(prompt: str, answer: str, reference: str | None = None) -> Outcome:
    return verify(Task(prompt, Domain.MATH, reference), f"Answer: {answer}").outcome


@pytest.mark.parametrize(("prompt", "answer"), flat(RIGHT))
def test_a_right_answer_passes_by_recomputation(prompt: str, answer: str):
    verdict = verify(Task(prompt, Domain.MATH), f"Answer: {answer}")

    assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.RECOMPUTATION), verdict.reason


@pytest.mark.parametrize(("prompt", "answer"), flat(WRONG))
def test_a_wrong_or_unfinished_answer_fails(prompt: str, answer: str):
    assert judged(prompt, answer) is Outcome.FAIL


@pytest.mark.parametrize(("prompt", "answer"), flat(UNDECIDED))
def test_what_can_not_be_decided_abstains(prompt: str, answer: str):
    assert judged(prompt, answer) is Outcome.ABSTAIN


@pytest.mark.parametrize("prompt", RIGHT)
def test_repeating_the_question_never_passes(prompt: str):
    assert judged(prompt, prompt) is not Outcome.PASS
    assert judged(prompt, prompt.split(maxsplit=1)[1]) is not Outcome.PASS


@pytest.mark.parametrize(
    "answer", ["", "0", "1", "x", "C", "nan", "yes", "no", "∅", "undefined", "1/0", "x = x", "f(x)", "1, 2, 3", "\\int x"]
)
@pytest.mark.parametrize(
    "prompt", ["Differentiate x^2+3x", "Integrate 2x", "Solve x^2 - 5x + 6 = 0", "Expand (x+1)(x-2)", "Factor x^2 - 4"]
)
def test_junk_never_passes(prompt: str, answer: str):
    assert judged(prompt, answer) is not Outcome.PASS


def test_the_form_that_was_asked_for_matters_with_a_reference_too():
    assert judged("Expand (x+1)(x-2)", "-2 - x + x^2", "x^2 - x - 2") is Outcome.PASS
    assert judged("Expand (x+1)(x-2)", "(x-2)(x+1)", "x^2 - x - 2") is Outcome.FAIL
    assert judged("Factor x^2 - 5x + 6", "6 - 5x + x^2", "(x-2)(x-3)") is Outcome.FAIL
    assert judged("Which polynomial is it?", "(x-2)(x+1)", "x^2 - x - 2") is Outcome.PASS


def test_a_prompt_that_holds_more_than_its_task_is_not_formal():
    for prompt in (
        "Expand your mind",
        "Solve the mystery",
        "Integrate sales data from 2 to 3",
        "Factor in the cost",
        "Differentiate x^2. Why?",
    ):
        assert read_task(prompt) is None


@settings(max_examples=200)
@given(
    st.sampled_from(["Differentiate ", "Integrate ", "Solve ", "Factor ", "Expand ", "Find the integral of ", "\\int_"]),
    st.text(max_size=40),
)
def test_no_prompt_breaks_the_reader(start: str, rest: str):
    read_task(start + rest)
