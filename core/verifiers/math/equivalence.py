"""Whether two answers mean the same: words, then finished numbers with their units, then algebra in a worker process.

Exact throughout: 0.333 is not 1/3, and a reference of 0.33 does not accept 1/3. A number must be finished: `102 + 23` is not the same as
125, though a reference may leave its own number unfinished.
"""

from __future__ import annotations

import re
from typing import Any

from core.answers import normalise
from core.verifiers.math import symbolic
from core.verifiers.math.expression import read
from core.verifiers.math.formula import FormulaError
from core.verifiers.math.quantity import agree, constant_value, is_angle, quantity_of, value_of
from core.verifiers.math.symbolic import WALL, Reply
from core.verifiers.math.trees import Node, mentions
from core.verifiers.math.words import compare_words, spelled_in_words

MAX_LENGTH = 2_000
NO_REFERENCE_VALUES = frozenset(("", "nan", "null", "n/a", "inf"))
LETTER = re.compile(r"[A-Za-z]", re.ASCII)
NAMED = re.compile(r"([A-Za-z](?:\([A-Za-z]\))?) ?= ?([^=]+)", re.ASCII)

HEXADECIMAL = re.compile(r"(?<![\w.])0[xX][0-9A-Fa-f]", re.ASCII)


def compare(reference: str, answer: str, wall: float = WALL) -> Reply:
    """Whether an answer means the same as a reference. What needs algebra may take `wall` seconds."""
    if len(reference) > MAX_LENGTH or len(answer) > MAX_LENGTH:
        return Reply.UNREADABLE_REFERENCE if len(reference) > MAX_LENGTH else Reply.UNREADABLE_ANSWER
    wanted, given = spelled(reference), spelled(answer)
    if wanted.casefold() in NO_REFERENCE_VALUES or ("=" in wanted and not LETTER.search(wanted) and value_of(wanted) is None):
        return Reply.UNREADABLE_REFERENCE
    if wanted == given:
        return Reply.SAME
    if HEXADECIMAL.search(wanted):  # else 0x9 would be nought times x times nine
        return Reply.UNREADABLE_REFERENCE
    in_words = compare_words(wanted, given)
    if in_words is not None:
        return in_words
    wanted, given = spelled_in_words(wanted), spelled_in_words(given)
    number = value_of(wanted) or constant_value(wanted)
    if number is not None:
        found = value_of(given)
        if found is not None:
            return {True: Reply.SAME, False: Reply.DIFFERENT, None: Reply.NO_PINT}[agree(number, found)]
        if not number.unit:
            return Reply.DIFFERENT
    return _compare_quantities(wanted, given, wall) or _compare_terms(wanted, given, wall)


def spelled(answer: str) -> str:
    """One spelling, and `%` for per cent."""
    text = normalise(answer)
    for word in (" percent", " per cent"):
        if text.endswith(word):
            return text.removesuffix(word) + "%"
    return text


def same_readings(lefts: tuple[Node, ...], rights: tuple[Node, ...], wall: float) -> Reply:
    """Whether two answers mean the same, whichever of them comes first and however each is read."""
    one, other = sorted(([*lefts], [*rights]), key=repr)
    reply = symbolic.ask({"op": "same", "left": one, "right": other}, wall)[0]
    vague = reply is Reply.DIFFERENT and any(_has_vague_logarithm(node) for node in (*lefts, *rights))
    return Reply.DISAGREED if vague else reply


def readings(text: str) -> tuple[Node, ...]:
    """What `expression.read` makes of it; () where it can't."""
    try:
        return read(text)
    except FormulaError:
        return ()


def _compare_quantities(wanted: str, given: str, wall: float) -> Reply | None:
    """Terms with units and angles; None when neither has a unit, or when what looks like one may be a letter."""
    one, other = quantity_of(wanted), quantity_of(given)
    if one is not None and other is not None:
        return same_readings((one.term,), (other.term,), wall) if one.unit == other.unit else Reply.DIFFERENT
    measured, bare = (one, given) if one is not None else (other, wanted)
    terms = readings(bare)
    if measured is None or not is_angle(measured) or len(terms) != 1 or not mentions(terms[0], "const", "pi"):
        return None
    return same_readings((measured.term,), terms, wall)


def _compare_terms(wanted: str, given: str, wall: float) -> Reply:
    """Trees where both can be read, with one reply for all of their readings; Math-Verify where one can't."""
    lefts, rights = readings(wanted), readings(given)
    if lefts and not rights and "\\" not in given:
        return Reply.UNREADABLE_ANSWER
    if not lefts or not rights:
        return _compare_texts(wanted, given, wall)
    return same_readings(lefts, rights, wall)


def _compare_texts(reference: str, answer: str, wall: float) -> Reply:
    """Math-Verify, behind guards for what it is known to let through: chains, several answers for one."""
    reference, answer = (text.replace("<=", r"\le ").replace(">=", r"\ge ") for text in (reference, answer))
    if answer.count("=") > reference.count("=") and not ("=" not in reference and NAMED.fullmatch(answer)):
        return Reply.DIFFERENT if symbolic.allowed(reference) else Reply.UNREADABLE_REFERENCE
    left, right = NAMED.fullmatch(reference), NAMED.fullmatch(answer)
    if left and (right[1] == left[1] if right else "=" not in answer):
        reference = left[2]
        answer = right[2] if right else answer
    elif right and "=" not in reference:
        answer = right[2]
    if reference.count(",") != answer.count(","):
        return Reply.DIFFERENT if symbolic.allowed(reference) else Reply.UNREADABLE_REFERENCE
    return symbolic.compare(reference.strip(), answer.strip(), wall)


def _has_vague_logarithm(node: Any) -> bool:
    """`log x`, without a base."""
    if not isinstance(node, list):
        return False
    return (node[:2] == ["fn", "log"] and len(node) == 3) or any(_has_vague_logarithm(part) for part in node)
