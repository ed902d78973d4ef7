"""How formulas are put to z3: over an open world, over a closed list of elements, over a few unnamed ones, over the numbers of a puzzle."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from core.verifiers.logic.formula import Atom, Compare, Formula, FormulaError, Joined, Name, Not, Number, Quantified, Sum, Term, Truth
from core.verifiers.logic.structure import Signature, Structure

MAX_TUPLES = 200


class Open:
    """Formulas of pure logic over things of which nothing is known but that there is one."""

    def __init__(self, names: Signature, context: Any) -> None:
        import z3

        self.z3, self.context, self.names = z3, context, names
        self.sort = z3.DeclareSort("$thing", ctx=context)
        truth = z3.BoolSort(context)
        self.things = {name: z3.Const(name, self.sort) for name in names.things}
        self.statements = {name: z3.Bool(name, context) for name in names.statements}
        self.predicates = {name: z3.Function(name, *[self.sort] * arity, truth) for name, arity in names.predicates}

    def given(self) -> list[Any]:
        """What holds besides the formulas."""
        return []

    def formula(self, formula: Formula, bound: Mapping[str, Any]) -> Any:
        """The z3 expression of a formula."""
        match formula:
            case Truth(value):
                return self.z3.BoolVal(value, self.context)
            case Atom(name, arguments):
                return self.atom(name, arguments, bound)
            case Compare(sign, left, right):
                return self.compare(sign, self.term(left, bound), self.term(right, bound))
            case Not(body):
                return self.z3.Not(self.formula(body, bound))
            case Joined(connective, parts):
                return self.joined(connective, [self.formula(part, bound) for part in parts])
            case Quantified(quantifier, variable, body):
                return self.quantified(quantifier, variable, body, bound)

    def joined(self, connective: str, parts: list[Any]) -> Any:
        if connective == "iff":
            return parts[0] == parts[1]
        if connective in ("and", "or"):
            return (
                (self.z3.And if connective == "and" else self.z3.Or)(parts) if parts else self.z3.BoolVal(connective == "and", self.context)
            )
        return (self.z3.Implies if connective == "implies" else self.z3.Xor)(*parts)

    def atom(self, name: str, arguments: tuple[Term, ...], bound: Mapping[str, Any]) -> Any:
        if not arguments:
            return self.statements[name]
        return self.predicates[name](*[self.term(term, bound) for term in arguments])

    def term(self, term: Term, bound: Mapping[str, Any]) -> Any:
        if not isinstance(term, Name):
            raise FormulaError("numbers and sums belong to puzzles")
        return bound[term.name] if term.name in bound else self.things[term.name]

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        return left == right if sign == "=" else left != right

    def quantified(self, quantifier: str, variable: str, body: Formula, bound: Mapping[str, Any]) -> Any:
        made = self.z3.Const(f"${variable}", self.sort)
        make = self.z3.ForAll if quantifier == "forall" else self.z3.Exists
        return make([made], self.formula(body, {**bound, variable: made}))

    def world(self, model: Any) -> Structure | None:
        """The model as a finite structure; None when it is too large to show."""
        elements = model.get_universe(self.sort) or []
        if not elements and (self.things or self.predicates):
            elements = [model.eval(self.z3.Const("$any", self.sort), model_completion=True)]
        labels = self._labels(model, elements)
        if any(len(elements) ** arity > MAX_TUPLES for _, arity in self.names.predicates):
            return None
        predicates = {}
        for name, arity in self.names.predicates:
            every = itertools.product(elements, repeat=arity)
            true = [tuple(labels[str(e)] for e in row) for row in every if self._true(model, self.predicates[name](*row))]
            predicates[name] = frozenset(true)
        things = {name: labels[str(model.eval(made, model_completion=True))] for name, made in self.things.items()}
        statements = {name: self._true(model, made) for name, made in self.statements.items()}
        return Structure(tuple(labels.values()) or ("e1",), things, statements, predicates)

    def _labels(self, model: Any, elements: list[Any]) -> dict[str, str]:
        """Each element goes by the first thing that it is, or else by a number."""
        labels: dict[str, str] = {}
        for name, made in self.things.items():
            labels.setdefault(str(model.eval(made, model_completion=True)), name)
        for place, element in enumerate(elements, 1):
            labels.setdefault(str(element), f"e{place}" if f"e{place}" not in self.things else f"e{place}'")
        return labels

    def _true(self, model: Any, expression: Any) -> bool:
        return bool(self.z3.is_true(model.eval(expression, model_completion=True)))


class Closed(Open):
    """The same where all elements are known by name: quantifiers are written out, and what is left is propositional."""

    def __init__(self, names: Signature, context: Any, domain: list[str]) -> None:
        super().__init__(names, context)
        self.domain = domain
        self.atoms: dict[tuple[str, tuple[str, ...]], Any] = {}

    def atom(self, name: str, arguments: tuple[Term, ...], bound: Mapping[str, Any]) -> Any:
        if not arguments:
            return self.statements[name]
        return self._row(name, tuple(self.term(term, bound) for term in arguments))

    def term(self, term: Term, bound: Mapping[str, Any]) -> Any:
        if not isinstance(term, Name):
            raise FormulaError("numbers and sums belong to puzzles")
        return bound.get(term.name, term.name)

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        return self.z3.BoolVal((left == right) == (sign == "="), self.context)

    def quantified(self, quantifier: str, variable: str, body: Formula, bound: Mapping[str, Any]) -> Any:
        each = [self.formula(body, {**bound, variable: element}) for element in self.domain]
        return self.joined("and" if quantifier == "forall" else "or", each)

    def world(self, model: Any) -> Structure:
        true = {key for key, made in self.atoms.items() if self._true(model, made)}
        predicates = {name: frozenset(row for n, row in true if n == name) for name, _ in self.names.predicates}
        statements = {name: self._true(model, made) for name, made in self.statements.items()}
        return Structure(tuple(self.domain), {name: name for name in self.domain}, statements, predicates)

    def _row(self, name: str, row: tuple[str, ...]) -> Any:
        if (name, row) not in self.atoms:
            self.atoms[name, row] = self.z3.Bool(f"{name}({','.join(row)})", self.context)
        return self.atoms[name, row]


class Small(Closed):
    """A world of a few elements without names: each thing is one of them, nobody says which."""

    def __init__(self, names: Signature, context: Any, size: int) -> None:
        super().__init__(names, context, [f"e{place}" for place in range(1, size + 1)])
        self.chosen = {name: [self.z3.Bool(f"{name}={element}", context) for element in self.domain] for name in names.things}

    def given(self) -> list[Any]:
        one = [self.z3.Or(*choices) for choices in self.chosen.values()]
        return one + [self.z3.Not(self.z3.And(*pair)) for choices in self.chosen.values() for pair in itertools.combinations(choices, 2)]

    def atom(self, name: str, arguments: tuple[Term, ...], bound: Mapping[str, Any]) -> Any:
        if not arguments:
            return self.statements[name]
        ways = itertools.product(*(self.term(term, bound) for term in arguments))
        return self.joined("or", [self.joined("and", [*(c for c, _ in way), self._row(name, tuple(e for _, e in way))]) for way in ways])

    def term(self, term: Term, bound: Mapping[str, Any]) -> Any:
        """The elements it can be, each with the condition under which it is."""
        if not isinstance(term, Name):
            raise FormulaError("numbers and sums belong to puzzles")
        if term.name in bound:
            return [(self.z3.BoolVal(True, self.context), bound[term.name])]
        return list(zip(self.chosen[term.name], self.domain, strict=True))

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        same = self.joined("or", [self.z3.And(c, d) for c, one in left for d, other in right if one == other])
        return same if sign == "=" else self.z3.Not(same)

    def world(self, model: Any) -> Structure:
        at = {name: next(e for c, e in zip(cs, self.domain, strict=True) if self._true(model, c)) for name, cs in self.chosen.items()}
        found = super().world(model)
        return Structure(found.universe, at, found.statements, found.predicates)


class Puzzle(Open):
    """Constraints over variables that each have a few whole numbers to choose from."""

    def __init__(self, names: Signature, context: Any, variables: Mapping[str, list[int]]) -> None:
        super().__init__(names, context)
        self.variables = {name: self.z3.Int(name, context) for name in variables}
        self.values = variables

    def given(self) -> list[Any]:
        return [self._chosen(made, sorted(self.values[name])) for name, made in self.variables.items()]

    def _chosen(self, made: Any, values: list[int]) -> Any:
        if values == list(range(values[0], values[-1] + 1)):
            return self.z3.And(made >= values[0], made <= values[-1])
        return self.joined("or", [made == value for value in values])

    def term(self, term: Term, bound: Mapping[str, Any]) -> Any:
        match term:
            case Name(name):
                return self.variables[name]
            case Number(value):
                return self.z3.IntVal(value, self.context)
            case Sum(parts):
                return self.z3.Sum([sign * self.term(part, bound) for sign, part in parts])

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        made = {"=": left == right, "!=": left != right, "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}
        return made[sign]

    def world(self, model: Any) -> Structure:
        things = {name: model.eval(made, model_completion=True).as_long() for name, made in self.variables.items()}
        return Structure(things=things)
