"""Whether two short answers say the same in other dress: case, spacing, articles, numbers in words, dates, units. Symmetric.

What differs in more than dress is DIFFERENT; what a strict reader and a kind one would call differently is UNCLEAR.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from core.answers import normalise
from core.verifiers.factual.numerals import read_numerals

MAX_ANSWER = 1_000
MAX_DIGITS = 60
TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)*|(?<![\d.])\.\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|\S")
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
SPACED = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
PLAIN_SPACED = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
INITIALS = re.compile(r"(?<![^\W\d_])(?:[^\W\d_]\.){2,}(?:[^\W\d_](?![^\W_]))?")
DROPPED = frozenset(".,;!\"'“”‘’«»…")
MARKS = {"’": "'", "–": "-", "—": "-", "‐": "-", "‑": "-"}
MONTH_NAMES = (
    "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|september sep sept|october oct|november nov|december dec"
)
MONTHS = {name: number for number, names in enumerate(MONTH_NAMES.split("|"), 1) for name in names.split()}
MONTH = "(" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")\.?"
DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
YEAR, WORD_ENDS = r"(\d{4})(?![\d-])", r"(?![^\W_])"
DATES = (
    (re.compile(rf"\b{DAY} (?:of )?{MONTH},? {YEAR}", re.IGNORECASE | re.ASCII), (3, 2, 1)),
    (re.compile(rf"\b{MONTH} {DAY},? {YEAR}", re.IGNORECASE | re.ASCII), (3, 1, 2)),
    (re.compile(rf"\b{DAY} (?:of )?{MONTH}{WORD_ENDS}", re.IGNORECASE | re.ASCII), (0, 2, 1)),
    (re.compile(rf"\b{MONTH} {DAY}{WORD_ENDS}", re.IGNORECASE | re.ASCII), (0, 1, 2)),
    (re.compile(rf"\b{MONTH},? (?:of )?{YEAR}", re.IGNORECASE | re.ASCII), (2, 1, 0)),
)
UNIT_NAMES = (
    ("m", "1/1000", "mm millimetre millimetres millimeter millimeters"),
    ("m", "1/100", "cm centimetre centimetres centimeter centimeters"),
    ("m", "1", "m metre metres meter meters"),
    ("m", "1000", "km kilometre kilometres kilometer kilometers"),
    ("g", "1/1000", "mg milligram milligrams milligramme milligrammes"),
    ("g", "1", "g gram grams gramme grammes"),
    ("g", "1000", "kg kilogram kilograms kilogramme kilogrammes kilo kilos"),
    ("l", "1/1000", "ml millilitre millilitres milliliter milliliters"),
    ("l", "1", "l litre litres liter liters"),
    ("s", "1", "s sec secs second seconds"),
    ("s", "60", "min mins minute minutes"),
    ("s", "3600", "h hr hrs hour hours"),
    ("s", "86400", "day days"),
    ("s", "604800", "week weeks"),
)
UNITS = {name: (base, Fraction(factor)) for base, factor, names in UNIT_NAMES for name in names.split()}
CASE_MATTERS = re.compile(r"(?:m(?:w|v|a|g|hz|pa|j|n|mol)|[kmgtp]i?b)", re.IGNORECASE)
LEADS = frozenset(("in", "at", "on", "it", "is", "was", "they", "are", "he", "she", "this", "that", "about"))
NO_ARTICLE_BEFORE = frozenset(("flat", "sharp", "major", "minor", "plus", "level", "levels"))


class Likeness(StrEnum):
    """How two answers compare."""

    SAME = "same"
    UNCLEAR = "unclear"
    DIFFERENT = "different"


def compare(one: str, other: str) -> Likeness:
    """Two answers of at most 1,000 characters; longer ones must be alike to the letter. An empty one is like nothing."""
    if max(len(one), len(other)) > MAX_ANSWER:
        return Likeness.SAME if one.split() == other.split() else Likeness.DIFFERENT
    left, right = words(one), words(other)
    if not left or not right:
        return Likeness.DIFFERENT
    if left == right:
        return Likeness.SAME
    return Likeness.UNCLEAR if _kindly(one) == _kindly(other) else Likeness.DIFFERENT


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """The one spelling that `compare` compares: words and signs, with numbers, dates, units and articles in one dress."""
    text = SPACED.sub("", unicodedata.normalize("NFC", text[:MAX_ANSWER]))
    text = normalise(INITIALS.sub(lambda match: match[0].replace(".", "") + " ", text))
    for mark, plain in MARKS.items():
        text = text.replace(mark, plain)
    return tuple(_without_articles(_measured(read_numerals(_tokens(_dated(text))))))


def _dated(text: str) -> str:
    """Dates as 1998-03-12; what is not given is zeros."""
    for pattern, order in DATES:
        text = pattern.sub(lambda match, order=order: _date(match, order), text)  # type: ignore[misc]
    return text


def _date(match: re.Match[str], order: tuple[int, int, int]) -> str:
    year, month, day = (match[group] if group else "" for group in order)
    if (day and not 1 <= int(day) <= 31) or (year and not 1000 <= int(year) <= 2999):
        return match[0]
    return f"{year or '0000'}-{MONTHS[month.casefold()]:02}-{int(day or 0):02}"


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    for match in TOKEN.finditer(text):
        token, start, end = match[0], match.start(), match.end()
        before, after = text[max(0, start - 1) : start], text[end : end + 1]
        if token == "-" and before.isalpha() and after.isalpha():
            continue
        if token in DROPPED and not (token in "\"'" and before.isdigit()):
            continue
        if GROUPED.fullmatch(token):
            token = token.replace(",", "")
        found.append(f"0{token}" if token[0] == "." and len(token) > 1 else token)
    return found


def _measured(tokens: list[str]) -> list[str]:
    """Percent, money and units behind a number; every word without its case, except where the case is the unit's size."""
    found: list[str] = []
    i = 0
    while i < len(tokens):
        token, after = tokens[i], tokens[i + 1] if i + 1 < len(tokens) else ""
        said, taken = [token.casefold()], 1
        if token in ("$", "€") and NUMBER.fullmatch(after):
            said, taken = [after, "dollar" if token == "$" else "euro"], 2
        elif after and len(token) <= MAX_DIGITS and NUMBER.fullmatch(token):
            said, taken = _with_unit(token, tokens[i + 1 : i + 4])
        found += said
        i += taken
    return found


def _with_unit(number: str, after: list[str]) -> tuple[list[str], int]:
    """A number and its unit in one spelling, and how many tokens they take; the number alone when no unit follows that is known."""
    unit, plain = after[0], after[0].casefold()
    if plain == "percent":
        return [number, "%"], 2
    if plain == "per" and after[1:2] == ["cent"]:
        return [number, "%"], 3
    if plain in ("dollars", "euros"):
        return [number, plain[:-1]], 2
    known = UNITS.get(unit) or (UNITS.get(plain) if len(plain) > 3 else None)
    if known and after[1:2] not in (["/"], ["^"], ["per"]):
        base, factor = known
        return [f"={Fraction(number) * factor}", base], 2
    return ([number, unit], 2) if CASE_MATTERS.fullmatch(unit) else ([number], 1)


def _without_articles(tokens: list[str]) -> list[str]:
    kept = [token for token in tokens if token != "the"] or tokens
    if len(kept) > 1 and kept[0] in ("a", "an") and kept[1] not in NO_ARTICLE_BEFORE and kept[1].isalpha():
        return kept[1:]
    return kept


@lru_cache(maxsize=4096)
def _kindly(text: str) -> str:
    """A spelling without accents, spaces, leading words, zeros at the end and a plural: equal here is not yet the same."""
    tokens = list(words(PLAIN_SPACED.sub("", " ".join(text.split()))))
    while len(tokens) > 1 and tokens[0] in LEADS:
        tokens = tokens[1:]
    if tokens and len(tokens[-1]) > 3 and tokens[-1].isalpha():
        tokens[-1] = tokens[-1].removesuffix("s")
    bare = (f"<{_short_number(token)}>" if token[0].isdigit() else token for token in tokens)
    apart = unicodedata.normalize("NFD", "".join(bare))
    return "".join(sign for sign in apart if not unicodedata.combining(sign) and sign != "'")


def _short_number(token: str) -> str:
    return token.rstrip("0").rstrip(".") if NUMBER.fullmatch(token) and "." in token else token
