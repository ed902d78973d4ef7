"""Wherever fitness runs, the same comes of it."""

import asyncio
import importlib.util
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import ConfigError
from finetune.ge import FitnessError, GAConfig, GeneticEvolver, Numbers

SPACE = Numbers(4, -1, 1)
PLACES = ["none", "threads", "processes", "asyncio"]


def total(individual):
    return sum(individual)


def total_of_each(individuals):
    return [sum(individual) for individual in individuals]


def noisy(individual, rng):
    return sum(individual) + rng.gauss(0, 1)


def refuses(individual):
    if individual[0] > 0.5:
        raise ValueError("too large")
    return sum(individual)


class TwoWords(Exception):
    """Can be pickled and not unpickled."""

    def __init__(self, first, second):
        super().__init__(first)


def raises_what_can_t_be_sent(individual):
    raise TwoWords("one", "two")


def ends_its_process(individual):
    if individual[0] > 0.7:
        os._exit(3)
    return sum(individual)


def named(function, place):
    """The same function, asynchronous where it has to be."""
    if place != "asyncio":
        return function

    async def later(individual):
        await asyncio.sleep(0)
        return function(individual)

    return later


def evolution_of(function, place, **options):
    config = GAConfig(**{"population_size": 8, "seed": 5, "parallel": place, "workers": 2, **options})
    return GeneticEvolver.over(SPACE, named(function, place), config)


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_run_is_the_same_everywhere(place):
    here, there = evolution_of(total, "none"), evolution_of(total, place)

    assert here.run(4) == there.run(4)
    assert here.history == there.history


@pytest.mark.parametrize("place", ["threads", "processes"])
def test_a_noisy_fitness_is_repeatable_everywhere(place):
    here, there = evolution_of(noisy, "none"), evolution_of(noisy, place)

    assert here.run(3) == there.run(3)
    assert here.history == there.history


@pytest.mark.parametrize("place", PLACES)
def test_a_failure_stops_the_run_with_its_individual(place):
    evolution = evolution_of(refuses, place, population_size=16)

    with pytest.raises(FitnessError, match="ValueError: too large") as caught:
        evolution.run()

    assert caught.value.individual[0] > 0.5
    assert evolution.history == []


@pytest.mark.parametrize("place", PLACES)
def test_by_choice_a_failure_counts_as_worst(place):
    evolution = evolution_of(refuses, place, population_size=16, on_error="worst")
    best = evolution.run(3)

    assert best[0] <= 0.5
    assert {failure.reason for failure in evolution.failures} == {"raised ValueError: too large"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_batches_come_to_the_same(place, size):
    one_by_one, batched = evolution_of(total, "none"), evolution_of(total_of_each, place, batch_size=size)

    assert one_by_one.run(3) == batched.run(3)
    assert one_by_one.history == batched.history


def test_in_a_batch_that_fails_the_individual_is_found():
    def strict(individuals):
        return [refuses(individual) for individual in individuals]

    evolution = evolution_of(strict, "threads", batch_size=4, on_error="worst", population_size=16)
    evolution.run(1)

    assert evolution.failures
    assert all(failure.individual[0] > 0.5 for failure in evolution.failures)
    assert evolution.history[0].failed == sum(individual[0] > 0.5 for individual in evolution.population)


def test_one_nan_in_a_batch_is_one_failure():
    evolution = evolution_of(lambda many: [math.nan] + [1.0] * (len(many) - 1), "none", batch_size=100, on_error="worst")
    evolution.run(1)

    assert evolution.history[0].failed == 1


def test_a_batch_that_comes_back_with_another_length_is_a_mistake_of_the_program():
    with pytest.raises(ConfigError, match="a fitness for each"):
        evolution_of(lambda many: [1.0], "none", batch_size=4, on_error="worst").run(1)


def test_sixteen_wait_at_once_by_default():
    lock, counts = threading.Lock(), {"now": 0, "most": 0}

    def waits(individual):
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.05)
        with lock:
            counts["now"] -= 1
        return 1.0

    evolution_of(waits, "threads", workers=0, population_size=40).run(1)

    assert counts["most"] == 16


def test_an_event_loop_serves_the_whole_run_and_no_more_at_once_than_asked():
    loops, counts = set(), {"now": 0, "most": 0}

    async def fitness(individual):
        loops.add(id(asyncio.get_running_loop()))
        counts["now"] += 1
        counts["most"] = max(counts["most"], counts["now"])
        await asyncio.sleep(0.001)
        counts["now"] -= 1
        return sum(individual)

    config = GAConfig(population_size=12, seed=1, parallel="asyncio", workers=5)
    GeneticEvolver.over(SPACE, fitness, config).run(3)

    assert len(loops) == 1
    assert counts["most"] == 5


def test_it_runs_inside_a_loop_that_is_running():
    async def inside():
        return evolution_of(total, "asyncio").run(2)

    assert asyncio.run(inside()) == evolution_of(total, "none").run(2)


def test_a_cancelled_fitness_is_a_failure_and_no_standstill():
    async def cancelled(individual):
        raise asyncio.CancelledError

    with pytest.raises(FitnessError, match="cancelled"):
        GeneticEvolver.over(SPACE, cancelled, GAConfig(parallel="asyncio")).run(1)


def test_no_thread_stays_behind():
    before = threading.active_count()
    for place in ("threads", "asyncio"):
        with pytest.raises(FitnessError):
            evolution_of(refuses, place, population_size=16).run()

    assert threading.active_count() == before


def test_two_evolutions_side_by_side_don_t_disturb_each_other():
    config = GAConfig(population_size=8, seed=5)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(GeneticEvolver.over(SPACE, total, config).run, 10) for _ in range(2)]

    assert runs[0].result() == runs[1].result()


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_the_individual_that_killed_it():
    evolution = evolution_of(ends_its_process, "processes", on_error="worst", population_size=12)
    best = evolution.run(2)

    assert best[0] <= 0.7
    assert evolution.failures
    assert all("ended the process" in failure.reason and failure.individual[0] > 0.7 for failure in evolution.failures)


def test_an_error_that_can_t_travel_between_processes_is_told():
    with pytest.raises(FitnessError, match="TwoWords: one"):
        evolution_of(raises_what_can_t_be_sent, "processes").run(1)


@pytest.mark.parametrize(
    ("function", "place", "said"),
    [
        (lambda i: 1.0, "processes", "top of a module"),
        (named(total, "asyncio"), "threads", 'parallel="asyncio"'),
        (named(total, "asyncio"), "none", 'parallel="asyncio"'),
    ],
)
def test_a_function_that_can_t_run_there_is_told_at_once(function, place, said):
    with pytest.raises(ConfigError, match=said):
        GeneticEvolver.over(SPACE, function, GAConfig(parallel=place))


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named():
    with pytest.raises(ConfigError, match=r"ratchet-agents\[ray\]"):
        evolution_of(total, "ray")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_ray_comes_to_the_same():
    here, there = evolution_of(total, "none"), evolution_of(total, "ray")

    assert here.run(3) == there.run(3)
    assert here.history == there.history
