"""Sets that overlap: exactly those with a Jaccard index above a bound, found without comparing all.

Prefix filtering in place of MinHash (Chaudhuri et al., 2006; with longer prefixes, Wang et al., 2012): two sets with an index of t or
more share some of the rarest shingles of each, so only those that do are compared. It misses nothing and needs no seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

AT_ONCE = 4_096  # candidates that are compared in one go
CLASSES = 64  # of sizes, at most: a query skips those that are too small or too large for it
CORNERS = 4_000_000  # entries of the table of classes, at most
BLOCK = 1_000_000  # characters that are numbered in one go
CHARACTER = 21  # bits
NONE = (1 << CHARACTER) - 1  # in place of a character that isn't there


@dataclass(frozen=True, slots=True)
class Shingles:
    """Sets with their members numbered. `names` by number; `numbers` of all sets' members and, beside them, which set each is in."""

    names: Sequence[str]
    numbers: Any
    owners: Any


def numbered(sets: Iterable[set[str]]) -> Shingles:
    """Sets of shingles of any kind."""
    import numpy

    known: dict[str, int] = {}
    numbers: list[int] = []
    sizes: list[int] = []
    for each in sets:
        numbers += [known.setdefault(name, len(known)) for name in sorted(each)]
        sizes.append(len(each))
    return Shingles(list(known), numpy.asarray(numbers, numpy.int64), numpy.repeat(numpy.arange(len(sizes)), sizes))


def numbered_characters(texts: Sequence[str]) -> Shingles:
    """What `numbered` makes of three characters each, with a space around every text, made by numpy."""
    import numpy

    codes, inverse, owners = [], [], []
    for first, last in _blocks(texts):
        sizes = numpy.asarray([len(text) + 2 for text in texts[first:last]])
        joined = "".join([f" {text} " for text in texts[first:last]]) + "  "
        points = numpy.frombuffer(joined.encode("utf-32-le", "surrogatepass"), numpy.uint32).astype(numpy.int64)
        threes = points[:-2] | points[1:-1] << CHARACTER | points[2:] << 2 * CHARACTER
        ends = numpy.cumsum(sizes)
        threes[(ends - 2)[sizes == 2]] |= NONE << 2 * CHARACTER  # an empty text has one shingle, of two spaces
        inside = numpy.ones(len(threes), bool)
        inside[ends - 1] = False
        inside[(ends - 2)[sizes > 2]] = False
        block, places = numpy.unique(threes[inside], return_inverse=True)
        owner = numpy.repeat(numpy.arange(last - first), numpy.maximum(sizes - 2, 1))
        both = numpy.sort(owner * len(block) + places)
        both = both[numpy.append(True, both[1:] != both[:-1])]
        codes.append(block)
        inverse.append((both % len(block)).astype(numpy.int32))
        owners.append((both // len(block) + first).astype(numpy.int32))
    if not codes:
        return numbered(())
    known = numpy.unique(numpy.concatenate(codes))
    numbers = numpy.concatenate([numpy.searchsorted(known, block)[places] for block, places in zip(codes, inverse, strict=True)])
    return Shingles([_characters(code) for code in known.tolist()], numbers, numpy.concatenate(owners))


class Overlap:
    """An index of sets, which doesn't change. Shingles are ranked from the rarest on; each set stands in the lists of its rarest ones.

    With a prefix of |x| - ceil(t |x|) + l shingles, two sets that are alike share l of them at least. A greater l means longer lists to
    go through and far fewer candidates. Sets are ordered by size, so that a query reads of each list only what may be like it.
    """

    def __init__(self, places: Sequence[int], shingles: Shingles, bound: float, groups: Sequence[int] | None = None) -> None:
        """`places` are what the sets are called by those who ask; one `groups` number for each set, negative for none."""
        import numpy

        self._numpy, self._bound = numpy, bound
        count, kinds = len(places), max(len(shingles.names), 1)
        sizes = numpy.bincount(shingles.owners, minlength=count)
        by_size = numpy.argsort(sizes, kind="stable")
        self._places = numpy.asarray(places, numpy.int64)[by_size]
        self._groups = None if groups is None else numpy.asarray(groups, numpy.int64)[by_size]
        self._sizes = sizes[by_size]
        self._starts = numpy.cumsum(self._sizes) - self._sizes
        by_rarity = numpy.argsort(numpy.bincount(shingles.numbers, minlength=len(shingles.names)), kind="stable")
        self._rank = {shingles.names[number]: rank for rank, number in enumerate(by_rarity.tolist())}
        members = numpy.sort(_backwards(by_size)[shingles.owners] * kinds + _backwards(by_rarity)[shingles.numbers])
        self._flat = (members % kinds).astype(numpy.int32)
        self._least = numpy.asarray([_least(size, bound) for size in self._sizes.tolist()], numpy.int64)
        self._owners, self._table = self._inverted(kinds)
        self._mask = numpy.zeros(kinds, bool)
        self._alike: dict[int, tuple[int, int]] = {}  # what `_classes` found, by size

    def find(self, shingles: set[str], group: int, but: int) -> tuple[int, float] | None:
        """The first by place that is like a set, and its Jaccard index; not one of that `group`, nor the one in the place `but`."""
        numpy, size = self._numpy, len(shingles)
        least = _least(size, self._bound)
        known = [rank for rank in map(self._rank.get, shingles) if rank is not None]
        known.sort()
        # Those that the index doesn't know are the rarest of all.
        searched = known[: max(_prefix(size, self._bound) - (size - len(known)), 0)]
        if not searched:
            return None
        first_class, last_class = self._classes(size)
        first, last = int(self._bounds[first_class]), int(self._bounds[last_class])
        ranks = numpy.asarray(searched)
        starts, ends = self._table[ranks, first_class].tolist(), self._table[ranks, last_class].tolist()
        found = [self._owners[a:b] for a, b in zip(starts, ends, strict=True) if a < b]
        if not found or len(found) < (fewest := min(least, int(self._least[first]))):
            return None
        lists = numpy.concatenate(found)
        lists -= first
        shared = numpy.bincount(lists, minlength=last - first)
        candidates = numpy.flatnonzero(shared >= fewest)
        if not len(candidates):
            return None
        counts, candidates = shared[candidates], candidates + first
        fits = counts >= numpy.minimum(self._least[candidates], least)
        if group >= 0 and self._groups is not None:
            fits &= self._groups[candidates] != group
        candidates = candidates[fits]
        candidates = candidates[numpy.argsort(self._places[candidates])]
        for start in range(0, len(candidates), AT_ONCE):
            match = self._first(candidates[start : start + AT_ONCE], known, size, but)
            if match:
                return match
        return None

    def _first(self, candidates: Any, known: list[int], size: int, but: int) -> tuple[int, float] | None:
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
        return int(self._places[candidates[good[0]]]), float(indices[good[0]])

    def _inverted(self, kinds: int) -> tuple[Any, Any]:
        """For each rank the sets that have it in their prefix, list after list; where in them each class of sizes begins."""
        numpy, sizes, count = self._numpy, self._sizes, len(self._sizes)
        prefixes = numpy.asarray([_prefix(size, self._bound) for size in sizes.tolist()], numpy.int64)
        offsets = numpy.arange(len(self._flat)) - numpy.repeat(self._starts, sizes)
        chosen = offsets < numpy.repeat(prefixes, sizes)
        keys = numpy.sort(self._flat[chosen].astype(numpy.int64) * count + numpy.repeat(numpy.arange(count), sizes)[chosen])
        ranks, owners = numpy.divmod(keys, max(count, 1))
        classes = max(min(CLASSES, CORNERS // kinds, count), 1)
        # Sets of one size are in one class.
        self._bounds = (
            numpy.unique(numpy.searchsorted(sizes, sizes[numpy.arange(classes) * count // classes])) if count else numpy.zeros(1, int)
        )
        classes = len(self._bounds)
        cells = numpy.bincount(ranks * classes + numpy.searchsorted(self._bounds, owners, "right") - 1, minlength=kinds * classes)
        ends = numpy.cumsum(cells).reshape(kinds, classes)
        table = numpy.column_stack([(ends - cells.reshape(kinds, classes))[:, :1], ends])
        self._bounds = numpy.append(self._bounds, count)
        return owners, table

    def _classes(self, size: int) -> tuple[int, int]:
        """The first class of sizes that may be like that size, and the one after the last."""
        if size not in self._alike:
            numpy = self._numpy
            first = numpy.searchsorted(self._sizes, ceil(self._bound * size - 1e-9))
            last = numpy.searchsorted(self._sizes, floor((size + 1e-9) / self._bound), "right")
            from_class = max(int(numpy.searchsorted(self._bounds, first, "right")) - 1, 0)
            self._alike[size] = from_class, int(numpy.searchsorted(self._bounds, last))
        return self._alike[size]


def _blocks(texts: Sequence[str]) -> Iterable[tuple[int, int]]:
    """From which text to which before, so that none has many more characters than BLOCK."""
    first = characters = 0
    for place, text in enumerate(texts, 1):
        characters += len(text) + 2
        if characters >= BLOCK or place == len(texts):
            yield first, place
            first, characters = place, 0


def _characters(code: int) -> str:
    points = (code >> shift & NONE for shift in (0, CHARACTER, 2 * CHARACTER))
    return "".join(chr(point) for point in points if point != NONE)


def _backwards(order: Any) -> Any:
    """The place of each number in an order."""
    import numpy

    places = numpy.empty_like(order)
    places[order] = numpy.arange(len(order))
    return places


def _least(size: int, bound: float) -> int:
    """The l of a set of that size."""
    return 1 + ceil(bound * size - 1e-9) // 10


def _prefix(size: int, bound: float) -> int:
    return size - ceil(bound * size - 1e-9) + _least(size, bound)
