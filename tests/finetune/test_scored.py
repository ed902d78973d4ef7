"""Pairs from scored traces: what may be compared, what never is, and what is said when nothing can be."""

from __future__ import annotations

from typing import Any

import pytest
from sample_traces import failed, problems, solved

from core.errors import TrainingError
from core.types import Split
from finetune.rlconfig import RLConfig
from finetune.scored import pair_traces

CONFIG = RLConfig()


def trace(text: str, reward: float | None, prompt: str = "Solve 2+2", directive: str = "Be concise.", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "directive": directive, "final_output": text, "reward": reward, "id": f"{prompt}/{directive}/{text}", **more}


def told(traces: list[dict[str, Any]], config: RLConfig = CONFIG) -> str:
    with pytest.raises(TrainingError) as error:
        pair_traces(traces, config)
    return str(error.value)


def test_a_pair_prefers_the_higher_reward_and_names_both_traces():
    (pair,) = pair_traces([trace("5", 0.0), trace("4", 1.0)], CONFIG).pairs

    assert (pair.prompt, pair.directive, pair.chosen, pair.rejected) == ("Solve 2+2", "Be concise.", "4", "5")
    assert pair.trace_ids == ("Solve 2+2/Be concise./4", "Solve 2+2/Be concise./5")


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Solve 10*5"},
        {"directive": "Think."},
        {"task_id": "another task"},
    ],
)
def test_pairs_never_cross_questions_directives_or_tasks(other: dict[str, str]):
    said = told([trace("4", 1.0, task_id="a"), trace("5", 0.0, **{"task_id": "a", **other})])

    assert "2 prompts (2 a single usable answer)" in said
    assert "raise max_iterations=8" in said


def test_two_agents_with_one_directive_make_pairs_together():
    made = pair_traces([trace("4", 1.0, agent_name="a"), trace("5", 0.0, agent_name="b")], CONFIG)

    assert len(made.pairs) == 1


def test_rewards_of_any_scale_are_compared_by_their_gap():
    made = pair_traces([trace("4", 9.0), trace("5", 8.7), trace("6", -3.0)], CONFIG.replace(min_reward_gap=2.0))

    assert {(p.chosen, p.rejected) for p in made.pairs} == {("4", "6"), ("5", "6")}


def test_a_gap_that_is_just_reached_counts():
    assert len(pair_traces([trace("4", 0.5), trace("5", 0.25)], CONFIG.replace(min_reward_gap=0.25)).pairs) == 1


def test_a_task_gives_so_many_pairs_and_a_text_stands_in_two_of_them_at_most():
    traces = [trace(f"right {i}", 1.0) for i in range(5)] + [trace(f"wrong {i}", 0.0) for i in range(5)]

    pairs = pair_traces(traces, CONFIG.replace(pairs_per_task=6)).pairs

    assert len(pairs) == 6
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    assert max(map(texts.count, texts)) <= 2


def test_the_same_traces_give_the_same_pairs():
    traces = [trace(f"{i}", i / 10) for i in range(11)]

    assert pair_traces(traces, CONFIG).pairs == pair_traces(traces, CONFIG).pairs


def test_lengths_are_compared_where_answers_are_long_and_not_where_they_are_short():
    short = [trace("4", 1.0), trace("I think that it is 5", 0.0)]
    long = [trace("4", 1.0), trace("I think that it is 5. " * 10, 0.0)]

    assert len(pair_traces(short, CONFIG).pairs) == 1
    said = told(long)
    assert "1 no two of like length" in said
    assert "raise length_ratio=2" in said


@pytest.mark.parametrize(
    ("traces", "why", "advice"),
    [
        ([trace("4", 1.0), trace("four", 1.0)], "1 rewards all alike", "sometimes solved"),
        ([trace("4", 0.6), trace("5", 0.5)], "1 rewards less than 0.4 apart", "lower min_reward_gap=0.4"),
        ([trace("4", 1.0), trace(" 4 ", 0.0)], "1 the same text every time", "raise temperature=1"),
        ([trace("4", 1.0), trace("5", None)], "1 reward unknown", "reward_error"),
        ([trace("4", 1.0), trace("5", float("nan"))], "1 reward unknown", "reward_error"),
        ([trace("4", 1.0), trace("5", 0.0, complete=False)], "1 cut off at max_tokens", "raise max_tokens=256"),
        ([trace("4", 1.0), trace("", 0.0)], "1 empty", "max_iterations"),
        ([trace("4", 1.0), trace("5<|im_end|>", 0.0)], "1 holds control tokens", "max_iterations"),
        ([trace("4", 1.0), trace("", None, error="no Ollama")], "1 not answered", "max_iterations"),
        ([trace("4", 1.0, split="gate"), trace("5", 0.0, split="gate")], "2 task held out", "training side"),
        ([], "there are no traces", "collect some"),
    ],
)
def test_no_pair_at_all_is_told_with_what_was_seen_and_what_to_do(traces: list[dict[str, Any]], why: str, advice: str):
    said = told(traces)

    assert why in said
    assert advice in said


def test_the_account_counts_what_fell_beside_the_pairs():
    made = pair_traces([trace("4", 1.0), trace("5", 0.0), trace("6", None), trace("1", 1.0, "Solve 1")], CONFIG)

    assert str(made) == "1 pairs from 4 traces (1 reward unknown); 2 prompts (1 a single usable answer)"


def test_logged_traces_make_pairs_too():
    given = [attempt for p in problems(6) for attempt in (solved(p), failed(p))]
    held_out = [attempt for p in problems(2, split=Split.GATE) for attempt in (solved(p), failed(p))]

    made = pair_traces([*given, *held_out], CONFIG)

    assert {(p.chosen_id, p.rejected_id) for p in made.pairs} == {(a.id, b.id) for a, b in zip(given[::2], given[1::2], strict=True)}
    assert made.dropped == {"task held out": 4}


def test_something_that_is_no_trace_is_told():
    with pytest.raises(TrainingError, match="trace 2 has no prompt or no final_output"):
        pair_traces([trace("4", 1.0), {"prompt": "Solve 2+2"}], CONFIG)
