"""Checks the steps of a worked answer: every line with an equals sign is a chain whose neighbours must be equal, exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from core.answers import plain
from core.types import Record, Task
from core.verifiers.formula import FormulaError, Linear, Rational, UndefinedError, parse
from core.verifiers.question import read_question

MAX_TEXT = 20_000
MAX_LINE = 1_000
SHOWN = 80
IMPLIES = re.compile(r"=+>|->|[⇒→⟹]|\\(?:implies|Rightarrow|to)(?![A-Za-z])")
INEXACT = re.compile(r"[<>≤≥≠≈~!:?±]|\\(?:ne|neq|le|leq|ge|geq|approx|pm)(?![A-Za-z])")
SUPPOSED = re.compile(r"\b(?:if|suppose|assume|assuming|try|let|unless|not|wrong|guess)\b", re.IGNORECASE)
DRESS = re.compile(r"\\[()\[\]]|[$&`]")
BOX = re.compile(r"\\boxed\{([^{}]*)\}")
HEADING = re.compile(r"[^=:]*[A-Za-z][^=:]*(?<! ): ?(.*)")
NUMBERED = re.compile(r"\(?\d{1,2}[.)] +(?=\S)", re.ASCII)
BULLET = re.compile(r"[-•+*] +")
PIECES = re.compile(r"; ?|, |\. (?=[A-Z])|\b(?:and|so|then|thus|hence|therefore)\b", re.IGNORECASE)
LEAD = re.compile(
    r"(?:(?:so|then|thus|hence|therefore|now|we|get|have|first|next|finally|that|compute|calculate|since|because|answer|is|it|this"
    r"|gives|means|check|total|result|value|the|final|know|also|again)\b[ ,]*)+",
    re.IGNORECASE,
)
TAIL = re.compile(r"(.*[\d)%]) ((?:[A-Za-z]{2,}(?: |$)){1,3})")
COUNTING = re.compile(
    r"\b(?:times|plus|minus|over|divided|by|of|percent|hundreds?|thousands?|million|billion|dozens?|half|halves|thirds?|quarters?|tens"
    r"|squared|cubed|more|less|than|mod|modulo|remainder|each|per|if|or|not|cents)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class StepCheck(Record):
    """Of the lines with an equals sign, how many could be checked and how many hold. `first_wrong` is the first that doesn't."""

    checked: int
    right: int
    first_wrong: str | None = None

    @property
    def share(self) -> float | None:
        """Right ones among the checked; None when nothing could be checked."""
        return self.right / self.checked if self.checked else None


def check_steps(task: Task, text: str) -> StepCheck:
    """Every line with an equals sign as a chain whose neighbours must be equal; a line that no one can read doesn't count.

    Terms in the question's unknown must agree where the question's equation is solved. Reads the last 20,000 characters.
    """
    lines = _checked_lines(task, text)
    wrong = [shown for right, shown in lines if not right]
    return StepCheck(len(lines), len(lines) - len(wrong), wrong[0] if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """How well the whole lines so far hold: the share that does, 0 when the last one checked doesn't, None when none can be checked."""
    lines = _checked_lines(task, partial_text)
    if not lines:
        return None
    return sum(right for right, _ in lines) / len(lines) if lines[-1][0] else 0.0


def _checked_lines(task: Task, text: str) -> list[tuple[bool, str]]:
    """For each line that can be checked: whether it holds, and its first wrong part."""
    if "=" not in text:
        return []
    question = read_question(task.prompt)
    unknown, value = (question.unknown, question.value) if question is not None and question.unknown else (None, 0)
    checked, before = [], ""
    tail = text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition("\n")[2]
    for line in tail.splitlines():
        bare = line.strip(" \t&")
        if bare.startswith("=") and before:
            bare = f"{before} {bare}"
        before = bare.rpartition("=")[2].strip() if len(bare) <= MAX_LINE else ""
        if "=" in bare and len(bare) <= MAX_LINE:
            found = _check_line(bare, unknown, value)
            if found is not None:
                checked.append(found)
    return checked


@lru_cache(maxsize=8192)
def _check_line(line: str, unknown: str | None, value: Rational) -> tuple[bool, str] | None:
    text = BOX.sub(r"\1", DRESS.sub("", plain(line))).strip(" \\*_#>.")
    marked = BULLET.match(line.strip()) or NUMBERED.match(text)
    without = text[marked.end() :] if marked and marked.re is NUMBERED else text
    found = _check_pieces(without, unknown, value)
    if found is None or not line.strip().startswith("-"):
        return found
    as_minus = _check_pieces("-" + text.lstrip("- "), unknown, value)
    as_bullet = _check_pieces(text.lstrip("- "), unknown, value)
    agreed = as_minus is not None and as_bullet is not None and as_minus[0] == as_bullet[0]
    return as_bullet if agreed else None


def _check_pieces(text: str, unknown: str | None, value: Rational) -> tuple[bool, str] | None:
    if SUPPOSED.search(text):
        return None
    heading = HEADING.fullmatch(text)
    text = IMPLIES.sub(";", heading[1] if heading else text)
    pieces = PIECES.split(text)
    checked, loose = False, False
    for piece in pieces:
        if "=" not in piece:
            loose = loose or any(sign.isdigit() for sign in piece)
            continue
        sides = ["?", *piece.split("=")[1:]] if loose else piece.split("=")
        found = None if INEXACT.search(piece) else _check_chain(sides, unknown, value)
        if found:
            return False, found
        checked, loose = checked or found is not None, False
    return (True, "") if checked else None


def _check_chain(sides: list[str], unknown: str | None, value: Rational) -> str | None:
    """None: nothing to check; "": all neighbours agree; otherwise the first pair that doesn't."""
    sides[0] = LEAD.sub("", sides[0].strip(), count=1) if sides[0].strip() else ""
    sides[-1] = _without_unit(sides[-1].strip())
    terms = [term_of(side.strip()) for side in sides]
    checked = None
    for i in range(len(sides) - 1):
        holds = _holds(terms[i], terms[i + 1], unknown, value)
        if holds is False:
            return short(f"{sides[i].strip()} = {sides[i + 1].strip()}")
        checked = "" if holds else checked
    return checked


def _holds(
    left: Linear | Literal["undefined"] | None, right: Linear | Literal["undefined"] | None, unknown: str | None, value: Rational
) -> bool | None:
    if left is None or right is None:
        return None
    if not isinstance(left, Linear) or not isinstance(right, Linear):
        return False
    letters = {left.unknown, right.unknown} - {None}
    if not letters:
        return left.constant == right.constant
    if letters == {unknown}:
        return left.at(value) == right.at(value)
    return True if left == right else None


def _without_unit(side: str) -> str:
    match = TAIL.fullmatch(side)
    return side if match is None or COUNTING.search(match[2]) else match[1]


def term_of(text: str) -> Linear | Literal["undefined"] | None:
    """A side of a chain: its value, "undefined" when it divides by zero, None when it can't be read."""
    try:
        return parse(text)
    except UndefinedError:
        return "undefined"
    except FormulaError:
        return None


def short(text: str) -> str:
    """For a reason: one short line that any store and terminal can take."""
    line = " ".join(text[: SHOWN * 2].split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."
