import random
import re

import pytest

from core.answers import final_answer
from core.registry import SOURCES, resolve
from core.types import Task

STYLES = ("direct", "terse", "careful")
TAUGHT = ("math", "logic", "code", "factual", "analysis")  # to the embedded model: one short answer each
LEVELS = (1, 2, 3, 4)


def problems(source, level, count, seed=0):
    generate, rng = resolve(SOURCES, source), random.Random(seed)
    return [generate(rng, level) for _ in range(count)]


@pytest.mark.parametrize("level", LEVELS)
def test_math_does_not_run_out_of_problems(level):
    assert len({problem.task.key for problem in problems("math", level, 3_000)}) >= 1_500


@pytest.mark.parametrize("level", LEVELS)
def test_the_wordings_and_spacings_of_a_math_problem_share_its_key(level):
    wordings = {}
    for problem in problems("math", level, 3_000):
        bare = re.sub(r"^(Solve for x:|Solve|What is|Compute|Calculate|Find x:)|[?\s]", "", problem.task.prompt)
        wordings.setdefault(bare, set()).add(problem.task.key)

    assert {key.replace(" ", "") for keys in wordings.values() for key in keys} == {f"math:{bare}" for bare in wordings}
    assert all(len(keys) == 1 for keys in wordings.values())


def test_one_math_problem_comes_in_several_wordings():
    prompts = {}
    for problem in problems("math", 1, 3_000):
        prompts.setdefault(problem.task.key, set()).add(problem.task.prompt)

    assert max(len(wordings) for wordings in prompts.values()) > 1


def test_the_name_of_a_variable_makes_no_new_program():
    keys = {}
    for problem in problems("code", 1, 3_000):
        if problem.task.family == "output":
            name = problem.task.prompt.split("\n")[1][0]
            keys.setdefault(re.sub(rf"\b{name}\b", "x", problem.task.prompt), set()).add(problem.task.key)

    assert all(len(found) == 1 for found in keys.values())


@pytest.mark.parametrize("source", ["factual", "analysis"])
def test_a_context_spaced_otherwise_is_the_same_problem(source):
    task = problems(source, 2, 1)[0].task

    assert Task(task.prompt.replace(" ", "  ").upper(), task.domain).key == task.key


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", TAUGHT)
def test_every_style_of_solution_ends_in_the_answer(source, level):
    for problem in problems(source, level, 100):
        for style in STYLES:
            text = problem.solution(style)
            if problem.task.family == "function":
                assert text.startswith("def f(x):\n")
                assert "return" in text.splitlines()[-1]
            else:
                assert text.splitlines()[-1] == f"Answer: {problem.answer}"
                assert final_answer(text) == problem.answer == problem.task.reference


@pytest.mark.parametrize("source", TAUGHT)
def test_a_problem_has_what_its_verifier_needs(source):
    for level in LEVELS:
        task = problems(source, level, 1)[0].task

        assert (task.domain, task.level) == (source, level)
        assert task.reference
        assert task.family


def test_both_ways_to_write_a_function_pass_its_tests():
    for problem in (p for level in LEVELS for p in problems("code", level, 30) if p.task.family == "function"):
        for style in STYLES:
            space = {}
            exec(problem.solution(style), space)  # our own generator's text

            assert [space["f"](*test["input"]) for test in problem.task.metadata["tests"]] == [
                test["output"] for test in problem.task.metadata["tests"]
            ]


def test_programs_print_their_reference(capsys):
    for problem in (p for level in LEVELS for p in problems("code", level, 30) if p.task.family == "output"):
        exec(problem.task.prompt.split("\n", 1)[1], {})  # our own generator's text

        assert capsys.readouterr().out.strip() == problem.task.reference


def test_the_same_seed_makes_the_same_problems():
    assert problems("math", 2, 20) == problems("math", 2, 20)
    assert problems("math", 2, 20) != problems("math", 2, 20, seed=1)
