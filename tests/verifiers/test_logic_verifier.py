"""Verdicts on answers to questions of logic: the labelled cases, generated tasks, bad input, and what the evidence shows."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tasks.logic import generate
from core.types import Domain, Evidence, Outcome, Task
from core.verifiers.logic import verifier as logic
from core.verifiers.logic.answers import read_assignment, read_word
from core.verifiers.logic.ordering import read_ordering
from core.verifiers.logic.verifier import same_answer, verify

CASES = [json.loads(line) for line in (Path(logic.__file__).parents[1] / "cases" / "logic.jsonl").read_text(encoding="utf-8").splitlines()]
MODUS_PONENS = {"kind": "entailment", "premises": ["P -> Q", "P", "R"], "conclusion": "Q"}
KNAVES = {"kind": "knights", "people": ["Ann", "Bob"], "statements": {"Ann": "knave(Ann) & knave(Bob)"}}
STATEMENTS = [
    MODUS_PONENS,
    KNAVES,
    {"kind": "consistency", "premises": ["P"]},
    {"kind": "equivalence", "formulas": ["P", "~~P"]},
    {"kind": "formula", "formula": "P -> Q"},
    {"kind": "model", "premises": ["P | Q"]},
    {"kind": "syllogism", "premises": ["all cats are pets"], "conclusion": "all cats are pets"},
    {"kind": "puzzle", "variables": ["Ann", "Bob"], "domain": "1..2", "constraints": ["Ann < Bob"]},
]
BAD_TEXTS = [
    "x" * 10_000_000,
    "Answer: " + "(" * 100_000,
    "Answer: " + "yes " * 5_000,
    "Answer: " + "~" * 100_000 + "P",
    "Answer: " + "Ann is a knave, " * 5_000,
    "\x00",
    "Answer: \ud800\udfff",
    "Answer: \u202eyes",
    "Answer: ＹＥＳ or no",
    "Answer: " + "\u0301" * 1_000,
]


def task(statement=None, prompt="A question?", reference=None):
    return Task(prompt, Domain.LOGIC, reference=reference, metadata={} if statement is None else {"logic": statement})


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['kind']}" for i, case in enumerate(CASES)])
def test_a_labelled_case_has_its_verdict(case):
    verdict = verify(Task(case["prompt"], Domain.LOGIC, reference=case["reference"], metadata=case["metadata"]), case["text"])

    assert verdict.outcome in case["expect"], verdict.reason


def test_the_cases_are_many_and_of_every_kind():
    assert len(CASES) >= 80
    assert {case["kind"] for case in CASES} == {"gold", "near-miss", "junk", "impossible", "unsupported"}
    assert not any("pass" in case["expect"] for case in CASES if case["kind"] in ("junk", "impossible", "unsupported", "near-miss"))


def test_generated_orderings_pass_with_their_answer_and_with_no_other():
    rng = random.Random(0)
    for place in range(200):
        problem = generate(rng, 1 + place % 4)
        people = sorted(read_ordering(problem.task.prompt).above)
        others = [person for person in people if person != problem.answer]

        for style in ("direct", "terse", "careful"):
            verdict = verify(problem.task, problem.solution(style))
            assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, Evidence.PROOF)
        for text in (*others, "", "banana", problem.task.prompt, f"not {problem.answer}", " or ".join(people), ">".join(people)):
            assert verify(problem.task, f"Answer: {text}").outcome is Outcome.FAIL
        assert verify(problem.task.replace(reference=others[0]), problem.answer).outcome is Outcome.ERROR
        assert verify(problem.task.replace(reference=None), problem.answer).outcome is Outcome.PASS


def test_a_pass_by_proof_names_the_premises_it_used():
    verdict = verify(task(MODUS_PONENS), "Answer: yes")

    assert (verdict.verifier, verdict.evidence) == ("logic", Evidence.PROOF)
    assert verdict.details["premises_used"] == ["P -> Q", "P"]


def test_a_fail_shows_a_counter_model():
    verdict = verify(task({**MODUS_PONENS, "premises": ["P -> Q", "Q"], "conclusion": "P"}), "Answer: yes")

    assert verdict.details["counter_model"] == {"P": False, "Q": True}


def test_a_wrong_knight_is_shown_the_solution():
    verdict = verify(task(KNAVES), "Answer: both are knaves")

    assert verdict.details["counter_model"] == {"Ann": "knave", "Bob": "knight"}


def test_details_are_plain_json():
    for statement in STATEMENTS:
        for text in ("Answer: yes", "Answer: Ann = 1, Bob = 2", "Answer: Ann is a knave, Bob is a knight", "Answer: P = true, Q = true"):
            json.dumps(dict(verify(task(statement), text).details))


def test_a_task_that_contradicts_its_reference_is_named():
    wrong = task(MODUS_PONENS, reference="no")

    verdict = verify(wrong, "Answer: yes")

    assert verdict.outcome is Outcome.ERROR
    assert wrong.id in verdict.reason


@pytest.mark.parametrize("text", BAD_TEXTS, ids=range(len(BAD_TEXTS)))
def test_bad_texts_get_a_verdict_that_is_no_pass(text):
    for statement in (*STATEMENTS, None):
        assert verify(task(statement, reference="zebra" if statement is None else None), text).outcome is not Outcome.PASS


@pytest.mark.parametrize(
    "statement",
    [
        [],
        "entailment",
        {"kind": ["entailment"]},
        {"kind": "entailment", "premises": [5], "conclusion": "P"},
        {"kind": "entailment", "premises": ["P"] * 1_000, "conclusion": "P"},
        {"kind": "entailment", "premises": ["(" * 100_000], "conclusion": "P"},
        {"kind": "entailment", "premises": ["P"], "conclusion": "P(a)"},
        {"kind": "entailment", "premises": ["P"], "conclusion": "P", "three_valued": "yes"},
        {"kind": "entailment", "premises": ["P"], "conclusion": "P", "answers": {"entailed": ["yes"]}},
        {"kind": "entailment", "premises": ["P"], "conclusion": "P", "answers": {"entailed": ["a"], "not entailed": ["A"]}},
        {"kind": "entailment", "premises": ["P(a)"], "conclusion": "P(a)", "domain": ["b"]},
        {"kind": "entailment", "premises": ["forall u v w x y z: R(u,v,w,x,y,z)"], "conclusion": "Q", "domain": list("abcdefghij")},
        {"kind": "formula", "formula": "P -> Q", "connectives": ["nand"]},
        {"kind": "model", "premises": ["P(a)"]},
        {"kind": "syllogism", "premises": ["most cats are pets"], "conclusion": "all cats are pets"},
        {"kind": "knights", "people": ["Ann", "ann"], "statements": {}},
        {"kind": "knights", "people": ["Ann"], "statements": {"Bob": "knight(Ann)"}},
        {"kind": "knights", "people": ["Ann"], "statements": {"Ann": "spy(Ann)"}},
        {"kind": "knights", "people": ["Ann"], "statements": {"Ann": 5}},
        {"kind": "puzzle", "variables": {"a": [1, 2.5]}, "constraints": []},
        {"kind": "puzzle", "variables": {"a": ["red"], "red": [1]}, "constraints": []},
        {"kind": "puzzle", "variables": {"a": ["red", "blue"]}, "constraints": ["a < red"]},
        {"kind": "puzzle", "variables": {"a": ["red", "blue"], "b": ["red", "blue"]}, "constraints": ["a < b"]},
        {"kind": "puzzle", "variables": {"a": [1, 2]}, "constraints": ["sum(a) = 3"]},
        {"kind": "puzzle", "variables": {"a": [1, 2]}, "constraints": ["b = 1"]},
        {"kind": "puzzle", "variables": {"a": [1, 2]}, "constraints": ["a = 1"], "asked": "b"},
        {"kind": "puzzle", "variables": ["a", 5], "domain": "1..3", "constraints": []},
        {"kind": "puzzle", "variables": {"a": "1..999999"}, "constraints": []},
    ],
    ids=range(28),
)
def test_broken_metadata_is_an_error_that_says_what_to_write(statement):
    verdict = verify(task(statement), "Answer: yes")

    assert verdict.outcome is Outcome.ERROR
    assert verdict.reason.startswith("task ")


def test_eight_threads_get_the_verdicts_of_one():
    texts = [(statement, text) for statement in STATEMENTS for text in ("Answer: yes", "Answer: Ann = 1, Bob = 2", "Answer: P -> Q")]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: verify(task(pair[0]), pair[1]).outcome, texts * 4))

    assert together == [verify(task(statement), text).outcome for statement, text in texts] * 4


@given(st.text(max_size=80), st.text(max_size=80))
@settings(deadline=None, max_examples=100)
def test_references_compare_the_same_both_ways(one, other):
    assert same_answer(one, other) == same_answer(other, one)
    assert same_answer(one, one)


@given(
    st.lists(st.sampled_from(["Ann", "Bob", "knight", "knave", "is", "a", "and", "not", "or", ",", ":", "both", "none", "are"]), max_size=9)
)
@settings(deadline=None, max_examples=300)
def test_a_denial_or_a_choice_is_never_read_as_an_assignment(words):
    found = read_assignment(" ".join(words), ["Ann", "Bob"], {"knight": "knight", "knave": "knave"})

    if {"not", "or"} & set(words):
        assert found is None
    if found is not None:
        assert set(found) <= {"Ann", "Bob"}
        assert set(found.values()) <= set(words)


@given(
    st.lists(st.sampled_from(["yes", "no", "it", "follows", "does", "not", "follow", "valid", "invalid", ",", ".", "because"]), max_size=6)
)
@settings(deadline=None, max_examples=300)
def test_an_answer_that_says_both_says_nothing(words):
    found = read_word(" ".join(words), {"for": ["yes", "follows", "valid"], "against": ["no", "does not follow", "invalid"]})

    if {"yes", "no"} <= set(words) or {"valid", "invalid"} <= set(words):
        assert found is None


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=150)
def test_any_text_gets_a_verdict(text):
    for statement in STATEMENTS[:5]:
        assert verify(task(statement), text).outcome is not Outcome.ERROR


@pytest.mark.parametrize("answer", ["-2", "- 2 3", "2.5", "2 3", "seat 2 or 3", "2nd", "²", "two", "1 + 1", "not 2", "2 2"])
def test_a_seat_is_its_number_and_nothing_like_it(answer):
    seat = {"kind": "puzzle", "variables": ["Ann", "Bob"], "domain": "1..2", "constraints": ["Ann < Bob"], "asked": "Bob"}

    assert verify(task(seat), f"Answer: {answer}").outcome is Outcome.FAIL


def test_a_puzzle_of_two_words_for_one_person_is_not_guessed():
    prompt = "All men are mortal. All greeks are men. Does it follow that all greeks are mortals?"

    assert verify(task(prompt=prompt), "Answer: no").outcome is Outcome.ABSTAIN


def test_a_riddle_of_three_houses_is_solved():
    variables = ["brit", "swede", "dane", "red", "green", "blue", "tea", "milk", "beer"]
    constraints = [f"all_different({', '.join(variables[start : start + 3])})" for start in (0, 3, 6)]
    constraints += ["brit = red", "adjacent(swede, blue)", "green + 1 = red", "tea = 2", "dane = beer"]
    riddle = {"kind": "puzzle", "variables": variables, "domain": "1..3", "constraints": constraints}

    assert verify(task({**riddle, "asked": "brit"}), "Answer: house 3").outcome is Outcome.PASS
    assert verify(task({**riddle, "asked": "brit"}), "Answer: house 2").outcome is Outcome.FAIL
    assert verify(task({**riddle, "asked": "blue"}), "Answer: 1").outcome is Outcome.PASS


def test_who_has_a_value_is_everybody_who_has_it():
    shared = {"kind": "puzzle", "variables": ["Ann", "Bob"], "domain": "1..2", "constraints": ["Ann = Bob", "Ann = 2"], "asked_value": 2}

    assert verify(task(shared), "Answer: Ann").outcome is Outcome.FAIL
    assert verify(task(shared), "Answer: Ann = 2, Bob = 2").outcome is Outcome.PASS
