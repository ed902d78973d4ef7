"""Where the final answer of a text is found, and what normalising leaves alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.answers import final_answer, normalise

FOUND = {
    "17*6 = 102\nAnswer: 102": "102",
    "answer: 42": "42",
    "**Answer:** 42": "42",
    "**Final Answer:**\n\n42": "42",
    "So the final answer is 42.": "42.",
    "The answer is: $42$": "$42$",
    "Work\n#### 42": "42",
    "Hence \\boxed{42}.": "42",
    "\\boxed{\\frac{1}{2}}": "\\frac{1}{2}",
    "Answer: \\boxed{42}": "42",
    "Answer: x = \\boxed{6}": "x = 6",
    "Answer: 5\nAnswer: 6": "6",
    "Answer: 5 ... Answer: 6": "6",
    "\\boxed{5} \n \\boxed{6}": "6",
    "\\boxed{5}\nAnswer: 6": "6",
    "Answer: 5\n\\boxed{6}": "6",
    "Answer: 5 or 6": "5 or 6",
    "Answer: 5, 6, 7": "5, 6, 7",
    "\\boxed{5} or \\boxed{6}": "5 or 6",
    "Answer: \\boxed{5} or \\boxed{6}": "5 or 6",
    "Answer: 41, no, 42": "42",
    "Answer: 41. Wait, actually 42": "42",
    "Answer: no solution": "no solution",
    "Answer: 42\nThis was easy.": "42",
    "42": "42",
    "x = 6": "x = 6",
    "  x = 6\n": "x = 6",
}
NOTHING = ["", "  ", "First line.\nSecond line.", "Answer:", "Answer: 5\nAnswer:", "word " * 40, "Answer: " + "1" * 30_000]
NORMAL = {
    " 42 ": "42",
    "42.": "42",
    "**42**": "42",
    "$42$": "42",
    "\\(x  +  1\\)": "x + 1",
    "\\boxed{42}": "42",
    "−5": "-5",
    "–5": "-5",
    "1\u00a0000": "1 000",
    "5\\text{ cm}": "5 cm",
    "10²": "10^2",
    "2½": "2 1/2",
    "$5": "$5",
    "5!": "5!",
    "0.333...": "0.333...",
    "4\x002": "4\x002",
}


@pytest.mark.parametrize("text", FOUND)
def test_the_final_answer_is_found(text: str):
    assert final_answer(text) == FOUND[text]


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_without_an_answer_has_none(text: str):
    assert final_answer(text) is None


def test_only_whole_lines_at_the_end_of_a_long_text_are_read():
    assert final_answer("x\n" * 5_000_000 + "Answer: 42") == "42"
    assert final_answer("Answer: 42\n" + "x\n" * 20_000) is None
    assert final_answer("the wrong answer: 42 " + "." * 19_990) is None


@pytest.mark.parametrize("answer", NORMAL)
def test_one_spelling_for_what_differs_only_in_dress(answer: str):
    assert normalise(answer) == NORMAL[answer]


@given(st.text())
def test_any_text_can_be_read(text: str):
    answer = final_answer(f"Answer: {text}")

    assert answer is None or isinstance(normalise(answer), str)
