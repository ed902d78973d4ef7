"""Verifiers turn a task and a text into a verdict. Each is one file with `verify(task, text) -> Verdict` and one row in VERIFIERS."""

from __future__ import annotations

from collections.abc import Callable

from core.registry import STEP_CHECKS, STEP_VALUES, VERIFIERS, resolve
from core.types import Domain, Task, Verdict

Verifier = Callable[[Task, str], Verdict]


def verifier_for(domain: Domain | str) -> Verifier:
    """The verifier of a domain: sync, deterministic, safe from any thread. Raises ConfigError on a domain that isn't in the table."""
    verifier: Verifier = resolve(VERIFIERS, str(domain))
    return verifier


def steps_right(task: Task, text: str) -> float | None:
    """Share of a finished text's checkable steps that hold; None when there are none, or when the domain has no way to check steps."""
    if task.domain not in STEP_CHECKS:
        return None
    share: float | None = resolve(STEP_CHECKS, task.domain)(task, text).share
    return share


def step_value(task: Task, partial_text: str) -> float | None:
    """How promising an unfinished text is, in [0, 1], by its checkable steps; None when nothing can be said."""
    if task.domain not in STEP_VALUES:
        return None
    value: float | None = resolve(STEP_VALUES, task.domain)(task, partial_text)
    return value
