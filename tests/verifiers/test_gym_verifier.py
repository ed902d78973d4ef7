"""reasoning-gym's scorers: gold passes, junk never, and nothing that a model wrote is evaluated in this process."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tasks.gym import families, generate
from core.tasks.gym_families import REFUSED
from core.types import Domain, Evidence, Outcome, Task
from core.verifiers.gym import verify

EVALUATING = (
    "countdown",
    "simple_integration",
    "intermediate_integration",
    "binary_matrix",
    "spiral_matrix",
    "string_insertion",
    "n_queens",
)
CONSTANTS = ("", "banana", "0", "1", "True", "False", "None", "[]", "{}", "nan", "yes", "no", "41=42")


def drawn(family, level=1, seed=1):
    return generate(family, random.Random(seed), level)


def junk_for(task, other):
    gold = task.reference
    wrong = [f"{gold} 7", f"{gold}, 7", f"7 {gold} 7", f"not {gold}", f"{gold} or banana", f"banana or {gold}", f"{gold} = 41"]
    marked = [f"Answer: {text}" for text in (*CONSTANTS, *wrong, other.reference) if not same(text, gold)]
    return [
        *marked,
        task.prompt,
        f"Answer: {task.prompt}",
        f"Answer:\n{gold}\n{gold}\nbanana",
        f"Answer: {gold}\nAnswer: banana",
        "(" * 10_000,
    ]


def same(text, gold):
    return text.casefold() == gold.casefold() or (text == "0" and gold in ("0.0", "-0.0"))


@pytest.mark.slow
def test_in_every_family_gold_passes_and_junk_never_does():
    for family in families():
        for level in (1, 3):
            task, other = drawn(family, level, 1), drawn(family, level, 2)
            for text in (task.reference, f"Let me see.\nAnswer:\n{task.reference}", f"Answer:\n```\n{task.reference}\n```"):
                assert verify(task, text).passed, (family, level, text)
            for text in junk_for(task, other):
                verdict = verify(task, text)
                another_constant = family.endswith("_integration") and text.startswith("Answer: 7 -")
                assert not verdict.passed or another_constant, (family, level, text, verdict.reason)
                assert verdict.outcome is not Outcome.ERROR, (family, level, text, verdict.reason)


@pytest.mark.parametrize("family", EVALUATING)
def test_text_that_would_run_as_python_never_reaches_the_scorer(family, tmp_path):
    task, file = drawn(family), tmp_path / "made"
    for code in (f"__import__('pathlib').Path({str(file)!r}).touch()", f"open({str(file)!r},'w')", "().__class__.__bases__", "exit()"):
        assert verify(task, f"Answer: {code}").outcome is Outcome.FAIL

    assert not file.exists()


@pytest.mark.parametrize("expression", ["9*9*9*9*9*9*9*9*9*9", "1/0", "((((1", "5-", "0"])
def test_an_expression_that_misses_the_target_fails(expression):
    assert verify(drawn("countdown"), f"Answer: {expression}").outcome is Outcome.FAIL


def test_another_expression_for_the_target_passes_on_recomputation():
    task = drawn("countdown")

    verdict = verify(task, f"Answer: ({task.reference})")

    assert verdict.passed
    assert verdict.evidence is Evidence.RECOMPUTATION


def test_the_tolerance_of_a_scorer_is_not_ours():
    task = drawn("number_sorting")
    first = task.reference.strip("[]").split(", ")[0]
    number = float(first.strip("'"))

    off = task.reference.replace(first, f"'{number - 0.5:.1f}'", 1)

    assert verify(task, f"Answer: {task.reference}").passed
    assert not verify(task, f"Answer: {off}").passed


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_refused_family_abstains(family):
    task = Task("?", Domain.LOGIC, metadata={"gym": {"family": family, "level": 1, "index": 0}})

    verdict = verify(task, "Answer: 0")

    assert verdict.outcome is Outcome.ABSTAIN
    assert "refused" in verdict.reason


BROKEN = (
    None,
    "gcd",
    [],
    {},
    {"family": 3},
    {"family": "gcd", "level": True, "index": 1},
    {"family": "gcd", "level": 1, "index": -1},
    {"family": "gcd", "level": 9, "index": 1},
    {"family": "gcd", "level": 1, "index": 10**12},
    {"family": "x", "level": 1, "index": 1},
)


@pytest.mark.parametrize("given", BROKEN)
def test_broken_metadata_are_an_error_that_says_what_to_write(given):
    verdict = verify(Task("?", Domain.MATH, metadata={"gym": given}), "Answer: 1")

    assert verdict.outcome is Outcome.ERROR
    assert "write" in verdict.reason or "no family" in verdict.reason


def test_a_prompt_that_is_not_the_items_is_an_error():
    task = drawn("gcd").replace(prompt="What is 1+1?")

    verdict = verify(task, f"Answer: {task.reference}")

    assert verdict.outcome is Outcome.ERROR
    assert "another question" in verdict.reason


def test_only_the_last_answer_counts():
    task = drawn("gcd")

    assert not verify(task, f"Answer: {task.reference}\nAnswer: banana").passed
    assert verify(task, f"Answer: banana\nAnswer: {task.reference}").passed


def test_an_answer_of_ten_megabytes_fails():
    assert verify(drawn("gcd"), "7 " * 5_000_000).outcome is Outcome.FAIL


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([drawn(f) for f in ("gcd", "countdown", "simple_integration", "knights_knaves")]), st.text(max_size=60))
def test_any_text_gets_a_verdict_and_never_a_pass(task, text):
    verdict = verify(task, f"Answer: {text}")

    assert verdict.outcome in (Outcome.FAIL, Outcome.ABSTAIN) or task.reference.strip() in text
