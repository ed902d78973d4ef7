"""What draws from which generator: the functions from one that follows the seed, everyone else from Python's own, as it was."""

import random

import pytest
from sample_evolution import evolver

from finetune.ge import FitnessError, GAConfig, GeneticEvolver, Numbers


def test_the_state_of_pythons_generator_is_left_alone():
    evolution = evolver(config=GAConfig(seed=1))
    random.seed(5)
    before = random.getstate()

    evolution.run(3)

    assert random.getstate() == before


def test_a_run_that_fails_leaves_both_generators_alone():
    import numpy

    evolution = evolver(lambda i: 1 / 0, GAConfig(seed=1))
    before = random.getstate(), numpy.random.get_state()[1].tolist()

    with pytest.raises(FitnessError):
        evolution.run(3)

    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("parallel", ["none", "threads"])
def test_a_callback_draws_from_pythons_generator_as_it_was(parallel):
    drawn, undisturbed = [], random.Random(5)
    evolution = evolver(config=GAConfig(seed=1, parallel=parallel), callbacks=[lambda row: drawn.append(random.random())])
    random.seed(5)

    evolution.run(3)

    assert drawn == [undisturbed.random() for _ in range(3)]
    assert random.random() == undisturbed.random()


def test_a_fitness_side_by_side_draws_from_pythons_generator_as_it_was():
    drawn = []
    config = GAConfig(4, 1, parallel="threads", workers=1, seed=1)
    random.seed(5)

    evolver(lambda i: drawn.append(random.random()) or sum(i), config).run()

    assert drawn[0] == random.Random(5).random()


def test_without_a_seed_python_s_own_decides():
    random.seed(11)
    first = evolver()
    random.seed(11)
    second = evolver()

    assert first.run(3) == second.run(3)


def test_numpys_own_generator_follows_the_seed_too():
    import numpy

    def drawn():
        return numpy.random.rand(3)

    def run():
        config = GAConfig(seed=1, population_size=6)
        evolution = GeneticEvolver(lambda a: a.sum(), lambda a: a + numpy.random.randn(3), lambda a, b: (a + b) / 2, drawn, config)
        return evolution.run(4).tolist()

    assert run() == run()


def test_functions_that_ask_for_an_rng_get_one():
    def noisy(individual, rng):
        return sum(individual) + rng.random()

    config = GAConfig(seed=4, population_size=8)
    runs = [GeneticEvolver.over(Numbers(3, 0, 1), noisy, config) for _ in range(2)]

    assert runs[0].run(4) == runs[1].run(4)
    assert runs[0].history == runs[1].history
