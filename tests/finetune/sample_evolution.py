"""An evolution of six numbers whose functions draw from Python's own generator."""

import random

from finetune.ge import GAConfig, GeneticEvolver


def initialize():
    return [random.uniform(-1, 1) for _ in range(6)]


def mutate(individual):
    individual[random.randrange(6)] += random.gauss(0, 0.5)
    return individual


def crossover(first, second):
    cut = random.randint(1, 5)
    return first[:cut] + second[cut:]


def evolver(fitness=sum, config=None, **options):
    return GeneticEvolver(fitness, mutate, crossover, initialize, config or GAConfig(), **options)
