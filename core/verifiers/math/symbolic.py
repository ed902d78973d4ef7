"""Asks a pool of worker processes, which are killed at the wall, what only algebra can tell. The host process parses none of it.

Two engines stand there: SymPy over the trees of `expression`, and Math-Verify over texts within limits, for what the trees don't cover.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from itertools import accumulate
from time import monotonic
from typing import Any

from core.verifiers.pool import BrokenWorkerError, Pool, WallError

WALL = 0.9
MAX_LENGTH = 200
MAX_DEPTH = 8
MAX_DIGITS = 20
MAX_EXPONENT_DIGITS = 2

ALLOWED = re.compile(r"[A-Za-z0-9 \\{}()\[\]+\-*/^_=<>.,|√π∞≤≥±∪∩]*", re.ASCII)
PLAIN_WORD = re.compile(r"(?<!\\)(?<![A-Za-z\\])([A-Za-z]{2,})", re.ASCII)
COMMAND = re.compile(r"\\([A-Za-z]+)", re.ASCII)
TOO_MANY_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1}}}", re.ASCII)
LARGE_POWER = re.compile(rf"(?:\^|\*\*)[ {{(+-]{{0,8}}\d{{{MAX_EXPONENT_DIGITS + 1}}}", re.ASCII)
TOWER = re.compile(r"(?:\^|\*\*)[^\^+\-*/=,<>]{0,40}(?:\^|\*\*)", re.ASCII)
LOGARITHM = re.compile(r"\\log_(?:\d|\{\d+\})", re.ASCII)
SIGNS_IN_A_ROW = re.compile(r"[-+*/^_|±]{3}")
READ_IN_TWO_WAYS = re.compile(r"(?<![A-Za-z])_|[})\]] *\d|\d +\d", re.ASCII)
PRODUCT_OF_LETTERS = re.compile(r"[abcxyzn]{2,3}", re.ASCII)
WORDS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "exp", "sqrt", "pi"]
)
COMMANDS = WORDS - {"exp", "sqrt"} | frozenset(
    [
        "frac",
        "sqrt",
        "pi",
        "theta",
        "alpha",
        "beta",
        "gamma",
        "lambda",
        "mu",
        "infty",
        "pm",
        "mp",
        "le",
        "leq",
        "ge",
        "geq",
        "lt",
        "gt",
        "in",
        "cup",
        "cap",
        "emptyset",
        "exp",
        "circ",
        "begin",
        "end",
        "pmatrix",
        "bmatrix",
        "mathbb",
        "ldots",
    ]
)
MATRIX_WORDS = frozenset(("pmatrix", "bmatrix"))

log = logging.getLogger(__name__)
pool = Pool("core.verifiers.math.symbolic_worker")


class Reply(StrEnum):
    """What came of a comparison. Only SAME may lead to a PASS."""

    SAME = "same"
    DIFFERENT = "different"
    UNFINISHED = "unfinished"
    UNREADABLE_REFERENCE = "unreadable reference"
    UNREADABLE_ANSWER = "unreadable answer"
    DISAGREED = "disagreed"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    MISSING = "missing"
    NO_PINT = "pint is missing"


def ask(request: Mapping[str, Any], wall: float = WALL) -> tuple[Reply, str]:
    """The reply to one request of `symbolic_worker`, and what it computed, for a reason. `wall`: seconds once a worker has started."""
    if find_spec("math_verify") is None:
        return Reply.MISSING, ""
    try:
        response = pool.ask(request, wall)
        return Reply(response["reply"]), str(response.get("shown", ""))
    except WallError:
        return Reply.TIMEOUT, ""
    except (BrokenWorkerError, OSError, ValueError, KeyError) as error:
        log.warning("a symbolic worker broke and is started again: %s", error)
        return Reply.BROKEN, ""


def compare(reference: str, answer: str, wall: float = WALL) -> Reply:
    """Whether Math-Verify finds that both mean the same, asked in both orders within one wall.

    A list without brackets in another order is DISAGREED: it could be a set, it could be a point.
    """
    if not allowed(reference):
        return Reply.UNREADABLE_REFERENCE
    if not allowed(answer):
        return Reply.UNREADABLE_ANSWER
    end = monotonic() + wall
    if not (_is_list(reference) or _is_list(answer)):
        return _math_verify(reference, answer, wall)
    in_order = _math_verify(f"({reference})", f"({answer})", wall)
    if in_order is not Reply.DIFFERENT:
        return in_order
    as_sets = _math_verify(rf"\{{{reference}\}}", rf"\{{{answer}\}}", max(end - monotonic(), 0.01))
    return Reply.DISAGREED if as_sets is not Reply.DIFFERENT else in_order


def allowed(text: str) -> bool:
    """Whether a text is short, shallow, small in its numbers and made of mathematics alone."""
    if not text.strip() or len(text) > MAX_LENGTH or not ALLOWED.fullmatch(text) or "__" in text:
        return False
    if text.rstrip()[-1] in "+-*/^_=<>" or _depths(text)[-1] != 0 or min(_depths(text)) < 0:
        return False
    if TOO_MANY_DIGITS.search(text) or LARGE_POWER.search(text) or TOWER.search(text) or SIGNS_IN_A_ROW.search(text):
        return False
    if READ_IN_TWO_WAYS.search(LOGARITHM.sub(r"\\log", text)):
        return False
    words = PLAIN_WORD.findall(text)
    if not all(word in WORDS or word in MATRIX_WORDS or PRODUCT_OF_LETTERS.fullmatch(word) for word in words):
        return False
    return set(COMMAND.findall(text)) <= COMMANDS and max(_depths(text)) <= MAX_DEPTH


def close() -> None:
    """End the worker processes; the next comparison starts new ones."""
    pool.close()


def _math_verify(reference: str, answer: str, wall: float) -> Reply:
    return ask({"op": "math_verify", "left": reference, "right": answer}, wall)[0]


def _is_list(text: str) -> bool:
    return "," in text and text[0] not in "([{\\"


def _depths(text: str) -> list[int]:
    """How many brackets are open at the start and after each sign."""
    return list(accumulate(((sign in "([{") - (sign in ")]}") for sign in text), initial=0))
