"""Finished numbers in dress that the formula grammar doesn't read: repeating decimals, words, millions, percentages of mixed numbers."""

from __future__ import annotations

import re
from fractions import Fraction

from core.verifiers.math.formula import MAX_DIGITS, Rational, divide, finished_number

REPEATING = re.compile(
    r"([+-]?) ?(\d{0,30})\.(\d{0,30})(?:\((\d{1,30})\)|\\overline ?\{(\d{1,30})\}|\\bar ?\{(\d{1,30})\}|\\dot ?\{(\d)\})", re.ASCII
)
QUOTED_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:['’]\d{3})+(?:\.\d+)?", re.ASCII)
SCALED = re.compile(r"([+-]?[\d., ]*\d) (hundred|thousand|million|billion|trillion)", re.ASCII)
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
WORDS = {word: value for value, word in enumerate(SMALL.split())}
WORDS |= {word: 10 * (n + 2) for n, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])}


def number_of(text: str) -> Rational | None:
    """The exact value of a number that needs no more work; None for anything else."""
    if len(text) > 3 * MAX_DIGITS:
        return None
    number = finished_number(text)
    if number is not None:
        return number
    if QUOTED_THOUSANDS.fullmatch(text):
        return finished_number(text.replace("'", "").replace("’", ""))
    scaled = SCALED.fullmatch(text)
    if scaled:
        number = finished_number(scaled[1])
        return number * 10 ** SCALES[scaled[2]] if number is not None else None
    if text.endswith("%"):
        number = finished_number(text[:-1].rstrip())
        return divide(number, 100) if number is not None else None
    return _repeating(text) if "." in text else _spelled_out(text)


def _repeating(text: str) -> Rational | None:
    match = REPEATING.fullmatch(text)
    if match is None:
        return None
    sign, whole, fixed, *found = match.groups()
    period = next(digits for digits in found if digits)
    start = Fraction(int(whole + fixed or "0"), 10 ** len(fixed))
    value = start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return divide(-value if sign == "-" else value, 1)


def _spelled_out(text: str) -> int | None:
    """`twelve`, `forty-two`."""
    tens, _, ones = text.lower().partition("-")
    if not ones:
        return WORDS.get(tens)
    large, small = WORDS.get(tens, 0), WORDS.get(ones, 0)
    return large + small if large >= 20 and 0 < small < 10 else None
