"""Claims in a text: each sentence is read as claims about the table, checked against it, or named as what nobody can place."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from core.types import Record
from core.verifiers.analysis.claim_parts import AGG, WHERE, C, Claim, N, V
from core.verifiers.analysis.claim_rules import read_clause
from core.verifiers.analysis.claim_words import Clause, Lexicon, lexicon_of
from core.verifiers.analysis.queries import Condition, Query, QueryError, number_shown, recompute, steady
from core.verifiers.analysis.stated import Number, Rule, agrees, read_number
from core.verifiers.analysis.tables import Table
from core.verifiers.math.formula import FormulaError, parse

MAX_TEXT = 20_000
MAX_SENTENCE = 600
MAX_ROWS_READ = 10_000_000
NOTHING = 1e-11
BULLET = re.compile(r"^\s*(?:[-*•+]\s+|\(?[0-9]{1,2}[.)]\s+)+")
SENTENCE = re.compile(r"(?<=[.!?;])\s+")
CUT = re.compile(r"(?: ,)? (?:and|while|whereas|but) | , ")
HEADING = re.compile(rf"((?:{AGG}) (?:of )?{C})(?: (?:by|per|for every) {C})?({WHERE}) :")
LISTED = re.compile(rf"({V}) (?:: |\( )({N})(?: \))?")
NUMBER_WORDS = frozenset(
    (
        *("zero", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"),
        *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty"),
        *("ninety", "hundred", "thousand", "million", "half", "twice", "double", "triple", "third", "quarter", "dozen", "percent"),
    )
)
WEIGHTY = frozenset(
    (
        *("highest", "lowest", "most", "least", "fewest", "more", "less", "fewer", "higher", "lower", "largest", "smallest", "greater"),
        *("total", "mean", "average", "median", "maximum", "minimum", "sum", "trend", "correlated", "correlation", "rose", "fell", "grew"),
        *(
            "increased",
            "decreased",
            "dropped",
            "declined",
            "rising",
            "falling",
            "increasing",
            "decreasing",
            "best",
            "worst",
            "leads",
            "top",
        ),
        *("second", "last", "first", "same", "equal", "outperformed", "exceeds", "ahead", "behind", "share", "majority", "growth", "none"),
        *("not", "never", "no", "false", "wrong", "incorrect", "untrue", "neither", "nor", "lie", "opposite", "disregard", "ignore", "if"),
        *("scratch", "made", "joke", "joking", "kidding", "guess", "guessed", "invented", "mistake", "error", "actually", "correction"),
        *("fake", "imaginary", "hypothetical", "suppose", "assume", "except", "excluding", "unless"),
    )
)


@dataclass(frozen=True, slots=True)
class Checked(Record):
    """A claim, what the data says, and whether it holds; None when it can be read in ways that differ, or was rounded too far."""

    claim: Claim
    holds: bool | None
    recomputed: str
    tolerance: str

    def shown(self, table: Table) -> dict[str, Any]:
        """For the details of a verdict."""
        query = self.claim.readings[0]
        column = None if query.column is None else table.columns[query.column].name
        return {
            "claim": self.claim.text[:200],
            "op": query.op,
            "column": column,
            "query": query.told(table),
            "stated": self.claim.stated,
            "recomputed": self.recomputed,
            "tolerance": self.tolerance,
            "holds": self.holds,
        }


@dataclass(slots=True)
class Found:
    """What a text states: claims that were checked, arithmetic, and sentences that can't be placed. Of these `loose` ones hold numbers,
    `unclear` ones compare, quantify or deny, `vague` ones name something of the table.
    """

    checked: list[Checked] = field(default_factory=list)
    sums: list[tuple[bool, str]] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    vague: list[str] = field(default_factory=list)
    cut: bool = False

    @property
    def false(self) -> list[Checked]:
        """Claims that the data contradicts."""
        return [checked for checked in self.checked if checked.holds is False]

    @property
    def wrong_sums(self) -> list[str]:
        """Arithmetic that is wrong."""
        return [line for right, line in self.sums if not right]

    @property
    def share(self) -> float | None:
        """True ones among what could be checked; None when nothing could."""
        verdicts = [checked.holds for checked in self.checked if checked.holds is not None] + [right for right, _ in self.sums]
        return sum(verdicts) / len(verdicts) if verdicts else None


def find_claims(text: str, table: Table) -> Found:
    """Every sentence of the last 20,000 characters: read whole as claims and checked, or put aside as loose or unclear.

    At most as many claims are checked as keep the rows read below ten million.
    """
    found = Found(cut=len(text) > MAX_TEXT)
    lexicon = lexicon_of(table)
    most = max(10, min(200, MAX_ROWS_READ // max(table.rows, 1)))
    known = _Known(table)
    heading = ""
    for line in (text if not found.cut else text[-MAX_TEXT:].partition("\n")[2]).splitlines():
        bare = BULLET.sub("", line).strip()
        if not bare or known.header(bare):
            continue
        if found.cut is False and len(found.checked) >= most:
            found.cut = True
        if found.cut and len(found.checked) >= most:
            break
        if _arithmetic(bare, known, found) or _row(bare, table, found):
            continue
        for sentence in SENTENCE.split(bare):
            heading = _sentence(sentence, heading, lexicon, known, found)
    return found


def check(claim: Claim, table: Table) -> Checked:
    """A claim recomputed. It holds when all its readings do (of a standard deviation, one), and is false when none does."""
    verdicts: list[bool | None] = []
    values: list[str] = []
    for query in claim.readings:
        try:
            holds, value = _holds(claim, query, table)
        except QueryError as error:
            holds, value = None, str(error)
        verdicts.append(holds)
        values.append(value if len(claim.readings) == 1 else f"{query.agg if query.agg != 'value' else query.op}: {value}")
    together = any if claim.any_reading else all
    outcome = True if together(holds is True for holds in verdicts) else False if all(holds is False for holds in verdicts) else None
    return Checked(claim, outcome, "; ".join(values), Rule().told(claim.readings[0]) if claim.number else "exact")


def _holds(claim: Claim, query: Query, table: Table) -> tuple[bool | None, str]:
    if claim.kind == "steady":
        way: str = steady(query, table)
        return way == claim.word, way
    value = recompute(query, table)
    shown = number_shown(value)
    if claim.kind == "trend":
        return (None if value == "mixed" else value == claim.word), shown
    if isinstance(value, frozenset):
        return (claim.word in value if len(value) == 1 or claim.word not in value else None), shown
    if isinstance(value, str):
        return None, shown
    if claim.kind == "sign":
        sign = "0" if abs(float(value)) < NOTHING else "+" if value > 0 else "-"
        return sign == claim.word, shown
    unit = table.columns[query.column].unit if query.column is not None else ""
    return (agrees(claim.number, value, query, unit) if claim.number else None), shown


def _sentence(sentence: str, heading: str, lexicon: Lexicon, known: _Known, found: Found) -> str:
    """Reads one sentence; gives the heading that the next lines stand under."""
    if len(sentence) > MAX_SENTENCE:
        found.loose.append(sentence[:80])
        return ""
    clause = lexicon.read(sentence)
    title = HEADING.fullmatch(clause.symbols)
    if title is not None:
        return title[1] + title[2]
    listed = LISTED.fullmatch(clause.symbols)
    if listed is not None and heading:
        clause = clause.replace(symbols=f"{heading} for {listed[1]} : {listed[2]}")
    claims = None if sentence.rstrip().endswith("?") else _claims_of(clause, lexicon, known.table)
    if claims:
        found.checked += [check(claim, known.table) for claim in claims]
        known.numbers |= {claim.number.value for claim in claims if claim.number}
        return heading if listed else ""
    if re.fullmatch(N, clause.symbols) and clause.numbers[0].value in known.numbers:
        return ""
    words = set(re.findall(r"[a-z]+", sentence.casefold()))
    if clause.digits or words & NUMBER_WORDS:
        found.loose.append(sentence.strip())
    elif words & WEIGHTY:
        found.unclear.append(sentence.strip())
    elif re.search(rf"\b(?:{V}|{C})\b", clause.symbols):
        found.vague.append(sentence.strip())
    return ""


def _claims_of(clause: Clause, lexicon: Lexicon, table: Table) -> list[Claim] | None:
    """The claims of a sentence that is read from end to end: as one clause, or as clauses joined by commas and conjunctions."""
    whole = read_clause(clause, lexicon, table)
    if whole:
        return whole
    for cut in CUT.finditer(clause.symbols):
        first = read_clause(clause.replace(symbols=clause.symbols[: cut.start()]), lexicon, table)
        rest = _claims_of(clause.replace(symbols=clause.symbols[cut.end() :]), lexicon, table) if first else None
        if first and rest:
            return first + rest
    return None


class _Known:
    """The numbers that stand in the table or were stated before: arithmetic may use these and no others."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.numbers: set[Fraction] = set()
        self._names = {column.name.casefold() for column in table.columns}

    def header(self, line: str) -> bool:
        """Whether a line repeats the column names."""
        return {cell.strip().casefold() for cell in re.split(r"[,;\t|]", line) if cell.strip()} == self._names

    def holds(self, value: Fraction) -> bool:
        """Whether a number is a cell of the table, a count of its rows, or was stated or computed before."""
        if value in self.numbers or value == self.table.rows:
            return True
        columns = [i for i, column in enumerate(self.table.columns) if column.kind == "number"]
        return any(recompute(Query("count", None, (Condition(i, "=", value),)), self.table) for i in columns)


def _arithmetic(line: str, known: _Known, found: Found) -> bool:
    """`12+30=42`: right when it computes, to the digits its result shows. Its operands must come from the table or from lines before."""
    left, sign, right = line.partition("≈") if "≈" in line else line.rpartition("=")
    if not sign or not any(operator in left for operator in "+-*/×÷−") or len(line) > 400:
        return False
    sides = left.rpartition(":")[2].split("=")
    sides = sides[1:] if len(sides) > 1 and not any(map(str.isdigit, sides[0])) else sides
    stated = read_number(right.strip().rstrip("."))
    terms = [value for side in sides if (value := _value_of(side.strip())) is not None]
    if stated is None or stated.unit or not sides or len(terms) != len(sides):
        return False
    holds = all(_agrees_roughly(stated, term) for term in terms)
    found.sums.append((holds, line))
    operands = [read_number(piece) for piece in re.findall(r"[0-9][0-9.,]*(?<![.,])", left)]
    if holds and not all(number is not None and known.holds(number.value) for number in operands):
        found.loose.append(line)
    known.numbers |= {stated.value, *terms}
    return True


def _value_of(term: str) -> Fraction | None:
    try:
        found = parse(term)
    except FormulaError:
        return None
    return Fraction(found.constant) if found.unknown is None else None


def _agrees_roughly(stated: Number, value: Fraction) -> bool:
    """Equal, or rounded to the decimals shown where there are some."""
    return stated.value == value or (stated.step < 1 and abs(stated.value - value) <= stated.step / 2)


def _row(line: str, table: Table, found: Found) -> bool:
    """A line with one cell a column is a row of the table, or a false one when its texts are in the table and its numbers aren't."""
    for delimiter in ",;\t|":
        body = line.strip("|") if delimiter == "|" else line
        if body.count(delimiter) < len(table.columns) - 1 or len(table.columns) < 2:
            continue
        cells = _cut(body, delimiter)
        if len(cells) != len(table.columns):
            continue
        conditions = _as_row(cells, table)
        if conditions is not None:
            query = Query("count", None, tuple(sorted(conditions, key=repr)))
            number = recompute(query, table)
            claim = Claim(line, "sign", (query,), word="+")
            found.checked.append(Checked(claim, number != 0, f"{number_shown(number)} such rows", "exact"))
            return True
    return False


def _cut(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _as_row(cells: Sequence[str], table: Table) -> list[Condition] | None:
    """Filters that only this row passes; None when a text of it isn't in the table at all, or a number is none."""
    conditions, labels = [], 0
    for i, (cell, column) in enumerate(zip(cells, table.columns, strict=True)):
        if column.kind == "number":
            number = read_number(cell)
            if number is None or number.about or number.unit not in ("", column.unit):
                return None
            conditions.append(Condition(i, "=", number.value))
        elif cell in table.labels[i]:
            conditions.append(Condition(i, "=", cell))
            labels += 1
        else:
            return None
    return conditions if labels and labels < len(cells) else None
