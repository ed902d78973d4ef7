"""How often is a worker right? Greedy, one shot, on tasks with reference answers, judged by their domain's verifier."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.npc import NPC
from core.errors import TaskError
from core.types import Model, Record, Reply, Request, Sampling, Task
from core.verifiers import Verifier, verify
from finetune.gate import Interval, wilson


@dataclass(frozen=True, slots=True)
class Evaluation(Record):
    """Right or wrong for every task, in order, with what was answered; where they were kept, also whether the answer ended by itself,
    its tokens, its cost in dollars, and the seconds until it was there, which others who asked at the same time had their share in."""

    tasks: tuple[Task, ...]
    right: tuple[bool, ...]
    texts: tuple[str, ...]
    ended: tuple[bool, ...] = ()
    tokens: tuple[int, ...] = ()
    cost: tuple[float | None, ...] = ()
    seconds: tuple[float, ...] = ()

    @property
    def overall(self) -> Interval:
        """Accuracy over all tasks."""
        return wilson(sum(self.right), len(self.right))

    def by(self, key: Callable[[Task], object]) -> dict[str, Interval]:
        """Accuracy by level, family, domain: whatever `key` says of a task."""
        groups: dict[str, list[bool]] = defaultdict(list)
        for task, right in zip(self.tasks, self.right, strict=True):
            groups[str(key(task))].append(right)
        return {name: wilson(sum(group), len(group)) for name, group in sorted(groups.items())}


async def evaluate(
    model: Model,
    worker: NPC,
    tasks: Sequence[Task],
    *,
    banned_start: str | None = None,
    max_tokens: int = 256,
    verifier: Verifier = verify,
    on_answer: Callable[[], None] | None = None,
) -> Evaluation:
    """Greedy answers to all tasks. `banned_start` forbids how an answer begins: "Answer" makes a worker write steps first."""
    without = sum(task.reference is None and not task.metadata for task in tasks)
    if not tasks:
        raise TaskError("evaluation needs at least one task")
    if without:
        raise TaskError(f"{without} of {len(tasks)} tasks have nothing to verify an answer by: a reference, or tests")
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)

    async def answer(task: Task) -> tuple[Reply, float]:
        started = time.monotonic()
        reply = await model.complete(Request(worker.messages(task.prompt), 1, sampling, banned_start=banned_start))
        if on_answer:
            on_answer()
        return reply, time.monotonic() - started

    replies = await asyncio.gather(*(answer(task) for task in tasks))
    answers = [reply.completions[0] for reply, _ in replies]
    return Evaluation(
        tuple(tasks),
        tuple(a.finish == "end" and verifier(task, a.text).passed for task, a in zip(tasks, answers, strict=True)),
        tuple(a.text for a in answers),
        tuple(a.finish == "end" for a in answers),
        tuple(reply.usage.completion_tokens for reply, _ in replies),
        tuple(reply.usage.cost for reply, _ in replies),
        tuple(seconds for _, seconds in replies),
    )
