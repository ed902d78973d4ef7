"""The rules of the claim grammar: each is a pattern over a whole clause in symbols, and the claims that it makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from core.verifiers.analysis.claim_parts import (
    AGG,
    BE,
    DOWN,
    HAS,
    IN,
    MORE,
    MOST,
    MOVED,
    MUCH,
    ROWS,
    SUPERLATIVE,
    THAN,
    UP,
    WHERE,
    C,
    Claim,
    N,
    Reader,
    V,
    measure,
)
from core.verifiers.analysis.claim_words import Clause, Lexicon
from core.verifiers.analysis.queries import Condition, Query, QueryError, ends_labels
from core.verifiers.analysis.tables import Table

Rule = Callable[[Reader, re.Match[str]], list[Claim]]


def read_clause(clause: Clause, lexicon: Lexicon, table: Table) -> list[Claim] | None:
    """The claims of the first rule that fits the whole clause; None when none does."""
    if not clause.symbols or "_ " in f"{clause.symbols} ":
        return None
    reader = Reader(clause, lexicon, table)
    for pattern, rule in RULES:
        match = pattern.fullmatch(clause.symbols)
        found = rule(reader, match) if match is not None else None
        if found is not None:
            return found
    return None


def is_number(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "The total sales for north is 42"."""
    return [reader.made("number", reader.quantity(match), reader.number(match["n"]))]


def cell(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "Ann has 12 points", "Ann: 12"."""
    column = int(match["col"][1:]) if match["col"] else reader.only_number_column()
    return [reader.made("number", reader.readings(None, column, reader.where(match[0].replace(match["n"], ""))), reader.number(match["n"]))]


def superlative(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "North has the highest total sales (42)", "the highest score belongs to Ann"."""
    found = match.groupdict()
    label = reader.condition(match["v"])
    if found.get("by") and int(match["by"][1:]) != label.column:
        raise QueryError("the label is of another column")
    where, most = reader.where(match["where"]), match["sup"] in MOST
    if any(condition.column == label.column for condition in where):
        raise QueryError("the groups are filtered away")
    op, extreme = ("argmax", "max") if most else ("argmin", "min")
    if found.get("rows"):
        queries: tuple[Query, ...] = (Query(op, None, where, label.column, agg="count"),)
    else:
        column = int(match["col"][1:])
        queries = tuple(Query(op, column, where, label.column, agg=agg) for agg in reader.aggs(found["agg"], label.column, where, extreme))
    claims = [reader.made("label", queries, str(label.value))]
    if found.get("n"):
        inside = tuple(sorted((*where, label), key=repr))
        values = tuple(Query(query.agg, query.column, inside) for query in queries)
        claims.append(reader.made("number", values, reader.number(match["n"])))
    return claims


def compared(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "Ann has 12 more points than Bob", "sales in north were higher than in south", "A is 20% higher than B"."""
    found = match.groupdict()
    first, second = reader.condition(match["v"]), reader.condition(match["w"])
    column = int(found["col"][1:]) if found.get("col") else reader.only_number_column()
    if found.get("col2") and found["col2"] != found["col"]:
        raise QueryError("two columns are compared")
    if first.column != second.column or first.value == second.value:
        raise QueryError("the two are no groups of one column")
    where = reader.where(found.get("where") or "")
    up = found.get("much") is None or found["much"] in MORE
    pair = (first.value, second.value) if up else (second.value, first.value)
    aggs = reader.aggs(found.get("agg"), first.column, (*where,))
    number = reader.number(match["n"]) if found.get("n") else None
    if number and number.unit == "%" and reader.table.columns[column].unit != "%":
        queries = tuple(Query("change", column, where, first.column, (second.value, first.value), agg=agg) for agg in aggs)
        signed = number if up else number.replace(value=-number.value)
        return [reader.made("number", queries, signed)]
    gap = found.get("gap") is not None
    queries = tuple(Query("difference", column, where, first.column, pair, agg=agg, absolute=gap) for agg in aggs)
    if number is None:
        return [reader.made("sign", queries, "0" if found.get("same") else "+")]
    return [reader.made("number", queries, number)]


def share(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "North accounts for 23% of total sales", "the share of north in sales is 23%", "23% of the rows are from north"."""
    part = reader.condition(match["v"])
    within = reader.where(match["where"])
    if any(condition.column == part.column for condition in within):
        raise QueryError("the whole is filtered by what makes the part")
    column = int(match["col"][1:]) if match["col"] else None
    if column is not None and reader.table.columns[column].kind != "number":
        raise QueryError("the column holds no numbers")
    number = reader.number(match["n"])
    if number.unit != "%" and not 0 <= number.value <= 1:
        raise QueryError("a share without a percent sign is a number from 0 to 1")
    return [reader.made("number", (Query("share", column, (part,), within=within),), number)]


def correlation(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "The correlation between price and sales is 0.8", "price and sales are negatively correlated"."""
    found = match.groupdict()
    columns = sorted((int(match["x"][1:]), int(match["y"][1:])))
    if columns[0] == columns[1] or any(reader.table.columns[i].kind != "number" for i in columns):
        raise QueryError("a correlation is one of two columns of numbers")
    query = Query("correlation", columns[0], over=columns[1], where=reader.where(found.get("where") or ""))
    claims = [reader.made("sign", (query,), "+" if found["how"] == "positively" else "-")] if found.get("how") else []
    return claims + ([reader.made("number", (query,), reader.number(match["n"]))] if found.get("n") else [])


def moved(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "Sales in north rose from 10 in Jan to 12 in Feb", "sales fell by 20% from Jan to Feb"."""
    found = match.groupdict()
    column, where = int(match["col"][1:]), reader.where(match["where"])
    start, end = (reader.condition(found[name]) if found.get(name) else None for name in ("v", "w"))
    if start is None or end is None:
        dates = [i for i, held in enumerate(reader.table.columns) if held.kind == "date"]
        if start is not None or end is not None or len(dates) != 1:
            raise QueryError("it is unclear from when to when")
        start, end = (Condition(dates[0], "=", label) for label in ends_labels(dates[0], where, reader.table))
    if start.column != end.column or start.value == end.value or reader.table.columns[start.column].kind != "date":
        raise QueryError("the two ends are no points of one time")
    aggs = reader.aggs(found.get("agg"), start.column, where)
    up = match["moved"] in UP
    pair = (end.value, start.value) if up else (start.value, end.value)
    claims = [reader.made("sign", tuple(Query("difference", column, where, start.column, pair, agg=agg) for agg in aggs), "+")]
    for name, place in (("n", start), ("k", end)):
        if found.get(name):
            inside = tuple(sorted((*where, place), key=repr))
            claims.append(reader.made("number", tuple(Query(agg, column, inside) for agg in aggs), reader.number(match[name])))
    if found.get("by"):
        number = reader.number(match["by"])
        if number.unit == "%" and reader.table.columns[column].unit != "%":
            change = tuple(Query("change", column, where, start.column, (start.value, end.value), agg=agg) for agg in aggs)
            claims.append(reader.made("number", change, number if up else number.replace(value=-number.value)))
        else:
            claims.append(reader.made("number", claims[0].readings, number))
    return claims


def trend(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "Sales show an increasing trend over month", "sales rose every month"."""
    found = match.groupdict()
    column, where = int(match["col"][1:]), reader.where(match["where"])
    dates = [i for i, held in enumerate(reader.table.columns) if held.kind == "date"]
    over = int(found["over"][1:]) if found.get("over") else dates[0] if len(dates) == 1 else None
    if over is None or reader.table.columns[over].kind == "text" or over == column:
        raise QueryError("it is unclear along what")
    word = "up" if match["moved"] in UP else "down" if match["moved"] in DOWN else "flat"
    kind: Literal["steady", "trend"] = "steady" if found.get("every") else "trend"
    return [
        reader.made(
            kind, tuple(Query("trend", column, where, over=over, agg=agg) for agg in reader.aggs(found.get("agg"), over, where)), word
        )
    ]


def there_are(reader: Reader, match: re.Match[str]) -> list[Claim]:
    """ "There are 12 rows for north", "there are 3 different regions", "5 rows have sales over 10"."""
    found = match.groupdict()
    where = reader.where(match["where"])
    query = Query("distinct", int(found["kind"][1:]), where) if found.get("kind") else Query("count", None, where)
    return [reader.made("number", (query,), reader.number(match["n"]))]


def safely(rule: Rule) -> Callable[[Reader, re.Match[str]], list[Claim] | None]:
    """A rule whose reading does not fit the table reads nothing."""

    def attempt(reader: Reader, match: re.Match[str]) -> list[Claim] | None:
        try:
            return rule(reader, match)
        except QueryError:
            return None

    return attempt


LEAD = rf"(?:(?P<lead>{IN} {V}) ,? ?)?"
GROUP_HAS = (
    rf"(?P<sup>{SUPERLATIVE}) (?:(?P<agg>total|sum|mean|average|avg|combined|overall) (?:of )?)?(?:(?P<col>{C})|(?P<rows>{ROWS}))"
    rf"(?P<where>{WHERE})"
)
VALUE_TOO = rf"(?: ,?(?: ?(?:with|at|of|:|\())? (?P<n>{N})(?: \))?)?"
AMOUNT = rf"(?:(?P<agg>{AGG}) )?"
QUANTITY_BARE = rf"{AMOUNT}(?P<col>{C})"
OF_WHOLE = rf"(?:(?:total|overall|all) )?(?:(?P<col>{C})|{ROWS})(?P<where>{WHERE})"
SIDE = rf"(?:that )?(?:{IN} )?(?P<w>{V})(?: 's(?: (?P<col2>{C}))?)?"
QUANTITY = rf"{AMOUNT}(?P<col>{C})(?P<where>{WHERE})"
SHARE = "(?:share|percentage|fraction|proportion)"
CORRELATED = rf"(?:correlate|correlates|correlated) (?:at|with|by) (?:r (?:=|of) |correlation of )?(?P<n>{N})"
STRENGTH = rf"(?: (?:\( )?(?:r )?(?:(?:=|at|of) )?(?P<n>{N})(?: \))?)?"
TRENDING = "increasing|rising|growing|upward|decreasing|falling|declining|downward|flat"
NONE = "".join(f"(?P<{name}>(?!))?" for name in ("mown", "mpre", "mrows", "mkinds", "mkind"))
PATTERNS: tuple[tuple[str, Rule], ...] = (
    (rf"{LEAD}{measure('m')}{BE} (?P<n>{N})", is_number),
    (rf"(?P<n>{N}) (?:is|was) {measure('m')}", is_number),
    (rf"(?P<lead>{V}) {HAS} (?:(?P<magg>{AGG}) (?:of )?)?(?P<mcol>{C}) of (?P<n>{N})(?P<mwhere>{WHERE}){NONE}", is_number),
    (rf"(?P<lead>{V}) {HAS} (?P<magg>{AGG}) of (?P<n>{N}) (?P<mcol>{C})(?P<mwhere>{WHERE}){NONE}", is_number),
    (rf"{V} {HAS} (?P<n>{N}) (?P<col>{C}){WHERE}", cell),
    (rf"{V}(?P<col>)(?:{BE}| \(| ,| has| had| scored) (?P<n>{N})(?: \))?", cell),
    (rf"{LEAD}(?P<v>{V}) {HAS} {GROUP_HAS}{VALUE_TOO}", superlative),
    (rf"(?P<by>{C}) with {GROUP_HAS} (?:is|was|:|=) (?P<v>{V}){VALUE_TOO}", superlative),
    (rf"(?P<v>{V}) (?:is|was) (?P<by>{C}) with {GROUP_HAS}{VALUE_TOO}", superlative),
    (
        rf"{GROUP_HAS} (?:(?:is|was|are|were)(?: (?:in|from|by|for|at|that of))?|belongs to|belonged to|:) (?P<v>{V}){VALUE_TOO}",
        superlative,
    ),
    (rf"(?P<v>{V}) {HAS} (?:(?P<n>{N}) )?(?P<much>{MUCH}) {QUANTITY_BARE} than (?P<w>{V})(?P<where>{WHERE})", compared),
    (rf"(?P<v>{V}) (?:is|was|has|had|scored) (?P<n>{N}) (?P<much>{MUCH}) (?P<col>)than (?P<w>{V})", compared),
    (rf"(?P<v>{V}) 's {QUANTITY_BARE} (?:is|was|are|were) (?:(?P<n>{N}) )?(?P<much>{MUCH}) than {SIDE}(?P<where>{WHERE})", compared),
    (
        rf"{QUANTITY_BARE} {IN} (?P<v>{V}) (?:is|was|are|were) (?:(?P<n>{N}) )?(?P<much>{MUCH}) than {SIDE}(?P<where>{WHERE})",
        compared,
    ),
    (rf"(?P<v>{V}) and (?P<w>{V}) {HAS} (?P<same>same|equal) {QUANTITY_BARE}(?P<where>{WHERE})", compared),
    (rf"(?P<gap>difference|gap) in {QUANTITY_BARE} between (?P<v>{V}) and (?P<w>{V})(?P<where>{WHERE}){BE} (?P<n>{N})", compared),
    (rf"(?P<gap>difference|gap) between (?P<v>{V}) and (?P<w>{V})(?: in {QUANTITY_BARE})?(?P<where>{WHERE}){BE} (?P<n>{N})", compared),
    (
        rf"(?P<v>{V}) (?:accounts for|accounted for|makes up|made up|represents|contributes|contributed|has|had) (?P<n>{N}) of {OF_WHOLE}",
        share,
    ),
    (rf"(?P<n>{N}) of {OF_WHOLE} (?:(?:is|are|was|were|comes?|came) )?(?:from|in|for|of) (?P<v>{V})", share),
    (rf"{SHARE} of (?P<v>{V}) (?:in|of) {OF_WHOLE}{BE} (?P<n>{N})", share),
    (rf"(?P<v>{V}) 's {SHARE} of {OF_WHOLE}{BE} (?P<n>{N})", share),
    (rf"{SHARE} of {OF_WHOLE} (?:from|in|for|of) (?P<v>{V}){BE} (?P<n>{N})", share),
    (
        rf"correlation(?: coefficient)? (?:between|of) (?P<x>{C}) (?:and|with) (?P<y>{C})(?P<where>{WHERE}){BE} (?P<n>{N})",
        correlation,
    ),
    (rf"(?P<x>{C}) and (?P<y>{C}) (?:are )?{CORRELATED}", correlation),
    (rf"(?P<x>{C}) and (?P<y>{C}) are (?P<how>positively|negatively) correlated{STRENGTH}", correlation),
    (rf"(?P<x>{C}) (?:is|was) (?P<how>positively|negatively) correlated with (?P<y>{C}){STRENGTH}", correlation),
    (
        rf"{QUANTITY} (?P<moved>{MOVED})(?: by (?P<by>{N}))? from (?P<n>{N})(?: in (?P<v>{V}))? to (?P<k>{N})(?: in (?P<w>{V}))?",
        moved,
    ),
    (rf"{QUANTITY} (?P<moved>{MOVED}) by (?P<by>{N})(?: (?:from|between) (?P<v>{V}) (?:to|and) (?P<w>{V}))?", moved),
    (rf"{QUANTITY} (?P<moved>{MOVED}) from (?P<v>{V}) to (?P<w>{V})", moved),
    (rf"{QUANTITY} (?:shows?|showed|has|had) (?P<moved>{TRENDING}) trend(?: (?:over|by) (?:(?P<over>{C})|time))?", trend),
    (
        rf"{QUANTITY} (?:(?:is|was|are|were) )?(?:(?P<every>steadily|consistently) )?(?P<moved>{MOVED})"
        rf"(?: (?:over|with) (?:(?P<over>{C})|time))?",
        trend,
    ),
    (rf"{QUANTITY} (?P<moved>{MOVED}) (?P<every>every) (?P<over>{C})", trend),
    (rf"trend (?:of|in) {QUANTITY} (?:is|was) (?P<moved>{TRENDING})", trend),
    (rf"there (?:is|are|were|was) (?P<n>{N}) {ROWS}(?P<where>{WHERE})", there_are),
    (rf"there (?:are|were) (?P<n>{N}) (?:different|distinct|unique) (?P<kind>{C})(?: values)?(?P<where>{WHERE})", there_are),
    (rf"(?P<n>{N}) {ROWS} (?:are|is|were|have|has|had)(?P<where>(?: with)? {C} (?:{THAN}) {N}| (?:from|in|for) {V})", there_are),
    (rf"(?:table|data) (?:has|have) (?P<n>{N}) {ROWS}(?P<where>)", there_are),
)
RULES = tuple((re.compile(pattern), safely(rule)) for pattern, rule in PATTERNS)
