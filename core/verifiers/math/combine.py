"""What several clauses of one answer say together: a set, a point, the values of several unknowns, a range."""

from __future__ import annotations

from core.verifiers.math.formula import FormulaError
from core.verifiers.math.trees import Node, is_term

RANGES = frozenset(("rel", "and", "or", "interval", "union"))


def either(parts: list[Node]) -> Node:
    """`A or B`: of values a set, of ranges their union. Raises FormulaError."""
    if all(is_term(part) for part in parts):
        return ["set", parts]
    named = [_assignment(part) for part in parts]
    names = {pair[0] for pair in named if pair}
    if all(named) and len(names) == 1:
        return ["named", names.pop(), ["set", [pair[1] for pair in named if pair]]]
    if all(part[0] in RANGES or (part[0] == "named" and part[2][0] in RANGES) for part in parts):
        return ["or", parts]
    raise FormulaError("an 'or' between things of different kinds")


def together(parts: list[Node], by: str) -> Node:
    """`A, B` or `A and B`: a list, a set, several unknowns with their values, or conditions that all hold. Raises FormulaError."""
    named = [_assignment(part) for part in parts]
    pairs = [pair for pair in named if pair]
    names = [pair[0] for pair in pairs]
    if len(pairs) == len(parts):
        if len(set(names)) == 1:
            return ["named", names[0], ["set", [pair[1] for pair in pairs]]]
        if len(set(names)) == len(names):
            return ["assign", sorted([list(pair) for pair in pairs], key=lambda pair: str(pair[0]))]
        raise FormulaError("two values for one of several unknowns")
    if named[0] and all(is_term(part) for part in parts[1:]):
        return ["named", names[0], ["set", [named[0][1], *parts[1:]]]]
    if by == "and" and all(part[0] == "rel" for part in parts):
        return ["and", parts]
    if by == "and" and all(is_term(part) for part in parts):
        return ["set", parts]
    if by != "and" and all(is_term(part) or part[0] in ("tuple", "bracket", "set") for part in parts):
        return ["list", parts]
    raise FormulaError("a list of things of different kinds")


def as_range(node: Node) -> Node:
    """What a number may lie in: there `(1, 2)` is an interval and no point. Raises FormulaError."""
    if node[0] in ("tuple", "bracket") and len(node[1]) == 2 and all(is_term(end) for end in node[1]):
        return ["interval", *node[1], node[0] == "tuple", node[0] == "tuple"]
    if node[0] in ("interval", "union", "set", "none"):
        return node
    raise FormulaError("what stands after 'in' is no set of numbers")


def _assignment(node: Node) -> tuple[str, Node] | None:
    """The letter and the value of `x = 3` or `3 = x`."""
    if node[0] != "eq":
        return None
    left, right = node[1], node[2]
    if left[0] == "sym" and is_term(right):
        return str(left[1]), right
    return (str(right[1]), left) if right[0] == "sym" and is_term(left) else None
