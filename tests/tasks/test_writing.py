"""Constrained writing: the piece that comes with a task keeps its constraints, and others don't."""

from __future__ import annotations

import random

import pytest

from core.tasks.writing import LEVELS, generate
from core.types import Domain, Outcome
from core.verifiers.creative.verifier import verify

PROBLEMS = [generate(random.Random(seed), LEVELS[seed % 4]) for seed in range(240)]
JUNK = ["", "banana", "None", "0", "the the the the", "Answer:", "The sea.", "A\nB\nC"]


def test_the_answer_passes_in_every_style_of_solution():
    for problem in PROBLEMS:
        for style in ("direct", "terse", "careful"):
            verdict = verify(problem.task, problem.solution(style))

            assert verdict.passed, (problem.task.prompt, problem.answer, verdict.reason)


def test_junk_and_the_question_fail():
    for problem in PROBLEMS:
        for junk in (*JUNK, problem.task.prompt, f"{problem.answer}\n{problem.answer}"):
            assert not verify(problem.task, junk).passed, (problem.task.prompt, junk)


def test_a_piece_that_breaks_one_constraint_fails():
    for problem in PROBLEMS:
        for constraint in problem.task.metadata["constraints"]:
            worse = broken(problem.answer, constraint)
            if worse is not None:
                verdict = verify(problem.task, f"Answer: {worse}")

                assert verdict.outcome is Outcome.FAIL, (problem.task.prompt, worse, verdict.reason)


def broken(answer, constraint):
    match constraint["kind"]:
        case "include":
            return answer.replace(constraint["words"][0], "parcel").replace(constraint["words"][0].capitalize(), "Parcel")
        case "exclude":
            return f"{answer} {constraint['words'][0]}"
        case "words":
            return " ".join(answer.split()[: constraint["min"] - 1])
        case "lines" | "form" | "acrostic" | "rhyme" if "\n" in answer:
            return answer.rsplit("\n", 1)[0]
        case "lipogram":
            return f"{answer} {constraint['letters']}"
    return None


def test_the_answer_to_another_task_hardly_ever_passes():
    passes = sum(verify(one.task, other.answer).passed for one, other in zip(PROBLEMS, PROBLEMS[4:], strict=False))

    assert passes < len(PROBLEMS) / 50


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_does_not_run_out(level):
    rng = random.Random(0)

    assert len({generate(rng, level).task.key for _ in range(2_000)}) > 1_500


def test_levels_have_more_constraints():
    counts = [sum(len(p.task.metadata["constraints"]) for p in PROBLEMS[level - 1 :: 4]) for level in LEVELS]

    assert counts == sorted(counts)


def test_wordings_of_one_task_share_its_key():
    prompts = {}
    for seed in range(3_000):
        task = generate(random.Random(seed), 1).task
        prompts.setdefault(task.key, set()).add(task.prompt)

    assert max(map(len, prompts.values())) > 1
    assert all(task.task.domain is Domain.CREATIVE and task.task.reference is None for task in PROBLEMS)


def test_the_same_seed_makes_the_same_task():
    assert generate(random.Random(5), 3) == generate(random.Random(5), 3)
