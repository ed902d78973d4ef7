"""What the names in formulas stand for, and whether a formula holds in a finite structure: every counter-model is checked by this."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.types import Record
from core.verifiers.logic.formula import Atom, Compare, Formula, FormulaError, Joined, Name, Not, Number, Quantified, Sum, Term, Truth

MAX_INSTANCES = 8_000
COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Signature(Record):
    """The names of some formulas by what they are: statements, predicates with how many things they take, and things."""

    statements: tuple[str, ...]
    predicates: tuple[tuple[str, int], ...]
    things: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Structure(Record):
    """A finite world: its elements, what each thing is, which statements hold, and of which elements each predicate holds."""

    universe: tuple[str, ...] = ()
    things: Mapping[str, str | int] = field(default_factory=dict)
    statements: Mapping[str, bool] = field(default_factory=dict)
    predicates: Mapping[str, frozenset[tuple[str, ...]]] = field(default_factory=dict)


def signature(formulas: Iterable[Formula]) -> Signature:
    """The names of formulas of pure logic. Raises FormulaError where one name stands for two kinds, or numbers and < come in."""
    found: dict[str, int | str] = {}
    bound: set[str] = set()
    for formula in formulas:
        _collect(formula, found, bound, frozenset())
    stray = sorted(bound & set(found))
    if stray:
        raise FormulaError(f"{stray[0]!r} stands both inside and outside a quantifier: give one of them another name")
    return Signature(
        tuple(sorted(name for name, kind in found.items() if kind == 0)),
        tuple(sorted((name, kind) for name, kind in found.items() if isinstance(kind, int) and kind)),
        tuple(sorted(name for name, kind in found.items() if kind == "thing")),
    )


def holds(formula: Formula, world: Structure, bound: Mapping[str, str] | None = None) -> bool:
    """Whether a formula is true in a world that says what each of its names is."""
    bound = bound or {}
    match formula:
        case Truth(value):
            return value
        case Atom(name, ()):
            return world.statements[name]
        case Atom(name, arguments):
            return tuple(str(value_of(term, world, bound)) for term in arguments) in world.predicates[name]
        case Compare(sign, left, right):
            return COMPARED[sign](value_of(left, world, bound), value_of(right, world, bound))
        case Not(body):
            return not holds(body, world, bound)
        case Joined(connective, parts):
            return joined(connective, (holds(part, world, bound) for part in parts))
        case Quantified(quantifier, variable, body):
            each = (holds(body, world, {**bound, variable: element}) for element in world.universe)
            return all(each) if quantifier == "forall" else any(each)


def joined(connective: str, values: Iterable[bool]) -> bool:
    """What a connective makes of the values of its parts."""
    if connective == "and":
        return all(values)
    if connective == "or":
        return any(values)
    left, right = values
    return (not left or right) if connective == "implies" else (left == right) == (connective == "iff")


def value_of(term: Term, world: Structure, bound: Mapping[str, str]) -> str | int:
    """The element or the number that a term is."""
    match term:
        case Name(name):
            return bound[name] if name in bound else world.things[name]
        case Number(value):
            return value
        case Sum(parts):
            return sum(sign * int(value_of(part, world, bound)) for sign, part in parts)


def instances(formula: Formula, size: int) -> int:
    """How many parts the formula has once its quantifiers are written out over so many elements."""
    match formula:
        case Not(body):
            return 1 + instances(body, size)
        case Joined(_, parts):
            return 1 + sum(instances(part, size) for part in parts)
        case Quantified(_, _, body):
            return size * instances(body, size)
        case _:
            return 1


def _collect(formula: Formula, found: dict[str, int | str], bound: set[str], inside: frozenset[str]) -> None:
    match formula:
        case Atom(name, arguments):
            _note(found, name, len(arguments))
            for term in arguments:
                _collect_term(term, found, inside)
        case Compare(sign, left, right):
            if sign not in ("=", "!="):
                raise FormulaError(f"{sign!r} compares numbers: logic knows = and != only, a puzzle knows the rest")
            _collect_term(left, found, inside)
            _collect_term(right, found, inside)
        case Not(body):
            _collect(body, found, bound, inside)
        case Joined(_, parts):
            for part in parts:
                _collect(part, found, bound, inside)
        case Quantified(_, variable, body):
            bound.add(variable)
            _collect(body, found, bound, inside | {variable})


def _collect_term(term: Term, found: dict[str, int | str], inside: frozenset[str]) -> None:
    if not isinstance(term, Name):
        raise FormulaError("numbers and sums belong to puzzles: logic has names only")
    if term.name not in inside:
        _note(found, term.name, "thing")


def _note(found: dict[str, int | str], name: str, kind: int | str) -> None:
    before = found.setdefault(name, kind)
    if before != kind:
        raise FormulaError(f"{name!r} is {_shown(before)} in one place and {_shown(kind)} in another: a name stands for one kind")


def _shown(kind: int | str) -> str:
    return f"a {kind}" if isinstance(kind, str) else f"a predicate of {kind}" if kind else "a statement"
