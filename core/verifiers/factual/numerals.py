"""Numbers written in English words within a text, as digits: "three hundred and five", "twenty-one", "1.5 million", "the second"."""

from __future__ import annotations

import re
from fractions import Fraction

SMALL = "zero one two three four five six seven eight nine"
OVER_NINE = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
ORDERED = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
    " seventeenth eighteenth nineteenth twentieth"
)
UNITS = {name: value for value, name in enumerate(SMALL.split())}
TEENS = {name: value for value, name in enumerate(OVER_NINE.split(), 10)}
TENS = {name: 10 * value for value, name in enumerate(ROUND.split(), 2)}
ORDINALS = {name: value for value, name in enumerate(ORDERED.split(), 1)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
DECIMALS = 15
DIGITS = re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII)
LONGEST = 16


def read_numerals(tokens: list[str]) -> list[str]:
    """The tokens with every number in words replaced by its digits; what is no well-formed number stays as it was."""
    found: list[str] = []
    i = 0
    while i < len(tokens):
        said, taken = _numeral([token.casefold() for token in tokens[i : i + LONGEST]], found[-1] if found else "")
        found += said or [tokens[i]]
        i += taken or 1
    return found


def _numeral(words: list[str], before: str) -> tuple[list[str], int]:
    """The digits that the words begin with, and how many words they stand for."""
    word, after = words[0], words[1] if len(words) > 1 else ""
    if DIGITS.fullmatch(word) and after in SCALES:
        return [_digits(Fraction(word) * SCALES[after])], 2
    if word in TENS and 1 <= ORDINALS.get(after, 0) < 10:
        return _ordinal(TENS[word] + ORDINALS[after]), 2
    if word in ORDINALS and not before.isdigit():
        return _ordinal(ORDINALS[word]), 1
    value, taken = _cardinal(words)
    return ([str(value)], taken) if taken else ([], 0)


def _digits(number: Fraction) -> str:
    """A whole number without a point, any other with the decimals it needs, 15 at most."""
    if number.denominator == 1:
        return str(number.numerator)
    whole, rest = divmod(number, 1)
    return f"{whole}.{int(rest * 10**DECIMALS):0{DECIMALS}}".rstrip("0")


def _ordinal(number: int) -> list[str]:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return [str(number), ending]


def _cardinal(words: list[str]) -> tuple[int, int]:
    """Parts below a thousand, each with a smaller scale than the one before: "two million three hundred thousand and five"."""
    total, place, scale = 0, 0, 10**15
    while True:
        joined = 1 if total and words[place : place + 1] == ["and"] else 0
        value, taken = _below_thousand(words[place + joined :])
        end = place + joined + taken
        name = words[end] if taken and end < len(words) else ""
        if not taken or (total and value == 0) or (name in SCALES and SCALES[name] >= scale):
            return total, place
        if name not in SCALES:
            return total + value, end
        scale = SCALES[name]
        total, place = total + value * scale, end + 1


def _below_thousand(words: list[str]) -> tuple[int, int]:
    if words[:1] == ["a"] and words[1:2] and (words[1] == "hundred" or words[1] in SCALES):
        value, taken = 1, 1
    elif words[:1] == ["hundred"]:
        value, taken = 1, 0
    else:
        value, taken = _below_hundred(words)
    if words[taken : taken + 1] != ["hundred"] or not 1 <= value <= 99:
        return (value, taken) if taken else (0, 0)
    value, taken = value * 100, taken + 1
    joined = 1 if words[taken : taken + 1] == ["and"] else 0
    rest, more = _below_hundred(words[taken + joined :])
    return (value + rest, taken + joined + more) if more and rest else (value, taken)


def _below_hundred(words: list[str]) -> tuple[int, int]:
    first, second = (words[0] if words else ""), (words[1] if len(words) > 1 else "")
    if first in TENS:
        return (TENS[first] + UNITS[second], 2) if UNITS.get(second) else (TENS[first], 1)
    for table in (UNITS, TEENS):
        if first in table:
            return table[first], 1
    return 0, 0
