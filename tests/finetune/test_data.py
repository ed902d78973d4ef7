"""Rows and pairs: nothing is dropped without being counted, nothing held out is learnt, nothing is compared across tasks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_traces import failed, problems, solved

from core.errors import TrainingError
from core.types import Domain, Evidence, Outcome, Split, Task, Trace, Verdict
from finetune.data import Row, dpo_pairs, sft_rows, sieve, split_rows

ONE, TWO, *_ = PROBLEMS = problems(12)
TASKS = [Task(f"What is {i}+{i}?", domain, key=f"{domain}:{i}") for i in range(4) for domain in (Domain.MATH, Domain.CODE)]


@st.composite
def any_trace(draw: st.DrawFn) -> Trace:
    """A trace of few tasks and few texts, so that repetitions and pairs come about."""
    outcome = draw(st.sampled_from(list(Outcome)))
    return solved(
        ONE,
        id=str(draw(st.uuids())),
        task=draw(st.sampled_from(TASKS)),
        text=draw(st.sampled_from(["", " ", "Answer: 4", "2 + 2 = 4\nAnswer: 4", "Answer: 41", "2 + 2 = 41\nAnswer: 41"])),
        verdict=Verdict(outcome, None, "drawn", draw(st.sampled_from([Evidence.REFERENCE, Evidence.JUDGE]))),
        reward=draw(st.one_of(st.none(), st.floats(0, 1))),
        complete=draw(st.booleans()),
        split=draw(st.sampled_from(list(Split))),
    )


traces_of_all_kinds = st.lists(any_trace(), max_size=40)


@settings(deadline=None)
@given(traces_of_all_kinds, st.floats(0, 1), st.sampled_from([None, "math", "code"]))
def test_every_dropped_trace_is_counted_where_it_was_dropped(traces: list[Trace], min_reward: float, domain: str | None):
    kept, funnel = sieve(traces, min_reward, domain)

    assert funnel.came == len(traces)
    assert funnel.left == len(kept)
    for before, after in zip(funnel.sieves, funnel.sieves[1:], strict=False):
        assert before.came - before.dropped == before.left == after.came
    assert funnel.came - sum(s.dropped for s in funnel.sieves) == len(kept)


@settings(deadline=None)
@given(traces_of_all_kinds, st.integers(0, 5))
def test_held_out_traces_never_reach_a_row_or_a_pair(traces: list[Trace], seed: int):
    held_out = {trace.id for trace in traces if trace.split is not Split.TRAIN}

    kept, _ = sieve(traces, 0.0)
    rows, _ = sft_rows(kept, random.Random(seed), per_task=9)
    pairs = dpo_pairs(traces, random.Random(seed), min_reward=0.0, min_gap=0.0, per_task=9, length_ratio=99)

    assert held_out.isdisjoint(row.trace_id for row in rows)
    assert held_out.isdisjoint(i for pair in pairs for i in (pair.chosen_id, pair.rejected_id))


@settings(deadline=None)
@given(traces_of_all_kinds, st.integers(0, 5))
def test_pairs_never_cross_tasks_and_prefer_a_pass_over_a_fail(traces: list[Trace], seed: int):
    by_id = {trace.id: trace for trace in traces}

    for pair in dpo_pairs(traces, random.Random(seed)):
        chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
        assert chosen.task.id == rejected.task.id == pair.task_id
        assert pair.prompt == chosen.query == rejected.query
        assert (chosen.verdict.outcome, rejected.verdict.outcome) == (Outcome.PASS, Outcome.FAIL)
        assert chosen.complete
        assert rejected.complete
        assert chosen.reward is not None
        assert rejected.reward is not None
        assert chosen.reward - rejected.reward >= 0.4
        assert max(len(pair.chosen), len(pair.rejected)) <= 2 * min(len(pair.chosen), len(pair.rejected))


def test_rows_refuse_traces_that_are_held_out():
    with pytest.raises(TrainingError, match="1 of 2 traces are held out"):
        sft_rows([solved(ONE), solved(TWO, split=Split.GATE)], random.Random(0))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"split": Split.GATE}, "held out"),
        ({"split": Split.REPORT}, "held out"),
        ({"complete": False}, "incomplete"),
        ({"text": " \n"}, "incomplete"),
        ({"verdict": Verdict(Outcome.ABSTAIN, None, "")}, "not verified"),
        ({"verdict": Verdict(Outcome.ERROR, None, "")}, "not verified"),
        ({"reward": None}, "reward unknown"),
        ({"reward": 0.69}, "reward below 0.7"),
        ({"task": PROBLEMS[0].task.replace(domain=Domain.CODE)}, "other domain"),
    ],
)
def test_a_trace_is_dropped_under_the_name_of_what_it_lacks(changes: dict[str, object], name: str):
    kept, funnel = sieve([solved(ONE, **changes), solved(TWO)], domain="math")

    assert [trace.task for trace in kept] == [TWO.task]
    assert {s.name: s.dropped for s in funnel.sieves if s.dropped} == {name: 1}


def test_an_unknown_reward_is_dropped_even_when_any_reward_would_do():
    kept, funnel = sieve([solved(ONE, reward=None), solved(TWO, reward=0.0)], min_reward=0)

    assert [trace.reward for trace in kept] == [0.0]
    assert {s.name: s.dropped for s in funnel.sieves}["reward unknown"] == 1


def test_the_same_words_about_the_same_task_count_once():
    once, again = solved(ONE), solved(ONE, id="again", text=f"  {solved(ONE).text}\n")
    elsewhere = solved(TWO, text=once.text)

    kept, funnel = sieve([once, again, elsewhere])

    assert kept == [once, elsewhere]
    assert funnel.sieves[-1].dropped == 1


def test_a_task_gives_no_more_rows_than_its_cap_and_the_rest_is_counted():
    many = [solved(ONE, id=str(i), text=f"Answer: {i}") for i in range(5)]

    rows, cap = sft_rows([*many, solved(TWO)], random.Random(0), per_task=2)

    assert sorted(row.task_id for row in rows) == sorted([ONE.task.id] * 2 + [TWO.task.id])
    assert (cap.came, cap.dropped, cap.left) == (6, 3, 3)


def test_a_row_carries_the_words_that_the_worker_saw_and_wrote():
    (row,), _ = sft_rows([solved(ONE)], random.Random(0))

    trace = solved(ONE)
    assert row == Row(trace.directive, ONE.task.prompt, ONE.solution("careful"), ONE.task.id, trace.id)


def test_two_wordings_of_one_task_are_never_paired():
    asked_otherwise = failed(ONE, task=ONE.task.replace(prompt="Another wording"))

    assert ONE.task.id == asked_otherwise.task.id
    assert dpo_pairs([solved(ONE), asked_otherwise], random.Random(0)) == []


@pytest.mark.parametrize(
    "rejected",
    [
        failed(ONE, complete=False),
        failed(ONE, reward=0.7),
        failed(ONE, text=failed(ONE).text * 3),
        failed(ONE, verdict=Verdict(Outcome.ABSTAIN, None, "")),
        failed(ONE, directive="Another directive"),
        failed(ONE, text=solved(ONE).text.replace("\n", "  \n")),
    ],
    ids=["cut off", "too close in reward", "too different in length", "never judged", "told otherwise", "the same words"],
)
def test_what_cannot_be_compared_makes_no_pair(rejected: Trace):
    assert dpo_pairs([solved(ONE), rejected], random.Random(0)) == []
    assert len(dpo_pairs([solved(ONE), failed(ONE)], random.Random(0))) == 1


def test_pairs_of_a_task_stay_under_its_cap():
    good = [solved(ONE, id=f"good {i}", text=f"Answer: {i}") for i in range(4)]
    bad = [failed(ONE, id=f"bad {i}", text=f"Answer: {i}0") for i in range(4)]

    assert len(dpo_pairs([*good, *bad], random.Random(0), per_task=3)) == 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.1, 0.9), st.integers(0, 9))
def test_a_task_is_wholly_on_one_side_of_the_split(tasks: list[int], share: float, seed: int):
    rows = [Row("", "q", "a", str(task), str(i)) for i, task in enumerate(tasks)]

    train, held = split_rows(rows, share, random.Random(seed))

    assert {row.task_id for row in train}.isdisjoint(row.task_id for row in held)
    assert sorted(row.trace_id for row in [*train, *held]) == sorted(row.trace_id for row in rows)
    assert train
    assert held or len(set(tasks)) == 1


@pytest.mark.parametrize("min_reward", [2, -0.1, float("nan")])
def test_a_reward_out_of_range_is_refused(min_reward: float):
    with pytest.raises(TrainingError, match="between 0 and 1"):
        sieve([solved(ONE)], min_reward)


def test_an_unknown_domain_is_refused_with_those_there_are():
    with pytest.raises(TrainingError, match=r"no domain 'maths'.*math, code"):
        sieve([solved(ONE)], domain="maths")


def test_the_funnel_prints_a_line_for_each_filter():
    _, funnel = sieve([solved(ONE), failed(ONE)])

    assert "not verified" in str(funnel)
    assert str(funnel).splitlines()[0].split() == ["traces", "2"]
    assert len(str(funnel).splitlines()) == len(funnel.sieves) + 1
