"""Verifiers turn a task and a text into a verdict. Each is one file with `verify(task, text) -> Verdict` and one row in VERIFIERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

from core.registry import STEP_CHECKS, STEP_VALUES, VERIFIERS, resolve
from core.types import Domain, Outcome, Task, Verdict

Verifier = Callable[[Task, str], Verdict]


class Verifiers:
    """All verifiers as one: a task is judged by the one it names in its metadata, `{"verifier": NAME}`, or else by its domain's.

    `rows` adds verifiers to the table or takes the place of its rows; `options` (sandbox, corpus, judge, ...) go to those verifiers
    that have a parameter of the name. Sync, deterministic, safe from any thread.
    """

    def __init__(self, rows: Mapping[str, str] | None = None, **options: Any) -> None:
        self._table = {**VERIFIERS, **(rows or {})}
        self._options = options
        self._bound: dict[str, Verifier] = {}

    def __call__(self, task: Task, text: str) -> Verdict:
        """The verdict. A task that names a verifier which isn't there gets an ERROR, since no other may stand in for it."""
        name = task.metadata.get("verifier", task.domain.value)
        if not isinstance(name, str) or name not in self._table:
            there = ", ".join(sorted(self._table))
            return Verdict(Outcome.ERROR, None, f"the task names the verifier {name!r}: choose one of {there}, or add it to VERIFIERS")
        return self.named(name)(task, text)

    def named(self, name: Domain | str) -> Verifier:
        """The verifier of that name, with its options. Raises ConfigError when there is none."""
        name = str(name)
        if name not in self._bound:
            function = resolve(self._table, name)
            taken = signature(function).parameters
            self._bound[name] = partial(function, **{option: value for option, value in self._options.items() if option in taken})
        return self._bound[name]

    def names(self) -> list[str]:
        """All that can be named, sorted."""
        return sorted(self._table)


verify = Verifiers()  # the shipped ones, with the options they have by default


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
