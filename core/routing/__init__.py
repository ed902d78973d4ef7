"""Which domain a question belongs to, from its words, their letters and kinds, with a calibrated confidence.

The classifier is a logistic regression, fitted with scikit-learn by `core.routing.train` on the examples beside this file. Scoring
needs the standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from core.routing.features import LOOK_AT, find_features
from core.routing.weights import SHIPPED, Weights, read
from core.types import Domain, Record

__all__ = ["LOOK_AT", "Route", "Router", "route", "router"]

DOMAINS = tuple(Domain)
NO_EVIDENCE = 1 / len(DOMAINS)


@dataclass(frozen=True, slots=True)
class Route(Record):
    """Where a question goes. `confidence` in [0, 1] is that of the best guess, also when it was too low to follow."""

    domain: Domain
    confidence: float


class Router(Protocol):
    """What `router` returns, and what `route` is."""

    def __call__(self, query: str, min_confidence: float = 0.35, fallback: Domain = Domain.ANALYSIS) -> Route:
        """The likeliest domain, or `fallback` below `min_confidence`."""
        ...


def route(query: str, min_confidence: float = 0.35, fallback: Domain = Domain.ANALYSIS) -> Route:
    """The likeliest domain, or `fallback` below `min_confidence`. Where no word is known the confidence is 1/6."""
    return _shipped()(query, min_confidence, fallback)


def router(path: Path | None = None) -> Router:
    """A router with the weights in a file, made by `core.routing.train`, or with those that ship.

    Reading takes some milliseconds, so keep what you get. Raises ConfigError when the file can't be used.
    """
    return _shipped() if path is None else _router(path)


@lru_cache(maxsize=1)
def _shipped() -> Router:
    return _router(SHIPPED)


def _router(path: Path) -> Router:
    weights = read(path, DOMAINS)

    def routed(query: str, min_confidence: float = 0.35, fallback: Domain = Domain.ANALYSIS) -> Route:
        best, confidence = _likeliest(query, weights)
        return Route(best if best is not None and confidence >= min_confidence else fallback, confidence)

    return routed


def _likeliest(query: str, weights: Weights) -> tuple[Domain | None, float]:
    scores = weights.scores(find_features(query))
    if scores is None:
        return None, NO_EVIDENCE
    best = max(range(len(scores)), key=scores.__getitem__)
    return DOMAINS[best], 1 / sum(math.exp(score - scores[best]) for score in scores)
