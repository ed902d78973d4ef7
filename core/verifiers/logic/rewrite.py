"""Formulas made from formulas: atoms and names replaced, and any formula written out as a text of the grammar."""

from __future__ import annotations

from collections.abc import Callable

from core.verifiers.logic.formula import Atom, Compare, Formula, Joined, Name, Not, Number, Quantified, Sum, Term, Truth

WRITTEN = {"and": "&", "or": "|", "implies": "->", "iff": "<->", "xor": "xor"}


def unchanged(part: Compare) -> Formula:
    """The comparison itself."""
    return part


def rewritten(formula: Formula, atom: Callable[[Atom], Formula], compare: Callable[[Compare], Formula] = unchanged) -> Formula:
    """A formula with each atom and each comparison replaced."""
    match formula:
        case Atom():
            return atom(formula)
        case Compare():
            return compare(formula)
        case Not(body):
            return Not(rewritten(body, atom, compare))
        case Joined(connective, parts):
            return Joined(connective, tuple(rewritten(part, atom, compare) for part in parts))
        case Quantified(quantifier, variable, body):
            return Quantified(quantifier, variable, rewritten(body, atom, compare))
        case _:
            return formula


def connectives(formula: Formula) -> set[str]:
    """The connectives and quantifiers that stand in it."""
    match formula:
        case Not(body):
            return {"not"} | connectives(body)
        case Joined(connective, parts):
            return {connective}.union(*(connectives(part) for part in parts))
        case Quantified(quantifier, _, body):
            return {quantifier} | connectives(body)
        case _:
            return set()


def show(formula: Formula) -> str:
    """A text that `parse` reads as the same formula."""
    match formula:
        case Truth(value):
            return "true" if value else "false"
        case Atom(name, arguments):
            return f"{name}({', '.join(map(show_term, arguments))})" if arguments else name
        case Compare(sign, left, right):
            return f"{show_term(left)} {sign} {show_term(right)}"
        case Not(body):
            return f"~{_inner(body)}"
        case Joined(connective, parts):
            return f" {WRITTEN[connective]} ".join(map(_inner, parts))
        case Quantified(quantifier, variable, body):
            return f"{quantifier} {variable}: {show(body)}"


def show_term(term: Term) -> str:
    """A term as a text."""
    match term:
        case Name(name):
            return name
        case Number(value):
            return str(value)
        case Sum(parts):
            text = "".join(f" {'-' if sign < 0 else '+'} {show_term(part)}" for sign, part in parts)
            return text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ")


def _inner(formula: Formula) -> str:
    plain = isinstance(formula, Truth | Atom | Not)
    return show(formula) if plain else f"({show(formula)})"
