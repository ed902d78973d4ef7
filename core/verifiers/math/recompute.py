"""In the worker process: derivatives, integrals, solutions and forms are computed again, and an answer is held against them."""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr, S

from core.verifiers.math.terms import build, equal, letter
from core.verifiers.math.trees import Node

INTEGRATION_LETTERS = frozenset("CcKk")
MAX_DEGREE = 4
CLOSE = 1e-9
Reply = dict[str, str]


def answer(request: dict[str, Any]) -> Reply:
    """The reply to one question: `same`, `different`, `unfinished` (right, but not in the form asked for) or `disagreed` (undecided).

    Every reading of an answer must get the same reply.
    """
    if request["op"] == "identities":
        return _identities(request)
    check = {"derivative": _derivative, "integral": _integral, "solutions": _solutions, "form": _form}[request["op"]]
    replies = [check({**request, "answer": reading}) for reading in request["answers"]]
    alike = len({reply["reply"] for reply in replies}) == 1
    return replies[0] if alike else {"reply": "disagreed", "shown": "it can be read in two ways"}


def warm_up() -> None:
    """Imports and caches that the first question would wait for."""
    x = letter("x")
    sympy.integrate(x**2 * sympy.exp(x) + sympy.sin(x), x)
    sympy.factor_list(x**2 - 1)
    sympy.roots(x**2 - x - 1, x)
    _definite(x * sympy.exp(x), x, S.Zero, S.One)


def _identities(request: dict[str, Any]) -> Reply:
    """A word for each chain: `same` when all of it equals the term, `none` when its first side does not, and it claims nothing."""
    term, words = build(request["term"]), []
    for chain in request["chains"]:
        starts = bool(chain) and equal(build(chain[0]), term) is True
        words.append(_worst([_word(equal(build(side), term)) for side in chain[1:]]) if starts and len(chain) > 1 else "none")
    return {"reply": "same", "shown": " ".join(words)}


def _derivative(request: dict[str, Any]) -> Reply:
    x = letter(request["letter"])
    value = sympy.diff(build(request["term"]), x, request["order"])
    if request["at"] is not None:
        value = value.subs(x, build(request["at"]))
        return _value_reply(value, request["answer"])
    return _term_reply(value, request["answer"])


def _integral(request: dict[str, Any]) -> Reply:
    term, x, given = build(request["term"]), letter(request["letter"]), request["answer"]
    if request["low"] is not None:
        value = _definite(term, x, build(request["low"]), build(request["high"]))
        return _value_reply(value, given) if value is not None else {"reply": "disagreed", "shown": "no closed form was found"}
    found = build(given)
    strangers = {str(name) for name in found.free_symbols - term.free_symbols - {x}}
    if len(strangers) > 1 or not strangers <= INTEGRATION_LETTERS:
        return {"reply": "different", "shown": f"it names {', '.join(sorted(strangers))}"}
    without_bars = found.replace(
        lambda t: isinstance(t, sympy.log) and isinstance(t.args[0], sympy.Abs), lambda t: sympy.log(t.args[0].args[0])
    )
    derivative = sympy.diff(without_bars, x)
    return {"reply": _word(equal(derivative, term)), "shown": f"its derivative is {_shown(derivative)}"}


def _definite(term: Expr, x: sympy.Symbol, low: Expr, high: Expr) -> Expr | None:
    """The value in closed form, when numerical integration agrees with it."""
    if (term.free_symbols | low.free_symbols | high.free_symbols) - {x}:
        return None
    value = sympy.integrate(term, (x, low, high))
    if value.has(sympy.Integral) or not value.is_finite or value.free_symbols:
        return None
    numeric = sympy.Integral(term, (x, low, high)).evalf(15)
    if not numeric.is_number or not numeric.is_finite:
        return None
    return value if abs(complex(value) - complex(numeric)) <= CLOSE * (1 + abs(complex(value))) else None


def _solutions(request: dict[str, Any]) -> Reply:
    names = [letter(name) for name in request["letters"]]
    terms = [sympy.together(build(left) - build(right)) for left, right in request["equations"]]
    if len(names) == 1 and len(terms) == 1:
        return _roots(terms[0], names[0], request["answer"], request["real"])
    numerators = [sympy.expand(sympy.numer(term)) for term in terms]
    if any(sympy.denom(term).free_symbols for term in terms) or any(term.free_symbols - set(names) for term in terms):
        return {"reply": "disagreed", "shown": "only linear systems are solved"}
    try:
        solved = sympy.linsolve(numerators, *names)
    except sympy.solvers.solveset.NonlinearError:
        return {"reply": "disagreed", "shown": "only linear systems are solved"}
    if len(solved) != 1 or next(iter(solved)).free_symbols:
        return {"reply": "disagreed", "shown": "it has no single solution"}
    values = dict(zip(map(str, names), next(iter(solved)), strict=True))
    shown = ", ".join(f"{name} = {value}" for name, value in values.items())
    given = _named_values(request["answer"], sorted(values))
    if given is None or sorted(given) != sorted(values):
        return {"reply": "different", "shown": shown}
    return {"reply": _worst([_value_reply(values[name], given[name])["reply"] for name in values]), "shown": shown}


def _named_values(node: Node, names: list[str]) -> dict[str, Node] | None:
    """The value of each unknown: by name, or as a point in the order of the alphabet."""
    if node[0] == "eq" and node[1][0] == "tuple" and node[2][0] == "tuple" and len(node[1][1]) == len(node[2][1]):
        return {str(name[1]): value for name, value in zip(node[1][1], node[2][1], strict=True)}
    if node[0] == "assign":
        return {str(name): value for name, value in node[1]}
    return dict(zip(names, node[1], strict=True)) if node[0] in ("tuple", "list") and len(node[1]) == len(names) else None


def _roots(term: Expr, x: sympy.Symbol, given: Node, real: bool) -> Reply:
    poly = sympy.Poly(sympy.numer(term), x) if sympy.numer(term).is_polynomial(x) else None
    if poly is None or term.free_symbols != {x} or not 1 <= poly.degree() <= MAX_DEGREE:
        return {"reply": "disagreed", "shown": f"only polynomials up to degree {MAX_DEGREE} in one unknown are solved"}
    found = sympy.roots(poly)
    if sum(found.values()) != poly.degree():
        return {"reply": "disagreed", "shown": "its roots were not all found"}
    everything = [root for root in found if sympy.denom(term).subs(x, root) != 0]
    on_line = [root for root in everything if root.is_real]
    if any(root.is_real is None for root in everything):
        return {"reply": "disagreed", "shown": "it is not known which of its roots are real"}
    shown = ", ".join(_shown(root) for root in everything) or "no solution"
    values = _listed(given, str(x))
    if values is None:
        return {"reply": "different", "shown": shown}
    if real or len(on_line) == len(everything):
        return {"reply": _match(values, on_line), "shown": shown}
    reply = _match(values, everything)
    return {"reply": "disagreed" if reply == "different" and _match(values, on_line) != "different" else reply, "shown": shown}


def _listed(node: Node, name: str) -> list[Node] | None:
    """The values that an answer gives for the one unknown; None when it gives something else."""
    if node[0] == "eq":
        left, right = node[1], node[2]
        if ["sym", name] not in (left, right):
            return None
        return _listed(right if left == ["sym", name] else left, name)
    if node[0] == "named":
        return _listed(node[2], name) if node[1] == name else None
    if node[0] == "none":
        return []
    if node[0] in ("set", "list"):
        return list(node[1])
    return None if node[0] in ("tuple", "bracket", "matrix", "interval", "union", "rel", "and", "or", "assign") else [node]


def _match(given: list[Node], roots: list[Expr]) -> str:
    """Every value is a root, and every root is given."""
    found = [[_value_reply(root, value)["reply"] for root in roots] for value in given]
    lines = [*found, *([row[k] for row in found] for k in range(len(roots)))]
    return _worst([next((word for word in ("same", "unfinished", "disagreed") if word in line), "different") for line in lines])


def _form(request: dict[str, Any]) -> Reply:
    term, given = build(request["term"]), request["answer"]
    found = equal(term, build(given))
    if found is not True:
        return {"reply": _word(found), "shown": "it has another value"}
    if _has_function(given) and not _has_function(request["term"]):
        return {"reply": "disagreed", "shown": "it hides behind a function that the question does not have"}
    reply = {"expand": _is_expanded, "factor": _is_factored, "simplify": _is_simple}[request["form"]](term, given, request["term"])
    return {"reply": reply, "shown": f"its form is not what {request['form']!r} asks for" if reply != "same" else "it has the same value"}


def _is_expanded(term: Expr, given: Node, asked: Node) -> str:
    parts = _addends(given)
    if any(_has_sum(part) for part in parts):
        return "unfinished"
    return "same" if len(parts) <= len(sympy.Add.make_args(sympy.expand(term))) and given != asked else "disagreed"


def _is_factored(term: Expr, given: Node, asked: Node) -> str:
    if not term.is_polynomial(*term.free_symbols) or not term.free_symbols:
        return "disagreed"
    factors = [_base(factor) for factor in _factors(given)]
    for factor in factors:
        if not build(factor).free_symbols:
            continue
        content, pieces = sympy.factor_list(build(factor))
        if len(pieces) > 1 or pieces[0][1] > 1:
            return "unfinished"
        if abs(content) != 1:
            return "disagreed"
    content, pieces = sympy.factor_list(term)
    return "same" if given != asked and (len(pieces) > 1 or pieces[0][1] > 1 or abs(content) != 1) else "disagreed"


def _is_simple(term: Expr, given: Node, asked: Node) -> str:
    if _leaves(given) >= _leaves(asked):
        return "unfinished"
    best = min(_atoms(way(term)) for way in (sympy.simplify, sympy.factor, sympy.expand, sympy.cancel))
    return "same" if _leaves(given) <= best else "disagreed"


def _term_reply(value: Expr, given: Node) -> Reply:
    return {"reply": _word(equal(value, build(given))), "shown": _shown(value)}


def _value_reply(value: Expr, given: Node) -> Reply:
    """A rational value must be worked out: 3, and not 6/2 or 1 + 2."""
    found = equal(value, build(given))
    if found and value.is_rational and not _is_number(given):
        return {"reply": "unfinished", "shown": _shown(value)}
    return {"reply": _word(found), "shown": _shown(value)}


def _is_number(node: Node) -> bool:
    return node[0] == "num" or (node[0] == "mul" and len(node) == 3 and node[1] == ["num", "-1"] and node[2][0] == "num")


def _addends(node: Node) -> list[Node]:
    if node[0] == "mul" and node[1] == ["num", "-1"] and len(node) == 3:
        return _addends(node[2]) if node[2][0] != "add" else [node]
    return [part for child in node[1:] for part in _addends(child)] if node[0] == "add" else [node]


def _factors(node: Node) -> list[Node]:
    return [part for child in node[1:] for part in _factors(child)] if node[0] == "mul" else [node]


def _base(node: Node) -> Node:
    whole = node[0] == "pow" and node[2][0] == "num" and node[2][1].isdigit()
    return node[1] if whole else node


def _has_sum(node: Any) -> bool:
    """Whether a sum stands inside a product, or a power of a sum that could be multiplied out."""
    if not isinstance(node, list) or not node:
        return False
    return node[0] == "add" or (node[0] != "fn" and any(_has_sum(part) for part in node[1:]))


def _has_function(node: Any) -> bool:
    return isinstance(node, list) and (node[:1] == ["fn"] or any(_has_function(part) for part in node))


def _leaves(node: Node) -> int:
    if node[0] in ("num", "sym", "const"):
        return 0 if node == ["num", "-1"] else 1
    return sum(_leaves(part) for part in node[1:] if isinstance(part, list))


def _atoms(term: Expr) -> int:
    """Numbers and letters in a term as a person would write it: no -1, and a fraction as two."""
    leaves = [leaf for leaf in sympy.preorder_traversal(term) if not leaf.args and leaf != -1]
    return sum(2 if isinstance(leaf, sympy.Rational) and leaf.q != 1 else 1 for leaf in leaves)


def _word(found: bool | None) -> str:
    return {True: "same", False: "different", None: "disagreed"}[found]


def _worst(replies: list[str]) -> str:
    return next((reply for reply in ("different", "disagreed", "unfinished") if reply in replies), "same")


def _shown(value: Expr) -> str:
    return str(value)[:80]
