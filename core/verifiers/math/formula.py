"""A small grammar of our own for exact arithmetic and linear terms in one unknown: model text is read here and never run.

Left out on purpose, because readers differ: towers of powers, a minus before a power, a product without a sign after a division
(`8/2(2+2)`), a number before a fraction. All of these raise FormulaError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from core.answers import plain
from core.types import Record

Rational = int | Fraction

MAX_LENGTH = 400
MAX_DEPTH = 20
MAX_DIGITS = 100
MAX_EXPONENT = 1000
MAX_BITS = 4096

NUMBER = (
    r"[1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?:\.\d+)?"
    r"|[1-9]\d{0,2}(?: \d{3})+(?!\d| \d)(?:\.\d+)?"
    r"|\d+(?:\.\d+)?(?:[eE][-+]?\d{1,4}(?!\d))?"
    r"|\.\d+"
)
TOKEN = re.compile(rf" *(?:(?P<n>{NUMBER})|(?P<x>[A-Za-z])(?![A-Za-z])|(?P<F>\\frac)|(?P<o>\*\*|[-+*/^%(){{}}\[\]]))", re.ASCII)
CROSS = re.compile(r"(?<=\d) ?[xX] ?(?=\d)", re.ASCII)
HEXADECIMAL = re.compile(r"(?<![\d.])0[xX]", re.ASCII)
CLOSES = {"(": ")", "[": "]", "{": "}"}
CONSTANTS = "eEiI"
EXPONENTS = ("n", "-n", "{n}", "{-n}", "(n)", "(-n)")
POWERS = (f"{front}n^{exponent}" for front in ("", "n*") for exponent in EXPONENTS)
FINISHED = frozenset(("n", "n%", "n/n", "F{n}{n}", "F{-n}{n}", "nn/n", "nF{n}{n}", *POWERS))


class FormulaError(ValueError):
    """The text is no formula of this grammar, could be read in two ways, or is too large."""


class UndefinedError(FormulaError):
    """The formula divides by zero."""


@dataclass(frozen=True, slots=True)
class Linear(Record):
    """slope * unknown + constant. `unknown` is None when the text has none, and then the slope is 0."""

    slope: Rational
    constant: Rational
    unknown: str | None = None

    def at(self, value: Rational) -> Rational:
        """Its value where the unknown has that value."""
        return self.slope * value + self.constant


@dataclass(frozen=True, slots=True)
class Equation(Record):
    """Two linear terms said to be equal."""

    left: Linear
    right: Linear

    @property
    def unknown(self) -> str | None:
        """The letter that is asked for."""
        return self.left.unknown or self.right.unknown

    @property
    def solution(self) -> Rational | None:
        """The one value that solves it; None when none or all do."""
        slope = self.left.slope - self.right.slope
        return divide(self.right.constant - self.left.constant, slope) if slope else None


@lru_cache(maxsize=8192)
def parse(text: str) -> Linear:
    """The exact value of a formula. Raises FormulaError."""
    tokens = _tokens(text)
    unknown = {value for kind, value in tokens if kind == "x"}
    if len(unknown) > 1 or unknown & set(CONSTANTS):
        raise FormulaError(f"{sorted(unknown)} stand in it: at most one unknown, and not e or i")
    slope, constant = _Reader(tokens).whole()
    return Linear(slope, constant, next(iter(unknown), None))


def parse_equation(text: str) -> Equation:
    """`left = right`, with at most one unknown in both. Raises FormulaError."""
    sides = text.split("=")
    if len(sides) != 2:
        raise FormulaError(f"{len(sides) - 1} equals signs: one makes an equation")
    equation = Equation(parse(sides[0]), parse(sides[1]))
    if equation.left.unknown and equation.right.unknown and equation.left.unknown != equation.right.unknown:
        raise FormulaError("two unknowns: one is the most")
    return equation


def finished_number(text: str) -> Rational | None:
    """The value of a number that needs no more work: `-3`, `1,000`, `0.25`, `50%`, `3/4`, `2 1/2`, `1.2*10^6`; None for a sum or `6/2`.

    A fraction may be unreduced (2/4), but not one that is a whole number.
    """
    try:
        tokens = _tokens(text)
        sign, body = (1, tokens) if tokens[0][0] not in "+-" else (-1 if tokens[0][0] == "-" else 1, tokens[1:])
        shape = "".join(kind for kind, _ in body)
        ambiguous = len(body) < len(tokens) and shape.startswith("n^")
        return sign * _finished(shape, body) if shape in FINISHED and not ambiguous else None
    except FormulaError:
        return None


def term_of(text: str) -> Linear | Literal["undefined"] | None:
    """A text: its value, "undefined" when it divides by zero, None when it can't be read."""
    try:
        return parse(text)
    except UndefinedError:
        return "undefined"
    except FormulaError:
        return None


def divide(a: Rational, b: Rational) -> Rational:
    """a / b, as an int where it is whole. Raises UndefinedError on b = 0."""
    if not b:
        raise UndefinedError("it divides by zero")
    quotient = Fraction(a) / b
    return quotient.numerator if quotient.denominator == 1 else quotient


def show(value: Rational) -> str:
    """For people: short, also when the number isn't."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 200:
        return "a number of more than 60 digits"
    return str(value)


def _finished(shape: str, body: list[tuple[str, str]]) -> Rational:
    numbers = [value for kind, value in body if kind == "n"]
    if shape == "n":
        return _number(numbers[0])
    if "%" in shape:
        return divide(_number(numbers[0]), 100)
    if "^" in shape:
        if shape.startswith("n*") and numbers[1] != "10":
            raise FormulaError("a product is no finished number, unless it is one with a power of ten")
        return _Reader(body).whole()[1]
    if not all(number.isdigit() for number in numbers):
        raise FormulaError("a fraction is written with whole numbers")
    *whole, top, bottom = (_number(number) for number in numbers)
    value = divide(-top if "-" in shape else top, bottom)
    if isinstance(value, int) and bottom != 1:
        raise FormulaError("the division is not carried out")
    if whole and not 0 < value < 1:
        raise FormulaError("the fraction of a mixed number lies between 0 and 1")
    return whole[0] + value if whole else value


def _tokens(text: str) -> list[tuple[str, str]]:
    """Pairs of kind and text; an operator is its own kind. Raises FormulaError on what the grammar or the limits don't allow."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"{len(text)} characters: {MAX_LENGTH} is the most")
    text = plain(text).strip()
    if "x" in text or "X" in text:
        if HEXADECIMAL.search(text):
            raise FormulaError("a hexadecimal number: only decimal ones are read")
        text = CROSS.sub("*", text)
    tokens, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise FormulaError(f"{text[place]!r} is not part of the grammar")
        kind = match.lastgroup or ""
        value = match[kind]
        tokens.append((value if kind == "o" and value != "**" else "^" if kind == "o" else kind, value))
        place = match.end()
    if not tokens:
        raise FormulaError("it is empty")
    return tokens


def _number(text: str) -> Rational:
    digits = text.replace(",", "").replace(" ", "")
    mantissa, _, power = digits.replace("E", "e").partition("e")
    whole, _, decimals = mantissa.partition(".")
    if len(whole) + len(decimals) > MAX_DIGITS or (power and abs(int(power)) > MAX_EXPONENT):
        raise FormulaError(f"a number of more than {MAX_DIGITS} digits or with an exponent above {MAX_EXPONENT}")
    if not decimals and not power:
        return int(whole)
    return divide(Fraction(int(whole + decimals), 10 ** len(decimals)) * Fraction(10) ** int(power or 0), 1)


Term = tuple[Rational, Rational]


class _Reader:
    """Recursive descent over tokens; a value is (slope, constant)."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = [*tokens, ("", "")]
        self.place = 0
        self.depth = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.place][0]

    def whole(self) -> Term:
        value = self.sum()
        if self.kind:
            raise FormulaError(f"{self.tokens[self.place][1]!r} stands where nothing can follow")
        return value

    def sum(self) -> Term:
        slope, constant = self.term()
        while self.kind in ("+", "-"):
            sign = self.take()
            a, b = self.term()
            slope, constant = (slope + a, constant + b) if sign == "+" else (slope - a, constant - b)
        return slope, constant

    def term(self) -> Term:
        value = self.factor()
        divided = False
        while True:
            before = self.tokens[self.place - 1][0]
            if self.kind == "*":
                self.take()
                value = _times(value, self.factor())
            elif self.kind == "/":
                self.take()
                value, divided = _over(value, self.factor()), True
            elif self.kind in ("x", "(", "[") and before in ("n", ")", "]"):
                if divided:
                    raise FormulaError("a product without a sign after a division: write the brackets")
                value = _times(value, self.power())
            else:
                return value

    def factor(self) -> Term:
        if self.kind not in ("+", "-"):
            return self.power()
        sign = self.take()
        a, b = self.power(signed=True)
        return (a, b) if sign == "+" else (-a, -b)

    def power(self, signed: bool = False) -> Term:
        base = self.atom()
        if self.kind == "^":
            if signed:
                raise FormulaError("a sign before a power: write the brackets")
            self.take()
            sign = -1 if self.kind == "-" else 1
            if sign < 0:
                self.take()
            base = _raised(base, self.atom(), sign)
            if self.kind == "^":
                raise FormulaError("a tower of powers: write the brackets")
        if self.kind == "%":
            self.take()
            return _over(base, (0, 100))
        return base

    def atom(self) -> Term:
        kind, text = self.tokens[self.place]
        if kind == "n":
            self.place += 1
            return 0, _number(text)
        if kind == "x":
            self.place += 1
            return 1, 0
        if kind == "F":
            self.place += 1
            return _over(self.bracket("{"), self.bracket("{"))
        return self.bracket(*CLOSES)

    def bracket(self, *allowed: str) -> Term:
        opens = self.kind
        if opens not in allowed:
            raise FormulaError(f"{self.tokens[self.place][1] or 'the end'!r} stands where a number should")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError(f"brackets deeper than {MAX_DEPTH}")
        self.take()
        value = self.sum()
        if self.kind != CLOSES[opens]:
            raise FormulaError(f"{opens!r} is not closed")
        self.take()
        self.depth -= 1
        return value

    def take(self) -> str:
        kind = self.kind
        self.place += 1
        return kind


def _times(left: Term, right: Term) -> Term:
    if left[0] and right[0]:
        raise FormulaError("the unknown is multiplied by itself: only linear terms are read")
    return left[0] * right[1] + left[1] * right[0], left[1] * right[1]


def _over(left: Term, right: Term) -> Term:
    if right[0]:
        raise FormulaError("it divides by the unknown: only linear terms are read")
    return (divide(left[0], right[1]) if left[0] else 0), divide(left[1], right[1])


def _raised(base: Term, exponent: Term, sign: int) -> Term:
    (slope, number), power = base, exponent[1]
    if slope or exponent[0] or power.denominator != 1:
        raise FormulaError("only a number to a whole power is read")
    power = int(power) * sign
    bits = max(number.numerator.bit_length(), number.denominator.bit_length())
    if abs(power) > MAX_EXPONENT or bits * abs(power) > MAX_BITS:
        raise FormulaError(f"a power of more than {MAX_BITS} bits")
    if not number and power <= 0:
        raise UndefinedError("zero to a power that is not positive")
    return 0, number**power if power >= 0 else divide(1, number**-power)
