"""The programming problems: every solution passes, every wrong one fails, by the examples alone and by the check text alone."""

from __future__ import annotations

import random

import pytest

from core.tasks.programming import LEVELS, generate, problems
from core.types import Outcome
from core.verifiers.code.verifier import verify

JUNK = ("", "banana", "None", "pass", "```python\n```", "Answer: 5", "    pass", "    return None", "assert True")


def by(exercise, *kinds):
    """The task with these kinds of tests alone."""
    kept = {"entry_point", "setup", "pure", *kinds}
    return exercise.task.replace(metadata={name: value for name, value in exercise.task.metadata.items() if name in kept})


def test_there_are_enough_problems_and_no_two_are_one():
    found = problems()

    assert len(found) >= 110
    assert len({exercise.task.id for exercise in found}) == len(found)
    assert len({exercise.solution for exercise in found}) == len(found)
    assert all(len(set(exercise.mutants)) >= 3 and exercise.solution not in exercise.mutants for exercise in found)
    assert all(len(exercise.task.metadata["tests"]) >= 3 for exercise in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tests", "test", "doctest"])
def test_every_solution_passes(kind):
    verdicts = {exercise.task.key: verify(by(exercise, kind), f"```python\n{exercise.solution}```") for exercise in problems()}

    assert {key: verdict.reason for key, verdict in verdicts.items() if not verdict.passed} == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tests", "test"])
def test_no_mutant_passes(kind):
    alive = [
        (exercise.task.key, mutant)
        for exercise in problems()
        for mutant in exercise.mutants
        if verify(by(exercise, kind), f"```python\n{mutant}```").outcome is not Outcome.FAIL
    ]

    assert alive == []


@pytest.mark.parametrize("place", range(0, 160, 20))
def test_junk_fails(place):
    exercise = problems()[place]

    assert [text for text in (*JUNK, exercise.task.prompt) if verify(exercise.task, text).outcome is not Outcome.FAIL] == []


@pytest.mark.slow
def test_what_is_drawn_has_the_level_and_its_answer_passes():
    for seed in range(200):
        problem = generate(random.Random(seed), LEVELS[seed % 4])

        assert problem.task.level == LEVELS[seed % 4]
        assert verify(problem.task, problem.solution("direct")).passed


def test_a_solution_reads_well_in_every_style():
    problem = generate(random.Random(1), 2)

    assert {problem.solution(style).count("```") for style in ("direct", "terse", "careful")} == {2}
