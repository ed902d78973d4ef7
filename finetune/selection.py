"""What to ask or train on next: tasks that the worker is unsure of, fails, finds long, or has seen nothing like; or halfway to solved."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from core.errors import TrainingError
from core.types import Outcome, Record, Split, Task, Trace
from finetune.heldout import trainable
from finetune.likeness import characters_of, loosened

Strategy = Literal["uncertainty", "diversity", "error", "complexity", "mixed", "difficulty"]
DIVERSE_AMONG = 2_000  # tasks from which the most different are chosen; of more, a random sample


@dataclass(frozen=True, slots=True)
class Experience(Record):
    """What is known of a task from its attempts: how many passed and failed, the mean reward, steps in the longest, different answers."""

    task: Task
    passed: int
    failed: int
    reward: float | None
    steps: int
    answers: int

    @property
    def attempts(self) -> int:
        """Those that were judged."""
        return self.passed + self.failed

    @property
    def pass_rate(self) -> float:
        """Between 0 and 1, never quite either: a task that was tried once is not known to be hopeless (Laplace's rule)."""
        return (self.passed + 1) / (self.attempts + 2)


def experiences(traces: Iterable[Trace]) -> list[Experience]:
    """One for each task of the training side, in the order in which they first came."""
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        if trainable(trace.task, trace.split) and trace.split is Split.TRAIN:
            groups[trace.task.id].append(trace)
    return [_experience(group) for group in groups.values()]


def choose(known: Sequence[Experience], count: int, strategy: str = "mixed", rng: random.Random | None = None) -> list[Task]:
    """So many tasks, the most worthwhile first; ties are broken at random.

    uncertainty: answers disagree, or the reward is neither high nor low. error: most failures. complexity: most steps and longest
    questions. diversity: each as unlike those before it as can be. difficulty: pass rate nearest to a half, least tried first
    (AdaSTaR). mixed: a quarter each of the first four. Raises TrainingError for a strategy that isn't there.
    """
    if strategy not in get_args(Strategy):
        raise TrainingError(f"there is no strategy {strategy!r}: choose one of {', '.join(get_args(Strategy))}")
    if count < 0:
        raise TrainingError(f"{count} tasks can't be chosen: give 0 or more")
    rng = rng or random.Random(0)
    shuffled = rng.sample(list(known), len(known))
    if strategy == "mixed":
        return [each.task for each in _mixed(shuffled, count)]
    return [each.task for each in _ranked(shuffled, strategy, count)[:count]]


def _ranked(known: Sequence[Experience], strategy: str, count: int) -> list[Experience]:
    if strategy == "diversity":
        return _diverse(known[:DIVERSE_AMONG], count)
    return sorted(known, key=WORTH[strategy], reverse=True)


def _mixed(known: Sequence[Experience], count: int) -> list[Experience]:
    ways = [iter(_ranked(known, name, count)) for name in ("uncertainty", "error", "complexity", "diversity")]
    chosen: dict[str, Experience] = {}
    while len(chosen) < min(count, len(known)):
        before = len(chosen)
        for way in ways:
            fresh = next((each for each in way if each.task.id not in chosen), None)
            if fresh is not None and len(chosen) < count:
                chosen[fresh.task.id] = fresh
        if len(chosen) == before:
            break
    return list(chosen.values())


def _diverse(known: Sequence[Experience], count: int) -> list[Experience]:
    """Farthest first: the next is the one whose nearest neighbour among the chosen is farthest away."""
    shingles = [characters_of(loosened(each.task.prompt)) for each in known]
    nearest = [0.0] * len(known)
    left = list(range(len(known)))
    chosen: list[Experience] = []
    while left and len(chosen) < count:
        place = min(left, key=nearest.__getitem__)
        left.remove(place)
        chosen.append(known[place])
        for other in left:
            common = len(shingles[place] & shingles[other])
            nearest[other] = max(nearest[other], common / (len(shingles[place]) + len(shingles[other]) - common))
    return chosen


def _experience(group: Sequence[Trace]) -> Experience:
    rewards = [trace.reward for trace in group if trace.reward is not None]
    outcomes = [trace.verdict.outcome for trace in group]
    return Experience(
        group[0].task,
        outcomes.count(Outcome.PASS),
        outcomes.count(Outcome.FAIL),
        sum(rewards) / len(rewards) if rewards else None,
        max(len(trace.steps) for trace in group),
        len({loosened(trace.answer) for trace in group if trace.answer}),
    )


def _uncertainty(each: Experience) -> float:
    reward = 0.5 if each.reward is None else each.reward
    disagreement = (each.answers - 1) / each.attempts if each.attempts > 1 and each.answers else 0.0
    return 1 - abs(2 * reward - 1) + min(disagreement, 1.0)


WORTH: dict[str, Callable[[Experience], tuple[float, float]]] = {
    "uncertainty": lambda each: (_uncertainty(each), -each.attempts),
    "error": lambda each: (1 - each.pass_rate, each.failed),
    "complexity": lambda each: (each.steps, len(each.task.prompt)),
    "difficulty": lambda each: (-abs(each.pass_rate - 0.5), -each.attempts),
}
