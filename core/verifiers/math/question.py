"""What a prompt states formally: an expression to compute or a linear equation to solve, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from core.answers import normalise
from core.types import Record
from core.verifiers.math.formula import Equation, FormulaError, Rational, finished_number, parse, parse_equation

MAX_PROMPT = 300
ASK = re.compile(r"(?:please )?(?:solve|what is|what's|compute|calculate|evaluate|find|work out)\b[: ]*", re.IGNORECASE)
ASK_FOR = re.compile(
    r"(?:for )?(?:the value of )?([A-Za-z])(?: ?[:,] ?| (?:if|when|where|such that|in)[: ]+)|for ([A-Za-z]) in[: ]+", re.IGNORECASE
)
ASK_FOR_LAST = re.compile(r"(.*\S) for ([A-Za-z])")
LEADING_ZERO = re.compile(r"(?<![\d.,])(?<![\d.,] )0\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question(Record):
    """What a prompt states formally: the value asked for and, for an equation, its unknown."""

    value: Rational
    unknown: str | None = None


def read_question(prompt: str) -> Question | None:
    """The formal question of a prompt, when the prompt holds nothing else: "Solve 17*6+23", "Solve for x: 3x + 7 = 25"."""
    return _read_question(prompt) if len(prompt) <= MAX_PROMPT else None


@lru_cache(maxsize=4096)
def _read_question(prompt: str) -> Question | None:
    text = normalise(prompt).rstrip("? ")
    verb = ASK.match(text)
    text = text[verb.end() :] if verb else text
    asked = ASK_FOR.match(text) or ASK_FOR_LAST.fullmatch(text.rstrip("."))
    name = None
    if asked is not None and asked.re is ASK_FOR_LAST:
        text, name = asked[1], asked[2]
    elif asked is not None:
        text, name = text[asked.end() :], asked[1] or asked[2]
    text = normalise(text)
    if LEADING_ZERO.search(text):
        return None
    try:
        if text.rstrip("= ") != text or "=" not in text:
            return _expression(text.rstrip("= ")) if name is None else None
        equation = parse_equation(text)
    except FormulaError:
        return None
    if equation.solution is None or equation.unknown is None or name not in (None, equation.unknown):
        return None
    return None if _answered(equation) else Question(equation.solution, equation.unknown)


def _expression(text: str) -> Question | None:
    term = parse(text)
    if term.unknown is not None or (finished_number(text) is not None and "^" not in text and "**" not in text):
        return None
    return Question(term.constant)


def _answered(equation: Equation) -> bool:
    """`x = 6` asks for nothing."""
    sides = (equation.left, equation.right)
    return any(a.unknown and a.slope == 1 and not a.constant and not b.unknown for a, b in (sides, sides[::-1]))
