"""What every verifier shares: findings become verdicts, with the time they took, and a check that breaks is an ERROR, never a PASS."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Concatenate, ParamSpec

from core.types import Evidence, Outcome, Record, Task, Verdict

log = logging.getLogger(__name__)

Options = ParamSpec("Options")
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """A verdict before it is signed. `details` is plain JSON that shows the evidence: a counter-model, citations, recomputed values."""

    outcome: Outcome
    score: float | None
    reason: str
    evidence: Evidence = Evidence.NONE
    isolation: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def passed(reason: str, evidence: Evidence, **details: Any) -> Finding:
    """All that was asked for holds."""
    return Finding(Outcome.PASS, 1.0, reason, evidence, details=details)


def failed(reason: str, evidence: Evidence, score: float = 0.0, **details: Any) -> Finding:
    """It was checked and does not hold; `score` is the share of it that does, and is kept below 1."""
    return Finding(Outcome.FAIL, min(score, 0.999), reason, evidence, details=details)


def abstained(reason: str, **details: Any) -> Finding:
    """It can't be checked. The reason says what was missing."""
    return Finding(Outcome.ABSTAIN, None, reason, details=details)


def broken(reason: str, **details: Any) -> Finding:
    """The check itself could not be made; that says nothing about the answer."""
    return Finding(Outcome.ERROR, None, reason, details=details)


def verifier(
    name: str, version: str
) -> Callable[[Callable[Concatenate[Task, str, Options], Finding]], Callable[Concatenate[Task, str, Options], Verdict]]:
    """Sign what a `(task, text) -> Finding` function finds. Options are keyword-only and have safe defaults.

    Raise `version` with every change that can change a verdict: verdicts in the store are compared and made again by it.
    """

    def sign(check: Callable[Concatenate[Task, str, Options], Finding]) -> Callable[Concatenate[Task, str, Options], Verdict]:
        def verify(task: Task, text: str, /, *args: Options.args, **options: Options.kwargs) -> Verdict:
            start = perf_counter()
            try:
                found = check(task, text, *args, **options)
            except Exception as error:  # whatever breaks inside a check must not end the run, and must not pass
                log.exception("the %s verifier broke", name)
                found = broken(f"the check broke: {short(repr(error))}")
            milliseconds = (perf_counter() - start) * 1000
            return Verdict(
                found.outcome, found.score, found.reason, found.evidence, name, version, milliseconds, found.isolation, found.details
            )

        functools.update_wrapper(verify, check)
        return verify

    return sign


@dataclass(frozen=True, slots=True)
class StepCheck(Record):
    """Of the steps of an answer, how many could be checked and how many hold. `first_wrong` is the first that doesn't."""

    checked: int
    right: int
    first_wrong: str | None = None

    @property
    def share(self) -> float | None:
        """Right ones among the checked; None when nothing could be checked."""
        return self.right / self.checked if self.checked else None


def short(text: str, limit: int = SHOWN) -> str:
    """A text as it can stand in a reason, in any store and on any terminal: on one line, printable, cut at `limit` characters."""
    line = " ".join(text[: 4 * limit].split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
