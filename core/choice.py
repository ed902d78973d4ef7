"""Which of a search's attempts is its answer: for the result when it ends, and for whoever reads the run later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from core.answers import normalise
from core.types import Outcome, Run, Trace, best_first

VOTE = "self_consistency"


def choose(attempts: Sequence[Trace], *, vote: bool = False) -> Trace | None:
    """A verified attempt; else, among those that no check has failed, one with the answer most of them give; else the best failed one.

    A `vote` goes by the answers alone.
    """
    if vote:
        return _most_given(attempts)
    ranked = best_first(attempts)
    if not ranked or ranked[0].verified:
        return ranked[0] if ranked else None
    standing = [t for t in ranked if t.verdict.outcome is not Outcome.FAIL and t.answer]
    return _most_given(standing) if standing else ranked[0]


def answer_of_run(run: Run) -> Trace | None:
    """The attempt that a stored run gave as its answer, by its verdicts as they stand now."""
    if run.strategy == VOTE:  # of answers with as many votes the first that was given counts, and not the best
        return choose(sorted(run.traces, key=lambda trace: [int(part) for part in trace.node.split(".") if part.isdecimal()]), vote=True)
    return choose(run.traces)


def _most_given(attempts: Sequence[Trace]) -> Trace | None:
    """The first attempt with the answer that most of them give."""
    given = [t for t in attempts if t.answer] or list(attempts)
    votes = Counter(normalise(t.answer or "") for t in given)
    return max(given, key=lambda t: votes[normalise(t.answer or "")], default=None)
