"""In the worker process: inequalities, intervals and their unions as sets of real numbers, and two of those compared."""

from __future__ import annotations

import sympy
from sympy import Expr, S

from core.verifiers.math.terms import build, equal, every
from core.verifiers.math.trees import Node

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!=", "=": "="}
RANGES = frozenset(("rel", "and", "or", "interval", "union"))


def same_ranges(left: Node, right: Node) -> bool | None:
    """Whether two answers leave the same numbers for the same letter."""
    unsolved = [node for node in (left, right) if node[0] == "rel" and _solved(node) is None]
    if len(unsolved) == 1:
        return False
    if unsolved:
        return _same_relations(left, right)
    (one, first), (other, second) = _range(left), _range(right)
    if first is None or second is None or (None not in (one, other) and one != other):
        return False
    if first == second:
        return True
    pieces = [part.args if isinstance(part, sympy.Union) else (part,) for part in (first, second)]
    if len(pieces[0]) != len(pieces[1]) or not all(isinstance(piece, sympy.Interval) for part in pieces for piece in part):
        return False
    order = [sorted(part, key=lambda piece: (float(piece.start), float(piece.end))) for part in pieces]
    return every(_same_piece(a, b) for a, b in zip(*order, strict=True))


def _same_piece(left: sympy.Interval, right: sympy.Interval) -> bool | None:
    if (left.left_open, left.right_open) != (right.left_open, right.right_open):
        return False
    return every([equal(left.start, right.start), equal(left.end, right.end)])


def _same_relations(left: Node, right: Node) -> bool | None:
    """Two inequalities that nobody has solved: the same sign after one is multiplied by a positive number."""
    terms, signs = [], []
    for _, sign, one, other in (left, right):
        flip = sign in (">", ">=")
        terms.append(build(other) - build(one) if flip else build(one) - build(other))
        signs.append(FLIPPED[sign] if flip else sign)
    if signs[0] != signs[1] or 0 in terms:
        return False
    ratio = sympy.cancel(terms[0] / terms[1])
    return not ratio.free_symbols and bool(ratio != 0 if signs[0] == "!=" else ratio > 0)


def _solved(node: Node) -> tuple[str, str, Expr] | None:
    """The letter, the sign and the bound of `x > 2` or `2 < x`."""
    _, sign, left, right = node
    if left[0] != "sym":
        left, right, sign = right, left, FLIPPED[sign]
    if left[0] != "sym":
        return None
    bound = build(right)
    return None if bound.free_symbols else (left[1], sign, bound)


def _range(node: Node) -> tuple[str | None, sympy.Set | None]:
    """The letter, where it has a name, and the set of real numbers that it may be."""
    kind = node[0]
    if kind == "named":
        return node[1], _range(node[2])[1]
    if kind == "rel":
        solved = _solved(node)
        return (solved[0], _ray(solved[1], solved[2])) if solved else (None, None)
    if kind == "interval":
        return None, sympy.Interval(build(node[1]), build(node[2]), node[3], node[4])
    if kind in ("tuple", "bracket") and len(node[1]) == 2 and _increasing(node[1]):
        ends = [build(part) for part in node[1]]
        return None, sympy.Interval(*ends, kind == "tuple", kind == "tuple")
    if kind == "set":
        return None, sympy.FiniteSet(*(build(part) for part in node[1]))
    if kind == "none":
        return None, S.EmptySet
    if kind not in ("and", "or", "union"):
        return None, None
    parts = [_range(part) for part in node[1]]
    names = {name for name, _ in parts} - {None}
    if len(names) > 1 or any(part is None for _, part in parts):
        return None, None
    sets = [part for _, part in parts if part is not None]
    return next(iter(names), None), sympy.Intersection(*sets) if kind == "and" else sympy.Union(*sets)


def _increasing(ends: list[Node]) -> bool:
    low, high = (build(end) for end in ends)
    return not (low.free_symbols or high.free_symbols) and (low < high) == True  # noqa: E712


def _ray(sign: str, bound: Expr) -> sympy.Set:
    if sign == "!=":
        return sympy.Union(sympy.Interval.open(S.NegativeInfinity, bound), sympy.Interval.open(bound, S.Infinity))
    if sign in (">", ">="):
        return sympy.Interval(bound, S.Infinity, sign == ">")
    return sympy.Interval(S.NegativeInfinity, bound, False, sign == "<")
