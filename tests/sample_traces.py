"""Traces to train on, made of generated problems and their solutions, so that a test knows what is right in them."""

from __future__ import annotations

import random
from typing import Any

from agents.workers import WORKERS
from core.registry import SOURCES, resolve
from core.tasks.problem import Problem, Style
from core.tasks.splits import split_of
from core.types import Evidence, Outcome, Run, Split, Trace, Usage, Verdict


def problems(count: int, domain: str = "math", seed: int = 0, split: Split = Split.TRAIN) -> list[Problem]:
    """Distinct problems of one side of the fence, levels 1 to 4 in turn."""
    rng, source = random.Random(seed), resolve(SOURCES, domain)
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = source(rng, 1 + len(found) % 4)
        if split_of(problem.task) is split:
            found.setdefault(problem.task.key, problem)
    return list(found.values())


def solved(problem: Problem, style: Style = "careful", **changes: Any) -> Trace:
    """A verified attempt in the words of one of the three authors."""
    text = problem.solution(style)
    reference = problem.task.reference is not None
    trace = Trace(
        id=f"{problem.task.id}-{style}",
        run_id=f"run-{problem.task.id}",
        task=problem.task,
        worker=problem.task.domain.value,
        directive=WORKERS[problem.task.domain][1],
        model="embedded",
        fingerprint=None,
        text=text,
        answer=problem.answer,
        steps=tuple(text.split("\n")),
        verdict=Verdict(Outcome.PASS, 1.0, "equal", Evidence.REFERENCE if reference else Evidence.EXECUTION),
        reward=1.0,
        split=split_of(problem.task),
    )
    return trace.replace(**changes)


def failed(problem: Problem, **changes: Any) -> Trace:
    """An attempt of about the same length that ends with another answer."""
    right = solved(problem)
    text = f"{right.text.rpartition('Answer: ')[0]}Answer: {problem.answer}0"
    verdict = Verdict(Outcome.FAIL, 0.0, "not equal", Evidence.REFERENCE)
    return right.replace(id=f"{right.id}-failed", text=text, answer=f"{problem.answer}0", verdict=verdict, reward=0.1).replace(**changes)


def run_of(*traces: Trace) -> Run:
    """The run that these attempts at one task came from."""
    first = traces[0]
    return Run(first.run_id, first.task, first.worker, first.model, None, "lats", 0, 1.0, (), traces, Usage(), 0.1, 1.0)
