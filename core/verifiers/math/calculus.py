"""What a prompt states formally beyond arithmetic, and how an answer to it is computed again, in a worker process.

Derivatives, integrals, polynomial equations and linear systems, and the forms `expand`, `factor` and `simplify`. A prompt that holds
anything else than one such task, or can be read in two ways, is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from core.answers import normalise
from core.types import Record
from core.verifiers.math import symbolic
from core.verifiers.math.equivalence import readings, spelled
from core.verifiers.math.expression import read_term
from core.verifiers.math.formula import FormulaError
from core.verifiers.math.symbolic import Reply
from core.verifiers.math.trees import Node, is_term, mentions, symbols
from core.verifiers.math.words import WITHOUT_VALUE, spelled_in_words

MAX_PROMPT = 300
MOST_CHAINS = 40
CHAINS_WALL = 0.25
WALL = 0.7
MOST_UNKNOWNS = 4
ASK = r"(?:please )?(?:(?:find|compute|calculate|determine|evaluate|give|what is|what's|take)(?: the)? )"
TO = r"(?:,? with respect to \$?(?P<to>[A-Za-z])\$?|,? w\.?r\.?t\.? (?P<wrt>[A-Za-z]))?"
DERIVATIVE = (
    re.compile(rf"(?:please )?differentiate(?: the function)? (?P<term>.+?){TO}", re.IGNORECASE),
    re.compile(
        rf"{ASK}(?P<order>first |second |third )?derivative of(?: the function)? (?P<term>.+?){TO}(?: at (?P<at>.+))?", re.IGNORECASE
    ),
    re.compile(rf"(?:{ASK})?(?:d/d|\\frac\{{d\}}\{{d)(?P<d>[A-Za-z])\}}? ?[(\[](?P<term>.+)[)\]]", re.IGNORECASE),
    re.compile(rf"{ASK}f'\([A-Za-z]\) (?:if|when|for|where|given(?: that)?) (?P<term>f\([A-Za-z]\) ?= ?.+)", re.IGNORECASE),
    re.compile(rf"{ASK}dy/d(?P<d>[A-Za-z]) (?:if|when|for|where|given(?: that)?) (?P<term>y ?= ?.+)", re.IGNORECASE),
)
BOUNDS = r"(?:,? (?:from|between) (?P<low>[^ ]+) (?:to|and) (?P<high>[^ ]+))?"
INTEGRAL = (
    re.compile(rf"(?:please )?integrate (?P<term>.+?){TO}{BOUNDS}", re.IGNORECASE),
    re.compile(
        rf"{ASK}(?:indefinite |definite )?(?:integral|antiderivative) of (?P<term>.+?)(?: d(?P<d>[A-Za-z]))?{TO}{BOUNDS}", re.IGNORECASE
    ),
    re.compile(
        rf"(?:{ASK})?(?:the integral )?\\int ?"
        rf"(?:_(?P<low>\{{[^{{}}]+\}}|\w) ?\^ ?(?P<high>\{{[^{{}}]+\}}|\\?\w+))? ?(?P<term>.+) d(?P<d>[A-Za-z])",
        re.IGNORECASE,
    ),
)
FORM = re.compile(
    r"(?:please )?(?P<form>expand|multiply out|factor|factorise|factorize|simplify)(?: completely| fully| and simplify)?"
    r"(?: the (?:expression|polynomial))?(?: completely| fully)?:? (?P<term>.+?)(?: completely| fully)?",
    re.IGNORECASE,
)
SOLVE = re.compile(
    r"(?:please )?(?:solve|find (?:all |the )?(?P<real>real )?(?:solutions?|roots?|zeros?) (?:of|to)|what are the (?P<reals>real )?"
    r"(?:solutions?|roots?) (?:of|to))(?: the)?(?: (?:quadratic|linear|cubic|following))*(?: (?:equations?|system)(?: of equations)?)?"
    r"(?: for (?:real )?(?P<names>[A-Za-z](?:(?:, ?| and )[A-Za-z])*))?:? (?P<rest>.+)",
    re.IGNORECASE,
)
SOLVE_END = re.compile(r"(.+?),? (?:(for) ([A-Za-z](?:(?:, ?| and )[A-Za-z])*)|(?:over|in) the (real)s?(?: numbers)?)")
APART = re.compile(r",? and |, |; ?")
NAME_OF_RESULT = re.compile(r"(?:[A-Za-z]'{0,3}\([A-Za-z]\)|[A-Za-z]'{1,3}|d[a-z]/d[a-z]) ?= ?")
HEADED = re.compile(r"(?:[a-zA-Z]\([A-Za-z]\)|y) ?= ?(.+)")
FORMS = {
    "expand": "expand",
    "multiply out": "expand",
    "factor": "factor",
    "factorise": "factor",
    "factorize": "factor",
    "simplify": "simplify",
}
ORDERS = {"second ": 2, "third ": 3}


@dataclass(frozen=True, slots=True)
class FormalTask(Record):
    """`op` is what the worker is asked for, `asked` what it needs besides the answer, `term` the expression that the question gives."""

    op: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    term: Node = field(default_factory=list)

    @property
    def form(self) -> str | None:
        """`expand`, `factor` or `simplify`, where the form of the answer is what was asked for."""
        return str(self.asked["form"]) if self.op == "form" else None


def read_task(prompt: str) -> FormalTask | None:
    """The formal task of a prompt, when the prompt holds nothing else."""
    return _read_task(prompt) if len(prompt) <= MAX_PROMPT else None


def check_answer(task: FormalTask, answer: str, wall: float = WALL) -> tuple[Reply, str]:
    """Whether an answer is right, by computing it again; UNFINISHED where it is equal but not worked out. And what was computed."""
    text = spelled_in_words(spelled(answer))
    if WITHOUT_VALUE.fullmatch(text):
        return Reply.DISAGREED, "an answer in words"
    nodes = readings(text if task.op == "solutions" else NAME_OF_RESULT.sub("", text, count=1))
    if task.op != "solutions":
        nodes = tuple(node[2] if node[0] == "named" else node for node in nodes)
        nodes = nodes if all(is_term(node) for node in nodes) else tuple(_value_of_name(node) for node in nodes)
    if not nodes or not all(nodes):
        return Reply.UNREADABLE_ANSWER, ""
    if any(mentions(node, "fn", "log") for node in nodes):
        return Reply.DISAGREED, "a logarithm without a base"
    return symbolic.ask({"op": task.op, **task.asked, "answers": list(nodes)}, wall)


@lru_cache(maxsize=4096)
def check_identities(prompt: str, lines: tuple[str, ...]) -> tuple[bool | None, ...]:
    """For each chain that starts from what the question gives: whether all of its sides are equal; None where it claims no such thing."""
    task = read_task(prompt)
    apart = list(dict.fromkeys(lines))[:MOST_CHAINS]
    chains = [[readings(normalise(side)) for side in line.split("=")] for line in apart]
    sides = [[side[0] for side in chain] if all(len(side) == 1 and is_term(side[0]) for side in chain) else [] for chain in chains]
    if task is None or task.form is None or not any(sides):
        return (None,) * len(lines)
    reply, found = symbolic.ask({"op": "identities", "term": task.term, "chains": sides}, CHAINS_WALL)
    words = found.split() if reply is Reply.SAME else []
    held = dict(zip(apart, words, strict=False))
    return tuple({"same": True, "different": False}.get(held.get(line, "")) for line in lines)


@lru_cache(maxsize=4096)
def _read_task(prompt: str) -> FormalTask | None:
    text = normalise(prompt).rstrip("?. ").replace("$", "").strip()
    for read in (_derivative, _integral, _form, _solve):
        try:
            task = read(text)
        except FormulaError:
            continue
        if task is not None:
            return None if mentions(list(task.asked.values()), "fn", "log") else task
    return None


def _derivative(text: str) -> FormalTask | None:
    for pattern in DERIVATIVE:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        found = match.groupdict()
        term = _term(found["term"])
        name = _letter(term, found.get("to") or found.get("wrt") or found.get("d"))
        at = found.get("at")
        place = read_term(_value_after(at, name)) if at else None
        order = ORDERS.get((found.get("order") or "").lower(), 1)
        return FormalTask("derivative", {"term": term, "letter": name, "order": order, "at": place}, term)
    return None


def _integral(text: str) -> FormalTask | None:
    text = re.sub(r" +d([A-Za-z])$", r" d\1", text)
    for pattern in INTEGRAL:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        found = match.groupdict()
        term = _term(found["term"])
        name = _letter(term, found.get("to") or found.get("wrt") or found.get("d"))
        low, high = (read_term(_value_after(end.strip("{}"), name)) if end else None for end in (found["low"], found["high"]))
        return FormalTask("integral", {"term": term, "letter": name, "low": low, "high": high}, term)
    return None


def _form(text: str) -> FormalTask | None:
    match = FORM.fullmatch(text)
    if match is None:
        return None
    term = read_term(match["term"])
    form = FORMS[match["form"].lower()]
    return FormalTask("form", {"form": form, "term": term}, term) if symbols(term) else None


def _solve(text: str) -> FormalTask | None:
    match = SOLVE.fullmatch(text)
    if match is None:
        return None
    rest, names, real = match["rest"], match["names"], bool(match["real"] or match["reals"])
    end = SOLVE_END.fullmatch(rest)
    if end:
        rest, names, real = end[1], names or end[3], real or bool(end[4])
    equations = [_equation(part) for part in APART.split(rest)]
    found = sorted(set().union(*(symbols(list(sides)) for sides in equations)))
    asked = sorted(re.findall(r"\b[A-Za-z]\b", re.sub(r"\band\b", "", names))) if names else found
    if found != asked or len(found) != len(equations) or not 1 <= len(found) <= MOST_UNKNOWNS:
        return None
    return FormalTask("solutions", {"equations": equations, "letters": found, "real": real})


def _equation(text: str) -> list[Node]:
    """Both sides. Of roots that are asked for, the other side is 0. Raises FormulaError."""
    sides = text.split("=")
    if len(sides) != 2:
        raise FormulaError("one equals sign makes an equation")
    return [read_term(side.strip()) for side in sides]


def _term(text: str) -> Node:
    headed = HEADED.fullmatch(text.strip())
    return read_term((headed[1] if headed else text).strip())


def _letter(term: Node, named: str | None) -> str:
    """What the question is about: the letter it names, or else the only one in the term. Raises FormulaError."""
    found = symbols(term)
    if named is None and len(found) != 1:
        raise FormulaError("it does not say with respect to what")
    return named or next(iter(found))


def _value_after(text: str, name: str) -> str:
    """`x = 2` as 2."""
    return re.sub(rf"^{re.escape(name)} ?= ?", "", text.strip())


def _value_of_name(node: Node) -> Node:
    """`y = 2x` as 2x; [] for anything that is no term."""
    if is_term(node):
        return node
    return node[2] if node[0] == "eq" and node[1][0] == "sym" and is_term(node[2]) and node[1][1] not in symbols(node[2]) else []
