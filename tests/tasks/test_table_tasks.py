"""Generated table tasks: gold passes, the neighbour's number, one off and a wrong rounding fail, questions mean what they ask for."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from core.answers import final_answer
from core.tasks.tables import FAMILIES, LEVELS, generate
from core.verifiers.analysis.query_specs import read_spec
from core.verifiers.analysis.table_questions import read_question
from core.verifiers.analysis.tables import read_table
from core.verifiers.analysis.verifier import verify

STYLES = ("direct", "terse", "careful")
JUNK = ("", "banana", "0", "yes or no", "Answer:", "Answer: 1 2 3", "Answer: -1", "Answer: nan", "\\boxed{}")


def problems(level, count=50):
    return [generate(random.Random(seed), level) for seed in range(count)]


def without_reference(problem):
    return problem.task.replace(reference=None)


@pytest.mark.parametrize("level", LEVELS)
def test_every_solution_passes_with_and_without_its_reference(level):
    for problem in problems(level):
        for style in STYLES:
            text = problem.solution(style)
            assert final_answer(text) == problem.answer == problem.task.reference
            assert verify(problem.task, text).passed
            assert verify(without_reference(problem), text).passed


@pytest.mark.parametrize("level", LEVELS)
def test_junk_never_passes(level):
    for problem in problems(level):
        for text in (*JUNK, problem.task.prompt, f"Answer: {problem.answer} or not"):
            assert not verify(problem.task, text).passed
            assert not verify(without_reference(problem), text).passed


@pytest.mark.parametrize("level", LEVELS)
def test_near_misses_fail(level):
    for problem in problems(level):
        for near in near_misses(problem):
            assert not verify(problem.task, f"Answer: {near}").passed, (problem.task.prompt, near)
            assert not verify(without_reference(problem), f"Answer: {near}").passed, (problem.task.prompt, near)


def near_misses(problem):
    answer = problem.answer.rstrip("%")
    if not answer.lstrip("-").replace(".", "").isdigit():
        words = {"yes", "no", "rise", "fall", "north", "tea", "Oslo", "Lima"}
        return [word for word in words if word != answer]
    number, sign = Decimal(answer), "%" if "%" in problem.answer else ""
    step = Decimal(1).scaleb(number.as_tuple().exponent)
    cells = {cell for line in problem.task.metadata["data"].splitlines() for cell in line.split(",")}
    others = [cell for cell in cells if not cell.isdigit() or Decimal(cell) != number]
    return [f"{number + step}{sign}", f"{number - step}{sign}", f"{number * 10}{sign}", f"-{number + 1}", *others]


@pytest.mark.parametrize("level", LEVELS)
def test_a_question_in_words_is_the_query_in_the_metadata(level):
    for problem in problems(level):
        if problem.task.family != "table_claim":
            table = read_table(problem.task.metadata["data"])
            assert read_question(problem.task.prompt, table) == read_spec(problem.task.metadata["ask"], table), problem.task.prompt


def test_claims_are_true_about_half_the_time_and_levels_bring_every_family():
    drawn = [problem for level in LEVELS for problem in problems(level, 200)]
    claims = [problem.answer for problem in drawn if problem.task.family == "table_claim"]

    assert 0.3 < claims.count("yes") / len(claims) < 0.7
    for level in LEVELS:
        names = {f"table_{name}" for name, _ in FAMILIES[level]}
        assert {problem.task.family for problem in drawn if problem.task.level == level} == names


def test_the_same_seed_draws_the_same_task_and_tasks_do_not_run_out():
    assert generate(random.Random(7), 3) == generate(random.Random(7), 3)
    for level in LEVELS:
        assert len({problem.task.key for problem in problems(level, 500)}) > 450
