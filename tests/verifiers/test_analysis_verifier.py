"""Verdicts on answers about tables: formal questions, free text, references, junk, and every audit case."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.verifiers
from core.tasks.analysis import LEVELS, generate
from core.types import Domain, Evidence, Outcome, Task, Verdict
from core.verifiers.analysis.verifier import check_steps, step_value, verify

CASES = [json.loads(line) for line in (Path(core.verifiers.__file__).parent / "cases" / "analysis.jsonl").read_text().splitlines()]
SALES = "region,month,sales\nnorth,Jan,10\nnorth,Feb,20\nsouth,Jan,30\nsouth,Feb,25"
PROBLEMS = [generate(random.Random(seed), LEVELS[seed % 4]) for seed in range(200)]


def task(data=SALES, reference=None, question="Describe.", **metadata):
    return Task(question, Domain.ANALYSIS, reference=reference, metadata={"data": data, **metadata})


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['kind']}" for i, case in enumerate(CASES)])
def test_an_audit_case_gets_the_verdict_it_expects(case):
    verdict = verify(Task(case["prompt"], Domain.ANALYSIS, reference=case["reference"], metadata=case["metadata"]), case["text"])

    assert verdict.outcome.value in case["expect"], verdict.reason


def test_generated_solutions_pass_with_their_reference_and_by_recomputation_without_it():
    for problem in PROBLEMS:
        for style in ("direct", "terse", "careful"):
            text = problem.solution(style)
            assert verify(problem.task, text).evidence is Evidence.REFERENCE
            assert verify(problem.task, text).passed
            verdict = verify(problem.task.replace(reference=None), text)
            assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.RECOMPUTATION)


def test_no_junk_and_no_other_cell_passes_a_generated_task():
    for problem in PROBLEMS[:60]:
        cells = {cell for line in problem.task.metadata["data"].splitlines() for cell in line.split(",")} - {problem.answer}
        for text in (
            "",
            "banana",
            "Answer:",
            problem.task.prompt,
            *(f"Answer: {cell}" for cell in cells),
            f"Answer: {problem.answer} or 3",
        ):
            assert not verify(problem.task, text).passed
            assert not verify(problem.task.replace(reference=None), text).passed


def test_a_reference_that_the_data_contradicts_is_an_error_of_the_task():
    verdict = verify(task(reference="86", ask={"op": "sum", "column": "sales"}), "Answer: 86")

    assert verdict.outcome is Outcome.ERROR
    assert "the data disagree" in verdict.reason


def test_a_rounded_reference_agrees_and_the_exact_value_passes_too():
    asked = task(reference="21.3", ask={"op": "mean", "column": "sales"})

    assert verify(asked, "Answer: 21.3").evidence is Evidence.REFERENCE
    assert verify(asked, "Answer: 21.25").evidence is Evidence.RECOMPUTATION
    assert not verify(asked, "Answer: 21.4").passed


def test_a_false_claim_fails_a_right_answer_where_there_is_no_reference():
    asked = task(ask={"op": "sum", "column": "sales"})

    assert verify(asked, "The total sales in north is 30.\nAnswer: 85").passed
    verdict = verify(asked, "The total sales in north is 31.\nAnswer: 85")
    assert verdict.outcome is Outcome.FAIL
    assert "the data says 30" in verdict.reason


def test_free_text_passes_only_where_the_task_says_what_must_be_stated():
    text = "North's total sales is 30. South has the highest total sales."

    assert verify(task(), text).outcome is Outcome.ABSTAIN
    assert verify(task(), text).score == 1.0
    assert verify(task(min_claims=2), text).passed
    assert verify(task(min_claims=2), text + " West beats them both.").outcome is Outcome.PASS
    assert verify(task(min_claims=2), text + " North disappoints.").outcome is Outcome.ABSTAIN
    assert verify(task(min_claims=2, strict=False), text + " North disappoints.").passed
    assert verify(task(min_claims=3), text).outcome is Outcome.FAIL
    assert verify(task(claims=[{"op": "argmax", "column": "sales", "by": "region", "agg": "sum"}]), text).passed
    assert not verify(task(claims=[{"op": "argmin", "column": "sales", "by": "region", "agg": "sum"}]), text).passed


def test_a_number_that_nothing_supports_fails_or_abstains_as_the_task_says():
    text = "The total sales is 85. Next year it will be 90."

    assert verify(task(min_claims=1), text).outcome is Outcome.FAIL
    assert verify(task(min_claims=1, strict=False), text).outcome is Outcome.ABSTAIN


def test_the_same_claim_twice_and_restated_cells_do_not_count():
    assert not verify(task(min_claims=2), "The total sales is 85. The sum of sales is 85.").passed
    assert not verify(task(min_claims=1), "Sales in north in Jan were 10.").passed
    assert not verify(task(min_claims=2), "South has more total sales than north. North has less total sales than south.").passed


def test_each_claim_stands_beside_its_recomputed_value():
    verdict = verify(task(min_claims=1), "The mean sales is 21.3. The total sales is 84.")

    shown = [(c["op"], c["stated"], c["recomputed"], c["tolerance"], c["holds"]) for c in verdict.details["claims"]]
    assert shown == [("mean", "21.3", "21.25", "rounded to the digits shown", True), ("sum", "84", "85", "exact", False)]
    assert json.dumps(verdict.as_dict())


def test_cells_read_as_missing_are_told():
    assert verify(task("x\n1\nNaN", ask={"op": "sum", "column": "x"}), "Answer: 1").details["missing"] == ["x: 1 cells missing"]


def test_a_required_claim_must_be_of_the_very_quantity():
    leader = task("g,x\nred,1\nred,1\nred,1\nblue,2", claims=[{"op": "argmax", "column": "x", "by": "g", "agg": "sum"}])

    assert not verify(leader, "Blue has the highest mean x.").passed
    assert verify(leader, "Red has the highest total x.").passed
    gap = task(claims=[{"op": "difference", "column": "sales", "by": "region", "between": ["north", "south"], "agg": "sum"}])
    assert verify(gap, "South has 25 more total sales than north.").passed
    assert not verify(gap, "South has more total sales than north.").passed


def test_a_question_is_formal_only_when_the_prompt_holds_nothing_else():
    table = "name,score\nAnn,12\nBob,7"
    question = "What is the total score?"

    def outcome(prompt, **metadata):
        return verify(Task(prompt, Domain.ANALYSIS, metadata=metadata), "Answer: 19").outcome

    assert outcome(f"Data:\n{table}\nQuestion: {question}") is Outcome.PASS
    assert outcome(question, data=table) is Outcome.PASS
    assert outcome(f"Data:\n{table}\n\nLeave out Bob.\nQuestion: {question}", data=table) is Outcome.ABSTAIN
    assert outcome(f"Leave out Bob. {question}", data=table) is Outcome.ABSTAIN
    assert outcome(f"Data:\n{table}\nCid,3\nQuestion: {question}", data=table) is Outcome.ABSTAIN


def test_whoever_is_asked_whether_a_claim_is_so_may_repeat_it():
    asked = task(ask={"op": "sum", "column": "sales", "equals": 84})

    assert verify(asked, "The total sales is 84.\nAnswer: no").passed
    assert not verify(asked, "The total sales in north is 31.\nAnswer: no").passed


def test_a_judge_speaks_only_where_nothing_can_be_checked_and_never_as_more_than_a_judge():
    def judge(asked, text):
        return Verdict(Outcome.PASS, 0.9, "well put", Evidence.PROOF)

    verdict = verify(task(), "Business is lovely.", judge=judge)
    assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.JUDGE)
    assert verify(task(), "The total sales is 84.", judge=judge).outcome is Outcome.FAIL
    assert verify(task(), "The total sales is 85.", judge=judge).outcome is Outcome.ABSTAIN
    assert verify(task(ask={"op": "sum", "column": "sales"}), "Lovely.", judge=judge).outcome is Outcome.FAIL
    assert verify(task(), "", judge=judge).outcome is Outcome.FAIL


def test_a_judge_that_breaks_is_an_error():
    assert verify(task(), "Business is lovely.", judge=lambda *_: 1 / 0).outcome is Outcome.ERROR


def test_steps_are_claims_and_arithmetic():
    text = "10+20=30\nThe total sales in north is 30.\nThe total sales is 84.\nAnswer: 84"

    steps = check_steps(task(), text)
    assert (steps.checked, steps.right, steps.share) == (3, 2, 2 / 3)
    assert "84" in steps.first_wrong
    assert step_value(task(), text) == 2 / 3
    assert step_value(task(), "10+20=30\n20+") == 1.0
    assert step_value(task(), "hello\n") is None
    assert check_steps(task(5), text).share is None


def test_verdicts_are_the_same_from_any_thread():
    texts = [f"The total sales in {region} is {n}.\nAnswer: {n}" for region in ("north", "south") for n in (30, 55)]
    asked = [task(SALES + f"\nwest,Jan,{i}", ask={"op": "sum", "column": "sales", "where": [["region", "=", "north"]]}) for i in range(12)]
    results: list[list[Outcome]] = []

    def work():
        results.append([verify(one, text).outcome for one in asked for text in texts])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({tuple(result) for result in results}) == 1
    assert results[0][:4] == [Outcome.PASS, Outcome.FAIL, Outcome.FAIL, Outcome.FAIL]


HUGE = [
    "a" * 10**7,
    "The total sales is 85.\n" * 400_000,
    "(" * 100_000,
    "1" * 10**6,
    "and , " * 10**5,
    "\0" * 1000,
    "=" * 20_000,
    '"a,' * 6000,
]


@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_a_bomb_gets_a_verdict_that_is_no_pass(text):
    for metadata in ({"ask": {"op": "sum", "column": "sales"}}, {"min_claims": 1}, {}):
        assert verify(task(**metadata), text).outcome in (Outcome.FAIL, Outcome.ABSTAIN)


@pytest.mark.slow
def test_a_table_of_a_million_rows_gets_a_verdict():
    data = "name,x\n" + "\n".join(f"n{i},{i % 1000}" for i in range(1_000_000))

    assert verify(task(data, ask={"op": "sum", "column": "x"}), "Answer: 499500000").passed
    assert not verify(task(data, min_claims=1), "The total x is 1.\n" * 500).passed


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["sum", "sales", "region", "north", "=", SALES, "op", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "column", "where", "file", "a"]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["ask", "claims", "min_claims", "strict", "data"]), JSON, max_size=4),
    st.text(max_size=20) | st.just("Answer: 85"),
    st.none() | st.text(max_size=5),
)
def test_any_metadata_gets_a_verdict(metadata, text, reference):
    verdict = verify(Task("Describe.", Domain.ANALYSIS, reference=reference, metadata={"data": SALES, **metadata}), text)

    assert "broke" not in verdict.reason
    assert verdict.outcome is not Outcome.ERROR or len(verdict.reason) > 20
