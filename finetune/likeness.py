"""Which texts say nearly the same: exactly those with a Jaccard index of their shingles above a bound, found without comparing all.

Prefix filtering in place of MinHash (Chaudhuri et al., 2006; with longer prefixes, Wang et al., 2012): two sets with an index of t or
more share some of the rarest shingles of each, so only those that do are compared. It misses nothing and needs no seed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from core.types import Record

NEAR = 0.8
SHORT_BELOW = 60  # words; below it characters are compared, since a single other word breaks five of the word shingles
LONG_FROM = 40  # words; between the two, both are compared
LONGEST = 20_000  # characters of a text that are compared
QUOTES = "'\"“”‘’"
ENDS = f".,;:!?…{QUOTES}"
AT_ONCE = 4_096  # candidates that are compared in one go
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
    return " ".join([bare for word in text.casefold().split() if (bare := word.rstrip(ENDS).lstrip(QUOTES))])


def jaccard(one: str, other: str) -> float:
    """What two texts have in common of their shingles: the kind that fits the shorter one."""
    first, second = loosened(one)[:LONGEST], loosened(other)[:LONGEST]
    kind = words_of if min(first.count(" "), second.count(" ")) + 1 >= SHORT_BELOW else characters_of
    a, b = kind(first), kind(second)
    return len(a & b) / len(a | b)


def characters_of(text: str) -> set[str]:
    """Three characters each, of a loosened text with a space around it."""
    padded = f" {text} "
    return {padded[i : i + 3] for i in range(max(1, len(padded) - 2))}


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
        short: list[tuple[int, set[str]]] = []
        long: list[tuple[int, set[str]]] = []
        for place, text in enumerate(texts):
            text = text[:LONGEST]
            words = text.count(" ") + 1
            if words < SHORT_BELOW:
                short.append((place, characters_of(text)))
            if words >= LONG_FROM:
                long.append((place, words_of(text)))
        self._short, self._long = _Join(short, bound, groups), _Join(long, bound, groups)

    def near(self, text: str, group: int = NOBODY, but: int = NOBODY) -> Match | None:
        """The first text of the index that is like this loosened one, leaving out those of its group and the one in the place `but`."""
        text = text[:LONGEST]
        words = text.count(" ") + 1
        found = self._short.find(characters_of(text), group, but) if words < SHORT_BELOW else None
        if found is None and words >= LONG_FROM:
            found = self._long.find(words_of(text), group, but)
        return found


class _Join:
    """Shingles are numbered from the rarest on; each set stands in the lists of its rarest ones.

    With a prefix of |x| - ceil(t |x|) + l shingles, two sets that are alike share l of them at least. A greater l means longer lists to
    go through and far fewer candidates.
    """

    def __init__(self, sets: Sequence[tuple[int, set[str]]], bound: float, groups: Sequence[int] | None) -> None:
        import numpy

        self._numpy, self._bound = numpy, bound
        counts = Counter(shingle for _, shingles in sets for shingle in shingles)
        self._rank = {shingle: i for i, shingle in enumerate(sorted(counts, key=lambda s: (counts[s], s)))}
        sets = sorted(sets, key=lambda each: len(each[1]))  # so that those of a like size stand together in every list
        ranks = [numpy.sort(numpy.fromiter(map(self._rank.__getitem__, s), numpy.int32, len(s))) for _, s in sets]
        self._places = numpy.fromiter((place for place, _ in sets), numpy.int64, len(sets))
        self._groups = numpy.asarray(groups, numpy.int64)[self._places] if groups is not None and sets else None
        self._sizes = numpy.fromiter(map(len, ranks), numpy.int64, len(sets))
        self._starts = numpy.cumsum(self._sizes) - self._sizes
        self._flat = numpy.concatenate(ranks) if ranks else numpy.zeros(0, numpy.int32)
        self._least = numpy.fromiter((_least(size, bound) for size in self._sizes.tolist()), numpy.int64, len(sets))
        self._order, self._owners = self._inverted(ranks)
        self._mask = numpy.zeros(len(self._rank), bool)

    def find(self, shingles: set[str], group: int, but: int) -> Match | None:
        """The first by place."""
        numpy, size = self._numpy, len(shingles)
        least = _least(size, self._bound)
        known = [rank for rank in map(self._rank.get, shingles) if rank is not None]
        known.sort()
        # Those that the index doesn't know are the rarest of all.
        searched = known[: max(_prefix(size, self._bound) - (size - len(known)), 0)]
        if not searched:
            return None
        first = int(numpy.searchsorted(self._sizes, self._bound * size - 1e-9))
        last = int(numpy.searchsorted(self._sizes, (size + 1e-9) / self._bound, "right"))
        if first == last:
            return None
        offsets = numpy.asarray(searched, numpy.int64) * len(self._sizes)
        starts, ends = (numpy.searchsorted(self._order, offsets + place).tolist() for place in (first, last))
        found = [self._owners[a:b] for a, b in zip(starts, ends, strict=True) if a < b]
        if not found:
            return None
        shared = numpy.bincount(numpy.concatenate(found) - first, minlength=last - first)
        smallest = _least(ceil(self._bound * size - 1e-9), self._bound)
        candidates = numpy.flatnonzero(shared >= min(least, smallest))
        counts, candidates = shared[candidates], candidates + first
        fits = counts >= numpy.minimum(self._least[candidates], least)
        if group != NOBODY and self._groups is not None:
            fits &= self._groups[candidates] != group
        candidates = candidates[fits]
        candidates = candidates[numpy.argsort(self._places[candidates])]
        for start in range(0, len(candidates), AT_ONCE):
            match = self._first(candidates[start : start + AT_ONCE], known, size, but)
            if match:
                return match
        return None

    def _first(self, candidates: Any, known: list[int], size: int, but: int) -> Match | None:
        numpy, mask = self._numpy, self._mask
        sizes = self._sizes[candidates]
        ends = numpy.cumsum(sizes)
        gathered = self._flat[numpy.repeat(self._starts[candidates] - (ends - sizes), sizes) + numpy.arange(ends[-1])]
        mask[known] = True
        common = numpy.add.reduceat(mask[gathered].astype(numpy.int64), ends - sizes)
        mask[known] = False
        indices = common / (sizes + size - common)
        good = numpy.flatnonzero((indices >= self._bound - 1e-9) & (self._places[candidates] != but))
        if not len(good):
            return None
        return Match(int(self._places[candidates[good[0]]]), float(indices[good[0]]))

    def _inverted(self, ranks: Sequence[Any]) -> tuple[Any, Any]:
        """Which sets have a rank in their prefix, rank after rank: (rank x number of sets + number of the set; number of the set)."""
        numpy = self._numpy
        prefixes = [each[: _prefix(len(each), self._bound)] for each in ranks]
        all_ranks = numpy.concatenate(prefixes).astype(numpy.int64) if prefixes else numpy.zeros(0, numpy.int64)
        owners = numpy.repeat(numpy.arange(len(prefixes), dtype=numpy.int64), [len(p) for p in prefixes])
        order = numpy.sort(all_ranks * len(ranks) + owners)
        return order, (order % max(len(ranks), 1)).astype(numpy.int32)


def _least(size: int, bound: float) -> int:
    """The l of a set of that size."""
    return 1 + ceil(bound * size - 1e-9) // 10


def _prefix(size: int, bound: float) -> int:
    return size - ceil(bound * size - 1e-9) + _least(size, bound)
