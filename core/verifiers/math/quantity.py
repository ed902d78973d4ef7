"""Finished values, read exactly: a number, with its unit and the unknown it was given for. Two of them agree or don't."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from core.types import Record
from core.verifiers.math.expression import read_term
from core.verifiers.math.formula import FormulaError, Linear, Rational, term_of
from core.verifiers.math.numerals import number_of
from core.verifiers.math.trees import Node, symbols
from core.verifiers.math.units import ANGLE, Scale, can_scale, pint_is_there, read_unit, scale_of

MAX_VALUE = 200
UNIT_WORD = r"[A-Za-z°µμΩ¢€£¥₹$][A-Za-z°µμΩ-]*(?:\^\{?-?\d\}?)?"
QUANTITY = re.compile(rf"(.*?(?:[^A-Za-z°µμΩ\\\s/*^-]|\S(?= )))\s*((?<![A-Za-z\\]){UNIT_WORD}(?:(?: per | ?[ */] ?){UNIT_WORD}){{0,4}})")
PIECE = re.compile(rf"([\d.,/ ]*\d) ?({UNIT_WORD})(?: and | ?, ?| |$)")
MONEY_SIGN = re.compile(r"(-?) ?([$€£¥₹]|US\$) ?(-?)(?=[\d.])(.*)")
UNKNOWN = re.compile(r"[A-DF-HJ-Za-df-hj-z]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Value(Record):
    """A finished answer: a number, its unit ("" for none) and the unknown it was given for."""

    number: Rational
    unit: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Quantity(Record):
    """A term that is no finished number, with a unit: `2π cm`."""

    term: Node
    unit: str


def value_of(text: str) -> Value | None:
    """The finished value that a normalised answer states; of a chain, the last, when all of the chain is equal."""
    return _value_of(text) if len(text) <= MAX_VALUE else None


def constant_value(text: str) -> Value | None:
    """The value of an arithmetic term: whoever wrote a reference may leave it unfinished."""
    term = term_of(text)
    return Value(term.constant) if isinstance(term, Linear) and term.unknown is None else None


def agree(one: Value, other: Value) -> bool | None:
    """Whether two values are one; None when pint is missing and would be needed to tell."""
    if None not in (one.name, other.name) and one.name != other.name:
        return False
    if one.unit == other.unit:
        return one.number == other.number
    scaled = _scaled(one), _scaled(other)
    if None in scaled:
        return None if "" not in (one.unit, other.unit) and not pint_is_there() else False
    return scaled[0] == scaled[1]


def quantity_of(text: str) -> Quantity | None:
    """A term with a unit, as a term in base units: an angle in radians, `2π cm` in metres."""
    for number, unit in _splits(text):
        scale = _scale(unit)
        if scale is None or scale.offset:
            continue
        try:
            term = read_term(number)
        except FormulaError:
            continue
        if symbols(term):
            continue
        parts: list[Node] = [["num", str(scale.factor)], term, *([["const", "pi"]] if scale.of_pi else [])]
        return Quantity(["mul", *parts], scale.dimension)
    return None


def is_angle(quantity: Quantity) -> bool:
    """Radians are plain numbers, so an angle may stand against one that holds pi."""
    return quantity.unit == ANGLE


@lru_cache(maxsize=8192)
def _value_of(text: str) -> Value | None:
    sides = [side.strip() for side in text.split("=")]
    name = None
    if len(sides) > 1 and UNKNOWN.fullmatch(sides[0]):
        name, sides = sides[0], sides[1:]
    elif len(sides) == 2 and UNKNOWN.fullmatch(sides[1]):
        name, sides = sides[1], sides[:1]
    found = _measured(sides[-1])
    if found is None or (len(sides) > 1 and found.unit):
        return None
    for side in sides[:-1]:
        term = term_of(side)
        if not isinstance(term, Linear) or term.unknown or term.constant != found.number:
            return None
    return found.replace(name=name)


def _measured(text: str) -> Value | None:
    number = number_of(text)
    if number is not None:
        return Value(number)
    money = MONEY_SIGN.fullmatch(text)
    if money and not (money[1] and money[3]):
        number = number_of(("-" if money[1] or money[3] else "") + money[4])
        return Value(number, money[2]) if number is not None else None
    for left, unit in _splits(text):
        number = number_of(left)
        if number is not None:
            return Value(number, unit)
    return _compound(text)


def _splits(text: str) -> list[tuple[str, str]]:
    match = QUANTITY.fullmatch(text)
    return [(match[1], match[2])] if match else []


def _compound(text: str) -> Value | None:
    """`1 h 30 min`, `5 ft 6 in`: smaller and smaller units of one kind, in the unit of the first."""
    pieces = list(PIECE.finditer(text))
    if len(pieces) < 2 or "".join(piece[0] for piece in pieces) != text:
        return None
    total, last, first = Fraction(0), None, None
    for piece in pieces:
        scale, number = _scale(piece[2]), number_of(piece[1].strip())
        if scale is None or number is None or scale.offset or (last and (scale.dimension != last.dimension or scale.factor >= last.factor)):
            return None
        first, last = first or scale, scale
        total += number * scale.factor
    assert first is not None
    return Value(total / first.factor, pieces[0][2])


def _scaled(value: Value) -> tuple[Fraction, str, bool] | None:
    """In base units; None for a unit that is not on the list."""
    scale = _scale(value.unit)
    if scale is None:
        return None
    return Fraction(value.number) * scale.factor + scale.offset, scale.dimension, scale.of_pi and bool(value.number)


def _scale(unit: str) -> Scale | None:
    names = read_unit(unit) if unit else None
    return scale_of(names) if names is not None and can_scale(names) else None
