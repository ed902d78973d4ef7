"""What an evolution is told: sizes, rates, selection, where fitness runs, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from core.errors import ConfigError
from core.types import Record

Selection = Literal["tournament", "rank", "lexicase", "nsga2"]
Parallel = Literal["none", "threads", "processes", "asyncio", "ray"]

# name -> (least, greatest); None is no bound
RANGES: dict[str, tuple[float, float | None]] = {
    "population_size": (1, None),
    "generations": (0, None),
    "mutation_rate": (0, 1),
    "crossover_rate": (0, 1),
    "tournament_size": (1, None),
    "elitism_count": (0, None),
    "rank_pressure": (1, 2),
    "lexicase_epsilon": (0, None),
    "islands": (1, None),
    "migration_every": (1, None),
    "migrants": (0, None),
    "workers": (0, None),
    "batch_size": (0, None),
    "memo_size": (1, None),
    "patience": (1, None),
    "max_evaluations": (1, None),
    "max_seconds": (0, None),
}


@dataclass(frozen=True, slots=True)
class GAConfig(Record):
    """All options, with their defaults. Raises ConfigError for a value out of range and for options that can't work together."""

    population_size: int = 20
    """individuals of a generation, over all islands"""
    generations: int = 50
    """generations that `run()` evaluates; the first is the one that initialize_fn makes"""
    mutation_rate: float = 0.15
    """probability of mutating a child"""
    crossover_rate: float = 0.7
    """probability of crossover; otherwise a child is a clone of one parent"""
    tournament_size: int = 3
    """distinct individuals of one tournament; no more than an island holds"""
    elitism_count: int = 2
    """best individuals of each island that stay as they are"""
    seed: int | None = None
    """the same seed, functions and options give the same run; None draws one from Python's `random`"""
    selection: Selection = "tournament"
    """how parents are chosen: tournament, rank, lexicase (fitness is a score a case), nsga2 (fitness is a number an objective)"""
    rank_pressure: float = 1.8
    """rank selection: how often the best is chosen, as a multiple of the average; 1 to 2 (Baker, 1985)"""
    lexicase_epsilon: float = 0.0
    """lexicase: a score this close to the best of a case passes it"""
    islands: int = 1
    """populations that evolve apart"""
    migration_every: int = 5
    """generations between two migrations"""
    migrants: int = 1
    """best individuals of an island that take the place of the worst of the next"""
    parallel: Parallel = "none"
    """where fitness runs: none, threads, processes, asyncio (fitness_fn is `async def`), ray"""
    workers: int = 0
    """evaluations at once; 0: 16 for threads and asyncio, as many as there are cores for processes and Ray"""
    batch_size: int = 0
    """fitness_fn takes a list of up to so many individuals and returns as many fitnesses; 0: one individual, one fitness"""
    memoise: bool = True
    """equal individuals are evaluated once; switch it off for a noisy fitness"""
    memo_size: int = 100_000
    """fitnesses that are remembered; the oldest go first"""
    on_error: Literal["stop", "worst"] = "stop"
    """a fitness that raises or is NaN stops the run, or counts as worse than any other"""
    target: float | None = None
    """stop when the best fitness reaches it"""
    patience: int | None = None
    """stop after so many generations without a better best"""
    max_evaluations: int | None = None
    """stop before more evaluations than this are made"""
    max_seconds: float | None = None
    """begin no generation after this many seconds"""
    progress: bool = False
    """show a progress bar"""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])
        _check_together(self)

    def island_sizes(self) -> tuple[int, ...]:
        """The population in as equal parts as it can be cut, larger ones first."""
        size, larger = divmod(self.population_size, self.islands)
        return tuple(size + (i < larger) for i in range(self.islands))


def _check(name: str, value: Any, hint: Any) -> None:
    kinds = get_args(hint) or (hint,)
    if isinstance(kinds[0], str):
        if value not in kinds:
            raise ConfigError(f"{name} is {value!r}: choose one of {', '.join(kinds)}")
        return
    if value is None and type(None) in kinds:
        return
    wanted = kinds[0]
    fits = type(value) is wanted or (wanted is float and type(value) is int)
    if not fits or (wanted is float and not math.isfinite(value)):
        raise ConfigError(f"{name} is {value!r}: give {'a whole number' if wanted is int else 'a ' + wanted.__name__}")
    least, greatest = RANGES.get(name, (-math.inf, None))
    if value < least or (greatest is not None and value > greatest):
        raise ConfigError(f"{name} is {value}: choose {f'{least} or more' if greatest is None else f'a number from {least} to {greatest}'}")


def _check_together(config: GAConfig) -> None:
    if config.islands > config.population_size:
        raise ConfigError(f"{config.islands} islands for {config.population_size} individuals: each island needs one, lower islands")
    smallest = config.island_sizes()[-1]
    where = "an island" if config.islands > 1 else "the population"
    if config.selection == "tournament" and config.tournament_size > smallest:
        raise ConfigError(
            f"tournament_size is {config.tournament_size}, {where} has {smallest}: choose {smallest} or less, or more individuals"
        )
    if config.elitism_count > smallest:
        raise ConfigError(
            f"elitism_count is {config.elitism_count}, {where} has {smallest}: choose {smallest} or less, or more individuals"
        )
    if config.islands > 1 and config.migrants + config.elitism_count > smallest:
        raise ConfigError(
            f"{config.migrants} migrants and {config.elitism_count} elites don't fit an island of {smallest}: lower one of the three"
        )
    if config.max_evaluations is not None and config.max_evaluations < config.population_size:
        raise ConfigError(f"max_evaluations is {config.max_evaluations}, the first generation needs {config.population_size}: raise it")
