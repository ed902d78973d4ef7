"""Which genes a query calls: by whole words, with one table for all genes of a genome; or by the routing classifier, as an option."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from core.config import Settings
from core.routing import Router
from core.routing import router as routing
from core.types import Domain
from finetune.ensemble.genes import Genome

Gate = Callable[[str, Genome], Sequence[int]]
"""From a query and a genome to the places of the genes that it calls."""

WORD = re.compile(r"[^\W_]+|[^\w\s]")
ASCII_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9_]")  # the same, where it is enough: in a third of the time
KEPT = 64  # tables
READ = 20_000  # characters of a query that are looked at
APOSTROPHES = str.maketrans("’‘", "''")


def words_of(text: str) -> list[str]:
    """Words and signs, in small letters: "Don't use C++" is don ' t use c + +."""
    if text.isascii():
        return ASCII_WORD.findall(text.lower())
    return WORD.findall(text.translate(APOSTROPHES).casefold())


class Matcher:
    """The triggers of one genome as tables: a word, or some words in a row, and the genes that they call."""

    __slots__ = ("_lengths", "_rows", "_starts", "_words")

    def __init__(self, triggers: Sequence[Sequence[str]]) -> None:
        words: dict[str, set[int]] = {}
        rows: dict[tuple[str, ...], set[int]] = {}
        for place, patterns in enumerate(triggers):
            for row in map(tuple, map(words_of, patterns)):
                if len(row) == 1:
                    words.setdefault(row[0], set()).add(place)
                elif row:
                    rows.setdefault(row, set()).add(place)
        self._words = {word: frozenset(places) for word, places in words.items()}
        self._rows = {row: frozenset(places) for row, places in rows.items()}
        self._starts = frozenset(row[0] for row in rows)
        self._lengths = sorted(set(map(len, rows)))

    def __call__(self, query: str) -> list[int]:
        """The places of the genes that the query calls, in order."""
        said = words_of(query[:READ])
        called: set[int] = set()
        for word in self._words.keys() & said:
            called |= self._words[word]
        if not self._starts.isdisjoint(said):
            for length in self._lengths:
                for row in self._rows.keys() & zip(*(said[i:] for i in range(length)), strict=False):
                    called |= self._rows[row]
        return sorted(called)


class Triggers:
    """A gate that keeps the tables of the genomes it has seen last. Safe from any thread."""

    def __init__(self) -> None:
        self._last: tuple[list[list[str]], Matcher] = [], Matcher([])
        self._kept: OrderedDict[tuple[tuple[str, ...], ...], Matcher] = OrderedDict()
        self._turn = Lock()

    def __call__(self, query: str, genome: Genome) -> list[int]:
        """The places of the genes whose triggers stand in the query."""
        triggers = [gene.trigger_patterns for gene in genome]
        seen, matcher = self._last
        if triggers != seen:
            matcher = self._matcher(triggers)
        return matcher(query)

    def _matcher(self, triggers: list[list[str]]) -> Matcher:
        key = tuple(map(tuple, triggers))
        with self._turn:
            matcher = self._kept.pop(key, None) or Matcher(key)
            self._kept[key] = matcher
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._last = [list(patterns) for patterns in key], matcher
        return matcher


class Learned:
    """A gate that asks the routing classifier which domain a query belongs to. Genes of no domain are called by their triggers.

    `router` is one of `core.routing`, by default the one that ships.
    """

    def __init__(self, router: Router | None = None, min_confidence: float = 0.35) -> None:
        self._router, self._least, self._triggers = router or routing(), min_confidence, Triggers()

    @classmethod
    def of(cls, settings: Settings) -> Learned:
        """With the classifier and the threshold that the settings name."""
        return cls(routing(settings.ROUTER), settings.MIN_ROUTING_CONFIDENCE)

    def __call__(self, query: str, genome: Genome) -> list[int]:
        """The places of the genes of the query's domain, and of those that are called by name."""
        found = self._router(query, self._least)
        domain = found.domain if found.confidence >= self._least else None
        by_words = self._triggers(query, [gene for gene in genome if gene.specialization not in _DOMAINS])
        others = [place for place, gene in enumerate(genome) if gene.specialization not in _DOMAINS]
        called = {others[place] for place in by_words}
        return sorted(called | {place for place, gene in enumerate(genome) if gene.specialization == domain})


_DOMAINS = frozenset(domain.value for domain in Domain)
