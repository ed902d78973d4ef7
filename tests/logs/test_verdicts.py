"""Stored verdicts made again by a newer verifier."""

from __future__ import annotations

import pytest
from sample_runs import a_run

from core.errors import StoreError
from core.rewards import reward
from core.types import Evidence, Outcome, Verdict
from logs.reading import read_traces
from logs.store import TraceStore
from logs.verdicts import rescore, verdicts_of

STRICTER = Verdict(Outcome.FAIL, 0.0, "it only repeats the question", Evidence.REFERENCE, "math", "9", details={"rule": "repeats"})


@pytest.fixture
def log_dir(tmp_path):
    with TraceStore(tmp_path) as store:
        store.put(a_run(1))
        store.put(a_run(2))
    return tmp_path


def rescored(log_dir, judge):
    return list(rescore(log_dir, judge, lambda trace, verdict: reward(verdict)))


def test_a_newer_verifiers_verdict_replaces_the_shown_one_and_the_first_is_kept(log_dir):
    passed = [t for t in read_traces(log_dir) if t.verified]

    changes = rescored(log_dir, lambda trace: STRICTER)

    assert {c.trace.id for c in changes if c.before.passed} == {t.id for t in passed}
    shown = next(t for t in read_traces(log_dir) if t.id == passed[0].id)
    assert (shown.verdict.outcome, shown.verdict.version, shown.verdict.details) == (Outcome.FAIL, "9", {"rule": "repeats"})
    assert shown.reward == 0.0
    assert shown.reward_recipe == reward(STRICTER).recipe
    assert [v.outcome for v in verdicts_of(log_dir, shown.id)] == [Outcome.PASS, Outcome.FAIL]


def test_the_same_verdict_again_adds_nothing(log_dir):
    rescored(log_dir, lambda trace: STRICTER)

    assert rescored(log_dir, lambda trace: STRICTER) == []
    assert all(len(verdicts_of(log_dir, t.id)) == 2 for t in read_traces(log_dir))


def test_an_interrupted_rescoring_changes_no_trace_of_its_group(log_dir):
    before = list(read_traces(log_dir))

    def breaks_at_the_second(trace):
        if trace.id == before[1].id:
            raise KeyboardInterrupt
        return STRICTER

    with pytest.raises(KeyboardInterrupt):
        rescored(log_dir, breaks_at_the_second)

    assert [t.verdict.outcome for t in read_traces(log_dir)] == [t.verdict.outcome for t in before]


def test_an_unknown_trace_and_an_empty_folder_are_told(log_dir, tmp_path_factory):
    with pytest.raises(StoreError, match="no trace 'x'"):
        verdicts_of(log_dir, "x")
    with pytest.raises(StoreError, match="no traces in"):
        rescored(tmp_path_factory.mktemp("empty"), lambda trace: STRICTER)
