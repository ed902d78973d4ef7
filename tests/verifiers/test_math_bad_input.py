"""Hostile answers, references and questions: a verdict each, never a false pass, and the process lives on."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import Domain, Outcome, Task
from core.verifiers.math.verifier import verify

BOMBS = {
    "ten megabytes": "x+" * 5_000_000 + "1",
    "ten megabytes of null bytes": "\x00" * 10_000_000,
    "ten megabytes of commas": "1," * 5_000_000,
    "ten megabytes of units": "5 cm " * 2_000_000,
    "ten megabytes of relations": "x<" * 5_000_000,
    "brackets": "(" * 100_000 + "x" + ")" * 100_000,
    "brackets of every kind": "([{\\{" * 25_000,
    "closing brackets": ")" * 100_000,
    "fractions": "\\frac{1}{" * 100_000,
    "roots": "\\sqrt{" * 40 + "x" + "}" * 40,
    "tower": "9^{9^{9^9}}",
    "tower of letters": "x^{x^{x^{x^{x^x}}}}",
    "exponentials": "e^{e^{e^{e^{e^{99}}}}}",
    "factorials": "(10!)!!",
    "factorial of a factorial": "((((100!)!)!)!)",
    "binomials": "\\binom{999}{499}^{99}",
    "a long sum": "\\sum_{i=1}^{10^9} i",
    "a long product": "*".join(["(x+1)"] * 60),
    "a wide power": "(a+b+c+d+k+m+n+p+q+r)^{60}",
    "powers of powers": "(((((x+1)^9)^9)^9)^9)^9",
    "absolute values": "|" * 200,
    "signs": "-" * 150 + "x",
    "plus-minus": "±" * 150 + "1",
    "unions": "(1,2)∪" * 50 + "(1,3)",
    "alternatives": " or ".join(["x = 1"] * 40),
    "a wide matrix": "[[" + "],[".join([",".join("1" * 10)] * 10) + "]]",
    "periods": "0." + "(3)" * 50,
    "a long period": "0.(" + "3" * 100_000 + ")",
    "unit powers": "5 m" + "^9" * 40,
    "units": "5 " + "km/h*" * 50,
    "ratios": ":".join("1" * 100),
    "words": "no " * 20_000,
    "surrogates": "\ud800\udfff" * 100,
    "overlines": "0.\\overline{" * 50 + "3" + "}" * 50,
    "percent signs": "5" + "%" * 150,
    "tangents": "\\tan(" * 12 + "x" + ")" * 12,
    "logarithms": "\\log_{" * 12 + "2" + "}x" * 12,
}
TASKS = (
    Task("What is it?", Domain.MATH, "42"),
    Task("What is it?", Domain.MATH, "x^2 + 1"),
    Task("What is it?", Domain.MATH, "x = 1 or x = 2"),
    Task("How long is it?", Domain.MATH, "5 cm"),
    Task("Who is it?", Domain.MATH, "Alice"),
    Task("Expand (x+1)^2", Domain.MATH),
    Task("Solve x^2 - 5x + 6 = 0", Domain.MATH),
)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_gets_a_verdict_that_is_no_pass(name: str):
    for task in TASKS:
        assert verify(task, f"Answer: {BOMBS[name]}").outcome is not Outcome.PASS


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_as_a_reference_or_a_question_gets_a_verdict_too(name: str):
    for text in ("Answer: 42", "x = 1\nAnswer: (1, 2)"):
        assert verify(Task("What is it?", Domain.MATH, BOMBS[name]), text).outcome is not Outcome.PASS
        for verb in ("Solve", "Find the integral of"):
            assert verify(Task(f"{verb} {BOMBS[name][:1000]}", Domain.MATH), text).outcome is not Outcome.PASS


CATEGORIES = {unicodedata.category(chr(code)): chr(code) for code in range(sys.maxunicode, -1, -1)}


def test_every_unicode_class_gets_a_verdict():
    assert len(CATEGORIES) == 30
    for sign in CATEGORIES.values():
        for task in TASKS:
            for shape in ("Answer: {}", "Answer: 4{}2", "Answer: x{}2 + 1", "{} = 1\nAnswer: 5{} cm"):
                verdict = verify(task, shape.replace("{}", sign))
                assert verdict.outcome in (Outcome.FAIL, Outcome.ABSTAIN) or (verdict.passed and (sign.isspace() or sign == "^")), (
                    sign,
                    task.reference,
                )
                verdict.reason.encode()


@settings(max_examples=150)
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=40))
def test_no_texts_break_the_check(prompt: str, reference: str, text: str):
    task = Task(f"Solve {prompt}", Domain.MATH, reference)
    for form in (text, f"Answer: {text}"):
        assert verify(task, form).outcome is not Outcome.ERROR
        assert verify(task.replace(reference=None), form).outcome is not Outcome.ERROR
