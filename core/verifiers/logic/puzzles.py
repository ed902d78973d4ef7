"""Questions that a solution answers: knights and knaves, constraint puzzles, an assignment that makes premises true.

An answer passes when the clues force all that it claims, and not merely when it fits them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from core.types import Evidence
from core.verifiers.base import Finding, failed, passed, short
from core.verifiers.logic.answers import read_assignment
from core.verifiers.logic.fields import Fields, StatementError, UndecidedError, ask, read, told
from core.verifiers.logic.formula import Atom, Compare, Formula, FormulaError, Joined, Name, Not, Number, Sum, Term, parse, parse_own
from core.verifiers.logic.process import OPEN, Setting
from core.verifiers.logic.rewrite import connectives, rewritten, show
from core.verifiers.logic.structure import Structure, holds, signature

KINDS = {"knight": "knight", "knights": "knight", "knave": "knave", "knaves": "knave"}
ALSO = {"truth-teller": "knight", "truth-tellers": "knight", "truth teller": "knight", "liar": "knave", "liars": "knave"}
TRUTHS = {"true": "true", "false": "false", "t": "true", "f": "false", "1": "true", "0": "false"}
RANGE = re.compile(r"(-?[0-9]{1,4})\.\.(-?[0-9]{1,4})")
WORD_CODE = 900_000
MAX_NAMES = 40
MAX_VALUES = 50
Claims = Mapping[str, str]


def knights(fields: Fields, answer: str) -> Finding:
    """Who is a knight (always right) and who a knave (always wrong)? All `people`, or the one `asked`."""
    people = _people(fields)
    asked = _asked(fields, people)
    premises, shown = _sayings(fields, people)
    solvable(premises, OPEN)
    claims = read_assignment(answer, people, {**ALSO, **KINDS}, asked=asked)
    form = "knight" if asked else ", ".join(f"{person}: knight" for person in people[:2]) + ", ..."
    clues = (premises, shown, OPEN)
    return _forced(claims, answer, [asked] if asked else people, form, clues, _kind_claim, lambda world: _kinds(world, people))


def knight_claims(fields: Fields, line: str) -> tuple[str, tuple[str, ...]] | None:
    """What a line of a solution says of people, as a formula, with the clues as formulas; None when it says nothing readable."""
    people = _people(fields)
    claims = read_assignment(line, people, {**ALSO, **KINDS})
    return (_kind_claim(claims), _sayings(fields, people)[0]) if claims else None


def puzzle(fields: Fields, answer: str) -> Finding:
    """Which value has each of the `variables`, or the one `asked`; or which variable has the `asked_value`?"""
    variables, codes = _variables(fields)
    asked, asked_value = _asked(fields, list(variables)), fields.values.get("asked_value")
    if asked_value is not None and (str(asked_value) not in {v for values in variables.values() for v in values} or asked):
        raise StatementError(f"'asked_value' {short(repr(asked_value))} must be a value of a variable, and stand without 'asked'")
    constraints = fields.formulas("constraints")
    premises = tuple(show(_numeric(text, variables, codes)) for text in constraints)
    setting = Setting(variables=tuple((name, tuple(codes[value] for value in values)) for name, values in variables.items()))
    solvable(premises, setting)
    values = {value: value for some in variables.values() for value in some}
    wanted = None if asked_value is None else str(asked_value)
    claims = read_assignment(answer, list(variables), values, asked, wanted)
    needed = [asked] if asked else list(variables)
    if wanted is not None:
        needed = [name for name, value in (claims or {}).items() if value == wanted] or needed

    def claim(found: Claims) -> str:
        others = [] if wanted is None else [f"({name} != {codes[wanted]})" for name in variables if name not in found]
        return " & ".join([*(f"({name} = {codes[value]})" for name, value in sorted(found.items())), *others])

    def named(world: Mapping[str, Any]) -> dict[str, Any]:
        word_of = {code: value for value, code in codes.items()}
        return {name: word_of.get(value, value) for name, value in world["things"].items()}

    example = f"{next(iter(variables))} = {next(iter(values))}, ..."
    return _forced(claims, answer, needed, example, (premises, constraints, setting), claim, named)


def model(fields: Fields, answer: str) -> Finding:
    """An assignment of true and false to every statement of the premises, under which all of them hold; any will do."""
    premises = fields.formulas("premises")
    formulas = [parse(text) for text in premises]
    try:
        names = signature(formulas)
    except FormulaError as error:
        raise StatementError(str(error)) from error
    if names.predicates or names.things or not names.statements or any(connectives(f) & {"forall", "exists"} for f in formulas):
        raise StatementError("kind 'model' takes statements such as P and Q: no predicates, no quantifiers, no things")
    solvable(premises, OPEN)
    taken = {name.casefold() for name in names.statements}
    found = read_assignment(answer, names.statements, {word: truth for word, truth in TRUTHS.items() if word not in taken})
    if found is None or set(found) != set(names.statements):
        example = ", ".join(f"{name} = true" for name in names.statements[:2])
        return failed(f"{short(answer)!r} does not give each of {', '.join(names.statements)} a truth: write {example}", Evidence.PROOF)
    world = Structure(statements={name: truth == "true" for name, truth in found.items()})
    broken_ones = [text for text, formula in zip(premises, formulas, strict=True) if not holds(formula, world)]
    if broken_ones:
        return failed(f"under it {short(broken_ones[0])!r} is false", Evidence.PROOF, broken=broken_ones)
    return passed("all premises hold under it", Evidence.PROOF, model=dict(world.statements))


def solvable(premises: Sequence[str], setting: Setting) -> Mapping[str, Any]:
    """A world that fits the clues. Raises StatementError when there is none."""
    found = ask(premises, setting=setting)
    if found.state == "unsat":
        clash = "; ".join(premises[place] for place in found.core) or "a variable without values"
        raise StatementError(f"it has no solution, these clash: {short(clash, 200)}")
    return found.world


def _forced(
    claims: Claims | None,
    answer: str,
    needed: Sequence[str],
    example: str,
    clues: tuple[Sequence[str], Sequence[str], Setting],
    claim: Callable[[Claims], str],
    named: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Finding:
    """PASS when the clues force all that is claimed, FAIL when they exclude it; in between the puzzle has several solutions."""
    premises, shown, setting = clues
    missing = [name for name in needed if name not in (claims or {})]
    if not claims or missing:
        lack = f"says nothing of {missing[0]}" if claims else "can't be read"
        return failed(f"{short(answer)!r} {lack}: write {example}", Evidence.PROOF)
    text, world = claim(claims), solvable(premises, setting)
    if _fits(text, world):
        against = ask(premises, text, setting)
        if against.state == "unsat":
            used = [shown[place] for place in against.core if place >= 0]
            return passed(f"forced by: {short('; '.join(used) or 'the values there are', 300)}", Evidence.PROOF, premises_used=used)
    else:
        together = ask((*premises, text), setting=setting)
        if together.state == "unsat":
            used = [shown[place] for place in together.core if place < len(premises)]
            why = f"the clues exclude {short(answer)!r}: {told(named(world))} fits"
            return failed(why, Evidence.PROOF, counter_model=named(world), premises_used=used)
    raise UndecidedError("it fits the clues, and so does another answer: the puzzle does not force it")


def _fits(claim: str, world: Mapping[str, Any]) -> bool:
    """Whether a claim is true in a world; a person of whom the world says nothing counts as a knave."""
    formula = parse_own(claim)
    statements = {**dict.fromkeys(signature([formula]).statements, False), **world["statements"]} if not world["things"] else {}
    return holds(formula, Structure(things=world["things"], statements=statements))


def _people(fields: Fields) -> list[str]:
    people = list(fields.texts("people"))
    if not people or len({person.casefold() for person in people}) < len(people):
        raise StatementError(f"'people' must list different names, not {short(repr(people))}")
    for person in people:
        _check_name(person)
    return people


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not isinstance(read(name, "names"), Atom) or not name.isidentifier():
        raise StatementError(f"{short(repr(name))} can't be a name: use letters and digits, and no word of the grammar")


def _asked(fields: Fields, names: Sequence[str]) -> str | None:
    asked = fields.values.get("asked")
    if asked is not None and asked not in names:
        raise StatementError(f"'asked' is {short(repr(asked))}, which is none of {', '.join(names)}")
    return asked


def _sayings(fields: Fields, people: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The clues as formulas in which a person's name says "is a knight", and the clues as they can be shown."""
    said = fields.values.get("statements")
    pairs = list(said.items()) if isinstance(said, Mapping) else said
    if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise StatementError(f"'statements' must map people to formulas, or be a list of [person, formula], not {short(repr(said))}")
    formulas: list[str] = []
    shown: list[str] = []
    for person, texts in pairs:
        if person not in people:
            raise StatementError(f"'statements' lets {short(repr(person))} speak, who is none of {', '.join(people)}")
        for text in [texts] if isinstance(texts, str) else Fields({"statements": texts}).texts("statements"):
            formulas.append(f"{person} <-> ({show(_of_kinds(text, people))})")
            shown.append(f"{person}: {text}")
    facts = fields.formulas("facts", ())
    formulas += [show(_of_kinds(text, people)) for text in facts]
    return tuple(formulas), (*shown, *facts)


def _of_kinds(text: str, people: Sequence[str]) -> Formula:
    def atom(found: Atom) -> Formula:
        if found.name in ("knight", "knave") and len(found.arguments) == 1:
            person = found.arguments[0]
            if isinstance(person, Name) and person.name in people:
                return Atom(person.name) if found.name == "knight" else Not(Atom(person.name))
        elif not found.arguments and found.name not in KINDS:
            return found
        raise StatementError(f"{short(text)!r} is not made of knight(X) and knave(X) with X one of {', '.join(people)}")

    formula = read(text, "statements")
    if connectives(formula) & {"forall", "exists"}:
        raise StatementError(f"{short(text)!r} has a quantifier: name the people one by one")
    return rewritten(formula, atom, _refused)


def _refused(compare: Compare) -> Formula:
    raise StatementError(f"{compare.sign!r} compares things: join statements with <-> or xor")


def _kind_claim(claims: Claims) -> str:
    return " & ".join(f"({name})" if kind == "knight" else f"(~{name})" for name, kind in sorted(claims.items()))


def _kinds(world: Mapping[str, Any], people: Sequence[str]) -> dict[str, Any]:
    return {name: "knight" if truth else "knave" for name, truth in world["statements"].items() if name in people}


def _variables(fields: Fields) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The values of each variable as words, and the number behind each word."""
    given = fields.values.get("variables")
    if isinstance(given, list | tuple):
        given = dict.fromkeys(fields.texts("variables"), fields.values.get("domain"))
    if not isinstance(given, Mapping) or not 0 < len(given) <= MAX_NAMES:
        raise StatementError("'variables' must map names to lists of values, or be a list of names beside a 'domain'")
    variables: dict[str, list[str]] = {}
    codes: dict[str, int] = {}
    for name, values in given.items():
        _check_name(name)
        variables[name] = _values(name, values, codes)
    clash = {name.casefold() for name in variables} & {value.casefold() for value in codes}
    if clash or len({name.casefold() for name in variables}) < len(variables):
        raise StatementError(f"two of the names and values are the same: {short(', '.join(sorted(clash or variables)))}")
    return variables, codes


def _values(name: str, values: Any, codes: dict[str, int]) -> list[str]:
    match = RANGE.fullmatch(values) if isinstance(values, str) else None
    found = list(range(int(match[1]), int(match[2]) + 1))[: MAX_VALUES + 1] if match else values
    if not isinstance(found, list | tuple) or not 0 < len(found) <= MAX_VALUES or not all(type(value) in (int, str) for value in found):
        raise StatementError(f"the values of {name!r} must be at most {MAX_VALUES} whole numbers or words, or a range such as '1..5'")
    for value in found:
        if isinstance(value, int):
            if abs(value) >= WORD_CODE:
                raise StatementError(f"{value} is too large a value: {WORD_CODE - 1} is the most")
            codes[str(value)] = value
        elif str(value) not in codes:
            _check_name(value)
            codes[value] = WORD_CODE + len(codes)
    return [str(value) for value in found]


def _numeric(text: str, variables: Mapping[str, Sequence[str]], codes: Mapping[str, int]) -> Formula:
    """A constraint over numbers alone: words become their numbers, all_different and its like become comparisons."""

    def compare(found: Compare) -> Formula:
        names = [leaf.name for side in (found.left, found.right) for leaf in _leaves(side) if isinstance(leaf, Name)]
        unknown = [name for name in names if name not in variables and name not in codes]
        if unknown:
            raise StatementError(f"in {short(text)!r} {unknown[0]!r} is neither a variable nor a value")
        words = [name for name in names if any(codes[value] >= WORD_CODE for value in variables.get(name, [name]))]
        if words and (found.sign not in ("=", "!=") or isinstance(found.left, Sum) or isinstance(found.right, Sum)):
            raise StatementError(f"in {short(text)!r} {words[0]!r} is a word, or stands for one: words have = and != only")
        return Compare(found.sign, _coded(found.left, variables, codes), _coded(found.right, variables, codes))

    def atom(found: Atom) -> Formula:
        return rewritten(_spelled_out(found, text), atom, compare)

    formula = read(text, "constraints")
    if connectives(formula) & {"forall", "exists"}:
        raise StatementError(f"{short(text)!r} has a quantifier: constraints name their variables one by one")
    return rewritten(formula, atom, compare)


def _spelled_out(found: Atom, text: str) -> Formula:
    a, b, c = (*found.arguments, *[Number(0)] * 3)[:3]
    match found.name, len(found.arguments):
        case "all_different", count if count > 1:
            return Joined("and", tuple(Compare("!=", one, other) for one, other in combinations(found.arguments, 2)))
        case "adjacent", 2 if not isinstance(a, Sum) and not isinstance(b, Sum):
            return Joined("or", tuple(Compare("=", Sum(((1, x), (-1, y))), Number(1)) for x, y in ((a, b), (b, a))))
        case "left_of", 2:
            return Compare("<", a, b)
        case "right_of", 2:
            return Compare(">", a, b)
        case "between", 3:
            each = [Joined("and", (Compare("<", x, a), Compare("<", a, y))) for x, y in ((b, c), (c, b))]
            return Joined("or", tuple(each))
    raise StatementError(
        f"in {short(text)!r} {found.name!r} is unknown or takes another number of arguments: there are comparisons, "
        "all_different(a, b, ...), adjacent(a, b), left_of(a, b), right_of(a, b) and between(a, b, c), where a lies between b and c"
    )


def _coded(term: Term, variables: Mapping[str, Sequence[str]], codes: Mapping[str, int]) -> Term:
    return Number(codes[term.name]) if isinstance(term, Name) and term.name not in variables else term


def _leaves(term: Term) -> list[Name | Number]:
    return [part for _, part in term.parts] if isinstance(term, Sum) else [term]
