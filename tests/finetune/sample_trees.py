"""Finished search trees whose steps are good or bad by their words, or say nothing of what comes of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from core.types import Domain, NodeRecord, Outcome, Run, Task, Usage

GOOD = ("write the numbers below each other", "carry the one", "check the last digit", "add the tens")
BAD = ("guess a number", "skip the hard part", "take the first number", "round it all")


@dataclass(frozen=True, slots=True)
class Guided(Run):
    """A run that says which process reward guided it."""

    process_reward: str = ""


def by_words(good: bool, rng: random.Random) -> bool:
    return rng.random() < (0.85 if good else 0.15)


def by_chance(good: bool, rng: random.Random) -> bool:
    return rng.random() < 0.5


def trees(
    count: int, passes: Callable[[bool, random.Random], bool] = by_words, *, seed: int = 0, value: float = 0.5, kind: type[Run] = Run
) -> list[Run]:
    rng = random.Random(seed)
    return [_tree(number, passes, rng, value, kind) for number in range(count)]


def _tree(number: int, passes: Callable[[bool, random.Random], bool], rng: random.Random, value: float, kind: type[Run]) -> Run:
    task = Task(f"What is {number}+{rng.randint(1, 99)}?", Domain.CREATIVE, key=f"sum {number}")
    nodes = [NodeRecord("", "", 9, value, False)]
    for i in range(5):
        good = rng.random() < 0.5
        nodes.append(NodeRecord(str(i), f"{rng.choice(GOOD if good else BAD)} {rng.randint(0, 99)}\n", 4, value, False))
        for j in range(4):
            outcome = Outcome.PASS if passes(good, rng) else Outcome.FAIL
            nodes.append(NodeRecord(f"{i}.{j}", f"Answer: {rng.randint(0, 99)}", 1, value, True, outcome))
    more = {"process_reward": "abc"} if kind is Guided else {}
    return kind(f"run-{number}", task, "w", "m", "f", "lats", 0, 1.0, tuple(nodes), (), Usage(), 0.1, float(number), **more)
