"""How much texts differ: distinct n-grams, distances within a set, and the longest run of words that one text copies from others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from core.types import Record
from core.verifiers.creative.piece import words_of

MAX_CHARACTERS = 250_000
MAX_TEXTS = 100
MAX_SET_WORDS = 50_000


@dataclass(frozen=True, slots=True)
class Diversity(Record):
    """Of a set of texts: shares of distinct words and word pairs, mean distance of two texts, mean share of a text found in the others.

    `distance` is the mean Jaccard distance of the sets of word pairs, 0 for copies, 1 for texts that share none; `overlap` is what
    self-BLEU looks for, with pairs alone and no brevity penalty. Both are None for fewer than two texts.
    """

    distinct_1: float
    distinct_2: float
    distance: float | None
    overlap: float | None


@dataclass(frozen=True, slots=True)
class Run(Record):
    """The longest run of words that stands in the text and in a source. `whole` is False when texts were too long to read to the end."""

    length: int
    text: str
    whole: bool = True


def diversity(texts: Sequence[str]) -> Diversity:
    """Measures of a set. Of more than 100 texts an even sample is taken, and of long ones the beginning."""
    step = max(1, math.ceil(len(texts) / MAX_TEXTS))
    chosen = texts[::step]
    share = MAX_SET_WORDS // max(1, len(chosen))
    words = [words_of(text[: 20 * share])[:share] for text in chosen]
    pairs = [set(ngrams(of, 2)) for of in words]
    return Diversity(distinct(words, 1), distinct(words, 2), _distance(pairs), _overlap(pairs))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """The share of n-grams, over all texts of words together, that are different; 0.0 when there are none."""
    grams = [gram for words in texts for gram in ngrams(words, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words, in order."""
    return list(zip(*(words[at:] for at in range(n)), strict=False))


def copied_run(text: str, sources: Sequence[str]) -> Run:
    """The longest run of words of `text` that stands in one of the sources; case, accents and punctuation don't count.

    Linear in the length of both. Of texts and of the sources together the first 250,000 characters are read.
    """
    parts, left = [], MAX_CHARACTERS
    for source in sources:
        parts.append(words_of(source[:left]))
        left -= min(left, len(source))
    whole = len(text) <= MAX_CHARACTERS and sum(map(len, sources)) <= MAX_CHARACTERS
    run = longest_run(words_of(text[:MAX_CHARACTERS]), parts)
    return Run(len(run), " ".join(run), whole)


def longest_run(words: Sequence[str | None], sources: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first longest run of words that is in `words` and in a source; no run goes across a None."""
    joined: list[str | None] = []
    for source in sources:
        joined += [*source, None]
    shared = set(words) & set(joined)
    one = [word if word in shared else None for word in words]
    other = [word if word in shared else None for word in joined]
    if len(one) > len(other):
        one, other = other, one
    length, end = _longest_common(one, other)
    return tuple(word for word in other[end - length : end] if word is not None)


def _longest_common(indexed: Sequence[str | None], read: Sequence[str | None]) -> tuple[int, int]:
    """Length and end in `read` of the longest common run without None: a suffix automaton of the one, along which the other is read."""
    following, link, longest = _automaton(indexed)
    state = length = best = end = 0
    for at, word in enumerate(read):
        if word is None:
            state = length = 0
            continue
        while state and word not in following[state]:
            state = link[state]
            length = longest[state]
        if word in following[state]:
            state, length = following[state][word], length + 1
        if length > best:
            best, end = length, at + 1
    return best, end


def _automaton(words: Sequence[str | None]) -> tuple[list[dict[str, int]], list[int], list[int]]:
    """Blumer's suffix automaton, online. None can't be read: it starts again at the root."""
    following: list[dict[str, int]] = [{}]
    link, longest = [-1], [0]
    last = 0
    for word in words:
        if word is None:
            last = 0
            continue
        last = _extended(following, link, longest, last, word)
    return following, link, longest


def _extended(following: list[dict[str, int]], link: list[int], longest: list[int], last: int, word: str) -> int:
    known = following[last].get(word)
    if known is not None and longest[known] == longest[last] + 1:
        return known
    new = -1
    if known is None:
        following.append({})
        longest.append(longest[last] + 1)
        link.append(0)
        new = len(link) - 1
    state = last
    while state >= 0 and word not in following[state]:
        following[state][word] = new
        state = link[state]
    if state < 0:
        return new
    target = following[state][word]
    if longest[target] != longest[state] + 1:
        target = _cloned(following, link, longest, state, word)
    if new >= 0:
        link[new] = target
    return new if new >= 0 else target


def _cloned(following: list[dict[str, int]], link: list[int], longest: list[int], state: int, word: str) -> int:
    target = following[state][word]
    following.append(dict(following[target]))
    longest.append(longest[state] + 1)
    link.append(link[target])
    clone = len(link) - 1
    while state >= 0 and following[state].get(word) == target:
        following[state][word] = clone
        state = link[state]
    link[target] = clone
    return clone


def _distance(sets: Sequence[set[tuple[str, ...]]]) -> float | None:
    distances = [1 - len(a & b) / len(a | b) for a, b in combinations(sets, 2) if a or b]
    return sum(distances) / len(distances) if distances else None


def _overlap(sets: Sequence[set[tuple[str, ...]]]) -> float | None:
    if len(sets) < 2:
        return None
    seen: dict[tuple[str, ...], int] = {}
    for of in sets:
        for gram in of:
            seen[gram] = seen.get(gram, 0) + 1
    shares = [sum(seen[gram] > 1 for gram in of) / len(of) for of in sets if of]
    return sum(shares) / len(shares) if shares else None
