import random

import pytest

from core.registry import SOURCES, resolve
from core.tasks.splits import bucket, shown_in_pretraining, split_of
from core.types import Domain, Split, Task

KNOWN = {
    "math:17*6+23": 91,
    "math:3x = 12": 33,
    "logic:taller:Ann>Bob>Cid": 81,
    "code:x = 2; x = x + 3": 99,
    "a question of my own": 80,
}


def keyed(key):
    return Task("Solve it", Domain.MATH, key=key)


@pytest.mark.parametrize(("key", "place"), KNOWN.items())
def test_a_key_has_the_place_it_always_had(key, place):
    assert bucket(key) == place


def test_places_make_splits_of_ten_ten_and_eighty():
    by_place = {bucket(f"k{i}"): keyed(f"k{i}") for i in range(3_000)}

    splits = [split_of(by_place[place]) for place in range(100)]

    assert splits == [Split.GATE] * 10 + [Split.REPORT] * 10 + [Split.TRAIN] * 80


def test_pretraining_never_shows_what_is_held_out_or_collected():
    by_place = {bucket(f"k{i}"): keyed(f"k{i}") for i in range(3_000)}

    shown = [place for place in range(100) if shown_in_pretraining(by_place[place])]

    assert shown == list(range(20, 60))


def test_the_wording_does_not_move_a_task_over_the_fence():
    one, other = Task("Solve 17*6+23", Domain.MATH, key="math:17*6+23"), Task("What is 17 * 6 + 23?", Domain.MATH, key="math:17*6+23")

    assert split_of(one) is split_of(other) is Split.TRAIN


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_tasks_on_every_side(source):
    generate, rng = resolve(SOURCES, source), random.Random(0)
    tasks = [generate(rng, 1 + i % 4).task for i in range(400)]

    shares = {split: sum(split_of(task) is split for task in tasks) / len(tasks) for split in Split}

    assert shares[Split.GATE] == pytest.approx(0.1, abs=0.06)
    assert shares[Split.REPORT] == pytest.approx(0.1, abs=0.06)
