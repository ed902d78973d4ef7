"""Checks the steps of a worked answer: every line with an equals sign is a chain whose neighbours must be equal, exactly.

The answer follows from the steps when the last of them ends in it or, of an equation, leaves it as the one solution. Steps after that
which put the answer in again are checks. A last step that does neither leaves a gap.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from core.answers import BOXED, MARKER, plain
from core.types import Task
from core.verifiers.base import StepCheck, short
from core.verifiers.math.calculus import check_identities, read_task
from core.verifiers.math.formula import Linear, Rational, finished_number, show, term_of
from core.verifiers.math.question import read_question

MAX_TEXT = 20_000
MAX_LINE = 1_000
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


CheckedLine = tuple[bool, str, str]


def check_steps(task: Task, text: str) -> StepCheck:
    """Every line with an equals sign as a chain whose neighbours must be equal; a line that no one can read doesn't count.

    Terms in the question's unknown must agree where the question's equation is solved. Reads the last 20,000 characters.
    """
    lines = _checked_lines(task, text)
    wrong = [shown for right, shown, _ in lines if not right]
    return StepCheck(len(lines), len(lines) - len(wrong), wrong[0] if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """How well the whole lines so far hold: the share that does, 0 when the last one checked doesn't, None when none can be checked."""
    lines = _checked_lines(task, partial_text)
    if not lines:
        return None
    return sum(right for right, _, _ in lines) / len(lines) if lines[-1][0] else 0.0


def follows(task: Task, text: str) -> bool:
    """Whether a right answer follows from the steps before it. An answer without any step that can be checked stands for itself."""
    question = read_question(task.prompt)
    if question is None:
        return False
    number = re.compile(rf"(?<![\d.]){re.escape(show(question.value))}(?![\d.])")
    steps = [line for _, _, line in _checked_lines(task, text) if not _is_bare_answer(line)]
    for line in reversed(steps):
        if _reaches(line, question.unknown, question.value):
            return True
        if not number.search(line):
            return False
    return not steps


def _checked_lines(task: Task, text: str) -> list[CheckedLine]:
    """For each line that can be checked: whether it holds, its first wrong part, and the line."""
    if "=" not in text:
        return []
    question = read_question(task.prompt)
    formal = question is None and read_task(task.prompt) is not None
    unknown, value = (question.unknown, question.value) if question is not None and question.unknown else (None, 0)
    checked: list[CheckedLine] = []
    claimed: list[tuple[int, str]] = []
    before = ""
    tail = text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition("\n")[2]
    for line in tail.splitlines():
        bare = line.strip(" \t&")
        if bare.startswith("=") and before:
            bare = f"{before} {bare}"
        before = bare.rpartition("=")[2].strip() if len(bare) <= MAX_LINE else ""
        if "=" in bare and len(bare) <= MAX_LINE:
            found = _check_line(bare, unknown, value)
            if found is not None:
                checked.append((*found, bare))
            elif formal:
                claimed.append((len(checked), bare))
    return _with_identities(task.prompt, checked, claimed) if claimed else checked


def _with_identities(prompt: str, checked: list[CheckedLine], claimed: list[tuple[int, str]]) -> list[CheckedLine]:
    """Chains that start from the expression in the question, put among the lines that were checked: all of such a chain must be equal."""
    texts = [LEAD.sub("", _undressed(line), count=1) for _, line in claimed]
    held = check_identities(prompt, tuple("" if INEXACT.search(text) or SUPPOSED.search(text) else text for text in texts))
    for (place, line), holds in reversed(list(zip(claimed, held, strict=True))):
        if holds is not None:
            checked.insert(place, (holds, "" if holds else short(line), line))
    return checked


def _is_bare_answer(line: str) -> bool:
    """`Answer: x = 6` states a result and is no step."""
    marked = MARKER.search(line)
    rest = line[marked.end() :] if marked else line
    sides = _undressed(rest).split("=")
    stated = all(len(side.strip()) == 1 or finished_number(side.strip()) is not None for side in sides)
    return stated and (marked is not None or BOXED in line)


def _reaches(line: str, unknown: str | None, value: Rational) -> bool:
    """Whether the last chain of a line ends in the value, or can only hold where the unknown has it."""
    heading = HEADING.fullmatch(_undressed(line))
    text = IMPLIES.sub(";", heading[1] if heading else _undressed(line))
    chains = [piece for piece in PIECES.split(text) if "=" in piece]
    sides = [LEAD.sub("", side.strip(), count=1) for side in chains[-1].split("=")] if chains else [""]
    terms = [term for side in sides if isinstance(term := term_of(_without_unit(side).strip()), Linear)]
    if unknown is None:
        return bool(terms) and not terms[-1].unknown and terms[-1].constant == value
    return any(a.slope != b.slope and a.at(value) == b.at(value) for a in terms for b in terms)


def _undressed(line: str) -> str:
    return BOX.sub(r"\1", DRESS.sub("", plain(line))).strip(" \\*_#>.")


@lru_cache(maxsize=8192)
def _check_line(line: str, unknown: str | None, value: Rational) -> tuple[bool, str] | None:
    text = _undressed(line)
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
