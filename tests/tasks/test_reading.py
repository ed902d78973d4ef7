"""Every task can be judged, its gold passes, and its neighbours' names and numbers don't."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from core.answers import final_answer
from core.tasks.reading import LEVELS, generate
from core.types import Outcome
from core.verifiers.factual.quotes import check_steps
from core.verifiers.factual.verifier import verify

STYLES = ("direct", "terse", "careful")


def problems(level, count=200):
    rng = random.Random(level)
    return [generate(rng, level) for _ in range(count)]


def neighbours(problem):
    """Names, places and numbers of the context that are not the answer."""
    context = problem.task.metadata["context"]
    found = set(re.findall(r"\d+(?: [a-z]+)?|in [A-Z]\w+|[A-Z]\w+ [A-Z]\w+", context))
    right = {problem.answer, *problem.task.metadata.get("answers", ())}
    spoken = {problem.answer.split()[0], f"{problem.answer} years", f"in {problem.answer}"}
    return {one for one in found - right - spoken if not one.startswith(f"{problem.answer} ")}


@pytest.mark.parametrize("level", LEVELS)
def test_gold_passes_in_every_style_with_quotes_that_hold(level):
    for problem in problems(level):
        for style in STYLES:
            text = problem.solution(style)
            assert verify(problem.task, text).passed, (problem.task.prompt, text)
            assert check_steps(problem.task, text).share in (None, 1.0)
            assert final_answer(text) == problem.answer


@pytest.mark.parametrize("level", LEVELS)
def test_neighbours_and_junk_fail(level):
    for problem in problems(level):
        for wrong in sorted(neighbours(problem)):
            assert verify(problem.task, f"Answer: {wrong}").outcome is Outcome.FAIL, (problem.task.prompt, wrong)
        for junk in ("", "banana", problem.task.prompt, f"Answer: {problem.task.metadata['context']}", f"Answer: not {problem.answer}"):
            assert not verify(problem.task, junk).passed


def test_about_half_come_without_a_reference_and_say_what_the_verifier_needs():
    drawn = [problem.task for level in LEVELS for problem in problems(level)]

    assert 0.35 < sum(task.reference is None for task in drawn) / len(drawn) < 0.65
    assert all(task.metadata["complete"] is True and task.metadata["context"] in task.prompt for task in drawn)
    assert all(task.metadata.get("answerable", True) is (task.family != "unanswerable") for task in drawn)


def test_only_the_upper_levels_ask_in_two_steps_or_in_vain():
    families = {level: Counter(problem.task.family for problem in problems(level)) for level in LEVELS}

    assert set(families[1]) == set(families[2]) == {"span"}
    assert set(families[3]) == set(families[4]) == {"span", "two steps", "unanswerable"}


def test_the_order_of_the_statements_and_the_wording_make_no_new_problem():
    keys = {}
    for seed in range(400):
        task = generate(random.Random(seed), 1).task
        statements = frozenset(re.split(r"(?<=\.) ", task.metadata["context"]))
        keys.setdefault((statements, task.key.split("|")[0]), set()).add(task.key)

    assert all(len(found) == 1 for found in keys.values())
    assert all(
        task.key == "|".join([task.key.split("|")[0], *sorted(task.key.split("|")[1:])]) for task in [generate(random.Random(1), 2).task]
    )


@pytest.mark.parametrize("level", LEVELS)
def test_problems_do_not_run_out_and_a_seed_draws_the_same(level):
    assert len({problem.task.key for problem in problems(level, 500)}) > 490
    assert problems(level, 20) == problems(level, 20)
