"""The labelled pairs in both orders, and the audit cases: no false pass, and nearly all right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.types import Domain, Outcome, Task
from core.verifiers.math import verifier
from core.verifiers.math.verifier import verify

FOLDER = Path(verifier.__file__).parents[1] / "cases"
PAIRS = [json.loads(line) for line in (FOLDER / "math_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
CASES = [json.loads(line) for line in (FOLDER / "math.jsonl").read_text(encoding="utf-8").splitlines()]
JUDGEMENTS = [
    (row["class"], one, other, row["same"] and (forth or not row.get("note", "").startswith("one way")))
    for row in PAIRS
    for forth, one, other in ((True, row["reference"], row["answer"]), (False, row["answer"], row["reference"]))
]


def outcome(reference: str, answer: str) -> Outcome:
    return verify(Task("What is it?", Domain.MATH, reference), f"Answer: {answer}").outcome


def test_the_pairs_cover_many_classes_and_both_labels():
    assert len(PAIRS) >= 320
    assert len({row["class"] for row in PAIRS}) >= 14
    assert 0.4 <= sum(row["same"] for row in PAIRS) / len(PAIRS) <= 0.6
    assert len({(row["reference"], row["answer"]) for row in PAIRS}) == len(PAIRS)


def test_every_class_has_pairs_that_are_not_the_same():
    assert {row["class"] for row in PAIRS if not row["same"]} == {row["class"] for row in PAIRS}


def test_no_pair_passes_falsely_and_nearly_all_are_judged_rightly():
    found = [(row, outcome(row[1], row[2])) for row in JUDGEMENTS]

    assert [row for row, verdict in found if verdict is Outcome.PASS and not row[3]] == []
    assert [row for row, verdict in found if verdict is Outcome.ERROR] == []
    assert sum((verdict is Outcome.PASS) == row[3] for row, verdict in found) >= 0.97 * len(found)


def test_verdicts_do_not_depend_on_what_was_asked_before():
    sample = JUDGEMENTS[::7]

    first = [outcome(one, other) for _, one, other, _ in sample]
    again = [outcome(one, other) for _, one, other, _ in reversed(sample)]

    assert first == again[::-1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}: {case['prompt'][:20]} / {case['text'][-20:]}")
def test_audit_cases_get_the_verdict_they_expect(case: dict):
    verdict = verify(Task(case["prompt"], Domain.MATH, case["reference"], metadata=case["metadata"]), case["text"])

    assert verdict.outcome.value in case["expect"], verdict.reason


def test_impossible_tasks_never_pass():
    assert {"gold", "junk", "near-miss", "impossible", "unsupported"} == {case["kind"] for case in CASES}
    assert all("pass" not in case["expect"] for case in CASES if case["kind"] in ("impossible", "junk", "near-miss"))
