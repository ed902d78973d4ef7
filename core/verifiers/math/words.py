"""Answers in words: yes and no, choices, `no solution`, names, ratios. What can't be told apart for certain stays undecided."""

from __future__ import annotations

import re
from fractions import Fraction

from core.verifiers.math.symbolic import Reply

MAX_WORDS = 80
CLOSED = (
    ("yes", "no"),
    ("true", "false"),
    ("even", "odd"),
    ("positive", "negative"),
    ("rational", "irrational"),
    ("converges", "diverges"),
)
OPPOSITES = {word: pair for pair in CLOSED for word in pair}
NOTHING = re.compile(
    r"(?:there (?:is|are) )?no solutions?|(?:the )?(?:empty|null) set|\\(?:emptyset|varnothing)|∅|\\\{ ?\\\}|\{ ?\}", re.IGNORECASE
)
EVERYTHING = re.compile(r"all real(?: number)?s|all reals|any real number|every real number", re.IGNORECASE)
WITHOUT_VALUE = re.compile(r"undefined|not defined|does not exist|DNE|infinitely many(?: solutions)?|no real solutions?", re.IGNORECASE)
CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer) )?(?:\(([A-Z])\)|([A-Z])[.)]?)")
NAME = re.compile(r"[^\W\d_]+(?:[ '’-][^\W\d_]+)*")
RATIO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)((?: ?: ?\d{1,9}(?:\.\d{1,9})?){1,5})|(\d{1,9}) to (\d{1,9})", re.ASCII)
CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d)?", re.ASCII)


def compare_words(reference: str, answer: str) -> Reply | None:
    """The reply when one of both is words of these kinds; None when neither is, and the comparison goes on."""
    if max(len(reference), len(answer)) > MAX_WORDS:
        return None
    one, other = _settled(reference), _settled(answer)
    if one == other and one:
        return Reply.SAME
    ratios = _ratio(reference), _ratio(answer)
    if None not in ratios:
        return _compare_ratios(reference, answer, ratios[0] == ratios[1])
    if one in OPPOSITES:
        return Reply.DIFFERENT if other in OPPOSITES[one] else Reply.UNREADABLE_ANSWER
    kinds = {_kind(one), _kind(other)}
    if "choice" in kinds and kinds <= {"choice", "letter"}:
        return Reply.SAME if one.strip("()") == other.strip("()") else Reply.DIFFERENT
    if "nothing" in kinds:
        return Reply.DIFFERENT if "words" not in kinds else Reply.DISAGREED
    if "words" in kinds and _kind(one) == "words":
        return Reply.DISAGREED if _is_name(other) else Reply.DIFFERENT
    if _is_name(reference) and len(reference) > 2 and _is_name(answer) and reference.casefold() == answer.casefold():
        return Reply.SAME
    return None


def spelled_in_words(text: str) -> str:
    """Sets that have a name, in signs: `all real numbers` is ℝ."""
    if len(text) > MAX_WORDS:
        return text
    return "∅" if NOTHING.fullmatch(text) else "ℝ" if EVERYTHING.fullmatch(text) else text


def _settled(text: str) -> str:
    """One spelling of a phrase: `nothing` for every way to say that there is no solution, `(B)` for a choice."""
    if NOTHING.fullmatch(text):
        return "nothing"
    if WITHOUT_VALUE.fullmatch(text):
        return text.casefold().removesuffix(" solutions").removesuffix(" solution")
    choice = CHOICE.fullmatch(text)
    if choice and len(text) > 1:
        return f"({choice[1] or choice[2]})"
    return text.casefold() if text.casefold() in OPPOSITES else text if len(text) == 1 and text.isupper() else ""


def _kind(settled: str) -> str:
    if settled == "nothing" or settled in OPPOSITES:
        return settled if settled == "nothing" else "words"
    if settled.startswith("("):
        return "choice"
    return "letter" if len(settled) == 1 else "words" if settled else ""


def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def _ratio(text: str) -> tuple[Fraction, ...] | None:
    match = RATIO.fullmatch(text)
    if match is None:
        return None
    parts = [match[3], match[4]] if match[3] else [match[1], *(part.strip() for part in match[2].split(":")[1:])]
    values = [Fraction(part) for part in parts]
    return tuple(value / values[0] for value in values) if all(values) else None


def _compare_ratios(reference: str, answer: str, agree: bool) -> Reply:
    """`12:30` may be a time, and then it is no ratio."""
    if not agree:
        return Reply.DIFFERENT
    return Reply.UNREADABLE_REFERENCE if CLOCK.fullmatch(reference) or CLOCK.fullmatch(answer) else Reply.SAME
