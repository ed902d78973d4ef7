"""What of a question the router looks at: its words and pairs of words, the letters of its words, and the kinds of its words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from core.routing.lexicon import find_kinds
from core.types import Record

LOOK_AT = 1000  # characters at either end: what is asked stands at the beginning or at the end, and the middle is material
LONGEST_WORD = 24  # of longer ones only the first and last letters are looked at
LINE = "↵"

DIGIT = re.compile(r"\d")
LINE_BREAKS = re.compile(r"\s*[\n\r\u2028\u2029]\s*")
WORD = re.compile(r"[^\W\d_]+|0+|_+|[^\w\s]")
START, END = "<", ">"


@dataclass(frozen=True, slots=True)
class Features(Record):
    """Three sets of names. Each is weighed apart, so that a long text has no more say by its length."""

    words: frozenset[str]
    letters: frozenset[str]
    kinds: frozenset[str]

    def groups(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """In the order in which weights files hold them."""
        return self.words, self.letters, self.kinds


def find_features(query: str) -> Features:
    """Digits count by their number only: what is learned of 17*6 holds for 23*4, and of 1984 for any year."""
    seen = ends(query).strip().lower()
    text = DIGIT.sub("0", LINE_BREAKS.sub(f" {LINE} ", seen))
    return Features(_words(text), _letters(text), frozenset(find_kinds(seen)))


def ends(query: str) -> str:
    """The parts of a question that are looked at: all of it, or both ends of a long one."""
    return query if len(query) <= 2 * LOOK_AT else f"{query[:LOOK_AT]}\n{query[-LOOK_AT:]}"


def _words(text: str) -> frozenset[str]:
    """Words and marks, neighbouring pairs of them, and which stand first and last."""
    words = WORD.findall(text)
    if not words:
        return frozenset()
    framed = [START, *words, END]
    return frozenset(words).union(f"{a} {b}" for a, b in pairwise(framed))


def _letters(text: str) -> frozenset[str]:
    """Three and four neighbouring characters, within words and at their borders: what is left of a misspelled word."""
    found: set[str] = set()
    for word in set(text.split()):
        framed = f" {word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD // 2] + word[-LONGEST_WORD // 2 :]} "
        found.update([framed[i : i + 3] for i in range(len(framed) - 2)])
        found.update([framed[i : i + 4] for i in range(len(framed) - 3)])
    return frozenset(found)
