"""In the worker process: two answers, as trees, compared by what they are: terms, sets, points, matrices, equations, ranges.

The reply is None where equality can be shown neither way, or where it hangs on how a list without brackets is meant.
"""

from __future__ import annotations

import sympy

from core.verifiers.math.ranges import RANGES, same_ranges
from core.verifiers.math.terms import build, equal, every, letter
from core.verifiers.math.trees import Node


def same(left: Node, right: Node) -> bool | None:
    """Whether two answers mean the same; None when that can't be shown either way."""
    return _same(_settled(left), _settled(right))


def _settled(node: Node) -> Node:
    """`x = value` as a named value, and (x, y) = (1, 2) as two of them."""
    if node[0] != "eq":
        return node
    left, right = node[1], node[2]
    if left[0] == right[0] == "tuple" and len(left[1]) == len(right[1]) and all(part[0] == "sym" for part in left[1]):
        return ["assign", sorted([[name[1], value] for name, value in zip(left[1], right[1], strict=True)], key=lambda pair: str(pair[0]))]
    for one, other in ((left, right), (right, left)):
        if (
            one[0] == "sym"
            and not (other[0] == "sym" and one is right)
            and (other[0] in ("set", "none", "matrix", "tuple") or letter(one[1]) not in build(other).free_symbols)
        ):
            return ["named", one[1], other]
    return node


def _same(left: Node, right: Node) -> bool | None:
    kinds = (left[0], right[0])
    if "named" in kinds or "eq" in kinds:
        return _same_named(left, right)
    if "assign" in kinds:
        return _same_assignments(left, right)
    if "none" in kinds:
        return kinds == ("none", "none")
    if kinds[0] in RANGES or kinds[1] in RANGES:
        return same_ranges(left, right)
    if "matrix" in kinds:
        if kinds != ("matrix", "matrix") or [len(row) for row in left[1]] != [len(row) for row in right[1]]:
            return False
        return every(_same(a, b) for rows in zip(left[1], right[1], strict=True) for a, b in zip(*rows, strict=True))
    if "list" in kinds:
        return _same_lists(left, right)
    if "set" in kinds:
        if kinds != ("set", "set"):
            members, other = (left[1], right) if kinds[0] == "set" else (right[1], left)
            alone = every(_same(member, other) for member in members) if other[0] not in ("tuple", "bracket") else False
            return None if alone else alone
        return _same_sets(left[1], right[1])
    if kinds in (("tuple", "tuple"), ("bracket", "bracket")):
        return _in_order(left[1], right[1])
    if "tuple" in kinds or "bracket" in kinds:
        return False
    return equal(build(left), build(right))


def _same_named(left: Node, right: Node) -> bool | None:
    """Equations, and values that were given a name. A solved equation is not the same as one that has yet to be solved."""
    names = [node[1] if node[0] == "named" else None for node in (left, right)]
    if None not in names:
        if names[0] == names[1]:
            return _same(left[2], right[2])
        return _same_equations(left, right) if _has_letters(left) and _has_letters(right) else False
    if "eq" not in (left[0], right[0]):
        named, other = (left, right) if names[0] else (right, left)
        if other[0] == "assign":
            return False
        if other[0] in RANGES and named[2][0] not in RANGES and named[2][0] not in ("set", "none"):
            return False
        return _same(_settled_range(named), _settled_range(other))
    if left[0] == right[0] == "eq" or (any(name is not None for name in names) and all(_has_letters(node) for node in (left, right))):
        return _same_equations(left, right)
    return False


def _settled_range(node: Node) -> Node:
    return node[2] if node[0] == "named" else node


def _has_letters(node: Node) -> bool:
    """Whether an equation is more than `letter = constant`."""
    if node[0] == "eq":
        return True
    if node[2][0] in ("set", "none", "matrix", "tuple", "bracket", "list") or node[2][0] in RANGES or len(node[1]) > 1:
        return False
    return bool(build(node[2]).free_symbols)


def _same_equations(left: Node, right: Node) -> bool | None:
    sides = [(letter(node[1]), build(node[2])) if node[0] == "named" else (build(node[1]), build(node[2])) for node in (left, right)]
    terms = [sympy.expand(sympy.numer(sympy.together(one - other))) for one, other in sides]
    if 0 in terms:
        return None if terms[0] == terms[1] else False
    if terms[0].free_symbols != terms[1].free_symbols:
        return False
    ratio = sympy.cancel(terms[0] / terms[1])
    if ratio.free_symbols:
        ratio = sympy.simplify(ratio)
    return not ratio.free_symbols


def _same_assignments(left: Node, right: Node) -> bool | None:
    if left[0] == right[0]:
        if [pair[0] for pair in left[1]] != [pair[0] for pair in right[1]]:
            return False
        return _in_order([pair[1] for pair in left[1]], [pair[1] for pair in right[1]])
    assigned, other = (left, right) if left[0] == "assign" else (right, left)
    return _in_order([pair[1] for pair in assigned[1]], other[1]) if other[0] in ("tuple", "list") else False


def _same_lists(left: Node, right: Node) -> bool | None:
    """A list without brackets, in order, is a point; with its order changed it could be a set or a point, unless the other tells."""
    if left[0] == right[0]:
        in_order = _in_order(left[1], right[1])
        return in_order if in_order is not False else (None if _same_sets(left[1], right[1]) is not False else False)
    listed, other = (left, right) if left[0] == "list" else (right, left)
    if other[0] == "set":
        return _same_sets(listed[1], other[1])
    if other[0] == "tuple":
        return _in_order(listed[1], other[1])
    return None if other[0] == "bracket" and _in_order(listed[1], other[1]) else False


def _in_order(left: list[Node], right: list[Node]) -> bool | None:
    return every(_same(a, b) for a, b in zip(left, right, strict=True)) if len(left) == len(right) else False


def _same_sets(left: list[Node], right: list[Node]) -> bool | None:
    """Every member of each has its like in the other."""
    rows = [[_same(a, b) for b in right] for a in left]
    columns = list(zip(*rows, strict=True))
    found = [True if True in line else None if None in line else False for line in [*rows, *columns]]
    return every(found)
