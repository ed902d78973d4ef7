"""What claims are made of: quantities, filters and groups as patterns over symbols, and the typed queries that they mean.

A phrase with two readings ("sales in north" where north has several rows) keeps both: such a claim holds when all of them hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from core.types import Record
from core.verifiers.analysis.claim_words import Clause, Lexicon
from core.verifiers.analysis.queries import Condition, Query, QueryError, recompute
from core.verifiers.analysis.stated import Number
from core.verifiers.analysis.tables import Table

AGGREGATE = {
    **dict.fromkeys(("total", "sum", "combined", "overall"), "sum"),
    **dict.fromkeys(("mean", "average", "avg"), "mean"),
    "median": "median",
    **dict.fromkeys(("highest", "maximum", "max", "largest", "greatest", "biggest", "top"), "max"),
    **dict.fromkeys(("lowest", "minimum", "min", "smallest", "least"), "min"),
    **dict.fromkeys(("standard deviation", "std"), "std"),
}
UP = frozenset(
    ("rose", "increased", "grew", "climbed", "increasing", "rising", "growing", "upward", "increases", "grows", "rises", "increase")
)
DOWN = frozenset(
    ("fell", "decreased", "dropped", "declined", "decreasing", "falling", "declining", "downward", "decreases", "declines", "falls")
)
MORE = frozenset(("more", "higher", "greater", "larger", "bigger", "above"))
MOST = frozenset(("most", "highest", "largest", "greatest", "biggest", "top", "maximum", "max"))
COMPARE = {"over": ">", "above": ">", "more than": ">", "greater than": ">", "higher than": ">", ">": ">", "under": "<", "below": "<"}
COMPARE |= {"less than": "<", "fewer than": "<", "lower than": "<", "<": "<", "at least": ">=", "≥": ">=", "≤": "<=", "of": "=", "=": "="}

V, C, N = r"V\d+_\d+", r"C\d+", r"N\d+"
IN = "(?:of|in|for|from|at|during|on|within|among)"
THAN = "|".join(COMPARE)
WHERE = rf"(?:(?: ,)?(?: and)? {IN} {V}| (?:with|where|whose|having) {C}(?: is)? (?:{THAN}) {N})*"
AGG = "|".join(AGGREGATE)
BE = (
    r"(?: value)?(?: (?:is|was|are|were|equals|=|:|reached|totals|totaled|totalled|(?:is|was) equal to"
    r"|(?:comes|came|amounts|amounted|adds up) to|(?:stands|stood) at)(?: exactly)?)"
)
MUCH = "more|higher|greater|larger|bigger|above|fewer|less|lower|smaller|below"
SUPERLATIVE = "most|fewest|highest|largest|greatest|biggest|top|maximum|max|lowest|least|smallest|minimum|min"
ROWS = "(?:rows?|records?|entry|entries|lines|observations)"
MOVED = "|".join(sorted(UP | DOWN))
HAS = "(?:has|have|had|holds)"


@dataclass(frozen=True, slots=True)
class Claim(Record):
    """What a clause states of the table. `kind`: the value is `number`, the group is `label`, the sign or the direction is `word`."""

    text: str
    kind: Literal["number", "label", "sign", "trend", "steady"]
    readings: tuple[Query, ...]
    number: Number | None = None
    word: str = ""
    any_reading: bool = False

    @property
    def stated(self) -> str:
        """What the claim says the value is."""
        return self.number.text if self.number else self.word


def measure(prefix: str) -> str:
    """A pattern for a quantity: "total sales in north", "north's mean score", "number of rows with sales over 10"."""
    p = prefix
    return (
        rf"(?:(?:(?P<{p}own>{V}) (?:'s )?)?(?:(?P<{p}agg>{AGG}) (?:of )?(?:values? (?:of|in) )?)?(?:(?P<{p}pre>{V}) )?(?P<{p}col>{C})"
        rf"|(?:number|count) of (?:(?P<{p}rows>{ROWS})|(?P<{p}kinds>different|distinct|unique) (?P<{p}kind>{C})))(?P<{p}where>{WHERE})"
    )


class Reader:
    """One clause and its table: turns the parts of a match into queries and claims."""

    def __init__(self, clause: Clause, lexicon: Lexicon, table: Table) -> None:
        self.clause, self.lexicon, self.table = clause, lexicon, table

    def condition(self, symbol: str) -> Condition:
        """A `V` symbol as a filter."""
        column, label = self.lexicon.label(symbol)
        return Condition(column, "=", label)

    def where(self, symbols: str) -> tuple[Condition, ...]:
        """The filters of a WHERE part. Raises QueryError when two of them name one column."""
        found = [self.condition(symbol) for symbol in re.findall(V, symbols)]
        for column, sign, number in re.findall(rf"(C\d+)(?: is)? ({THAN}) (N\d+)", symbols):
            bound, held = self.number(number), self.table.columns[int(column[1:])]
            if held.kind != "number" or bound.about or bound.unit not in ("", held.unit):
                raise QueryError("numbers are compared with numbers")
            found.append(Condition(int(column[1:]), COMPARE[sign], bound.value))
        if len({condition.column for condition in found}) != len(found):
            raise QueryError("one column is filtered twice")
        return tuple(sorted(found, key=repr))

    def number(self, symbol: str) -> Number:
        """An `N` symbol's number."""
        return self.clause.numbers[int(symbol[1:])]

    def quantity(self, match: re.Match[str], p: str = "m", lead: str = "") -> tuple[Query, ...]:
        """The readings of a `measure`."""
        found = match.groupdict()
        where = self.where(" ".join((found.get("lead") or lead, found[f"{p}where"] or "", found[f"{p}own"] or "", found[f"{p}pre"] or "")))
        if found[f"{p}rows"]:
            return (Query("count", None, where),)
        if found[f"{p}kind"]:
            return (Query("distinct", int(found[f"{p}kind"][1:]), where),)
        return self.readings(found[f"{p}agg"], int(found[f"{p}col"][1:]), where)

    def readings(self, agg: str | None, column: int, where: tuple[Condition, ...]) -> tuple[Query, ...]:
        """Without a word for it, a quantity is the one cell there is, or else any aggregate of the cells."""
        if self.table.columns[column].kind != "number":
            raise QueryError("the column holds no numbers")
        if agg and AGGREGATE[agg] == "std":
            return Query("std", column, where), Query("std", column, where, population=True)
        if agg:
            return (Query(AGGREGATE[agg], column, where),)
        if recompute(Query("count", None, where), self.table) == 1:
            return (Query("value", column, where),)
        return tuple(Query(op, column, where) for op in ("sum", "mean", "median", "min", "max"))

    def aggs(self, agg: str | None, by: int, where: tuple[Condition, ...], extreme: str = "") -> tuple[str, ...]:
        """How the rows of a group may be taken together: as said, not at all where each group is one row, else in every usual way."""
        if agg:
            return (AGGREGATE[agg],)
        rows, groups = (recompute(Query(op, by if op == "distinct" else None, where), self.table) for op in ("count", "distinct"))
        return ("value",) if rows == groups else ("sum", "mean", *([extreme] if extreme else []))

    def only_number_column(self) -> int:
        """The column that a bare number must belong to. Raises QueryError when there are several."""
        columns = [i for i, column in enumerate(self.table.columns) if column.kind == "number"]
        if len(columns) != 1:
            raise QueryError("it is unclear which column is meant")
        return columns[0]

    def made(self, kind: Literal["number", "label", "sign", "trend", "steady"], readings: tuple[Query, ...], stated: Number | str) -> Claim:
        """A claim of this clause."""
        number, word = (stated, "") if isinstance(stated, Number) else (None, stated)
        return Claim(self.clause.text, kind, readings, number, word, any_reading=readings[0].op == "std")
