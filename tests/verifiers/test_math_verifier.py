"""Verdicts on whole texts: generated solutions, junk, wrong steps, formal questions, bombs."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rewards import reward
from core.tasks.math import LEVELS, generate
from core.types import Domain, Evidence, Outcome, Task
from core.verifiers import verify as judge
from core.verifiers.math import symbolic, verifier
from core.verifiers.math.question import read_question
from core.verifiers.math.steps import check_steps, step_value
from core.verifiers.math.symbolic import Reply
from core.verifiers.math.verifier import verify

PROBLEMS = [generate(random.Random(seed), LEVELS[seed % 4]) for seed in range(400)]
JUNK = [
    "",
    " ",
    "banana",
    "0",
    "1",
    "-1",
    "x",
    "nan",
    "inf",
    "None",
    "True",
    "yes",
    "Answer:",
    "Answer: ",
    "\\boxed{}",
    "####",
    "=",
    "41=42",
    "Answer: 41=42",
    "Answer: 125 or 126",
    "Answer: 124, 125, 126",
    "Answer: 1 2 3 4 5",
    "Answer: 124 (not 125)",
    "Answer: 125 is wrong, it is 124",
    "The answer is not 125",
    "The answer is 125. No, 124",
    "wrong answer: 125",
    "\\boxed{125} or \\boxed{124}",
    "\\boxed{125}\n\\boxed{124}",
    "Answer: 125\nAnswer: 124",
    "Solve 17*6+23",
    "17*6+23",
    "17*6 + 23",
    "(17*6)+23",
    "Answer: 17*6+23",
    "Answer: 102 + 23",
    "Answer: 17*6+23 = 17*6+23",
    "125 is what some would say but the result is 124",
    "Answer: 1125",
    "Answer: 1251",
    "Answer: 12",
    "Answer: 25",
    "Answer: 125%",
    "Answer: 125 cm",
    "Answer: 125.0000000000000000000001",
    "Answer: 1.25e2e0",
    "Answer: 0x7d",
    "Answer: e = 125",
    "Answer: int('125')",
]
ODD_CHARACTERS = [
    "\x00",
    "Answer: 1\x0025",
    "\ud800",
    "Answer: \udfff125\ud800",
    "Answer: ١٢٥",
    "Answer: १२५",
    "Answer: ①②⑤",
    "Answer: 𝟏𝟐𝟓",
    "Answer: 一二五",
    "Answer: Ⅽ",
    "\u202eAnswer: 521",
    "Answer: 1\u20e325",
    "\U0010ffff" * 1000,
]
BOMBS = {
    "ten megabytes of digits": "9" * 10_000_000,
    "ten megabytes after a marker": "Answer: " + "1" * 10_000_000,
    "ten megabytes of equations": "1=1\n" * 2_500_000,
    "ten megabytes of spaces": " " * 10_000_000,
    "one line of equals signs": "Answer: 1" + "=1" * 100_000,
    "brackets": "Answer: " + "(" * 100_000 + "1" + ")" * 100_000,
    "brackets in reach": "Answer: " + "(" * 90 + "1" + ")" * 90,
    "brackets in a step": "\n".join(["(" * 150 + "1" + ")" * 150 + " = 1"] * 60),
    "boxes": "\\boxed{" * 100_000,
    "boxes in reach": "\\boxed{" * 2_000 + "}" * 2_000,
    "tower": "Answer: 9^9^9^9",
    "tower with brackets": "Answer: 9^(9^(9^9))",
    "tower in LaTeX": "Answer: 9^{9^{9^9}}",
    "powers multiplied": "2^1000*" * 40 + "1 = 1\nAnswer: 1",
    "huge exponent": "1e999999999 = 1\nAnswer: 1e999999999",
    "factorials": "Answer: (10!)!!",
    "signs": "-" * 19_000 + "1 = 1",
    "fractions": "\\frac{1}{" * 200 + "2" + "}" * 200 + " = 1",
    "corrections": "Answer: " + "no, " * 4_000,
    "words": "a " * 9_000 + "= 1",
    "divisions by zero": "1/0 = 1/0\nAnswer: 1/0",
    "markers": "Answer: " * 2_000,
    "commas": "Answer: " + "1," * 9_000,
}


def question(prompt: str, reference: str | None = None) -> Task:
    return Task(prompt, Domain.MATH, reference)


SUM = question("Solve 17*6+23")
SUM_KNOWN = question("Solve 17*6+23", "125")
EQUATION = question("Solve for x: 3x + 7 = 25")
STORY = question("Tom has 5 apples and buys 3 more. How many has he?")


@pytest.mark.parametrize("style", ["direct", "terse", "careful"])
def test_generated_solutions_pass_with_and_without_reference(style: str):
    for problem in PROBLEMS:
        for task in (problem.task, problem.task.replace(reference=None)):
            verdict = verify(task, problem.solution(style))

            assert verdict.passed, (task.prompt, problem.solution(style), verdict.reason)
            assert verdict.score == 1.0
            assert verdict.evidence is (Evidence.REFERENCE if task.reference else Evidence.RECOMPUTATION)


def test_a_corrupted_digit_in_the_answer_always_fails():
    rng = random.Random(7)
    for problem in PROBLEMS:
        answer = corrupt_digit(problem.answer, rng)
        text = "\n".join([*problem.careful, f"Answer: {answer}"])

        assert verify(problem.task, text).outcome is Outcome.FAIL
        assert verify(problem.task.replace(reference=None), text).outcome is Outcome.FAIL


def test_a_corrupted_step_fails_without_reference_and_is_not_worth_training_on_with_one():
    rng = random.Random(11)
    for problem in PROBLEMS:
        lines = list(problem.careful)
        i = rng.randrange(len(lines))
        lines[i] = corrupt_digit(lines[i], rng)
        text = "\n".join([*lines, f"Answer: {problem.answer}"])

        known = verify(problem.task, text)
        assert verify(problem.task.replace(reference=None), text).outcome is Outcome.FAIL, text
        assert "wrong step" in known.reason
        assert reward(known, check_steps(problem.task, text).share).value < 0.7


def corrupt_digit(text: str, rng: random.Random) -> str:
    place = rng.choice([match.start() for match in re.finditer(r"\d", text)])
    return text[:place] + rng.choice([d for d in "0123456789" if d != text[place]]) + text[place + 1 :]


@pytest.mark.parametrize("text", JUNK)
def test_junk_never_passes(text: str):
    assert verify(SUM_KNOWN, text).outcome is Outcome.FAIL
    assert verify(SUM, text).outcome is Outcome.FAIL
    assert verify(STORY, text).outcome in (Outcome.FAIL, Outcome.ABSTAIN)


@pytest.mark.parametrize("problem", PROBLEMS[:40], ids=lambda problem: problem.task.key)
def test_repeating_the_question_never_passes(problem):
    for text in (problem.task.prompt, problem.task.key.removeprefix("math:"), f"Answer: {problem.task.key.removeprefix('math:')}"):
        assert verify(problem.task, text).outcome is Outcome.FAIL
        assert verify(problem.task.replace(reference=None), text).outcome is Outcome.FAIL


@pytest.mark.parametrize("text", ODD_CHARACTERS)
def test_odd_characters_fail_and_leave_a_reason_that_can_be_stored(text: str):
    for task in (SUM, SUM_KNOWN):
        verdict = verify(task, text)

        assert verdict.outcome is Outcome.FAIL
        assert verdict.reason.isprintable()
        verdict.reason.encode()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_get_a_verdict_that_is_not_a_pass(name: str):
    for task in (SUM, SUM_KNOWN, STORY, question("Expand (x+1)^2", "x^2+2x+1")):
        assert verify(task, BOMBS[name]).outcome in (Outcome.FAIL, Outcome.ABSTAIN)
    step_value(SUM, BOMBS[name])


@pytest.mark.parametrize("text", ["__import__('os').system('touch {0}')", "x = open('{0}', 'w')", "exec(\"open('{0}','w')\") = 1"])
@pytest.mark.parametrize("reference", [None, "125", "x^2+1", "{text}"])
def test_forged_text_is_never_run(text: str, reference: str | None, tmp_path: Path):
    forged = text.format(tmp_path / "forged")
    task = question("Solve 17*6+23", reference and reference.format(text=forged))

    for form in (forged, f"Answer: {forged}", f"\\boxed{{{forged}}}", f"1+{forged} = 2\nAnswer: 3"):
        verify(task, form)

    assert not (tmp_path / "forged").exists()
    assert not verify(question("What is it?", "x^2+1"), f"Answer: {forged}").passed


@given(st.text())
def test_no_text_breaks_the_check(text: str):
    for task in (SUM, SUM_KNOWN, EQUATION, STORY):
        assert verify(task, text).outcome is not Outcome.ERROR
        assert verify(task, f"Answer: {text}").outcome is not Outcome.ERROR


RIGHT_STEPS = [
    "17*6 = 10*6 + 7*6 = 60 + 42 = 102",
    "17 × 6 = 102",
    r"$17 \times 6 = 102$",
    r"\[ 17 \cdot 6 = \boxed{102} \]",
    "So 17*6 = 102.",
    "Step 1: 17*6 = 102",
    "1. 17*6 = 102",
    "**17*6 = 102**",
    "17*6 = 102 and 102 + 23 = 125",
    "5 + 3 = 8 apples",
    "$5 * 3 = $15",
    "1/2 + 1/3 = 5/6",
    "50% * 80 = 40",
    "1,000 / 8 = 125",
    "17*6 + 23\n= 102 + 23\n= 125",
    "3x = 25 - 7 = 18",
    "3x = 18 => x = 6",
    "3*6 + 7 = 25",
    "8x - 5x = 3x",
    "Answer: x = 6",
]
WRONG_STEPS = [
    "17*6 = 10*6 + 7*6 = 60 + 43 = 102",
    "17 × 6 = 103",
    "- 17*6 = 103",
    "* 17*6 = 103",
    "So we get 17*6 = 103.",
    "Step 1: 17*6 = 103",
    "1. 17*6 = 103",
    "17*6 = 102 and 102 + 23 = 126",
    "5 + 3 = 9 apples",
    "1/3 = 0.333",
    "1/0 = 1",
    "41=42",
    "17*6 + 23\n= 102 + 23\n= 126",
    "3x = 25 - 7 = 17",
    "3x = 19",
    "x = 18/3 = 7",
    "3x = 18 => x = 7",
    "Answer: x = 7",
]
NOT_CHECKABLE = [
    "no equals sign here, 5 apples",
    "half of 10 = 5",
    "the sum of 5 and 3 = 8",
    "the sum of 5, 3 and 4 = 12",
    "10/3 ≈ 3.33",
    "17*6 != 103",
    "Is 3*5 + 7 = 25?",
    "If x = 5 then 3x = 15",
    "26/3 = 8 remainder 2",
    "5! = 120",
    "y = 4",
    "x^2 = 36",
    "- 5 + 3 = -2",
    "0x10 = 16",
    "3 dozen = 36 eggs",
    "n = n + 1",
]


@pytest.mark.parametrize("text", RIGHT_STEPS)
def test_steps_that_hold(text: str):
    steps = check_steps(EQUATION, text)

    assert steps.checked >= 1
    assert steps.first_wrong is None
    assert steps.share == 1.0
    assert step_value(EQUATION, text + "\n") == 1.0


@pytest.mark.parametrize("text", WRONG_STEPS)
def test_steps_that_do_not_hold(text: str):
    steps = check_steps(EQUATION, text)

    assert steps.first_wrong
    assert steps.right < steps.checked
    assert step_value(EQUATION, text + "\n") == 0.0


@pytest.mark.parametrize("text", NOT_CHECKABLE)
def test_steps_that_nobody_can_check_do_not_count(text: str):
    assert check_steps(EQUATION, text) == verifier.StepCheck(0, 0)
    assert step_value(EQUATION, text) is None


def test_the_value_of_steps_is_the_share_that_holds_unless_the_last_is_wrong():
    assert step_value(SUM, "17*6 = 103\n102 + 23 = 125\n") == 0.5
    assert step_value(SUM, "17*6 = 102\n102 + 23 = 126\n") == 0.0


FORMAL = {
    "Solve 17*6+23": "125",
    "17*6+23": "125",
    "17*6+23 = ?": "125",
    "What is (43 + 29) * 4 - 23?": "265",
    "Calculate 12 * 5.": "60",
    "Compute $12 \\times 5$": "60",
    "What is 12 x 5?": "60",
    "Please compute: 1,000 ÷ 8": "125",
    "Compute 2^10": "1024",
    "Compute 84/7": "12",
    "What is 1/2 + 1/3?": "5/6",
    "Solve for x: 3x + 7 = 25": "6",
    "Solve for x, 3x + 7 = 25": "6",
    "Find x: 2(x + 1) = 14": "6",
    "Solve 3x + 7 = 25 for x": "6",
    "What is x if 3x + 7 = 25?": "6",
    "x + 2 = 2x": "2",
}
INFORMAL = [
    "Tom has 17*6+23 apples",
    "What is 17*6+23 rounded to tens?",
    "What is 15% of 80?",
    "Solve 17*6+23 and add 1",
    "What is 5!?",
    "What is 5?",
    "What is 7/3?",
    "What is 8/2(2+2)?",
    "What is -2^2?",
    "What is 2^3^2?",
    "What is 2 1/2 + 1?",
    "What is 5/0?",
    "What is 2024-01-05?",
    "Solve 3x = 3x",
    "Solve 3x + 1 = 3x",
    "Solve x + y = 4",
    "Solve for y: 3x = 6",
    "Solve 3x + 7",
    "x = 6",
    "10 - 3 = 7",
]


@pytest.mark.parametrize("prompt", FORMAL)
def test_a_formal_question_is_recomputed(prompt: str):
    assert verify(question(prompt), f"Answer: {FORMAL[prompt]}").passed
    assert verify(question(prompt), f"Answer: {FORMAL[prompt]}1").outcome is Outcome.FAIL


@pytest.mark.parametrize("prompt", INFORMAL)
def test_a_question_that_is_not_formal_or_can_be_read_in_two_ways_is_not_recomputed(prompt: str):
    assert read_question(prompt) is None
    assert verify(question(prompt), "Answer: 5").outcome is Outcome.ABSTAIN


def test_an_answer_for_another_unknown_fails():
    assert verify(EQUATION, "Answer: y = 6").outcome is Outcome.FAIL
    assert verify(question("Find x and y with x + y = 8, x - y = 4.", "6"), "Answer: y = 6").outcome is Outcome.ABSTAIN
    assert verify(question("How many apples?", "6"), "Answer: x = 6").passed


def test_a_result_that_stands_in_the_question_too_is_no_repetition():
    assert verify(question("Compute 11/24 + 1/24"), "Answer: 1/2").passed
    assert verify(question("Compute 1/2 * 1"), "Answer: 1/2").passed
    assert verify(question("Compute 2/4 * 1"), "Answer: 2/4").outcome is Outcome.FAIL


def test_a_word_problem_without_reference_abstains_and_tells_the_share_of_right_steps():
    verdict = verify(STORY, "5 + 3 = 8\nAnswer: 8")

    assert (verdict.outcome, verdict.score) == (Outcome.ABSTAIN, 1.0)
    assert verify(STORY, "Answer: 8").score is None
    assert verify(STORY, "5 + 3 = 9\nAnswer: 9").outcome is Outcome.FAIL


def test_a_pass_with_a_wrong_step_names_the_step():
    verdict = verify(SUM_KNOWN, "17*6 = 103\n102 + 23 = 125\nAnswer: 125")

    assert verdict.passed
    assert "17*6 = 103" in verdict.reason


def test_symbolic_answers_are_compared_by_math_verify():
    expand = question("Expand (x+1)^2", "x^2 + 2x + 1")

    assert verify(expand, "Answer: 1 + 2x + x^2").passed
    assert verify(expand, "Answer: x^2 + 1").outcome is Outcome.FAIL
    assert verify(expand, "Answer: (x+1)^2").outcome is Outcome.FAIL


def test_a_comparison_that_never_ends_is_an_error_and_the_next_one_works():
    endless = r"(xy+x+y+1)^{90}(z+1)^{90}"

    assert verify(question("Multiply it", endless), "Answer: (x+1)^{90}(yz+y+z+1)^{90}").outcome is Outcome.ERROR
    assert symbolic.compare("x+1", "1+x") is Reply.SAME


def test_without_math_verify_symbolic_answers_abstain_and_numbers_are_still_judged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(symbolic, "find_spec", lambda name: None)

    verdict = verify(question("Expand it", "x^2 + 2x + 1"), "Answer: (x+1)^2")

    assert verdict.outcome is Outcome.ABSTAIN
    assert 'pip install "ratchet-agents[math]"' in verdict.reason
    assert verify(SUM_KNOWN, "Answer: 125").passed


def test_a_check_that_breaks_is_an_error_and_never_a_pass(monkeypatch: pytest.MonkeyPatch):
    def broken(task: Task, text: str):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(verifier, "_judge", broken)

    verdict = verify(SUM_KNOWN, "Answer: 125")

    assert verdict.outcome is Outcome.ERROR
    assert verdict.score is None


def test_a_worker_killed_from_outside_is_started_again():
    assert symbolic.compare("x+1", "1+x") is Reply.SAME

    for process in symbolic.pool.workers():
        process.kill()

    assert Reply.SAME in [symbolic.compare("x+1", "1+x") for _ in range(2)]


def test_mathematical_tasks_are_judged_by_this_verifier():
    verdict = judge(SUM, "125")

    assert (verdict.verifier, verdict.version, verdict.outcome) == ("math", "2", Outcome.PASS)
