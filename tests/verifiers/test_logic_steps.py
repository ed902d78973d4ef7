"""Steps of solutions in logic: each statement must follow from the task."""

from __future__ import annotations

import random

import pytest

from core.tasks.logic import generate
from core.types import Domain, Task
from core.verifiers.logic.steps import check_steps, step_value

PROMPT = "Ann is taller than Bob. Cid is taller than Ann. Who is the tallest?"
PREMISES = {"kind": "entailment", "premises": ["P -> Q", "P", "Q -> R"], "conclusion": "R"}
KNAVES = {"kind": "knights", "people": ["Ann", "Bob"], "statements": {"Ann": "knave(Ann) & knave(Bob)"}}


def ordering():
    return Task(PROMPT, Domain.LOGIC)


def formal(statement):
    return Task("A question?", Domain.LOGIC, metadata={"logic": statement})


def test_every_line_of_a_generated_solution_follows():
    rng = random.Random(0)
    for place in range(100):
        problem = generate(rng, 1 + place % 4)
        for style in ("careful", "terse"):
            right_end = check_steps(problem.task, problem.solution(style))
            assert right_end.share == 1, (problem.task.prompt, problem.solution(style))


@pytest.mark.parametrize(
    "line", ["Cid>Ann", "Cid > Ann > Bob", "Bob<Ann", "- Cid>Bob", "1. Ann is taller than Bob.", "So Bob is shorter than Cid"]
)
def test_a_line_that_follows_is_right(line):
    assert check_steps(ordering(), line).share == 1


@pytest.mark.parametrize("line", ["Bob>Cid", "Cid>Bob>Ann", "Ann>Zed", "Ann>Ann", "Bob is taller than Ann."])
def test_a_line_that_does_not_follow_is_named(line):
    found = check_steps(ordering(), f"Cid>Ann\n{line}")

    assert (found.checked, found.right) == (2, 1)
    assert found.first_wrong == line


@pytest.mark.parametrize("line", ["", "Hm.", "Ann is older than Bob", "x>y", "Answer: Bob", "5 > 3", "Suppose Bob>Cid", ">" * 400])
def test_what_states_nothing_here_does_not_count(line):
    assert check_steps(ordering(), line).share is None
    assert step_value(ordering(), line) is None


def test_saying_a_thing_twice_counts_once():
    assert check_steps(ordering(), "Cid>Ann\n" * 50).checked == 1


def test_a_wrong_last_step_is_worth_nothing():
    assert step_value(ordering(), "Cid>Ann\n") == 1
    assert step_value(ordering(), "Cid>Ann\nBob>Cid\n") == 0
    assert step_value(ordering(), "Bob>Cid\nCid>Ann\n") == 0.5


def test_formulas_must_follow_from_the_premises():
    found = check_steps(formal(PREMISES), "1. P -> Q (premise)\n2. Q (modus ponens, 1)\nSo R\n∴ P & R\n~P\nP -> Z\nP | ~P\nAnswer: yes")

    assert (found.checked, found.right, found.first_wrong) == (5, 4, "~P")


def test_nothing_is_checked_beyond_a_supposition():
    assert check_steps(formal(PREMISES), "Q\nSuppose ~R\n~Q\nAnswer: yes").checked == 1


def test_sentences_of_a_syllogism_must_follow():
    task = formal({"kind": "syllogism", "premises": ["all cats are pets", "all pets are animals"], "conclusion": "all cats are animals"})

    found = check_steps(task, "all cats are animals\nno cats are pets")

    assert (found.checked, found.right) == (2, 1)


def test_kinds_of_people_must_follow():
    found = check_steps(formal(KNAVES), "Ann is a knave.\nSo Bob is a knight.\nBob is a knave\nAnn or Bob is a knave")

    assert (found.checked, found.right, found.first_wrong) == (3, 2, "Bob is a knave")


@pytest.mark.parametrize(
    "statement", [5, {"kind": "entailment", "premises": ["("], "conclusion": "P"}, {"kind": "model", "premises": ["P"]}]
)
def test_tasks_without_usable_premises_have_no_steps(statement):
    assert check_steps(formal(statement), "P\nQ").share is None


@pytest.mark.parametrize("text", ["Cid>Ann\n" * 1_000_000, "(" * 100_000, "\x00\n\ud800", "P\n" * 100_000])
def test_long_and_odd_texts_are_taken(text):
    for task in (ordering(), formal(PREMISES), formal(KNAVES)):
        check_steps(task, text)
        step_value(task, text)
