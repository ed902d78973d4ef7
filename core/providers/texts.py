"""The text of token ids, and the strings that end it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HALF = "\ufffd"  # what half a character decodes to


def longest_token(tokenizer: Any) -> int:
    """In characters. Takes as long as to list the vocabulary."""
    return max(map(len, tokenizer.get_vocab()))


class Texts:
    """What rows have written, by their tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._endings: dict[str, frozenset[int]] = {}

    def written(self, before: int, ids: Sequence[int]) -> str:
        """The text of `ids`. Decoded after the token before, since some tokenizers drop a first space."""
        decode = self._tokenizer.decode
        known, told = (decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False) for part in ([before], [before, *ids]))
        return str(told[len(known) :])

    def stops(self, before: int, ids: Sequence[int], stop: str) -> bool:
        """True when the last token completes the stop string."""
        if ids[-1] not in self._ending(stop):
            return False
        last = len(stop) + 8  # tokens: enough for its characters, and for halves of them
        return stop in self.written((before, *ids)[-last - 1 :][0], ids[-last:])

    def _ending(self, stop: str) -> frozenset[int]:
        """The tokens that hold the last character of a stop string or a part of one, so that few steps need their text decoded."""
        if stop not in self._endings:
            pieces = self._tokenizer.batch_decode([[i] for i in range(len(self._tokenizer))])
            self._endings[stop] = frozenset(i for i, piece in enumerate(pieces) if stop[-1] in piece or HALF in piece)
        return self._endings[stop]
