"""Guards: what a candidate must not have lost while it got better. Each shows that the loss is small, or says how many tasks it takes.

A guard holds when the one-sided 95 % bound of the loss is within its margin. It is broken when the loss that was seen is not; between
the two it can't tell, and neither can it on fewer than 100 tasks, where even a bad candidate would often pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from core.errors import TrainingError
from core.types import Domain, Record, Task
from finetune.statistics import deviation, lower_bound, mean_bounds, tasks_for_mean

if TYPE_CHECKING:
    from finetune.evaluation import Evaluation

LEAST_TASKS = 100
MARGIN = 0.03
MOST_MORE = 0.20
MOST_UNKNOWN = 0.05
COLUMNS = ("tokens", "cost", "seconds")
RATIOS: Mapping[str, float] = MappingProxyType({"tokens": MOST_MORE})

State = Literal["holds", "broken", "can't tell"]
Result = bool | float | None


@dataclass(frozen=True, slots=True)
class Guard(Record):
    """What one guard found: both means, the bound that decides, and the limit that it must keep.

    `kind` "accuracy": `bound` is the lower bound of candidate minus champion, and the limit is -margin. `kind` "ratio": `bound` is the
    upper bound of candidate / champion, and the limit is 1.2 for 20 % more. `unknown` pairs were left out.
    """

    name: str
    kind: Literal["accuracy", "ratio"]
    state: State
    reason: str
    n: int
    unknown: int
    champion: float
    candidate: float
    bound: float | None
    limit: float
    tasks_needed: int | None = None

    @property
    def holds(self) -> bool:
        """True when the candidate was shown to have kept it."""
        return self.state == "holds"


def accuracy_guard(name: str, champion: Sequence[Result], candidate: Sequence[Result], margin: float = MARGIN) -> Guard:
    """No more than `margin` (a share: 0.03 is three points) worse. Right or wrong, or rewards in [0, 1], paired by task and seed."""
    if not 0 < margin < 1:
        raise TrainingError(f"the margin of the guard {name!r} is {margin}: it is a share between 0 and 1, such as 0.03")
    before, after, unknown = paired(champion, candidate)
    if told := _vacuous(name, len(before), unknown):
        return Guard(name, "accuracy", "can't tell", told, len(before), unknown, *_means(before, after), None, -margin, LEAST_TASKS)
    n, differences = len(before), [b - a for a, b in zip(before, after, strict=True)]
    gained, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    bound = lower_bound(gained, lost, n) if binary([*before, *after]) else mean_bounds(differences)[0]
    change = math.fsum(differences) / n
    needed = tasks_for_mean(change + margin, max(deviation(differences), 1e-9), 0.05)
    state: State = "holds" if bound > -margin else "broken" if change <= -margin else "can't tell"
    reason = f"{name}: {100 * change:+.1f} points, at worst {100 * bound:+.1f}, allowed {-100 * margin:+.1f}"
    return Guard(
        name, "accuracy", state, reason, n, unknown, *_means(before, after), bound, -margin, needed if state == "can't tell" else None
    )


def ratio_guard(name: str, champion: Sequence[float | None], candidate: Sequence[float | None], most_more: float = MOST_MORE) -> Guard:
    """Tokens, dollars or seconds: on average no more than 1 + `most_more` times the champion's, on the same tasks (Fieller, 1954)."""
    if not most_more >= 0:
        raise TrainingError(f"the guard {name!r} allows {most_more} more: give a share of 0 or greater, such as 0.2")
    before, after, unknown = paired(champion, candidate)
    limit = 1 + most_more
    if told := _vacuous(name, len(before), unknown):
        return Guard(name, "ratio", "can't tell", told, len(before), unknown, *_means(before, after), None, limit, LEAST_TASKS)
    if min(*before, *after) < 0:
        raise TrainingError(f"the guard {name!r} got a negative value: tokens, cost and seconds are 0 or greater")
    means = _means(before, after)
    if means[0] == 0:
        state: State = "holds" if means[1] == 0 else "broken"
        told = f"{name}: nothing before, {means[1]:.3g} now"
        return Guard(name, "ratio", state, told, len(before), unknown, *means, None, limit)
    ratio = means[1] / means[0]
    bound = _ratio_bound(before, after)
    spare = [limit * a - b for a, b in zip(before, after, strict=True)]
    needed = tasks_for_mean(math.fsum(spare) / len(spare), max(deviation(spare), 1e-9), 0.05)
    state = "broken" if ratio > limit else "holds" if bound is not None and bound <= limit else "can't tell"
    worst = "unknown" if bound is None else f"{bound:.2f}"
    reason = f"{name}: {ratio:.2f} times the champion's, at worst {worst}, allowed {limit:.2f}"
    return Guard(name, "ratio", state, reason, len(before), unknown, *means, bound, limit, needed if state == "can't tell" else None)


def evaluation_guards(
    champion: Evaluation,
    candidate: Evaluation,
    trained: Domain | None = None,
    *,
    ratios: Mapping[str, float] = RATIOS,
    margin: float = MARGIN,
) -> list[Guard]:
    """The guards that two evaluations of the same tasks give: each domain but the `trained` one, format, and what `ratios` name.

    Format: the answer ended by itself, and one can be read from it. `ratios` name the columns of an Evaluation that may not grow by more
    than that share: tokens, cost, seconds. A worker that is to learn to write more steps needs more room there, or an empty mapping.
    """
    if champion.tasks != candidate.tasks:
        raise TrainingError("the two evaluations are about different tasks: evaluate champion and candidate on the same ones")
    found = []
    for domain in sorted({task.domain for task in champion.tasks} - {trained}) if trained else ():
        there = [i for i, task in enumerate(champion.tasks) if task.domain is domain]
        found.append(accuracy_guard(domain, [champion.right[i] for i in there], [candidate.right[i] for i in there], margin))
    found.append(accuracy_guard("format", well_formed(champion), well_formed(candidate), margin))
    for name, most_more in ratios.items():
        if name not in COLUMNS:
            raise TrainingError(f"there is no guard by {name!r}: choose from {', '.join(COLUMNS)}")
        before, after = (side[name] or (None,) * len(side.tasks) for side in (champion, candidate))
        found.append(ratio_guard(name, before, after, most_more))
    return found


def well_formed(evaluation: Evaluation, answer_of: Callable[[Task, str], str | None] | None = None) -> list[bool]:
    """Per answer: it ended by itself, and an answer can be read from it. `answer_of` reads it, by default as the domain's verifier does."""
    from core.attempts import answer_of as read

    read_answer = answer_of or read
    ended = evaluation.ended or (True,) * len(evaluation.texts)
    return [bool(end and read_answer(task, text)) for task, text, end in zip(evaluation.tasks, evaluation.texts, ended, strict=True)]


def paired(champion: Sequence[Result], candidate: Sequence[Result]) -> tuple[list[float], list[float], int]:
    """(champion, candidate, how many pairs were left out because a side is None or not a finite number)."""
    if len(champion) != len(candidate):
        raise TrainingError(f"the gate pairs results: {len(champion)} of the champion, {len(candidate)} of the candidate")
    known = [(a, b) for a, b in zip(champion, candidate, strict=True) if _known(a) and _known(b)]
    return [float(a or 0) for a, _ in known], [float(b or 0) for _, b in known], len(champion) - len(known)


def binary(values: Iterable[float]) -> bool:
    """Whether all are right or wrong, 1 or 0."""
    return all(value in (0, 1) for value in values)


def too_many_unknown(unknown: int, n: int) -> bool:
    """More than 5 % of all pairs: then those that are left may be a choice that somebody made."""
    return unknown > MOST_UNKNOWN * (unknown + n)


def _known(value: Result) -> bool:
    return value is not None and math.isfinite(value)


def _vacuous(name: str, n: int, unknown: int) -> str | None:
    if n < LEAST_TASKS:
        return f"{name}: {n} tasks, and a guard needs at least {LEAST_TASKS} to mean anything"
    if too_many_unknown(unknown, n):
        return f"{name}: {unknown} of {n + unknown} pairs have an unknown side, more than {MOST_UNKNOWN:.0%}"
    return None


def _means(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    n = max(1, len(before))
    return math.fsum(before) / n, math.fsum(after) / n


def _ratio_bound(before: Sequence[float], after: Sequence[float]) -> float | None:
    """The least r for which after - r * before is below 0 beyond chance; None when the champion's mean is too uncertain to divide by."""

    def above(r: float) -> bool:
        return mean_bounds([b - r * a for a, b in zip(before, after, strict=True)])[1] > 0

    low = high = math.fsum(after) / math.fsum(before)
    while above(high):
        high = max(2 * high, 1e-9)
        if high > 1e9:
            return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
