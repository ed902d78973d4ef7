"""The piece in what a model wrote: found, undressed, and cut into lines, paragraphs, sentences and words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from core.types import Record
from core.verifiers.creative.wordforms import word_set

MAX_PIECE = 100_000
MAX_COMPOUND = 3

ANSWER = r"answer[ \t]?[*_]{0,3}[ \t]?[:：][*_]{0,3}"
OWN_LINE = re.compile(rf"^[ \t>#*_]{{0,8}}(?:(?:my|the|our|final|here is|here's) ){{0,3}}{ANSWER}", re.IGNORECASE | re.MULTILINE)
MID_LINE = re.compile(r"(?<=[.!?:;] )Answer:")
BREAKS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
FENCE = re.compile(r"(`{3,8}|~{3,8})[\w-]{0,20}[ \t]*\n(.*)\n[ \t]*\1", re.DOTALL)
QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("**", "**"), ("__", "__"), ("`", "`"))
BULLET = re.compile(r"[ \t]*(?:([-*+•‣◦–])[ \t]+|(\d{1,4})[.)][ \t]+)")
HEADING = re.compile(r"#{1,6}[ \t]+(.{1,200})|(\*\*|__)(.{1,200}?)\2:?|[Tt]itle:[ \t]*(.{1,200})")
WORD = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+(?:['’‐‑-][^\W_]+)*")
TITLES = word_set("mr mrs ms dr st prof gen col capt lt sgt rev hon mt mme mlle")
LETTERS = {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "’": "'", "‐": "-", "‑": "-"}
STOP = re.compile(r"(?<![.!?…])([.!?…]+)([*_]{0,3}[\"'”’)\]»]{0,3}[*_]{0,3})(?=\s|$)")
ABBREVIATIONS = word_set("mr mrs ms dr st prof vs etc jr sr no vol fig inc ltd gen col capt lt sgt rev hon mt am pm eg ie")


@dataclass(frozen=True, slots=True)
class Line(Record):
    """A line that holds a word: its text without bullet or heading signs, its words as `fold` spells them, and its bullet ("" for none)."""

    text: str
    words: tuple[str, ...]
    bullet: str = ""
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Piece(Record):
    """A piece of writing; `lines` and `words` are those of the body, without the title.

    `sentences` is the least and the most it may be said to have: "at 5 p.m. He left" is one, or two.
    """

    text: str
    title: str | None
    paragraphs: tuple[tuple[Line, ...], ...]
    lines: tuple[Line, ...]
    words: tuple[str, ...]
    sentences: tuple[int, int]


def find_piece(text: str) -> str | None:
    """What follows the last "Answer:" that opens a line, to the end of the text; without one, the whole text. None: it is too long.

    Fences, and quotes or emphasis around the whole of it, are dress and come off.
    """
    tail = text[-MAX_PIECE:]
    marks = list(OWN_LINE.finditer(tail)) or list(MID_LINE.finditer(tail))
    if not marks and len(text) > MAX_PIECE:
        return None
    return undress(tail[marks[-1].end() :] if marks else tail)


def undress(text: str) -> str:
    """One spelling of line breaks and accents, and no fence, quotes or emphasis around the whole."""
    text = unicodedata.normalize("NFC", BREAKS.sub("\n", text)).lstrip("\ufeff").strip()
    fence = FENCE.fullmatch(text)
    if fence:
        text = fence[2].strip()
    for left, right in QUOTES:
        inner = text[len(left) : -len(right)]
        if (
            len(text) > len(left) + len(right)
            and text.startswith(left)
            and text.endswith(right)
            and left not in inner
            and right not in inner
        ):
            return inner.strip()
    return text


def cut(text: str, titled: bool = False) -> Piece:
    """The piece as its parts. `titled`: a first line that looks like a title is one, and no part of the body."""
    title, body = _title(text) if titled else (None, text)
    if "\n" not in body and " / " in body:
        body = body.replace(" / ", "\n")
    paragraphs, current = [], []
    for raw in body.split("\n"):
        line = _line(raw)
        if line.words:
            current.append(line)
        elif current:
            paragraphs.append(tuple(current))
            current = []
    if current:
        paragraphs.append(tuple(current))
    lines = tuple(line for paragraph in paragraphs for line in paragraph)
    words = tuple(word for line in lines for word in line.words)
    return Piece(text, title, tuple(paragraphs), lines, words, _sentences(paragraphs))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded. A compound with hyphens is one word while it has no more than three parts."""
    found: list[str] = []
    for match in WORD.finditer(text):
        word = fold(match[0])
        found += [part for part in word.split("-") if part] if word.count("-") >= MAX_COMPOUND else [word]
    return tuple(found)


def fold(text: str) -> str:
    """Lower case, without accents, in plain letters wherever there are such: "Élan" is "elan"."""
    text = text.casefold()
    return text if text.isascii() else _folded(text)


@lru_cache(maxsize=4_096)
def _folded(text: str) -> str:
    plain = "".join(LETTERS.get(sign, sign) for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return plain.casefold()


def _line(raw: str) -> Line:
    text = raw.lstrip(" \t>").rstrip()
    bullet = BULLET.match(text)
    if bullet:
        text = text[bullet.end() :]
    heading = _heading(text)
    text = (heading or text).replace("**", "")
    return Line(text, words_of(text), (bullet[1] or bullet[2]) if bullet else "", heading)


def _title(text: str) -> tuple[str | None, str]:
    first, _, rest = text.partition("\n")
    heading = _heading(first.strip())
    if heading and rest.strip():
        return heading, rest.strip()
    if rest[:1] == "\n" and rest.strip() and words_of(first):
        return first.strip(), rest.strip()
    return None, text


def _heading(text: str) -> str:
    match = HEADING.fullmatch(text)
    return (match[1] or match[3] or match[4]).strip(" \t#") if match else ""


def _sentences(paragraphs: list[tuple[Line, ...]]) -> tuple[int, int]:
    """Ends that are sure, and those that may be: after abbreviations, in dialogue, at dots that trail off, at an unfinished end."""
    least = most = 0
    for paragraph in paragraphs:
        for block in _blocks(paragraph):
            sure, possible = _ends(block)
            least, most = least + sure, most + sure + possible
    return (max(least, 1), max(most, 1)) if paragraphs else (0, 0)


def _blocks(paragraph: tuple[Line, ...]) -> list[str]:
    """Lines of prose or verse run on; a list item stands alone."""
    blocks: list[list[str]] = [[]]
    for line in paragraph:
        if line.bullet or line.heading:
            blocks.append([line.text])
            blocks.append([])
        else:
            blocks[-1].append(line.text)
    return [" ".join(block) for block in blocks if block]


def _ends(block: str) -> tuple[int, int]:
    sure = possible = start = 0
    for stop in STOP.finditer(block):
        said = block[start : stop.start()]
        if not WORD.search(said):
            continue
        after = block[stop.end() :].lstrip(" \t*_\"'“‘([«")[:1] if stop.end() < len(block) else ""
        if after and after.islower():
            continue
        if after and stop[1] == "." and _last_word(said) in TITLES:
            continue
        start = stop.end()
        if not after or _certain(said, stop):
            sure += 1
        else:
            possible += 1
    rest = WORD.search(block, start)
    return sure, possible + (1 if rest else 0)


def _certain(said: str, stop: re.Match[str]) -> bool:
    if stop[1] in ("...", "…", "..") or (stop[2] and stop[1] != "."):
        return False
    bare = _last_word(said)
    return not (stop[1] == "." and (bare in ABBREVIATIONS or (len(bare) == 1 and bare not in ("i", "a"))))


def _last_word(said: str) -> str:
    last = said[-12:].split()[-1:]
    return re.sub(r"\W", "", last[0]).casefold() if last else ""
