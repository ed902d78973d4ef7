"""Sources and what stands where in them: sentences with their words, quotes found to the character, names and numbers of a claim."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from core.sentences import sentences
from core.types import Record
from core.verifiers.base import short
from core.verifiers.factual.numerals import TEENS, TENS, UNITS
from core.verifiers.factual.words import FUNCTION, IRREGULAR

MAX_QUOTE = 2_000
MAX_QUOTES = 50
MAX_PLACES = 2_000
MAX_SENTENCE = 2_000
QUOTED = re.compile(rf'"([^"\n]{{1,{MAX_QUOTE}}})"|“([^“”]{{1,{MAX_QUOTE}}})”|«([^«»]{{1,{MAX_QUOTE}}})»|„([^„“”]{{1,{MAX_QUOTE}}})[“”]')
QUOTE_MARKS = frozenset('"“”«»„')
WORD = re.compile(r"[^\W_]+(?:(?:['’&/.:-]|,(?=\d))[^\W_]+)*|\S")
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
NUMERALS = {name: str(value) for table in (UNITS, TEENS, TENS) for name, value in table.items()}


@dataclass(frozen=True, slots=True)
class Source(Record):
    """A text that answers may rest on. `start` is where it stands in its file; `cut`: it begins or ends inside a sentence."""

    id: str
    text: str
    start: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Span(Record):
    """A stretch of a source: characters `start` up to `end` of the original text."""

    source: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Word(Record):
    """A word or a sign as it stands, its offsets in its text, and its key: lower case, numbers in one spelling."""

    text: str
    key: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        """Whether it is more than a sign."""
        return self.text[0].isalnum()

    @property
    def is_number(self) -> bool:
        """Whether it begins with a digit, or is a number in one word."""
        return self.key[0].isdigit()

    @property
    def is_capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[0].isupper()


@dataclass(frozen=True, slots=True)
class Sentence(Record):
    """A sentence of a source. `quoted`: it begins inside quotation marks or holds an odd number of them."""

    source: Source
    start: int
    end: int
    quoted: bool

    @property
    def text(self) -> str:
        """The sentence, word for word."""
        return self.source.text[self.start : self.end]

    @property
    def words(self) -> tuple[Word, ...]:
        """Its words and signs, with offsets in the sentence."""
        return words_of(self.text[:MAX_SENTENCE])

    def span(self, start: int = 0, end: int | None = None) -> Span:
        """Where it, or a stretch of it, stands in the original."""
        first, last = self.start + start, self.end if end is None else self.start + end
        return Span(self.source.id, self.source.start + first, self.source.start + last, self.source.text[first:last])


@lru_cache(maxsize=2048)
def words_of(text: str) -> tuple[Word, ...]:
    """All words and signs of a text."""
    return tuple(Word(match[0], key_of(match[0]), match.start(), match.end()) for match in WORD.finditer(text))


def key_of(word: str) -> str:
    """A word without its dress. Inflection stays: "lives" is not "lived"."""
    key = word.casefold().replace("’", "'")
    if GROUPED.fullmatch(key):
        key = key.replace(",", "")
    return NUMERALS.get(key, key)


@lru_cache(maxsize=64)
def sentences_of(source: Source) -> tuple[Sentence, ...]:
    """The sentences of a source, in order."""
    if not _marks(source.text):
        return tuple(Sentence(source, start, end, False) for start, end in sentences(source.text))
    found, marks, before = [], 0, 0
    for start, end in sentences(source.text):
        marks += _marks(source.text[before:start])
        within = _marks(source.text[start:end])
        found.append(Sentence(source, start, end, bool(marks % 2 or within % 2)))
        marks, before = marks + within, end
    return tuple(found)


def quotes(text: str) -> Iterator[tuple[int, str]]:
    """Quoted spans of what a model wrote, with their offsets: at most 50, each of at most 2,000 characters."""
    for number, match in enumerate(QUOTED.finditer(text)):
        if number == MAX_QUOTES:
            return
        content = match[match.lastindex or 0]
        if any(sign.isalnum() for sign in content):
            yield match.start(), content


def find_quote(quote: str, sources: Sequence[Source]) -> Span | None:
    """Where a quote stands, to the character; only a run of white space equals any other. It may not begin or end inside a word."""
    wanted = " ".join(quote.split())
    for source in sources:
        place = _find(wanted, source.text)
        if place is not None:
            start, end = place
            return Span(source.id, source.start + start, source.start + end, source.text[start:end])
    return None


def shown(text: str) -> str:
    """A text as it can stand in a reason: short, on one line, printable in any terminal and store."""
    return "".join(sign if sign.isprintable() else "?" for sign in short(text))


def content(words: Sequence[Word]) -> frozenset[str]:
    """The stems of the words that carry meaning: names, numbers, nouns, verbs, adjectives, negations."""
    return frozenset(stem(word.key) for word in words if word.is_word and word.key not in FUNCTION)


@lru_cache(maxsize=8192)
def stem(key: str) -> str:
    """A rough stem for "is it spoken of here": never for equality."""
    key = key.removesuffix("'s")
    key = IRREGULAR.get(key, key)
    if not key.isalpha() or len(key) < 4:
        return key
    if key.endswith("ies") and len(key) > 4:
        return key[:-3] + "y"
    for ending in ("ing", "ed", "es", "s"):
        if key.endswith(ending) and len(key) - len(ending) >= 3 and not key.endswith("ss"):
            key = key[: -len(ending)]
            break
    if len(key) > 3 and key[-1] == key[-2] and key[-1] not in "lsz":
        key = key[:-1]
    return key.removesuffix("e") if len(key) > 3 else key


def holding(stems: frozenset[str], sources: Sequence[Source], reach: int = 2) -> Iterator[Sentence]:
    """Sentences that hold all the stems, alone or together with up to `reach` - 1 sentences after them."""
    if not stems:
        return
    for source in sources:
        run = sentences_of(source)
        bags = [content(sentence.words) for sentence in run]
        for i, sentence in enumerate(run):
            near: set[str] = set().union(*bags[i : i + reach])
            if stems <= near and (reach == 1 or bags[i] & stems):
                yield sentence


def _marks(text: str) -> int:
    return sum(text.count(mark) for mark in QUOTE_MARKS)


@lru_cache(maxsize=32)
def _spaced(text: str) -> tuple[str, list[int], list[int]]:
    """A text with single spaces, and where each of its words begins there and in the original."""
    here, there, place = [], [], 0
    pieces = []
    for match in re.finditer(r"\S+", text):
        here.append(place)
        there.append(match.start())
        pieces.append(match[0])
        place += len(match[0]) + 1
    return " ".join(pieces), here, there


def _find(wanted: str, text: str) -> tuple[int, int] | None:
    spaced, here, there = _spaced(text)
    place = spaced.find(wanted) if wanted else -1
    for _ in range(MAX_PLACES):
        if place < 0:
            return None
        end = place + len(wanted)
        if not (_joined(spaced, place) or _joined(spaced, end)):
            return _original(place, here, there), _original(end - 1, here, there) + 1
        place = spaced.find(wanted, place + 1)
    return None


def _joined(text: str, place: int) -> bool:
    """Whether a cut at that place goes through a word or a number."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if before.isalnum() and after.isalnum():
        return True
    return (before in ".,:/-" and after.isdigit() and text[place - 2 : place - 1].isdigit()) or (
        before.isdigit() and after in ".,:/-" and text[place + 1 : place + 2].isdigit()
    )


def _original(place: int, here: list[int], there: list[int]) -> int:
    word = bisect_right(here, place) - 1
    return there[word] + place - here[word]
