"""Quotes as the steps of an answer from sources: each must stand there to the character, only white space may run otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import TaskError
from core.types import Task
from core.verifiers.base import StepCheck
from core.verifiers.factual.brief import Brief, read_brief
from core.verifiers.factual.passages import Source, Span, find_quote, quotes, shown

MAX_TEXT = 20_000
MIN_WORDS = 3
MAX_SOURCES = 1_000_000


def check_steps(task: Task, text: str) -> StepCheck:
    """Quotes of three words and more in the last 20,000 characters, looked up in the task's own sources."""
    checked = _checked_quotes(task, text)
    wrong = [shown for right, shown in checked if not right]
    return StepCheck(len(checked), len(checked) - len(wrong), wrong[0] if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """The share of the quotes so far that are right, 0 when the last one isn't, None when there are none."""
    checked = _checked_quotes(task, partial_text)
    if not checked:
        return None
    return sum(right for right, _ in checked) / len(checked) if checked[-1][0] else 0.0


def lost_quotes(brief: Brief, text: str) -> tuple[list[str], list[Span]]:
    """Quotes that neither the sources nor the question hold, and where the others stand."""
    lost: list[str] = []
    found: list[Span] = []
    if not _readable(brief.sources):
        return lost, found
    asked = (Source("question", brief.question),)
    for _, quote in quotes(text[-MAX_TEXT:]):
        span = find_quote(quote, brief.sources)
        if span is not None:
            found.append(span)
        elif find_quote(quote, asked) is None and len(quote.split()) >= (MIN_WORDS if brief.references else 1):
            lost.append(quote)
    return lost, found


def _checked_quotes(task: Task, text: str) -> list[tuple[bool, str]]:
    try:
        sources = read_brief(task).sources
    except TaskError:
        return []
    if not _readable(sources):
        return []
    found = [quote for _, quote in quotes(text[-MAX_TEXT:]) if len(quote.split()) >= MIN_WORDS]
    return [(find_quote(quote, sources) is not None, shown(quote)) for quote in found]


def _readable(sources: Sequence[Source]) -> bool:
    """Beyond a million characters quotes are not looked up: neither right nor wrong."""
    return 0 < sum(len(source.text) for source in sources) <= MAX_SOURCES
