import random
from itertools import combinations

import pytest

from core.errors import ConfigError, TaskError
from core.registry import SOURCES
from core.tasks.draw import draw
from core.tasks.problem import Problem
from core.tasks.splits import shown_in_pretraining, split_of
from core.types import Domain, Split, Task


def two_tasks_only(rng, level):
    number = rng.choice((8, 9))  # both on the training side, on the half that the loops collect from
    return Problem(Task(f"Solve {number}+{number}", Domain.MATH, key=f"math:{number}+{number}"), str(2 * number), (), ())


@pytest.mark.parametrize("source", SOURCES)
def test_drawn_tasks_are_distinct_and_of_the_side_asked_for(source):
    count = 4 if source == "programming" else 40  # a bank of 164 problems, a tenth of them on each of the small sides
    for split in Split:
        tasks = draw(source, count, split, random.Random(0))

        assert len({task.key for task in tasks}) == count
        assert {split_of(task) for task in tasks} == {split}
        assert not any(shown_in_pretraining(task) for task in tasks)


def test_the_three_sides_share_no_task():
    drawn = [{task.key for task in draw("math", 200, split, random.Random(0))} for split in Split]

    assert not any(one & other for one, other in combinations(drawn, 2))


def test_levels_come_in_turn():
    assert [task.level for task in draw("math", 6, Split.TRAIN, random.Random(0))] == [1, 2, 3, 4, 1, 2]
    assert {task.level for task in draw("math", 6, Split.TRAIN, random.Random(0), levels=(3,))} == {3}


def test_the_same_seed_draws_the_same_tasks():
    one, again, other = (draw("math", 20, Split.TRAIN, random.Random(seed)) for seed in (0, 0, 1))

    assert one == again != other


def test_what_is_known_is_not_drawn_again():
    first = draw("math", 50, Split.GATE, random.Random(0))

    more = draw("math", 50, Split.GATE, random.Random(0), known={task.key for task in first})

    assert not {task.key for task in first} & {task.key for task in more}


def test_a_source_that_runs_out_is_an_error_and_not_an_endless_loop(monkeypatch):
    monkeypatch.setattr("core.tasks.math.generate", two_tasks_only)

    with pytest.raises(TaskError, match="math has no more new tasks of level 3 in train: asked for 10, found 2"):
        draw("math", 10, Split.TRAIN, random.Random(0))


def test_an_unknown_source_is_told_which_there_are():
    with pytest.raises(ConfigError, match="choose one of analysis, code"):
        draw("chemistry", 1, Split.TRAIN, random.Random(0))
