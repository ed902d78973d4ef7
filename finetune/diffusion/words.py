"""The tokenizer: the words of the captions. Case does not count; a word that no caption had means nothing to the model and is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.types import Record

PAD, END, START = 0, 1, 2  # END is not 2: CLIPTextModel takes 2 for a sign of old checkpoints and then finds the end elsewhere
SPECIALS = 3
MOST_WORDS = 20_000
LONGEST = 77
UNSPACED = "\u3040-\u30ff\u3400-\u9fff"  # written without spaces: each character is a word
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Words(Record):
    """The words that are known, the most frequent first, and how many tokens a text is padded to, START and END included."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, captions: Iterable[str]) -> Words:
        """Learned from captions: their 20,000 most frequent words, and the length of the longest, up to 77 tokens."""
        counts: Counter[str] = Counter()
        longest = 0
        for caption in captions:
            found = split(caption)
            counts.update(found)
            longest = max(longest, len(found))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered[:MOST_WORDS]), min(LONGEST, longest + 2))

    @classmethod
    def read(cls, values: Any) -> Words:
        """From its JSON. Raises KeyError, TypeError or ValueError when it is none."""
        words, length = tuple(values["words"]), values["length"]
        if not all(isinstance(word, str) for word in words) or not isinstance(length, int) or not 2 <= length <= LONGEST:
            raise ValueError("not a list of words and a length")
        return cls(words, length)

    @property
    def size(self) -> int:
        """Tokens that there are."""
        return len(self.words) + SPECIALS

    @property
    def room(self) -> int:
        """Words that a text may have."""
        return self.length - 2

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """A row of `length` token ids for each text; what is too long is cut."""
        ids = {word: number for number, word in enumerate(self.words, SPECIALS)}
        rows = []
        for text in texts:
            known = [ids[word] for word in split(text) if word in ids][: self.room]
            row = [START, *known, END]
            rows.append(row + [PAD] * (self.length - len(row)))
        return rows

    def unknown(self, text: str) -> list[str]:
        """Words of a text that no caption had."""
        known = set(self.words)
        return [word for word in split(text) if word not in known]


def split(text: str) -> list[str]:
    """Words, numbers and signs, in lower case."""
    return WORD.findall(text.casefold())
