"""Feedback of people: kept, superseded, withdrawn, and what is learned of it."""

from __future__ import annotations

import argparse
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_runs import a_run
from test_databases import stored

from core.apps.feedback import add_feedback_command
from core.errors import ConfigError, RatchetError, StoreError
from core.tasks.splits import split_of
from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Split, Task, Verdict
from finetune.data import sft_rows, sieve
from logs.corrections import disagreements, gold_rows, preferences, routing_feedback, thumbs
from logs.feedback import Feedback, feedback_for, give, iter_feedback, opinion, standing, thing
from logs.retention import delete_trace

WRONG = Verdict(Outcome.FAIL, 0.0, "no", Evidence.REFERENCE, "math")


def a_key(split: Split) -> str:
    return next(f"math:{i}" for i in range(1_000) if split_of(Task("?", Domain.MATH, key=f"math:{i}")) is split)


def a_task(split: Split = Split.TRAIN, **changes) -> Task:
    return Task("What is 1+1?", Domain.MATH, reference="2", key=a_key(split)).replace(**changes)


def a_searched_run(number: int = 1, split: Split = Split.TRAIN, **changes) -> Run:
    """Two steps after one another and a second way, each way with its trace: the first passed, the second failed."""
    run = a_run(number, task=a_task(split), **changes)
    tree = (("", "", False), ("0", "1+1=2\n", False), ("0.0", "Answer: 2\n", True), ("1", "Answer: 3\n", True))
    nodes = tuple(NodeRecord(path, text, 1, 0.5, terminal) for path, text, terminal in tree)
    first, second = (t.replace(split=split) for t in run.traces)
    first = first.replace(node="0.0", text="1+1=2\nAnswer: 2\n")
    return run.replace(nodes=nodes, traces=(first, second.replace(node="1", text="Answer: 3\n", answer="3")))


def a_store(where, *runs: Run):
    stored(where, *(runs or [a_searched_run()]))
    return where


def test_what_was_said_is_kept_and_the_latest_of_each_person_counts(where):
    a_store(where)
    for who, thumb in (("ann", "up"), ("bob", "up"), ("ann", "down")):
        give(where, Feedback("run-000001", thumb=thumb, who=who))

    said = feedback_for(where, "run-000001")

    assert [(f.who, f.thumb) for f in said] == [("ann", "up"), ("bob", "up"), ("ann", "down")]
    assert [(f.who, f.thumb) for f in standing(said)] == [("bob", "up"), ("ann", "down")]
    assert opinion(said).replace(rating=0) == opinion(iter_feedback(where)).replace(rating=0)
    assert (opinion(said).up, opinion(said).down, opinion(said).rating) == (1, 1, None)


def test_a_later_word_goes_over_the_earlier_only_in_what_it_says():
    first = Feedback("r", thumb="down", edit="so", who="ann", created=1.0, id="a")
    later = Feedback("r", rating=2, who="ann", created=2.0, id="b")

    (stands,) = standing([later, first])

    assert (stands.thumb, stands.edit, stands.rating) == ("down", "so", 2)
    assert (stands.id, stands.created) == ("a", 1.0), "a gold row names the feedback that holds the edit"


def test_what_was_withdrawn_counts_no_more_and_is_still_there(where):
    a_store(where)
    give(where, Feedback("run-000001", edit="1+1=2\nAnswer: 2", who="ann"))
    give(where, Feedback("run-000001", withdrawn=True, who="ann"))

    assert list(gold_rows(where)) == []
    assert [f.withdrawn for f in iter_feedback(where)] == [False, True]


def test_feedback_is_of_a_run_a_trace_or_a_step(where):
    a_store(where)
    give(where, Feedback("run-000001", rating=4))
    give(where, Feedback(trace_id="run-000001-1", rating=1))
    step = give(where, Feedback(trace_id="run-000001-0", node="0", comment="good start"))

    assert step.about == ("run-000001", None, "0")
    assert [f.rating for f in feedback_for(where, "run-000001")] == [4, 1, None]
    assert [f.rating for f in feedback_for(where, "run-000001-1")] == [1]
    assert [f.comment for f in feedback_for(where, "run-000001", "0")] == ["good start"]
    assert thing(where, "run-000001-1") == ("run-000001", "run-000001-1", None)
    assert [f.rating for f in iter_feedback(where, limit=1)] == [4]


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"run_id": "nowhere"}, "no run 'nowhere'"),
        ({"trace_id": "nothing"}, "no trace 'nothing'"),
        ({"run_id": "run-000002", "trace_id": "run-000001-0"}, "no trace 'run-000001-0' of run 'run-000002'"),
        ({"run_id": "run-000001", "node": "9.9"}, "has no step '9.9'"),
        ({}, "name one by run_id"),
    ],
)
def test_feedback_on_what_is_not_there_is_an_error(tmp_path, about, told):
    a_store(tmp_path)

    with pytest.raises(StoreError, match=told):
        give(tmp_path, Feedback(**about, thumb="up"))
    assert list(iter_feedback(tmp_path)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"thumb": "sideways"},
        {"rating": 0},
        {"rating": 6},
        {"rating": True},
        {"rating": 4.0},
        {"domain": "maths"},
        {"edit": "  \n"},
        {"comment": 7},
        {"comment": "x" * 1_000_001},
        {},
        {"thumb": "up", "withdrawn": True},
        {"thumb": "up", "who": "x" * 201},
    ],
)
def test_feedback_that_cant_be_is_an_error(wrong):
    with pytest.raises(ConfigError):
        Feedback("r", **wrong)


def test_no_secret_and_nothing_that_a_database_refuses_is_kept(where):
    a_store(where)
    secret = "sk-ant-" + "a1B2c3D4" * 4

    give(where, Feedback("run-000001", comment=f"the key {secret} leaked\x00 \ud83d", edit=f"never say {secret}", who="ann \x00"))

    (kept,) = feedback_for(where, "run-000001")
    assert secret not in repr(kept)
    assert kept.comment == "the key [redacted:anthropic] leaked\ufffd \ufffd"


def test_an_edit_is_a_gold_answer_and_better_than_the_original(where):
    a_store(where)
    kept = give(where, Feedback(trace_id="run-000001-1", edit="One and one are two.\nAnswer: 2", who="ann"))

    (gold,) = gold_rows(where)
    (pair,) = preferences(where)

    assert (gold.id, gold.answer, gold.model, gold.verified) == (f"human-{kept.id}", "2", "human", True)
    assert (gold.verdict.evidence, gold.verdict.verifier, gold.reward) == (Evidence.REFERENCE, "human", 1.0)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("What is 1+1?", "One and one are two.\nAnswer: 2", "Answer: 3\n")
    assert (pair.task_id, pair.chosen_id, pair.rejected_id, pair.prefix) == (gold.task.id, gold.id, "run-000001-1", "")


def test_gold_goes_through_the_same_filters_as_other_traces(tmp_path):
    a_store(tmp_path)
    give(tmp_path, Feedback("run-000001", edit="It is two.\nAnswer: 2"))

    kept, funnel = sieve(gold_rows(tmp_path))
    rows, _ = sft_rows(kept, random.Random(0))

    assert (funnel.came, funnel.left) == (1, 1)
    assert (rows[0].directive, rows[0].completion) == ("Solve it.", "It is two.\nAnswer: 2")


@pytest.mark.parametrize("split", [Split.GATE, Split.REPORT])
def test_nothing_of_a_held_out_task_is_learned_but_its_verdict_is_doubted(tmp_path, split):
    a_store(tmp_path, a_searched_run(split=split))
    give(tmp_path, Feedback("run-000001", edit="Answer: 4", thumb="down", domain="code"))
    give(tmp_path, Feedback("run-000001", node="0", edit="1 and 1\n"))

    assert [*gold_rows(tmp_path), *preferences(tmp_path), *thumbs(tmp_path), *routing_feedback(tmp_path)] == []
    assert len(list(disagreements(tmp_path))) == 2


def test_an_edited_step_is_preferred_after_what_was_written_before_it(tmp_path):
    a_store(tmp_path)
    give(tmp_path, Feedback("run-000001", node="0.0", edit="So it is 2.\nAnswer: 2"))

    (pair,) = preferences(tmp_path)

    assert (pair.prefix, pair.chosen, pair.rejected) == ("1+1=2\n", "So it is 2.\nAnswer: 2\n", "Answer: 2\n")
    assert list(gold_rows(tmp_path)) == [], "that the steps before are right is not known"


def test_an_edit_that_changes_nothing_teaches_nothing(tmp_path):
    a_store(tmp_path)
    give(tmp_path, Feedback(trace_id="run-000001-0", edit=" 1+1=2 Answer: 2"))

    assert [*gold_rows(tmp_path), *preferences(tmp_path)] == []


def test_a_cut_off_answer_is_never_the_worse_one(tmp_path):
    run = a_searched_run()
    a_store(tmp_path, run.replace(traces=tuple(t.replace(complete=False) for t in run.traces)))
    give(tmp_path, Feedback(trace_id="run-000001-1", edit="Answer: 2"))
    give(tmp_path, Feedback("run-000001", node="1", edit="Answer: 2"))

    assert len(list(gold_rows(tmp_path))) == 1
    assert list(preferences(tmp_path)) == []


def test_the_original_of_an_edited_run_is_the_answer_that_it_gave(tmp_path):
    voted = a_searched_run(1, strategy="self_consistency")
    another = voted.traces[1].replace(id="run-000001-2", node="2", text="Again.\nAnswer: 3\n")
    unsure = a_searched_run(2)
    unsure = unsure.replace(traces=tuple(t.replace(verdict=WRONG) for t in unsure.traces))
    a_store(tmp_path, voted.replace(traces=(*voted.traces, another)), unsure)
    for run in (voted, unsure):
        give(tmp_path, Feedback(run.id, edit="It must be\nAnswer: 2"))

    assert [gold.text for gold in gold_rows(tmp_path)] == ["It must be\nAnswer: 2"] * 2
    assert [pair.rejected_id for pair in preferences(tmp_path)] == ["run-000001-1", "run-000002-0"]


def test_an_edit_that_the_verifier_finds_wrong_is_no_gold_and_is_told(tmp_path):
    def check(task: Task, text: str) -> Verdict:
        return WRONG

    a_store(tmp_path)
    give(tmp_path, Feedback(trace_id="run-000001-1", edit="Answer: 5"))

    assert [*gold_rows(tmp_path, check=check), *preferences(tmp_path, check=check)] == []
    assert [d.why for d in disagreements(tmp_path, check=check)] == ["the verifier finds the edit wrong"]


def test_verdicts_that_people_do_not_share_are_listed(tmp_path):
    a_store(tmp_path)
    give(tmp_path, Feedback("run-000001", thumb="down", who="ann"))
    give(tmp_path, Feedback(trace_id="run-000001-1", rating=5, who="ann"))
    give(tmp_path, Feedback(trace_id="run-000001-0", edit="Answer: 4", who="bob"))
    give(tmp_path, Feedback("run-000001", node="1", thumb="up", who="cid"))
    give(tmp_path, Feedback(trace_id="run-000001-0", thumb="up", rating=5, who="dora"))

    found = {(d.trace.id, d.why) for d in disagreements(tmp_path)}

    assert found == {
        ("run-000001-0", "thumb down on a verified answer"),
        ("run-000001-0", "the edit gives another answer than the verified one"),
        ("run-000001-1", "rated 5 although found wrong"),
        ("run-000001-1", "thumb up on an answer that was found wrong"),
    }
    assert list(disagreements(tmp_path, domain="code")) == []


def test_thumbs_are_counted_by_person_and_a_draw_says_nothing(tmp_path):
    a_store(tmp_path)
    give(tmp_path, Feedback("run-000001", thumb="up", who="ann"))
    give(tmp_path, Feedback(trace_id="run-000001-0", thumb="up", who="ann"))
    give(tmp_path, Feedback(trace_id="run-000001-0", thumb="up", who="bob"))
    give(tmp_path, Feedback(trace_id="run-000001-0", thumb="down", who="cid"))
    give(tmp_path, Feedback(trace_id="run-000001-1", thumb="up", who="ann"))
    give(tmp_path, Feedback(trace_id="run-000001-1", thumb="down", who="bob"))

    assert [(trace.id, good) for trace, good in thumbs(tmp_path)] == [("run-000001-0", True)]


def test_the_domain_that_most_people_name_is_learned_by_the_router(tmp_path):
    a_store(tmp_path, a_searched_run(1), a_searched_run(2))
    for who, domain in (("ann", "code"), ("bob", "code"), ("cid", "logic")):
        give(tmp_path, Feedback("run-000001", domain=domain, who=who))
    for who, domain in (("ann", "code"), ("bob", "logic")):
        give(tmp_path, Feedback("run-000002", domain=domain, who=who))

    assert list(routing_feedback(tmp_path)) == [("What is 1+1?", "code", 2 / 3)]


def test_a_store_without_feedback_has_none(where):
    a_store(where)

    assert [*iter_feedback(where), *feedback_for(where, "run-000001"), *gold_rows(where), *disagreements(where)] == []


def test_with_a_trace_goes_what_was_said_of_it(where):
    a_store(where)
    give(where, Feedback(trace_id="run-000001-1", comment="worse"))
    give(where, Feedback("run-000001", rating=3))

    delete_trace(where, "run-000001-1")
    left = [f.rating for f in iter_feedback(where)]
    delete_trace(where, "run-000001-0")

    assert left == [3]
    assert list(iter_feedback(where)) == []


WORDS = st.one_of(st.none(), st.text(max_size=40))


@pytest.mark.slow
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["", "ann"]), st.sampled_from([None, "up", "down"]), WORDS, WORDS, st.booleans()),
        max_size=8,
    )
)
def test_whatever_is_said_no_held_out_task_is_learned_and_no_pair_crosses_prompts(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("said")
    splits = {1: Split.TRAIN, 2: Split.GATE, 3: Split.REPORT}
    runs = [a_searched_run(number, split) for number, split in splits.items()]
    a_store(folder, *(run.replace(task=run.task.replace(prompt=f"What is it, {run.id}?")) for run in runs))
    for number, who, thumb, comment, edit, withdrawn in said:
        try:
            give(folder, Feedback(f"run-{number:06d}", thumb=thumb, comment=comment, edit=edit, who=who, withdrawn=withdrawn))
        except RatchetError:
            continue

    learned = list(gold_rows(folder))
    pairs = list(preferences(folder))

    assert all(split_of(gold.task) is Split.TRAIN and gold.run_id == "run-000001" for gold in learned)
    assert all(pair.task_id == runs[0].task.id and pair.rejected == runs[0].traces[0].text for pair in pairs)
    assert all(trace.run_id == "run-000001" for trace, _ in thumbs(folder))


def command(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_feedback_command(parser.add_subparsers())
    args = parser.parse_args(["feedback", *argv])
    return int(args.command(args))


def test_the_command_takes_feedback_and_shows_it(tmp_path, capsys):
    a_store(tmp_path)
    (tmp_path / "better.txt").write_text("Answer: two", encoding="utf-8")
    store = ("--log-dir", str(tmp_path))

    assert command("run-000001-0", *store, "--down", "--rating", "2", "--who", "ann", "--comment", "too [short]") == 0
    assert command("run-000001-1", *store, "--edit", str(tmp_path / "better.txt")) == 0
    capsys.readouterr()
    command("run-000001", *store)
    shown = capsys.readouterr().out
    command(*store, "--disagreements")
    doubted = capsys.readouterr().out

    assert "0 up, 1 down, rated 2.0 by 1, 1 comments, 1 edits" in shown
    assert "run-000001-0" in doubted
    assert [gold.text for gold in gold_rows(tmp_path)] == ["Answer: two"]


def test_the_command_tells_what_is_missing(tmp_path):
    a_store(tmp_path)
    store = ("--log-dir", str(tmp_path))

    with pytest.raises(ConfigError, match="feedback on what"):
        command(*store, "--up")
    with pytest.raises(StoreError, match="no trace and no run 'x'"):
        command("x", *store, "--up")
    with pytest.raises(ConfigError, match="can't read the edit"):
        command("run-000001", *store, "--edit", str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="stands alone"):
        command("run-000001", *store, "--disagreements")
