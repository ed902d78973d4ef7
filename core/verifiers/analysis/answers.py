"""Whether a short final answer is the value that a query has, or is the same as a reference."""

from __future__ import annotations

import re

from core.answers import normalise
from core.verifiers.analysis.claim_rules import read_clause
from core.verifiers.analysis.claim_words import lexicon_of
from core.verifiers.analysis.queries import Value, recompute
from core.verifiers.analysis.query_specs import Spec
from core.verifiers.analysis.stated import Number, Rule, agrees, read_number
from core.verifiers.analysis.tables import Table

MAX_ANSWER = 300
YES = frozenset(("yes", "true", "correct"))
NO = frozenset(("no", "false", "incorrect"))
TRENDS = {
    **dict.fromkeys(
        ("up", "rise", "rises", "rising", "increase", "increases", "increasing", "upward", "increased", "rose", "it rises"), "up"
    ),
    **dict.fromkeys(("down", "fall", "falls", "falling", "decrease", "decreases", "decreasing", "downward", "decreased", "fell"), "down"),
    **dict.fromkeys(("flat", "stable", "constant", "unchanged"), "flat"),
    **dict.fromkeys(("mixed", "neither"), "mixed"),
}
COUNTED = re.compile(r"N0 (?:rows?|records?|entry|entries|lines|observations)")
LABELLED = re.compile(r"(?:C\d+ (?:: )?)?V\d+_\d+(?:(?: ,)?(?: and)? V\d+_\d+)*")


def answers(spec: Spec, answer: str, table: Table, lenient: bool = False) -> bool | None:
    """Whether an answer gives the value of a query. None: it can't be told. `lenient` is for references, which may be rounded further."""
    text = normalise(answer).strip("* ")
    if len(text) > MAX_ANSWER:
        return False
    value = recompute(spec.query, table)
    if spec.equals is not None:
        return _yes_or_no(text, _is(spec, spec.equals, value, table) is True)
    return _is(spec, text, value, table, lenient)


def same(reference: str, answer: str, prompt: str) -> bool:
    """Equal numbers, or equal texts but for case and dress. "50%" is 50 where the question asks for a percentage, and nowhere else."""
    wanted, given = normalise(reference), normalise(answer)
    if len(given) > MAX_ANSWER and len(given) > 2 * len(wanted):
        return False
    if wanted.casefold() == given.casefold():
        return True
    if {wanted.casefold(), given.casefold()} <= YES or {wanted.casefold(), given.casefold()} <= NO:
        return True
    one, other = read_number(wanted), read_number(given)
    if one is None or other is None or one.value != other.value or other.about:
        return False
    if one.unit == other.unit or ("%" not in (one.unit, other.unit) and "" in (one.unit, other.unit)):
        return True
    return {one.unit, other.unit} == {"", "%"} and ("%" in prompt or "percent" in prompt.casefold())


def _is(spec: Spec, text: str, value: Value, table: Table, lenient: bool = False) -> bool | None:
    query = spec.query
    if isinstance(value, str):
        return TRENDS.get(text.casefold().rstrip(".")) == value
    if isinstance(value, frozenset):
        return _label(spec, text, value, table)
    number = _number(spec, text, table)
    if number is None:
        return False
    unit = table.columns[query.column].unit if query.column is not None else ""
    return agrees(number, value, query, unit, Rule(spec.tolerance, spec.decimals, spec.percent, no_about=not lenient))


def _number(spec: Spec, text: str, table: Table) -> Number | None:
    """The number of an answer: bare, with the column's name or "rows" behind it, or in a sentence that claims this very query."""
    number = read_number(text)
    if number is not None:
        return number
    lexicon = lexicon_of(table)
    clause = lexicon.read(text)
    counts = spec.query.op in ("count", "distinct")
    if clause.symbols == f"N0 C{spec.query.column}" or (counts and COUNTED.fullmatch(clause.symbols)):
        return clause.numbers[0]
    claims = read_clause(clause, lexicon, table)
    if claims and len(claims) == 1 and claims[0].kind == "number" and spec.query in claims[0].readings:
        return claims[0].number
    return None


def _label(spec: Spec, text: str, value: frozenset[str], table: Table) -> bool | None:
    """The label, or all that tie; one of several that tie is neither right nor wrong."""
    named = {text.casefold()}
    if named != {label.casefold() for label in value}:
        lexicon = lexicon_of(table)
        clause = lexicon.read(text)
        claims = read_clause(clause, lexicon, table)
        if LABELLED.fullmatch(clause.symbols):
            symbols = re.findall(r"V\d+_\d+", clause.symbols)
            labels = [lexicon.label(symbol) for symbol in symbols]
            if any(column != spec.query.by for column, _ in labels):
                return False
            named = {label.casefold() for _, label in labels}
        elif claims and all(claim.kind != "label" or spec.query in claim.readings for claim in claims) and claims[0].kind == "label":
            named = {claims[0].word.casefold()}
    wanted = {label.casefold() for label in value}
    if named == wanted:
        return True
    return None if named < wanted else False


def _yes_or_no(text: str, truth: bool) -> bool:
    """Whether the answer says yes to what is so, or no to what isn't; a number or a sentence says neither."""
    word = text.casefold().rstrip(".!")
    return word in (YES if truth else NO)
