"""Which texts say nearly the same: exactly those with a Jaccard index of their shingles above a bound, found without comparing all.

What a shingle is stands here; `finetune.overlap` finds the sets that share many of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.types import Record
from finetune.overlap import Overlap, Shingles, numbered, numbered_characters

NEAR = 0.8
SHORT_BELOW = 60  # words; below it characters are compared, since a single other word breaks five of the word shingles
LONG_FROM = 40  # words; between the two, both are compared
LONGEST = 20_000  # characters of a text that are compared
QUOTES = "'\"“”‘’"
ENDS = f".,;:!?…{QUOTES}"
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Match(Record):
    """The place of a text in the index and how much it has in common: its Jaccard index, in [0, 1]."""

    place: int
    jaccard: float


def loosened(text: str) -> str:
    """Case, spacing, punctuation at the ends of words, width and invisible characters make no other text; operators and points do."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    words = text.casefold().split()
    return " ".join([bare for word in words if (bare := word if word.isalnum() else word.rstrip(ENDS).lstrip(QUOTES))])


def jaccard(one: str, other: str) -> float:
    """What two texts have in common of their shingles: the kind that fits the shorter one."""
    first, second = loosened(one)[:LONGEST], loosened(other)[:LONGEST]
    kind = words_of if min(first.count(" "), second.count(" ")) + 1 >= SHORT_BELOW else characters_of
    a, b = kind(first), kind(second)
    return len(a & b) / len(a | b)


def characters_of(text: str) -> set[str]:
    """Three characters each, of a loosened text with a space around it."""
    padded = f" {text} "
    return set(map("".join, zip(padded, padded[1:], padded[2:], strict=False))) or {padded}


def words_of(text: str) -> set[str]:
    """Five words each, of a loosened text."""
    words = text.split(" ")
    return {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def alike(one: set[str], other: set[str], bound: float) -> bool:
    """Whether two sets of shingles have a Jaccard index of that or more."""
    if min(len(one), len(other)) < bound * max(len(one), len(other)):
        return False
    common = len(one & other)
    return common >= bound * (len(one) + len(other) - common)


class Near:
    """An index of texts, which doesn't change. Texts of one `group` are not told apart by their words, but by something else."""

    def __init__(self, texts: Iterable[str], bound: float = NEAR, groups: Sequence[int] | None = None) -> None:
        """`texts` are loosened already; `groups` are numbers from 0, or NOBODY for texts of none."""
        short: dict[int, str] = {}
        long: dict[int, str] = {}
        for place, text in enumerate(texts):
            text = text[:LONGEST]
            words = text.count(" ") + 1
            if words < SHORT_BELOW:
                short[place] = text
            if words >= LONG_FROM:
                long[place] = text
        self._groups = groups
        self._short = self._overlap(list(short), numbered_characters(list(short.values())), bound)
        self._long = self._overlap(list(long), numbered(map(words_of, long.values())), bound)

    def near(self, text: str, group: int = NOBODY, but: int = NOBODY) -> Match | None:
        """The first text of the index that is like this loosened one, leaving out those of its group and the one in the place `but`."""
        text = text[:LONGEST]
        words = text.count(" ") + 1
        found = self._short.find(characters_of(text), group, but) if words < SHORT_BELOW else None
        if found is None and words >= LONG_FROM:
            found = self._long.find(words_of(text), group, but)
        return None if found is None else Match(*found)

    def _overlap(self, places: Sequence[int], shingles: Shingles, bound: float) -> Overlap:
        return Overlap(places, shingles, bound, None if self._groups is None else [self._groups[place] for place in places])
