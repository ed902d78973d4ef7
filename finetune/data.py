"""Training rows from traces in memory: the simple face of the rules, which account for every trace they drop.

Rules and their sources: shared/reference/learning.md. Held-out tasks never pass the first filter; an unknown reward is not a low one,
and is dropped under its own name. Stores too large for memory go through `finetune.build`, by the same rules.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from core.errors import TrainingError
from core.types import Split, Trace
from finetune.funnel import Funnel, Sieve, Tally
from finetune.heldout import ALIKE, QUOTED, SAME, HeldOut, Leak
from finetune.likeness import loosened
from finetune.pairs import dpo_pairs, edits_of, held_out_of, kto_rows, step_pairs
from finetune.rows import Opinion, Pair, Prompt, Row
from finetune.rules import Attempt, Rules, attempt_of, check_min_reward, first_broken, in_order

__all__ = [
    "RECOMMENDED",
    "Funnel",
    "HeldOut",
    "Opinion",
    "Pair",
    "Prompt",
    "Row",
    "Rules",
    "Sieve",
    "check_min_reward",
    "dpo_pairs",
    "edits_of",
    "kto_rows",
    "sft_rows",
    "sieve",
    "split_rows",
    "step_pairs",
]

RECOMMENDED = 100
SAID_BEFORE = "said before"
R = TypeVar("R", Row, Pair, Opinion, Prompt)


def sieve(
    traces: Iterable[Trace],
    min_reward: float = 0.7,
    domain: str | None = None,
    *,
    rules: Rules | None = None,
    held_out: HeldOut | None = None,
) -> tuple[list[Trace], Funnel]:
    """What may be trained on: of the training side, complete, verified, rewarded, of the domain, each text of a prompt once.

    `rules` takes the place of `min_reward` and `domain`. Without `held_out`, the held-out traces among those given stand for that side.
    """
    rules = rules or Rules(min_reward=min_reward, domain=domain)
    given = list(traces)
    fence = held_out if held_out is not None else held_out_of(given)
    ordered = in_order(rules)
    tally = Tally([*(name for name, _ in ordered), SAME, ALIKE, QUOTED, SAID_BEFORE])
    tally.came = len(given)
    leaks: dict[tuple[str, str], Leak | None] = {}
    said: set[tuple[str, str]] = set()
    kept: list[Trace] = []
    for trace in given:
        attempt = attempt_of(trace)
        name = first_broken(attempt, ordered)
        if name is None and (leak := leak_of(attempt, fence, leaks)):
            name = leak.kind
        if name is None:
            key = (loosened(attempt.query), loosened(attempt.text))
            name = SAID_BEFORE if key in said else None
            said.add(key)
        if name is None:
            kept.append(trace)
        else:
            tally.drop(name, trace.id, trace.text)
    return kept, tally.funnel(len(kept))


def leak_of(attempt: Attempt, fence: HeldOut, known: dict[tuple[str, str], Leak | None]) -> Leak | None:
    """What of the held-out side an attempt would give away; `known` remembers what was found for a question."""
    key = (attempt.task_id, attempt.query)
    if key not in known:
        known[key] = fence.leak_of(attempt.asked)
    return known[key] or fence.quoted_in(loosened(attempt.text))


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


def split_rows(rows: Sequence[R], share: float, rng: random.Random) -> tuple[list[R], list[R]]:
    """(training, evaluation) rows; a task is wholly on one side. With two tasks or more, both sides have some."""
    tasks = sorted({row.task_id for row in rows})
    rng.shuffle(tasks)
    count = min(max(1, round(share * len(tasks))), max(1, len(tasks) - 1))
    chosen = set(tasks[:count])
    return [r for r in rows if r.task_id in chosen], [r for r in rows if r.task_id not in chosen]


def _by_task(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        groups[trace.task.id].append(trace)
    return groups
