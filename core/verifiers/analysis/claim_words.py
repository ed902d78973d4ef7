"""A sentence as a line of symbols: columns and cells of the very table, numbers, the few words that the claim grammar knows, and `_`.

What this file turns into `_` no claim can hold: the grammar reads whole clauses or nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from core.types import Record
from core.verifiers.analysis.stated import ABOUT, NUMBER, Number, number_of
from core.verifiers.analysis.tables import Table

MAX_PHRASE = 8
MAX_SYMBOLS = 80
ATOM = re.compile(r"[^\W_]+|\S")
WORDS = """
total sum combined overall mean average avg median highest maximum max largest greatest biggest top lowest minimum min smallest least
standard deviation std number count share percentage percent fraction proportion difference gap correlation slope value values
rows row records record entries entry lines observations different distinct unique
of in for from at during on within among with where whose having and between to than by that over as or per
is was are were equals equal comes came amounts amounted reached totals totaled totalled adds up stands stood has have had holds
belongs belonged there more most fewer fewest less higher lower greater larger smaller bigger same above below under exactly
rose risen increased increasing increases increase grew growing grow grows rising rise rises climbed upward
fell fallen decreased decreasing decreases decrease dropped drops declined declining decline declines falling fall falls downward
stable constant flat unchanged stayed remained trend time show shows showed steadily consistently every correlate correlates correlated
coefficient positively negatively uncorrelated accounts accounted makes made contributes contributed represents come r
all scored table data
what which who how many much does do did round rounded decimal decimals places place
> < ≥ ≤ = : , ( ) 's
"""
KNOWN = frozenset(WORDS.split())
FILLERS = frozenset(
    ("the", "a", "an", "so", "thus", "therefore", "hence", "also", "however", "clearly", "indeed", "furthermore", "moreover", "finally")
)
OPENERS = re.compile(
    r"^(?:(?:(?:we|i|you) (?:can )?(?:see|find|found|note|observe|conclude|get) that|note that|it follows that"
    r"|according to the (?:data|table)"
    r"|based on the (?:data|table)|(?:in|from) (?:the|this) (?:data|table|dataset)|the (?:data|table) (?:shows?|says) that|in fact|in total"
    r"|as a result|answer ?:|final answer ?:|claim ?:|finding ?:)[ ,]*)+",
    re.IGNORECASE,
)
REPLACED = str.maketrans(
    {"’": "'", "–": "-", "—": "-", "_": " ", "\u00a0": " ", "\u202f": " ", "*": " ", "`": " ", "#": " ", "“": " ", "”": " ", '"': " "}
)
ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Clause(Record):
    """A sentence in symbols: `C2` the third column, `V2_5` a cell of it, `N0` the first number, known words, `_` for all else."""

    text: str
    symbols: str
    numbers: tuple[Number, ...]

    @property
    def digits(self) -> bool:
        """Whether it holds a number at all, read or not."""
        return bool(self.numbers) or "#" in self.symbols


class Lexicon:
    """What the words of one table mean: its columns in singular and plural, its labels; what could mean two things means nothing."""

    def __init__(self, table: Table) -> None:
        self._labels = table.labels  # and not the table, which keeps its lexicon: a circle would hold it in the database
        self._phrases: dict[tuple[str, ...], str] = {}
        self._longest = 1
        for i, column in enumerate(table.columns):
            for alias in _aliases(column.name):
                self._add(alias, f"C{i}")
        for i, labels in enumerate(table.labels):
            for j, label in enumerate(labels):
                if LETTER.search(label) or table.columns[i].kind == "date":
                    self._add(_atoms(label), f"V{i}_{j}")

    def label(self, symbol: str) -> tuple[int, str]:
        """The column and the text of a `V` symbol."""
        column, _, label = symbol[1:].partition("_")
        return int(column), self._labels[int(column)][int(label)]

    def read(self, sentence: str) -> Clause:
        """A sentence in symbols."""
        text = OPENERS.sub("", sentence.translate(REPLACED).strip()).strip().rstrip(".!;, ")
        symbols: list[str] = []
        numbers: list[Number] = []
        place = 0
        while place < len(text) and len(symbols) <= MAX_SYMBOLS:
            place = self._next(text, place, symbols, numbers)
        joined = " ".join(symbols) if len(symbols) <= MAX_SYMBOLS else "_ #"
        joined = re.sub(r"\bC(\d+) (V\1_\d+)\b", r"\2", joined)
        joined = re.sub(r"\b(V(\d+)_\d+) C\2(?= |$)", r"\1", joined)
        return Clause(sentence.strip(), joined, tuple(numbers))

    def _next(self, text: str, place: int, symbols: list[str], numbers: list[Number]) -> int:
        if text[place].isspace():
            return place + 1
        ahead = [match for _, match in zip(range(self._longest), ATOM.finditer(text, place), strict=False)]
        for size in range(len(ahead), 0, -1):
            symbol = self._phrases.get(tuple(match[0].casefold() for match in ahead[:size]))
            if symbol is not None:
                symbols.append(symbol)
                return ahead[size - 1].end()
        number = NUMBER.match(text, place) if _may_start(text, place) else None
        if number:
            about = bool(symbols) and symbols[-1] == "about"
            if about:
                symbols.pop()
            symbols.append(f"N{len(numbers)}")
            numbers.append(number_of(number, about))
            return number.end()
        return self._word(text, place, ahead[0], symbols)

    def _word(self, text: str, place: int, atom: re.Match[str], symbols: list[str]) -> int:
        word = atom[0].casefold()
        if word == "'" and text[place + 1 : place + 2].casefold() == "s" and not text[place + 2 : place + 3].isalnum():
            symbols.append("'s")
            return place + 2
        if word == "-" and text[place - 1 : place] == " " and text[place + 1 : place + 2] == " ":
            symbols.append(":")
        elif word in ABOUT:
            symbols.append("about")
        elif any(sign.isnumeric() for sign in word):
            symbols.append("#")
        elif word in KNOWN:
            symbols.append(word)
        elif word not in FILLERS:
            symbols.append("_")
        return atom.end()

    def _add(self, phrase: tuple[str, ...], symbol: str) -> None:
        if not phrase or len(phrase) > MAX_PHRASE:
            return
        taken = self._phrases.get(phrase)
        known = all(word in KNOWN or word in FILLERS or word in ABOUT for word in phrase)
        self._phrases[phrase] = "_" if known or taken not in (None, symbol) else symbol
        self._longest = max(self._longest, len(phrase))


def _may_start(text: str, place: int) -> bool:
    """Whether a number may begin here: not inside a word, a date, a decimal, a range."""
    before = text[place - 1 : place]
    if before == ",":
        return not text[place - 2 : place - 1].isdigit()
    return not (before.isalnum() or before in tuple("./:%$€£¥-+"))


def lexicon_of(table: Table) -> Lexicon:
    """The words of a table, read once."""
    found: Any = table.remember("lexicon", lambda: Lexicon(table))
    return found  # type: ignore[no-any-return]


def _aliases(name: str) -> set[tuple[str, ...]]:
    found = set()
    for spelled in (name, ASIDE.sub(" ", name)):
        atoms = _atoms(spelled)
        if atoms:
            found |= {atoms, (*atoms[:-1], atoms[-1] + "s")}
            if len(atoms[-1]) > 3 and atoms[-1].endswith("s") and not atoms[-1].endswith("ss"):
                found.add((*atoms[:-1], atoms[-1][:-1]))
    return found


def _atoms(text: str) -> tuple[str, ...]:
    return tuple(match[0].casefold() for match in ATOM.finditer(text.translate(REPLACED)))
