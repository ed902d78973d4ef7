"""Several answers to one query become one: those that mean the same stand together, and each weighs as much as it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.answers import MARKER, normalise
from core.types import Record
from core.verifiers.math.equivalence import compare
from core.verifiers.math.symbolic import Reply
from finetune.ensemble.answers import Answer

LONGEST = 200  # characters of answers that are compared as mathematics
WALL = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """The answer that won, with those that mean the same, the surest first, and how sure all of them together are, in [0, 1]."""

    winners: tuple[Answer, ...]
    confidence: float

    @property
    def text(self) -> str:
        """All that the surest of them wrote."""
        return self.winners[0].text


def vote(answers: Sequence[Answer]) -> Vote | None:
    """The answer with the most weight; None without one that is complete and sure of itself at all.

    The confidence is the mean, weighted by confidence, of how sure each voter is of the winner: of those who say something else that is
    0. Where all agree and are equally sure it is just that. Copies of one model that were asked the same have one vote.
    """
    voters = [answer for answer in _distinct(answers) if answer.complete and answer.confidence]
    if not voters:
        return None
    groups: list[list[Answer]] = []
    for answer in sorted(voters, key=_sure, reverse=True):
        for group in groups:
            if same_answer(group[0], answer):
                group.append(answer)
                break
        else:
            groups.append([answer])
    winners = max(groups, key=lambda group: sum(map(_sure, group)))
    weight = sum(map(_sure, voters))
    return Vote(tuple(winners), min(1.0, sum(_sure(answer) ** 2 for answer in winners) / weight))


def same_answer(one: Answer, other: Answer) -> bool:
    """Whether they end with the same answer, by the verifiers' normal form. Answers of several lines must be the same line by line."""
    first, second = _stated(one), _stated(other)
    if len(first) > 1 or len(second) > 1:
        return first == second
    return bool(first) and bool(second) and equivalent(first[0], second[0])


def equivalent(one: str, other: str) -> bool:
    """The same in another dress: case, spaces, punctuation and, where figures stand in both, as mathematics."""
    first, second = normalise(one), normalise(other)
    if first == second or first.casefold() == second.casefold():
        return True
    if max(len(first), len(second)) > LONGEST or not (_has_figures(first) and _has_figures(second)):
        return False
    return compare(first, second, WALL) is Reply.SAME or compare(second, first, WALL) is Reply.SAME


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    """One of each model and question; the question differs with the specialization."""
    return list({(answer.model, answer.specialization): answer for answer in answers}.values())


def _stated(answer: Answer) -> list[str]:
    """The lines of what follows the last marker, or of the whole text; a single line without what is around the answer in it."""
    markers = list(MARKER.finditer(answer.text))
    lines = [line.rstrip() for line in answer.text[markers[-1].end() if markers else 0 :].strip().splitlines()]
    return [answer.answer] if len(lines) == 1 and answer.answer is not None else lines


def _has_figures(text: str) -> bool:
    return any(sign.isdigit() or sign in "+-*/^=\\π√" for sign in text)


def _sure(answer: Answer) -> float:
    return answer.confidence or 0.0
