"""What is learned in use, beside the examples that ship: each question once, no domain and no source too heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from core.errors import TrainingError
from core.routing.features import DIGIT, ends
from core.types import Domain

Labelled = tuple[str, str, float]  # query, domain, weight above 0: 1 is one verified trace, or one correction by a user

FORCED = 3.0  # a user's word counts as much as three traces
SOURCE_SHARE = 0.25  # the most that one source may weigh in a domain, as a share of the examples there
MOST_ROWS = 2_000  # of one source: the latest


def capped(traces: Iterable[Labelled], feedback: Iterable[Labelled], examples: Mapping[Domain, int]) -> list[tuple[str, Domain, float]]:
    """The rows to learn, with their weights. `examples` counts those of each domain that ship."""
    forced = _distinct(feedback, FORCED)
    earned = {key: row for key, row in _distinct(traces, 1.0).items() if key not in forced}
    return [row for source in (earned, forced) for row in _lightened(list(source.values()), examples)]


def _distinct(rows: Iterable[Labelled], factor: float) -> dict[str, tuple[str, Domain, float]]:
    """Each question once, in its last domain; questions that differ in their numbers only are one."""
    found: dict[str, tuple[str, Domain, float]] = {}
    for query, domain, weight in rows:
        if not isinstance(query, str):
            raise TrainingError(f"a question is a text, not {type(query).__name__}")
        if domain not in list(Domain):
            raise TrainingError(f"there is no domain {domain!r}: choose one of {', '.join(Domain)}")
        if not math.isfinite(weight) or weight <= 0:
            raise TrainingError(f"a weight is {weight}: give one above 0")
        seen = ends(query)
        key = " ".join(DIGIT.sub("0", seen).casefold().split())
        if key:
            found.pop(key, None)
            found[key] = (seen, Domain(domain), factor * min(weight, 1.0))
    return dict(list(found.items())[-MOST_ROWS:])


def _lightened(rows: list[tuple[str, Domain, float]], examples: Mapping[Domain, int]) -> list[tuple[str, Domain, float]]:
    total = {domain: sum(weight for _, d, weight in rows if d is domain) for domain in Domain}
    most = {domain: SOURCE_SHARE * examples.get(domain, 0) for domain in Domain}
    return [(query, domain, weight * min(1.0, most[domain] / total[domain])) for query, domain, weight in rows]
