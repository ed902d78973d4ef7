"""E1 and E2: evolution with a slow fitness, side by side; with a quick one, against a plain loop; and how many fitnesses it computes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure
from finetune.ge import GAConfig, GeneticEvolver

WAIT = 0.05
RUNS = 7
DOCUMENT = GAConfig(population_size=20, generations=50, mutation_rate=0.15, crossover_rate=0.7, tournament_size=3, elitism_count=2)
LARGE = DOCUMENT.replace(population_size=200, generations=100)


# The four functions of the document's example, as they stand there.
def initialize() -> list[float]:
    return [random.uniform(-1, 1) for _ in range(10)]


def fitness(individual: list[float]) -> float:
    return sum(individual)


def mutate(individual: list[float]) -> list[float]:
    idx = random.randint(0, len(individual) - 1)
    individual[idx] += random.gauss(0, 0.1)
    return individual


def crossover(parent1: list[float], parent2: list[float]) -> list[float]:
    split = random.randint(1, len(parent1) - 1)
    return parent1[:split] + parent2[split:]


def slow(individual: list[float]) -> float:
    time.sleep(WAIT)
    return sum(individual)


def measure(ids: Sequence[str]) -> list[Figure]:
    return [*(_waiting("E1") if "E1" in ids else []), *(_computing("E2") if "E2" in ids else [])]


def _waiting(id: str) -> list[Figure]:
    # without memory each generation computes 18 of its 20 fitnesses: two rounds of 16 at most, the worst that memory can meet
    threads = DOCUMENT.replace(parallel="threads", workers=16, generations=10)
    every = [_seconds(slow, threads.replace(memoise=False, seed=seed)) / 10 for seed in range(RUNS)]
    usual = [_seconds(slow, threads.replace(seed=seed)) / 10 for seed in range(RUNS)]
    one_by_one = _seconds(slow, DOCUMENT.replace(generations=2, memoise=False, elitism_count=0)) / 2
    counted = [_evolved(fitness, DOCUMENT.replace(seed=seed)).evaluations for seed in range(30)]
    asked = DOCUMENT.population_size * DOCUMENT.generations
    versus = {"one after the other": round(one_by_one, 3)}
    return [
        figure(id, "a generation of 20, all computed, 16 at once", every, "s", "under 0.12", median(every) < 0.12, versus),
        figure(id, "a generation of 20 with memory, 16 at once", usual, "s", "under 0.12", median(usual) < 0.12, versus),
        figure(
            id,
            "fewer fitnesses on the document's example",
            [asked / n for n in counted],
            "times",
            "4",
            asked / median(counted) >= 4,
            {"computed": float(median(counted)), "without memory": float(asked)},
        ),
    ]


def _computing(id: str) -> list[Figure]:
    """Times of this thread alone, so that other work on the machine counts little. A plain loop copies, keeps elites and draws as we do."""
    counted = LARGE.population_size * LARGE.generations
    pairs = [(_cpu(lambda: _evolved(fitness, LARGE)), _cpu(_plain_loop)) for _ in range(RUNS)]
    ours, plain = [counted / a for a, _ in pairs], [counted / b for _, b in pairs]
    inside = [_overhead() for _ in range(RUNS)]
    return [
        figure(
            id,
            "individuals a second, population 200",
            ours,
            "1/s",
            "a plain loop's, 200000",
            median(ours) >= max(median(plain), 200_000),
            {"plain loop": round(median(plain)), "ours / plain loop": round(median(a / b for a, b in zip(ours, plain, strict=True)), 2)},
        ),
        figure(id, "overhead an individual, beside the four functions", inside, "µs", "under 5", median(inside) < 5),
    ]


def _overhead() -> float:
    """CPU time of a run less that of the same calls of the four functions alone, in µs an individual."""
    calls = {name: _Counted(function) for name, function in _FUNCTIONS.items()}
    GeneticEvolver(calls["fitness"], calls["mutate"], calls["crossover"], calls["initialize"], LARGE.replace(seed=1)).run()
    whole = _cpu(lambda: _evolved(fitness, LARGE.replace(seed=1)))
    alone = _cpu(lambda: _only(calls))
    return (whole - alone) / (LARGE.population_size * LARGE.generations) * 1e6


@dataclass
class _Counted:
    function: Callable[..., Any]
    calls: int = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


_FUNCTIONS: dict[str, Callable[..., Any]] = {"fitness": fitness, "mutate": mutate, "crossover": crossover, "initialize": initialize}
_ARGUMENTS = {"fitness": 1, "mutate": 1, "crossover": 2, "initialize": 0}


def _only(calls: dict[str, _Counted]) -> None:
    one, other = initialize(), initialize()
    for name, function in _FUNCTIONS.items():
        arguments = (one, other)[: _ARGUMENTS[name]]
        for _ in range(calls[name].calls):
            function(*arguments)


def _plain_loop() -> None:
    config = LARGE
    people = [initialize() for _ in range(config.population_size)]
    for _ in range(config.generations):
        scores = [fitness(individual) for individual in people]

        def chosen(people: list[list[float]] = people, scores: list[float] = scores) -> list[float]:
            return people[max(random.sample(range(len(people)), config.tournament_size), key=scores.__getitem__)]

        order = sorted(range(len(people)), key=scores.__getitem__, reverse=True)
        children = [list(people[i]) for i in order[: config.elitism_count]]
        while len(children) < config.population_size:
            child = crossover(chosen(), chosen()) if random.random() < config.crossover_rate else list(chosen())
            children.append(mutate(child) if random.random() < config.mutation_rate else child)
        people = children


def _evolved(function: Callable[[list[float]], float], config: GAConfig) -> GeneticEvolver[list[float]]:
    evolver = GeneticEvolver(function, mutate, crossover, initialize, config)
    evolver.run()
    return evolver


def _seconds(function: Callable[[list[float]], float], config: GAConfig) -> float:
    began = time.perf_counter()
    _evolved(function, config)
    return time.perf_counter() - began


def _cpu(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
