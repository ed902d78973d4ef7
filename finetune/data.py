"""Training rows from traces: filters that account for every row they drop, SFT rows, and preference pairs of one task.

Rules and their sources: shared/reference/learning.md. Held-out tasks never pass the first filter; an unknown reward is not a low one,
and is dropped under its own name.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from core.errors import TrainingError
from core.types import Domain, Outcome, Record, Split, Trace

RECOMMENDED = 100
R = TypeVar("R", "Row", "Pair")


@dataclass(frozen=True, slots=True)
class Sieve(Record):
    """One filter: what came in, what it dropped, what is left."""

    name: str
    came: int
    dropped: int

    @property
    def left(self) -> int:
        """What the next filter gets."""
        return self.came - self.dropped


@dataclass(frozen=True, slots=True)
class Funnel(Record):
    """All filters in order; every row that came in is either left at the end or counted at the filter that dropped it."""

    sieves: tuple[Sieve, ...]

    @property
    def came(self) -> int:
        """Rows before the first filter."""
        return self.sieves[0].came if self.sieves else 0

    @property
    def left(self) -> int:
        """Rows after the last filter."""
        return self.sieves[-1].left if self.sieves else 0

    def __str__(self) -> str:
        rows = [f"  {s.name:<28} -{s.dropped:<7} {s.left}" for s in self.sieves]
        return "\n".join([f"{'traces':<30} {'':<8} {self.came}", *rows])


@dataclass(frozen=True, slots=True)
class Row(Record):
    """A prompt and the answer to learn. `directive` is the system message that the worker had, word for word."""

    directive: str
    prompt: str
    completion: str
    task_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class Pair(Record):
    """Two answers to one prompt, the first verified, the second failed."""

    directive: str
    prompt: str
    chosen: str
    rejected: str
    task_id: str
    chosen_id: str
    rejected_id: str


def check_min_reward(min_reward: float) -> None:
    """Raises TrainingError unless it is a reward."""
    if not 0 <= min_reward <= 1:
        raise TrainingError(f"min_reward is {min_reward}, but rewards lie between 0 and 1: the default is 0.7")


def sieve(traces: Iterable[Trace], min_reward: float = 0.7, domain: str | None = None) -> tuple[list[Trace], Funnel]:
    """What may be trained on: of the training side, complete, verified, rewarded, of the domain, each text of a task once."""
    check_min_reward(min_reward)
    if domain is not None and domain not in list(Domain):
        raise TrainingError(f"there is no domain {domain!r}: choose one of {', '.join(Domain)}, or leave it out for all")
    seen: set[tuple[str, str]] = set()

    def first_of_its_kind(trace: Trace) -> bool:
        key = (trace.task.id, " ".join(trace.text.split()))
        fresh = key not in seen
        seen.add(key)
        return fresh

    return _through(
        list(traces),
        [
            ("held out", lambda t: t.split is Split.TRAIN),
            ("incomplete", lambda t: t.complete and bool(t.text.strip())),
            ("not verified", lambda t: t.verified),
            ("reward unknown", lambda t: t.reward is not None),
            (f"reward below {min_reward:g}", lambda t: (t.reward or 0.0) >= min_reward),
            ("other domain", lambda t: domain is None or t.domain == domain),
            ("said before", first_of_its_kind),
        ],
    )


def sft_rows(traces: Sequence[Trace], rng: random.Random, per_task: int = 2) -> tuple[list[Row], Sieve]:
    """One row a trace, at most `per_task` of a task, chosen at random so that no way of working is preferred.

    Raises TrainingError when a held-out trace is among them.
    """
    held_out = sum(trace.split is not Split.TRAIN for trace in traces)
    if held_out:
        raise TrainingError(f"{held_out} of {len(traces)} traces are held out: take those that filter_high_quality lets through")
    rows: list[Row] = []
    for group in _by_task(traces).values():
        kept = rng.sample(group, per_task) if len(group) > per_task else group
        rows += [Row(t.directive, t.query, t.text, t.task.id, t.id) for t in kept]
    return rows, Sieve(f"more than {per_task} of a task", len(traces), len(traces) - len(rows))


def dpo_pairs(
    traces: Iterable[Trace],
    rng: random.Random,
    *,
    min_reward: float = 0.7,
    min_gap: float = 0.4,
    per_task: int = 2,
    length_ratio: float = 2.0,
) -> list[Pair]:
    """Verified over failed answers of the same task under the same directive; lengths alike, so that length is not what is learnt.

    A cut-off answer is never the worse one: it says nothing about its reasoning.
    """
    pairs: list[Pair] = []
    usable = [t for t in traces if t.split is Split.TRAIN and t.complete and t.text.strip() and t.reward is not None]
    for group in _by_task(usable).values():
        good = [t for t in group if t.verified and (t.reward or 0.0) >= min_reward]
        bad = [t for t in group if t.verdict.outcome is Outcome.FAIL]
        fitting = [(a, b) for a, b in product(good, bad) if _comparable(a, b, min_gap, length_ratio)]
        for a, b in rng.sample(fitting, min(per_task, len(fitting))):
            pairs.append(Pair(a.directive, a.query, a.text, b.text, a.task.id, a.id, b.id))
    return pairs


def split_rows(rows: Sequence[R], share: float, rng: random.Random) -> tuple[list[R], list[R]]:
    """(training, evaluation) rows; a task is wholly on one side. With two tasks or more, both sides have some."""
    tasks = sorted({row.task_id for row in rows})
    rng.shuffle(tasks)
    count = min(max(1, round(share * len(tasks))), max(1, len(tasks) - 1))
    chosen = set(tasks[:count])
    return [r for r in rows if r.task_id in chosen], [r for r in rows if r.task_id not in chosen]


def _comparable(good: Trace, bad: Trace, min_gap: float, length_ratio: float) -> bool:
    longer, shorter = max(len(good.text), len(bad.text)), min(len(good.text), len(bad.text))
    return (
        good.query == bad.query
        and good.directive == bad.directive
        and (good.reward or 0.0) - (bad.reward or 0.0) >= min_gap
        and good.text.split() != bad.text.split()
        and longer <= length_ratio * shorter
    )


def _through(traces: list[Trace], filters: list[tuple[str, Callable[[Trace], bool]]]) -> tuple[list[Trace], Funnel]:
    sieves: list[Sieve] = []
    for name, keep in filters:
        left = [trace for trace in traces if keep(trace)]
        sieves.append(Sieve(name, len(traces), len(traces) - len(left)))
        traces = left
    return traces, Funnel(tuple(sieves))


def _by_task(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        groups[trace.task.id].append(trace)
    return groups
