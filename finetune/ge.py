"""Genetic evolution of anything, given four functions. It knows nothing of models.

What a function is given is always a copy: whatever it does to it, elites, parents and what was measured stay as they are. What comes of
a run depends on the seed and the functions alone, not on where fitness runs, how often it was interrupted, or who is quicker. Functions
that ask for an `rng` get one; for the others Python's and numpy's own generators follow the seed while they run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from inspect import iscoroutinefunction
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from core.errors import ConfigError
from finetune.evolution.breeding import Variation, migrated
from finetune.evolution.chance import Borrowed
from finetune.evolution.checkpoint import Checkpoint
from finetune.evolution.codec import Codec, codec
from finetune.evolution.config import GAConfig
from finetune.evolution.evaluation import Evaluator, Round
from finetune.evolution.identity import copy_of, key_of
from finetune.evolution.operators import Choice, Fields, Items, Number, Numbers, Permutations, Strings
from finetune.evolution.pareto import first_front, require_pymoo, survivors
from finetune.evolution.pools import Pool, check_pool, opened
from finetune.evolution.prompts import Prompts
from finetune.evolution.records import Evaluated, Failure, FitnessError, Generation, summary
from finetune.evolution.show import plot_history, progress_bar

__all__ = [
    "Choice",
    "Codec",
    "Failure",
    "Fields",
    "FitnessError",
    "GAConfig",
    "Generation",
    "GeneticEvolver",
    "Items",
    "Number",
    "Numbers",
    "Permutations",
    "Prompts",
    "Space",
    "Strings",
    "codec",
    "plot_history",
]

T = TypeVar("T")

SCORE = attrgetter("score")


class Space(Protocol[T]):
    """What individuals are and how they vary: the ready ones are in `finetune.evolution.operators`."""

    def initialize(self, rng: random.Random) -> T:
        """A new individual."""
        ...

    def mutate(self, individual: T, rng: random.Random) -> T:
        """One that differs a little."""
        ...

    def crossover(self, first: T, second: T, rng: random.Random) -> T:
        """One that takes after both."""
        ...


class GeneticEvolver(Generic[T]):
    """Evolves individuals towards the highest fitness: a number, or a sequence of them, which counts as its mean.

    `history` has a row for each generation, the first is that of `initialize_fn`. `checkpoint` is a file that grows by a line a
    generation; with `resume` a run goes on from it. `callbacks` get each row and stop the run by returning True. `key_fn` says when two
    individuals are the same (None: never), `codec` how they are kept as JSON. Not safe to use from two threads at once.

    Raises ConfigError for options that can't work, FitnessError when a fitness fails and `config.on_error` is "stop".
    """

    def __init__(
        self,
        fitness_fn: Callable[..., Any],
        mutate_fn: Callable[..., T],
        crossover_fn: Callable[..., T],
        initialize_fn: Callable[..., T],
        config: GAConfig | None = None,
        *,
        callbacks: Sequence[Callable[[Generation], object]] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
        codec: Codec | None = None,
        key_fn: Callable[[T], Hashable | None] = key_of,
        copy_fn: Callable[[T], T] = copy_of,
    ) -> None:
        self.config = config or GAConfig()
        self.fitness_fn = fitness_fn
        self._check(fitness_fn, mutate_fn, crossover_fn, initialize_fn)
        self.history: list[Generation] = []
        self.stopped: str | None = None
        """why the last run ended: generations, target, patience, evaluations, seconds or callback"""
        self._callbacks, self._copy = tuple(callbacks), copy_fn
        self._islands: list[list[Evaluated[T]]] = []
        self._best: Evaluated[T] | None = None
        self._resumed = 0
        if resume and checkpoint is None:
            raise ConfigError("resume=True needs the checkpoint to go on from: name its file")
        self._checkpoint = None if checkpoint is None else Checkpoint[T](checkpoint, codec or _plain())
        rows: list[dict[str, Any]] = []
        if self._checkpoint and resume:
            self.seed, rows = self._checkpoint.read(self.config)
        else:
            # drawn from Python's own generator, so that random.seed(...) before it makes a run repeatable as well
            self.seed = random.getrandbits(63) if self.config.seed is None else self.config.seed
        self._borrowed = Borrowed(self.seed)
        self._variation = Variation(self.config, self._borrowed, initialize_fn, mutate_fn, crossover_fn, copy_fn)
        self._evaluator = Evaluator(self.config, self._borrowed, key_fn, copy_fn)
        self._take_up(rows)
        self._begun = bool(rows) or resume

    @classmethod
    def over(cls, space: Space[T], fitness_fn: Callable[..., Any], config: GAConfig | None = None, **options: Any) -> GeneticEvolver[T]:
        """With the operators of a space; `options` are those of the class."""
        return cls(fitness_fn, space.mutate, space.crossover, space.initialize, config, **options)

    def run(self, generations: int | None = None) -> T | None:
        """Evaluate so many more generations, or those of the config (after `resume` what is left of them); 0 runs nothing.

        Returns the best individual that was ever seen, None as long as there is none. Can be called again to go on.
        """
        if generations is None:
            generations = max(0, self.config.generations - self._resumed)
            self._resumed = 0
        if generations < 0:
            raise ConfigError(f"{generations} generations can't be run: give 0 or more")
        with self._running(generations) as (pool, show):
            for _ in range(generations):
                self.stopped = self._reason_to_stop() or self._step(pool)
                if self.stopped in (None, "callback"):
                    show(self.history[-1])
                if self.stopped:
                    break
            else:
                self.stopped = "generations"
        return self.best

    @property
    def best(self) -> T | None:
        """A copy of the best individual that was ever seen, whose fitness is `best_fitness`."""
        return None if self._best is None else self._copy(self._best.item)

    @property
    def best_fitness(self) -> float | None:
        """Its fitness as one number."""
        return None if self._best is None else self._best.score

    @property
    def population(self) -> list[T]:
        """Copies of the individuals of the last generation, island by island."""
        return [self._copy(member.item) for island in self._islands for member in island]

    @property
    def front(self) -> list[tuple[T, tuple[float, ...]]]:
        """With several objectives: the individuals of the last generation that none beats in all of them, and their objectives."""
        require_pymoo()
        members = [member for island in self._islands for member in island if isinstance(member.value, tuple)]
        return [(self._copy(m.item), m.value) for m in first_front(members) if isinstance(m.value, tuple)]

    @property
    def evaluations(self) -> int:
        """Fitnesses that were computed."""
        return self._evaluator.evaluations

    @property
    def failures(self) -> list[Failure]:
        """Fitnesses that came to nothing, with `on_error="worst"`."""
        return list(self._evaluator.failures)

    def plot(self, path: str | Path) -> None:
        """Draw the history to a picture; its ending says the format."""
        plot_history(self.history, path)

    def _step(self, pool: Pool) -> str | None:
        """One generation: bred, evaluated, selected, kept. Until all of that is done, nothing changes."""
        began, generation = time.monotonic(), len(self.history)
        islands = self._before_breeding(generation)
        litters = self._variation.litters(islands, generation)
        round = self._evaluator.sort_out([newcomer for litter in litters for newcomer in litter])
        if self._checkpoint and not generation:
            self._checkpoint.check(round.new[0].item)
        if self._over_budget(round):
            return "evaluations"
        failed = len(self._evaluator.failures)
        self._evaluator.evaluate(round, generation, pool)
        self._islands = self._after(islands, litters, round.members)
        self._note_best(round.new)
        row = summary(
            [member for island in self._islands for member in island],
            generation=generation,
            best_so_far=-float("inf") if self._best is None else self._best.score,
            evaluations=len(round.new),
            repeats=len(round.members) - len(round.new),
            seconds=time.monotonic() - began,
        )
        self.history.append(row)
        if self._checkpoint:
            self._checkpoint.add(row, round.new, self._islands, self._evaluator.failures[failed:])
        if self._callbacks:
            self._borrowed.give_back()
        asked = [callback(row) for callback in self._callbacks]
        return "callback" if any(answer is True for answer in asked) else None

    def _before_breeding(self, generation: int) -> list[list[Evaluated[T]]]:
        due = generation > 0 and generation % self.config.migration_every == 0
        if not (due and self.config.islands > 1 and self.config.migrants):
            return self._islands
        islands = migrated(self._islands, self.config.migrants)
        if self.config.selection == "nsga2":
            return [survivors(island, len(island), self.config.elitism_count) for island in islands]
        return islands

    def _after(
        self, islands: Sequence[Sequence[Evaluated[T]]], litters: Sequence[Sequence[object]], members: Sequence[Evaluated[T]]
    ) -> list[list[Evaluated[T]]]:
        """Who makes up the next generation: elites and children, or with several objectives the fittest of parents and children."""
        sizes, elites, left = self.config.island_sizes(), self.config.elitism_count, iter(members)
        result = []
        for i, litter in enumerate(litters):
            parents = islands[i] if islands else ()
            children = list(islice(left, len(litter)))
            if self.config.selection == "nsga2":
                result.append(survivors([*parents, *children], sizes[i], elites))
            else:
                result.append([*sorted(parents, key=SCORE, reverse=True)[:elites], *children])
        return result

    def _over_budget(self, round: Round[T]) -> bool:
        most = self.config.max_evaluations
        return most is not None and self.evaluations + len(round.new) > most

    def _reason_to_stop(self) -> str | None:
        config, rows = self.config, self.history
        if not rows:
            return None
        if config.target is not None and self._best is not None and self._best.score >= config.target:
            return "target"
        if config.patience is not None and len(rows) > config.patience and rows[-1 - config.patience].best_so_far >= rows[-1].best_so_far:
            return "patience"
        if config.max_seconds is not None and sum(row.seconds for row in rows) >= config.max_seconds:
            return "seconds"
        return None

    def _note_best(self, computed: Sequence[Evaluated[T]]) -> None:
        fine = [member for member in computed if member.value is not None]
        best = max(fine, key=SCORE, default=None)
        if best is not None and (self._best is None or best.score > self._best.score):
            self._best = best

    @contextmanager
    def _running(self, generations: int) -> Generator[tuple[Pool, Callable[[Generation], None]]]:
        if generations and self._checkpoint and not self._begun:
            self._checkpoint.begin(self.config, self.seed)
            self._begun = True
        with opened(self.fitness_fn, self.config) as pool, progress_bar(generations, self.config.progress) as show:
            try:
                yield pool, show
            finally:
                self._borrowed.give_back()

    def _take_up(self, rows: Sequence[dict[str, Any]]) -> None:
        """Go on where the checkpoint ends."""
        members: dict[int, Evaluated[T]] = {}
        for row in rows:
            for number, item, value in row["computed"]:
                members[number] = Evaluated(item, value, number, self._evaluator.key(item), self._copy)
            computed = [members[number] for number, _, _ in row["computed"]]
            self._evaluator.remember(computed)
            self._note_best(computed)
            self.history.append(row["generation"])
            self._evaluator.failures += row["failures"]
            self._islands = [[members[number] for number in island] for island in row["islands"]]
        self._evaluator.evaluations = len(members)
        self._resumed = len(rows)

    def _check(self, *functions: Callable[..., Any]) -> None:
        for name, function in zip(("fitness_fn", "mutate_fn", "crossover_fn", "initialize_fn"), functions, strict=True):
            if not callable(function):
                raise ConfigError(f"{name} is {function!r}: give a function")
            if name != "fitness_fn" and iscoroutinefunction(function):
                raise ConfigError(f"{name} is `async def`: only fitness_fn may be")
        check_pool(functions[0], self.config)
        if self.config.selection == "nsga2":
            require_pymoo()


def _plain() -> Codec:
    return codec()
