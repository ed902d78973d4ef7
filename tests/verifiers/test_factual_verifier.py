"""What the factual verifier passes, fails and leaves alone, and what it shows for it."""

from __future__ import annotations

import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.corpus import build
from core.tasks.factual import generate as generate_plain
from core.types import Domain, Evidence, Outcome, Task
from core.verifiers.factual import verifier as factual
from core.verifiers.factual.quotes import check_steps, step_value
from core.verifiers.factual.verifier import verify

CASES = [json.loads(line) for line in (Path(factual.__file__).parents[1] / "cases" / "factual.jsonl").read_text("utf-8").splitlines()]
CONTEXT = "Ann lives in Oslo. Bob lives in Rome. The red box holds 12 pens."


def asked(question="Where does Ann live?", reference=None, context=CONTEXT, **metadata):
    given_context = {} if context is None else {"context": context}
    return Task(f"Context: {context}\nQuestion: {question}", Domain.FACTUAL, reference, metadata={**given_context, **metadata})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}: {case['text'][:30]!a}")
def test_audit_case(case):
    task = Task(case["prompt"], Domain.FACTUAL, case["reference"], metadata=case["metadata"])

    assert verify(task, case["text"]).outcome in case["expect"]


def test_the_audit_cases_are_many_and_impossible_ones_never_pass():
    assert len(CASES) >= 80
    assert not [case for case in CASES if case["kind"] != "gold" and "pass" in case["expect"]]


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_plain_generator_is_judged_rightly(level):
    rng = random.Random(level)
    for _ in range(50):
        problem = generate_plain(rng, level)

        assert all(verify(problem.task, problem.solution(style)).passed for style in ("direct", "careful"))
        for junk in ("", "banana", problem.task.prompt, f"Answer: not {problem.answer}", f"Answer: {problem.answer} or Oslo Fjord"):
            assert verify(problem.task, junk).outcome is Outcome.FAIL


def test_a_pass_by_source_cites_the_sentence_and_the_answer_with_their_offsets():
    verdict = verify(asked(), "Answer: Oslo")

    assert (verdict.outcome, verdict.evidence, verdict.verifier) == (Outcome.PASS, Evidence.SOURCE, "factual")
    assert [(c["source"], c["text"]) for c in verdict.details["citations"]] == [("context", "Ann lives in Oslo."), ("context", "Oslo")]
    assert all(CONTEXT[c["start"] : c["end"]] == c["text"] for c in verdict.details["citations"])
    json.dumps(dict(verdict.details))


def test_the_reference_decides_and_an_invented_quote_is_named():
    verdict = verify(asked(reference="Oslo"), '"Ann lives in the city of Oslo."\nAnswer: Oslo')

    assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.REFERENCE)
    assert "not in the sources: 'Ann lives in the city of Oslo.'" in verdict.reason


def test_quotes_are_steps_and_their_share_is_known():
    text = '"Ann  lives\tin Oslo."\n"Ann lives in Rome."\nAnswer: "Oslo"'

    steps = check_steps(asked(), text)

    assert (steps.checked, steps.right, steps.first_wrong, steps.share) == (2, 1, "Ann lives in Rome.", 0.5)
    assert check_steps(asked(), "Answer: Oslo").share is None
    assert check_steps(asked(context=None), text).share is None
    assert check_steps(asked(contexts=5), text).share is None


def test_an_unfinished_text_is_worth_nothing_once_its_last_quote_is_invented():
    assert step_value(asked(), '"Ann lives in Oslo."\n') == 1.0
    assert step_value(asked(), '"Ann lives in Oslo."\n"Ann lives in Rome."\n') == 0.0
    assert step_value(asked(), '"Ann lives in Rome."\n"Bob lives in Rome."\n') == 0.5
    assert step_value(asked(), "Ann ") is None


@pytest.mark.parametrize("complete", [True, False])
def test_what_no_source_supports_fails_only_where_the_sources_are_complete(complete):
    for answer in ("Paris", "Rome", "14 pens"):
        verdict = verify(asked(complete=complete), f"Answer: {answer}")
        assert verdict.outcome is (Outcome.FAIL if complete else Outcome.ABSTAIN)


def test_a_verdict_is_the_same_from_any_thread_and_at_any_time():
    tasks = [(asked(reference=r), f"Answer: {a}") for r in (None, "Oslo") for a in ("Oslo", "Rome", "Oslo or Rome")] * 20

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: verify(*pair).replace(milliseconds=0), tasks))

    assert verdicts == [verify(*pair).replace(milliseconds=0) for pair in tasks]


@pytest.fixture
def index(tmp_path):
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "people.txt").write_text("Some people.\n\nAnn lives in Oslo. Bob lives in Rome.\n")
    (tmp_path / "facts" / "boxes.md").write_text("The red box holds 12 pens.\n")
    build(tmp_path / "facts", tmp_path / "index")
    return tmp_path / "index"


def test_a_corpus_supports_with_offsets_into_its_files(index):
    verdict = verify(asked(context=None), "Answer: Oslo", corpus=index)

    assert verdict.passed
    citation = verdict.details["citations"][0]
    text = (index.parent / "facts" / citation["source"]).read_text()
    assert text[citation["start"] : citation["end"]] == citation["text"] == "Ann lives in Oslo."


@pytest.mark.parametrize(("answer", "outcome"), [("Rome", Outcome.FAIL), ("Paris", Outcome.FAIL), ("Oslo or Rome", Outcome.FAIL)])
def test_a_complete_corpus_fails_what_it_does_not_hold(index, answer, outcome):
    assert verify(asked(context=None, complete=True), f"Answer: {answer}", corpus=index).outcome is outcome


def test_a_corpus_that_was_built_anew_is_read_anew(index):
    assert verify(asked(context=None), "Answer: Oslo", corpus=index).passed
    (index.parent / "facts" / "people.txt").write_text("Ann lives in Lima.\n")
    build(index.parent / "facts", index)

    assert verify(asked(context=None), "Answer: Lima", corpus=index).passed


def test_a_corpus_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path):
    verdict = verify(asked(context=None), "Answer: Oslo", corpus=tmp_path / "none")

    assert verdict.outcome is Outcome.ERROR
    assert "make one with core.corpus.build" in verdict.reason


def test_a_sentence_cut_by_the_index_supports_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("It is said by " + "a man who knows " * 75 + "Ann lives in Oslo.")
    build(tmp_path / "a.txt", tmp_path / "index")

    assert not verify(asked(context=None), "Answer: Oslo", corpus=tmp_path / "index").passed


@pytest.mark.parametrize(
    ("probability", "outcome"), [(0.0, Outcome.ABSTAIN), (0.49, Outcome.ABSTAIN), (0.5, Outcome.PASS), (1.0, Outcome.PASS)]
)
def test_an_entailment_model_can_take_a_pass_back(probability, outcome):
    seen = []
    verdict = verify(asked(), "Answer: Oslo", entails=lambda *pair: seen.append(pair) or probability)

    assert verdict.outcome is outcome
    assert seen == [("Ann lives in Oslo. Bob lives in Rome.", "Ann lives in Oslo.")]
    assert verdict.details["entailment"] == probability


def test_an_entailment_model_alone_is_a_judge_and_saves_no_failed_answer():
    unclear = asked("Who resides in Oslo?", complete=True)

    assert verify(unclear, "Answer: Ann").outcome is Outcome.ABSTAIN
    assert verify(unclear, "Answer: Ann", entails=lambda *_: 0.95).evidence is Evidence.JUDGE
    assert verify(unclear, "Answer: Ann", entails=lambda *_: 0.89).outcome is Outcome.ABSTAIN
    assert verify(unclear, "Answer: Eve", entails=lambda *_: 1.0).outcome is Outcome.FAIL
    assert verify(asked(complete=True), "Answer: Rome", entails=lambda *_: 1.0).outcome is Outcome.FAIL


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_a_probability_that_is_none_is_an_error(value):
    assert verify(asked(), "Answer: Oslo", entails=lambda *_: value).outcome is Outcome.ERROR
    assert verify(asked("Who resides in Oslo?"), "Answer: Ann", entails=lambda *_: value).outcome is Outcome.ERROR


HOSTILE = {
    "10 MB": "A" * 10_000_000,
    "10 MB of quotes": '"ab c d" ' * 1_200_000,
    "10 MB of an answer": "Answer: " + "Oslo " * 2_000_000,
    "brackets": "Answer: " + "(" * 100_000,
    "null bytes": "Answer: Oslo\0\0",
    "lone surrogates": "Answer: \ud800Oslo",
    "every sign": "Answer: " + "".join(map(chr, range(1, 0x3000))),
    "direction marks": "Answer: \u202eolsO",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_get_a_verdict_that_is_no_pass(name):
    for task in (asked(complete=True), asked(reference="Oslo"), asked("How old is Ann?", answerable=False)):
        verdict = verify(task, HOSTILE[name])
        assert verdict.outcome in (Outcome.FAIL, Outcome.ABSTAIN)
        assert len(verdict.reason) < 500
        verdict.reason.encode()


@pytest.mark.parametrize(
    "context",
    ["a" * 99_000, '"' * 99_000, ". " * 49_000, "- a\n" * 24_000, "Ann lives " * 9_900, "\n\n" * 49_000, "Ann lives in Oslo. " * 300_000],
)
def test_hostile_sources_get_a_verdict_that_is_no_pass(context):
    assert not verify(asked(context=context, complete=True), '"a" "b c d"\nAnswer: Rome').passed
    check_steps(asked(context=context), '"a b c" "b c d"')


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["context", "contexts", "complete", "answerable", "answers", "question"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=30),
            lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["id", "text"]), x, max_size=2),
        ),
    ),
    st.text(max_size=60),
)
def test_any_metadata_and_any_text_give_a_verdict(metadata, text):
    verdict = verify(Task("Where does Ann live?", Domain.FACTUAL, metadata=metadata), text)

    assert isinstance(verdict.outcome, Outcome)
    assert "the check broke" not in verdict.reason
    check_steps(Task("Where does Ann live?", Domain.FACTUAL, metadata=metadata), text)


@settings(max_examples=150)
@given(st.text(alphabet='Ann livesOo.,;?!"“”()-0123456789\n\u0301', max_size=120), st.text(max_size=40))
def test_any_context_and_any_answer_give_a_verdict(context, answer):
    assert "the check broke" not in verify(asked(context=context, complete=True), f"Answer: {answer}").reason
