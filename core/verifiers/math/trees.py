"""Trees of terms: how they are made within limits, and a few questions about them that need no algebra."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from core.verifiers.math.formula import FormulaError

Node = list[Any]

TERMS = frozenset(("num", "sym", "const", "add", "mul", "pow", "fn"))
UNBOUNDED = 10**6
MAX_COMPUTED = 200
MAX_DIGITS = 40
MAX_EXPONENT = 100
MAX_WEIGHT = 8192
MAX_HEIGHT = 2
DIGITS_OF = {"factorial": 160, "binomial": 300}

INFINITE: tuple[Node, Node] = (["mul", ["num", "-1"], ["const", "oo"]], ["const", "oo"])


def is_infinite(node: Node) -> bool:
    """Plus or minus infinity."""
    return node in INFINITE


def exact(text: str) -> str:
    """A decimal as a fraction. Raises FormulaError."""
    if len(text) > MAX_DIGITS or re.match(r"0\d", text):
        raise FormulaError(f"a number of more than {MAX_DIGITS} digits, or with zeros in front")
    return str(Fraction("0" + text if text.startswith(".") else text))


def quotient(above: Node, below: Node) -> Node:
    """A fraction; of two numbers one number, unless a division is left to do. Raises FormulaError."""
    if constant_of(below) == 0:
        raise FormulaError("it divides by zero")
    if above[0] == below[0] == "num" and (Fraction(above[1]) / Fraction(below[1])).denominator > 1:
        return ["num", str(Fraction(above[1]) / Fraction(below[1]))]
    return ["mul", above, ["pow", below, ["num", "-1"]]]


def raised(base: Node, exponent: Node) -> Node:
    """A power within the limits. Raises FormulaError."""
    value = constant_of(exponent)
    if value is not None and (abs(value) > MAX_EXPONENT or value.denominator > MAX_EXPONENT):
        raise FormulaError(f"an exponent above {MAX_EXPONENT}")
    if value is not None and value <= 0 and constant_of(base) == 0:
        raise FormulaError("zero to a power that is not positive")
    node = ["pow", base, exponent]
    if weight(node) > MAX_WEIGHT or height(node) > MAX_HEIGHT:
        raise FormulaError("a power that would be too large")
    return node


def binomial(above: Node, below: Node) -> Node:
    """n over k. Raises FormulaError."""
    if not all(node[0] == "num" and "/" not in node[1] and len(node[1]) < 4 for node in (above, below)):
        raise FormulaError("a binomial coefficient of something else than small whole numbers")
    return ["fn", "binomial", above, below]


def is_term(node: Node) -> bool:
    """A number or a formula, as opposed to a set, a point, an equation."""
    return node[0] in TERMS


def name_of(node: Node) -> str:
    """The letter that a node is. Raises FormulaError."""
    if node[0] != "sym":
        raise FormulaError("a name is one letter")
    return str(node[1])


def symbols(node: Any) -> set[str]:
    """Every letter that stands in a tree."""
    if not isinstance(node, list):
        return set()
    if node and node[0] == "sym":
        return {node[1]}
    return set().union(*(symbols(part) for part in node)) if node else set()


def mentions(node: Any, kind: str, name: str) -> bool:
    """Whether `[kind, name, ...]` stands anywhere in a tree."""
    if not isinstance(node, list):
        return False
    return node[:2] == [kind, name] or any(mentions(part, kind, name) for part in node)


def constant_of(node: Node) -> Fraction | None:
    """The value of a rational sum or product; None where algebra is needed."""
    if node[0] == "num":
        return Fraction(node[1])
    if node[0] in ("add", "mul"):
        total = Fraction(node[0] == "mul")
        for part in node[1:]:
            value = constant_of(part)
            if value is None:
                return None
            total = total + value if node[0] == "add" else total * value
        return total
    if node[0] == "pow":
        base, exponent = constant_of(node[1]), constant_of(node[2])
        if base and exponent is not None and exponent.denominator == 1 and abs(exponent) * weight(["num", str(base)]) <= MAX_COMPUTED:
            return base ** int(exponent)
    return None


def height(node: Any) -> int:
    """How high its powers tower: 2 for `e^{x^2}`."""
    if not isinstance(node, list):
        return 0
    if node and node[0] == "pow":
        return max(height(node[1]), 1 + height(node[2]))
    return max(map(height, node), default=0)


def weight(node: Node) -> int:
    """About the digits of a constant, or the degree of a polynomial, once all is multiplied out."""
    if node[0] == "num":
        return len(node[1])
    if node[0] == "add":
        return max(map(weight, node[1:])) + 1
    if node[0] == "mul":
        return min(sum(map(weight, node[1:])), UNBOUNDED)
    if node[0] == "pow":
        exponent = constant_of(node[2])
        inner = weight(node[2]) if exponent is None else 0
        factor = inner if exponent is None else int(abs(exponent)) + 1
        return min(weight(node[1]) * factor, UNBOUNDED)
    if node[0] == "fn":
        return DIGITS_OF.get(node[1], 2) + max(map(weight, node[2:]))
    return 1
