"""In the worker process: trees of terms become SymPy expressions, and two of those are compared.

Numbers refute and algebra proves: two terms are equal only when their difference is shown to be zero, and different only when it is not
zero at some point. In between the reply is None. Letters are real numbers. A logarithm without a base is taken to an unknown base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy
from sympy import Expr, Rational, S, Symbol

from core.verifiers.math.trees import Node

DIGITS = 50
TOLERANCE = sympy.Float(10, DIGITS) ** -35
POINTS = ((3, 7), (-5, 11), (13, 3), (1, 17), (-19, 23))
BASE = Symbol("base of the logarithm", positive=True)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(sympy, name)
        for name in (
            "sin",
            "cos",
            "tan",
            "cot",
            "sec",
            "csc",
            "sinh",
            "cosh",
            "tanh",
            "asin",
            "acos",
            "atan",
            "exp",
            "factorial",
            "binomial",
        )
    },
    "abs": sympy.Abs,
    "ln": sympy.log,
}
CONSTANTS = {"pi": S.Pi, "e": S.Exp1, "i": S.ImaginaryUnit, "oo": S.Infinity}


class UnsupportedError(ValueError):
    """The tree is none that this file knows how to compare."""


def letter(name: str) -> Symbol:
    """The one symbol of a name."""
    return Symbol(name, real=True)


def build(node: Node) -> Expr:
    """The term that a tree stands for. Raises UnsupportedError on anything else, and on what has no value."""
    kind = node[0]
    if kind == "num":
        top, _, bottom = node[1].partition("/")
        return Rational(int(top), int(bottom or 1))
    if kind == "sym":
        return letter(node[1])
    if kind == "const":
        return CONSTANTS[node[1]]
    if kind == "fn":
        return _defined(_function(node[1], [build(part) for part in node[2:]]))
    if kind == "pow":
        return _defined(sympy.Pow(build(node[1]), build(node[2])))
    if kind in ("add", "mul"):
        parts = [build(part) for part in node[1:]]
        return _defined(sympy.Add(*parts) if kind == "add" else sympy.Mul(*parts))
    raise UnsupportedError(f"a {kind} is no term")


def equal(left: Expr, right: Expr) -> bool | None:
    """Whether two terms are equal wherever both have a value."""
    if left == right:
        return True
    if left.is_infinite or right.is_infinite:
        return False
    apart = differ(left, right)
    if apart is None or apart:
        return False if apart else None
    return True if _proved_zero(left - right) else None


def differ(left: Expr, right: Expr) -> bool | None:
    """Whether they have two values at one of a few points; None when they have no values there."""
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    compared = False
    for n, (top, bottom) in enumerate(POINTS if names else POINTS[:1]):
        place = {name: Rational(top + 2 * k * n + k, bottom + 3 * k) for k, name in enumerate(names)}
        if BASE in place:
            place[BASE] = Rational(7 + n, 2)
        one, other = (side.subs(place).evalf(DIGITS) for side in (left, right))
        if not (one.is_number and other.is_number and one.is_finite and other.is_finite):
            continue
        if abs(one - other) > TOLERANCE * (1 + abs(one) + abs(other)):
            return True
        compared = True
    return False if compared else None


def _proved_zero(term: Expr) -> bool:
    ways = (
        sympy.expand,
        sympy.cancel,
        sympy.radsimp,
        sympy.trigsimp,
        sympy.expand_log,
        sympy.simplify,
        lambda t: sympy.simplify(t.rewrite(sympy.exp)),
    )
    for way in ways:
        try:
            if way(term) == 0:
                return True
        except (NotImplementedError, sympy.PolynomialError):
            continue
    return not term.free_symbols and term.equals(0) is True


def _function(name: str, arguments: list[Expr]) -> Expr:
    if name == "log":
        base = arguments[1] if len(arguments) > 1 else BASE
        return sympy.log(arguments[0]) / sympy.log(base)
    return FUNCTIONS[name](*arguments)


def _defined(value: Expr) -> Expr:
    if value.has(S.NaN, S.ComplexInfinity):
        raise UnsupportedError("it has no value")
    return value


def every(findings: Iterable[bool | None]) -> bool | None:
    """False where one is False, else None where one is None, else True."""
    found = list(findings)
    return False if False in found else None if None in found else True
