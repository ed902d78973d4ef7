"""Where the paragraphs and sentences of a plain text begin and end, as offsets. In doubt it does not split.

A wrong split is worse than a missing one: "The sister of St. Ann lives in Oslo" must never yield "Ann lives in Oslo".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BLANK = re.compile(r"\n[ \t\r]*\n\s*")
END = re.compile(r"[.!?…][.!?…\"'”’»)\]]{0,4}(?=\s)")
ITEM = re.compile(r"\s*(?:[-*•]|#{1,6}|\d{1,3}[.)]) ")
LAST_WORD = re.compile(r"[^\W\d_]+(?:\.[^\W\d_]+)*$")
SHORTENED = (
    "mr mrs ms mx dr st ste prof rev fr sr sra jr hon pres gov gen col maj capt cpt lt sgt cmdr adm sen rep mt ft no nos vs etc cf ca"
    " approx est dept inc ltd co corp bros univ assn jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun fig"
    " figs vol ch pp ed eds al e.g i.e a.m p.m u.s u.k u.n ph.d messrs mme mlle mgr op"
)
ABBREVIATIONS = frozenset(SHORTENED.split())
LOOK_BACK = 24


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Runs of lines between blank ones, without the space around them."""
    start = 0
    for gap in BLANK.finditer(text):
        yield from _trimmed(text, start, gap.start())
        start = gap.end()
    yield from _trimmed(text, start, len(text))


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """The sentences of a stretch of text. A line break ends one only where a list item or a heading begins."""
    for first, last in paragraphs(text[start:end]):
        for one, other in _items(text, start + first, start + last):
            yield from _sentences(text, one, other)


def _items(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    place = text.find("\n", start, end)
    while place >= 0:
        if ITEM.match(text, place + 1, min(end, place + 40)):
            yield from _trimmed(text, start, place)
            start = place + 1
        place = text.find("\n", place + 1, end)
    yield from _trimmed(text, start, end)


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for stop in END.finditer(text, start, end):
        if _ends_here(text, stop, end):
            yield from _trimmed(text, start, stop.end())
            start = stop.end()
    yield from _trimmed(text, start, end)


def _ends_here(text: str, stop: re.Match[str], end: int) -> bool:
    after = text[stop.end() : min(end, stop.end() + LOOK_BACK)].lstrip()
    if after[:1].islower():
        return False
    if text[stop.start()] != ".":
        return True
    word = LAST_WORD.search(text[max(0, stop.start() - LOOK_BACK) : stop.start()])
    if word is None:
        return True
    return not (len(word[0]) == 1 or word[0].casefold() in ABBREVIATIONS)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
