"""Questions in fixed forms about a table, and what they ask for; a question that fits no form, or two readings of one, asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

from core.verifiers.analysis.claim_parts import AGG, IN, MORE, MOST, MUCH, ROWS, SUPERLATIVE, WHERE, C, N, Reader, V, measure
from core.verifiers.analysis.claim_rules import SHARE
from core.verifiers.analysis.claim_words import lexicon_of
from core.verifiers.analysis.queries import Query, QueryError
from core.verifiers.analysis.query_specs import Spec, check_query
from core.verifiers.analysis.tables import Table, TableError, read_table, table_in_prompt

MAX_QUESTION = 400
ROUNDED = rf"(?: ,?(?: ?\( )? ?(?:round|rounded) to (?P<places>{N}) (?:decimal places?|decimals?|places?)(?: \))?)?"
Form = Callable[[Reader, re.Match[str]], Query]


def read_question(prompt: str, table: Table, table_given: bool = True) -> Spec | None:
    """What a prompt asks for, when all of it is a question in one of the forms, alone or after `Data:` and this very table.

    `table_given`: the table came with the task, so that the prompt need not show it.
    """
    shown = table_in_prompt(prompt)
    if shown is not None:
        question = prompt.removeprefix(f"Data:\n{shown}").strip().removeprefix("Question:").strip()
        if not _is(shown, table):
            return None
    else:
        question = prompt.strip()
        if not table_given:
            return None
    if len(question) > MAX_QUESTION or "\n" in question or not question.endswith(("?", ".")):
        return None
    return _formal(question, table)


def _is(shown: str, table: Table) -> bool:
    try:
        return read_table(shown) is table
    except TableError:
        return False


def _formal(question: str, table: Table) -> Spec | None:
    clause = lexicon_of(table).read(re.sub(r"\?(?=\s|$)", " ", question))
    reader = Reader(clause, lexicon_of(table), table)
    for pattern, form in FORMS:
        match = pattern.fullmatch(clause.symbols)
        if match is None:
            continue
        try:
            query = form(reader, match)
            check_query(query, table)
        except QueryError:
            continue
        places = match["places"] and reader.number(match["places"]).value
        percent = query.op == "share" and "percent" in question.casefold()
        return Spec(query, percent, int(places) if places and places <= 12 else None)
    return None


def _quantity(reader: Reader, match: re.Match[str]) -> Query:
    return _only(reader.quantity(match))


def _who(reader: Reader, match: re.Match[str]) -> Query:
    table = reader.table
    texts = [i for i, column in enumerate(table.columns) if column.kind == "text"]
    if not match["by"] and len(texts) != 1:
        raise QueryError("it is unclear who is meant")
    by = int(match["by"][1:]) if match["by"] else texts[0]
    where, op = reader.where(match["where"]), "argmax" if match["sup"] in MOST else "argmin"
    if match["rows"]:
        return Query(op, None, where, by, agg="count")
    aggs = reader.aggs(match["agg"], by, where)
    if len(aggs) != 1:
        raise QueryError("the groups have several rows")
    return Query(op, int(match["col"][1:]), where, by, agg=aggs[0])


def _how_many(reader: Reader, match: re.Match[str]) -> Query:
    where = reader.where(match["where"])
    return Query("distinct", int(match["kind"][1:]), where) if match["kind"] else Query("count", None, where)


def _share(reader: Reader, match: re.Match[str]) -> Query:
    column = int(match["col"][1:]) if match["col"] else None
    return Query("share", column, (reader.condition(match["v"]),), within=reader.where(match["where"]))


def _difference(reader: Reader, match: re.Match[str]) -> Query:
    first, second = reader.condition(match["v"]), reader.condition(match["w"])
    if first.column != second.column or first.value == second.value:
        raise QueryError("the two are no groups of one column")
    where, gap = reader.where(match["where"]), "gap" in match.groupdict()
    aggs = reader.aggs(match["agg"], first.column, where)
    if len(aggs) != 1:
        raise QueryError("the groups have several rows")
    up = gap or match["much"] in MORE
    pair = (first.value, second.value) if up else (second.value, first.value)
    return Query("difference", int(match["col"][1:]), where, first.column, pair, agg=aggs[0], absolute=gap)


def _correlation(reader: Reader, match: re.Match[str]) -> Query:
    columns = sorted((int(match["x"][1:]), int(match["y"][1:])))
    return Query("correlation", columns[0], over=columns[1], where=reader.where(match["where"]))


def _trend(reader: Reader, match: re.Match[str]) -> Query:
    over, where = int(match["over"][1:]), reader.where(match["where"])
    aggs = reader.aggs(match["agg"], over, where)
    if len(aggs) != 1:
        raise QueryError("the points have several rows")
    return Query("trend", int(match["col"][1:]), where, over=over, agg=aggs[0])


def _only(readings: tuple[Query, ...]) -> Query:
    if len(readings) != 1:
        raise QueryError("the question can be read in several ways")
    return readings[0]


AMOUNT = rf"(?:(?P<agg>{AGG}) )?(?P<col>{C})"
GROUP = rf"(?P<sup>{SUPERLATIVE}) (?:(?P<agg>total|mean|average|combined) )?(?:(?P<col>{C})|(?P<rows>{ROWS}))(?P<where>{WHERE})"
FORMS: tuple[tuple[re.Pattern[str], Form], ...] = tuple(
    (re.compile(f"{form}{ROUNDED}"), build)
    for form, build in (
        (rf"(?:what|how much) (?:is|was) {measure('m')}", _quantity),
        (rf"(?:who|(?:what|which) (?P<by>{C})) (?:has|had) {GROUP}", _who),
        (rf"how many (?:{ROWS}|(?:different|distinct|unique) (?P<kind>{C}))(?: (?:are|is|were) there)?(?P<where>{WHERE})", _how_many),
        (
            rf"what {SHARE} of (?:total )?(?:(?P<col>{C})|{ROWS})(?P<where>{WHERE}) (?:is|comes|are|come|came) (?:from|in|for) (?P<v>{V})",
            _share,
        ),
        (rf"how much (?P<much>{MUCH}) {AMOUNT} (?:does|did) (?P<v>{V}) have than (?P<w>{V})(?P<where>{WHERE})", _difference),
        (rf"how much (?P<much>{MUCH}) is {AMOUNT} (?:{IN} )(?P<v>{V}) than (?:{IN} )(?P<w>{V})(?P<where>{WHERE})", _difference),
        (rf"what is (?P<gap>difference) in {AMOUNT} between (?P<v>{V}) and (?P<w>{V})(?P<where>{WHERE})", _difference),
        (rf"what is correlation between (?P<x>{C}) and (?P<y>{C})(?P<where>{WHERE})", _correlation),
        (rf"(?:does|did) {AMOUNT}(?P<where>{WHERE}) (?:rise or fall|increase or decrease) over (?P<over>{C})", _trend),
    )
)
