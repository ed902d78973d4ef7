"""Items of reasoning-gym as tasks: the same place gives the same item, and what can't be judged is not drawn."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from core.errors import TaskError
from core.tasks.gym import families, fingerprint, generate, generate_many, rebuild, source
from core.tasks.gym_families import REFUSED
from core.types import Domain

FEW = ("chain_sum", "countdown", "mini_sudoku", "acre", "base_conversion")


def test_there_are_ninety_one_families_and_each_refused_one_has_its_reason():
    assert len(families()) == 91
    assert not set(families()) & set(REFUSED)
    assert all(len(reason) > 20 for reason in REFUSED.values())


@pytest.mark.parametrize("family", FEW)
def test_the_same_seed_draws_the_same_task_and_its_place_makes_it_again(family):
    task = generate(family, random.Random(3), 2)

    assert task == generate(family, random.Random(3), 2)
    place = json.loads(json.dumps(task.metadata["gym"]))
    item = rebuild(place["family"], place["level"], place["index"])
    assert (item.question, item.answer) == (task.prompt, task.reference)


def test_another_interpreter_makes_the_same_items():
    code = (
        "import random; from core.tasks.gym import fingerprint, generate\n"
        f"print([fingerprint(str(generate(f, random.Random(5), 1))) for f in {FEW!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})

    assert done.stdout.strip() == str([fingerprint(str(generate(f, random.Random(5), 1))) for f in FEW])


def test_the_domain_follows_the_family_and_the_key_names_the_problem():
    sums, sorting, puzzle = (generate(f, random.Random(1), 1) for f in ("chain_sum", "word_sorting", "mini_sudoku"))

    assert (sums.domain, sorting.domain, puzzle.domain) == (Domain.MATH, Domain.CODE, Domain.LOGIC)
    assert sums.key == f"gym:chain_sum:{fingerprint(sums.prompt)}"
    assert sums.metadata["verifier"] == "gym"


def test_many_tasks_are_many_problems():
    tasks = generate_many("gcd", 50, random.Random(2), 3)

    assert len({task.key for task in tasks}) == 50


def test_a_family_that_runs_out_says_so():
    with pytest.raises(TaskError, match="gcd has no more new tasks of level 1: asked for 2, found 1"):
        generate_many("gcd", 2, _Stuck(), 1)


def test_a_family_is_a_source_of_problems_for_draw():
    problem = source("chain_sum")(random.Random(4), 1)

    assert problem.solution("careful") == f"Answer: {problem.task.reference}"


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_refused_family_is_an_error_that_says_why(family):
    with pytest.raises(TaskError, match="is refused: "):
        generate(family, random.Random(0), 1)


def test_an_unknown_family_and_a_place_out_of_range_are_errors():
    with pytest.raises(TaskError, match="no family 'sudoko'"):
        source("sudoko")
    with pytest.raises(TaskError, match="a level is 1 to 4"):
        rebuild("gcd", 5, 0)
    with pytest.raises(TaskError, match="an index 0 to"):
        rebuild("gcd", 1, -1)


class _Stuck(random.Random):
    """Always draws the same place."""

    def randrange(self, *_):
        return 1
