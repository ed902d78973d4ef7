"""Generated deduction: the verifier, which proves, agrees with the generator, which counts."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from core.answers import final_answer
from core.tasks.deduction import LEVELS, entailment, generate, knights, puzzle, syllogism
from core.types import Domain, Evidence, Outcome
from core.verifiers.logic.verifier import verify

FAMILIES = (entailment, syllogism, knights, puzzle)
JUNK = ("", "banana", "0", "yes and no", "unknown", "true or false", "knight", "nobody", "1 or 2")


def problems(family, level, count, seed=0):
    rng = random.Random(seed)
    return [family(rng, level) for _ in range(count)]


def wrong_answers(problem):
    answer = problem.answer
    if answer in ("yes", "no"):
        return ["no" if answer == "yes" else "yes"]
    if problem.task.family == "knights":
        first, _, rest = answer.partition(",")
        swapped = first.replace("knight", "knave") if "knight" in first else first.replace("knave", "knight")
        return [f"{swapped},{rest}", first]
    statement = problem.task.metadata["logic"]
    others = statement["variables"] if "asked_value" in statement else [str(seat) for seat in range(1, len(statement["variables"]) + 1)]
    return [*(other for other in others if other != answer), f"not {answer}", f"{answer} or {others[0]}"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_passes_by_proof_and_junk_fails(family, level):
    for problem in problems(family, level, 13):
        verdict = verify(problem.task, problem.solution("direct"))
        assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.PROOF), (problem.task.prompt, verdict.reason)
        for text in (*JUNK, *wrong_answers(problem), problem.task.prompt):
            assert verify(problem.task, f"Answer: {text}").outcome is Outcome.FAIL, (problem.task.prompt, text)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_constant_answer_is_right_in_more_than_55_of_100(family):
    drawn = [problem for level in LEVELS for problem in problems(family, level, 200, seed=level)]
    kinds = [" ".join(word for word in problem.answer.replace(",", "").split() if word.startswith("kn")) for problem in drawn]

    answers = Counter(kind or problem.answer for kind, problem in zip(kinds, drawn, strict=True))

    assert max(answers.values()) <= 0.55 * len(drawn)


@pytest.mark.parametrize("level", LEVELS)
def test_generated_tasks_have_what_they_need(level):
    for problem in problems(generate, level, 60):
        task = problem.task
        assert (task.domain, task.level, task.reference) == (Domain.LOGIC, level, problem.answer)
        assert task.family in ("entailment", "syllogism", "knights", "puzzle")
        assert final_answer(problem.solution("direct")) == problem.answer


def test_every_family_is_drawn():
    assert len({problem.task.family for problem in problems(generate, 1, 60)}) == 4


def test_two_wordings_of_one_problem_share_a_key():
    wordings = {}
    for family in (entailment, syllogism):
        for problem in problems(family, 1, 600):
            wordings.setdefault(problem.task.key, set()).add(problem.task.prompt)

    assert max(len(prompts) for prompts in wordings.values()) > 1


def test_the_same_problem_never_has_two_answers():
    answers = {}
    for family in FAMILIES:
        for problem in problems(family, 1, 500):
            answers.setdefault(problem.task.key, set()).add(
                problem.answer if family is not knights else frozenset(problem.answer.split(", "))
            )

    assert all(len(found) == 1 for found in answers.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_problems_do_not_run_out(family):
    assert len({problem.task.key for problem in problems(family, 1, 800)}) >= 300


def test_the_same_seed_makes_the_same_problems():
    assert problems(generate, 2, 20) == problems(generate, 2, 20)
    assert problems(generate, 2, 20) != problems(generate, 2, 20, seed=1)
