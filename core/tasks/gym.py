"""reasoning-gym's families of puzzles as sources of tasks. A family, a level and an index make the same item again on any machine."""

from __future__ import annotations

import logging
import random
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

from core.errors import TaskError
from core.tasks.gym_families import DOMAINS, FORMS, LEVELS, PRINTING, REFUSED, SIZED, STEPS
from core.tasks.problem import Problem
from core.types import Domain, Record, Task, normalise_prompt

MISSING = 'reasoning-gym is not installed: pip install "ratchet-agents[verify]"'
INDEXES = 2**31 - 1
SIZE = 500  # of the data sets of a family whose items are laid out for one
TRIES = 200

log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Item(Record):
    """One puzzle: its entry as reasoning-gym has it, what kind it is, and the scorer, which must never be called on a model's text here."""

    entry: dict[str, Any]
    category: str
    score: Callable[[str, dict[str, Any]], Any]

    @property
    def question(self) -> str:
        """What is asked."""
        return str(self.entry["question"])

    @property
    def answer(self) -> str:
        """The right answer, or one of them; empty where there is none."""
        return self.entry["answer"] if isinstance(self.entry["answer"], str) else ""


def families() -> list[str]:
    """All that can be drawn from, sorted; `REFUSED` says why the others can't. Raises TaskError without reasoning-gym."""
    return [name for name in _registered() if name not in REFUSED]


def generate(family: str, rng: random.Random, level: int) -> Task:
    """One task. Levels 1 to 4 are steps of the family's curriculum; a family without one has the same difficulty at each.

    Raises TaskError for a family that is not there or is refused, and without reasoning-gym.
    """
    _check(family)
    for _ in range(TRIES):
        index = rng.randrange(INDEXES)
        try:
            item = rebuild(family, level, index)
        except (RuntimeError, ValueError) as error:
            log.debug("%s makes no item of level %d and index %d: %s", family, level, index, error)
            continue
        if _answerable(family, item):
            return _task(family, level, index, item)
    raise TaskError(f"{TRIES} items of {family} at level {level} had no answer of the form it asks for: choose another level")


def generate_many(family: str, count: int, rng: random.Random, level: int) -> list[Task]:
    """`count` tasks, each another problem. Raises TaskError as `generate` does, and when the family runs out of new ones."""
    found: dict[str, Task] = {}
    for _ in range(count * TRIES):
        if len(found) >= count:
            break
        task = generate(family, rng, level)
        found.setdefault(task.key, task)
    if len(found) < count:
        raise TaskError(f"{family} has no more new tasks of level {level}: asked for {count}, found {len(found)}")
    return list(found.values())


def source(family: str) -> Callable[[random.Random, int], Problem]:
    """A family as a source for `draw`: it solves nothing step by step, so that its problems have an answer and no lines."""
    _check(family)
    return partial(_problem, family)


def rebuild(family: str, level: int, index: int) -> Item:
    """The item of that index. Raises TaskError for a family that is not there, a level beyond 1 to 4, or an index out of range."""
    if family not in _registered():
        raise TaskError(f"reasoning-gym has no family {family!r}: core.tasks.gym.families() lists them")
    if level not in (1, 2, 3, 4) or not 0 <= index < INDEXES:
        raise TaskError(f"level {level} and index {index} of {family}: a level is 1 to 4, an index 0 to {INDEXES - 1}")
    seed, place = divmod(index, SIZE) if family in SIZED else (0, index)
    with _one_at_a_time, warnings.catch_warnings(), redirect_stdout(sys.stderr) if family in PRINTING else nullcontext():
        warnings.simplefilter("ignore", ResourceWarning)  # of files that others leave open
        dataset = _dataset(family, level, seed)
        return Item(dataset[place], dataset.category, dataset.score_answer)


def fingerprint(question: str) -> str:
    """16 hex digits of a question."""
    return sha256(normalise_prompt(question).encode()).hexdigest()[:16]


def _check(family: str) -> None:
    if family in REFUSED:
        raise TaskError(f"the family {family} is refused: {REFUSED[family]}")
    if family not in _registered():
        raise TaskError(f"reasoning-gym has no family {family!r}: choose one of {', '.join(families())}")


def _problem(family: str, rng: random.Random, level: int) -> Problem:
    task = generate(family, rng, level)
    return Problem(task, task.reference or "", careful=(), terse=())


def _task(family: str, level: int, index: int, item: Item) -> Task:
    return Task(
        item.question,
        DOMAINS.get(item.category, Domain.LOGIC),
        reference=item.answer,
        key=f"gym:{family}:{fingerprint(item.question)}",
        level=level,
        family=family,
        metadata={"verifier": "gym", "gym": {"family": family, "level": level, "index": index}},
    )


def _answerable(family: str, item: Item) -> bool:
    """Whether there is an answer, of the form that is asked for, and its own scorer takes it."""
    form = FORMS.get(family)
    if not item.answer.strip() or (form is not None and form.fullmatch(item.answer.strip()) is None):
        return False
    return bool(item.score(item.answer, deepcopy(item.entry)) == 1)


@lru_cache(maxsize=1)
def _registered() -> tuple[str, ...]:
    if find_spec("reasoning_gym") is None:
        raise TaskError(MISSING)
    import reasoning_gym  # noqa: F401  fills the table
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS))


@lru_cache(maxsize=64)
def _dataset(family: str, level: int, seed: int) -> Any:
    from reasoning_gym.factory import CURRICULA, DATASETS

    kind, configuration = DATASETS[family]
    size = {"seed": seed, "size": SIZE if family in SIZED else 1}
    if family not in CURRICULA:
        return kind(configuration(**size))
    curriculum = CURRICULA[family]()
    step = STEPS.get(family, LEVELS)[level - 1]
    for name, attribute in curriculum.attributes.items():
        curriculum.set_attr_level(name, min(step, len(attribute.levels) - 1))
    return kind(curriculum.generate_configuration(size))
