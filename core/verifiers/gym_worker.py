"""The worker process of `gym`: makes an item again and has its scorer judge an answer. One JSON line in, one out, until its input ends."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from fractions import Fraction
from functools import lru_cache
from typing import Any

from core.tasks.gym import Item, fingerprint, rebuild
from core.verifiers.child import begin, serve

CPU_SECONDS = 10.0
MEMORY = 2 * 1024**3
KEPT = 256
SIGNS = re.compile(r"\d+|[-+*/()]")


def main() -> None:
    """Serve until the input ends. Whatever the scorers print goes to stderr."""
    replies = begin(MEMORY)
    _item("chain_sum", 1, 0)
    serve(replies, answer, CPU_SECONDS)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the scorer gives: `{"score", "gold", "question"}`, or `{"error"}` when it breaks."""
    family = request["family"]
    try:
        item = _item(family, request["level"], request["index"])
        given = item.answer if _lines(request["answer"]) == _lines(item.answer) else request["answer"]
        score = item.score(given, deepcopy(item.entry))  # some write into it
        if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
            return {"error": f"its scorer gave {score!r}"}
        if family == "countdown" and score == 1 and not _reaches(given, item.entry["metadata"]):
            score = 0.0
    except Exception as error:  # noqa: BLE001  foreign scorers raise what they like, and that is an ERROR to tell
        return {"error": f"its scorer broke, {type(error).__name__}: {str(error)[:200]}"}
    return {"score": float(score), "gold": item.answer, "question": fingerprint(item.question)}


@lru_cache(maxsize=KEPT)
def _item(family: str, level: int, index: int) -> Item:
    return rebuild(family, level, index)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _reaches(expression: str, metadata: dict[str, Any]) -> bool:
    """Whether it is the target exactly, with each number used once: the scorer rounds."""
    signs = SIGNS.findall(expression)
    used = sorted(int(sign) for sign in signs if sign.isdigit())
    return used == sorted(metadata["numbers"]) and _sum(signs) == metadata["target"] and not signs


def _sum(signs: list[str]) -> Fraction:
    value = _product(signs)
    while signs and signs[0] in "+-":
        value = value + _product(signs) if signs.pop(0) == "+" else value - _product(signs)
    return value


def _product(signs: list[str]) -> Fraction:
    value = _factor(signs)
    while signs and signs[0] in "*/":
        value = value * _factor(signs) if signs.pop(0) == "*" else value / _factor(signs)
    return value


def _factor(signs: list[str]) -> Fraction:
    sign = signs.pop(0)
    if sign == "-":
        return -_factor(signs)
    if sign == "(":
        value = _sum(signs)
        if not signs or signs.pop(0) != ")":
            raise ValueError("a bracket stays open")
        return value
    return Fraction(int(sign))


if __name__ == "__main__":
    main()
