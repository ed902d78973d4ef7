from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_runs import a_run, a_trace
from test_databases import stored, with_split

from core.errors import StoreError, TaskError
from core.types import Domain, Outcome, Split, Task
from logs.chats import runs_of_chat
from logs.export import export_jsonl
from logs.imports import import_chats, import_file, import_jsonl
from logs.reading import read_runs, read_traces, summary


def lines(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def to_math(question: str) -> Domain:
    return Domain.MATH


CHAT = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
}
PAIR = {
    "request": {"model": "gpt-x", "messages": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}]},
    "response": {
        "created": 1700000000,
        "model": "gpt-x-2026",
        "choices": [
            {"message": {"role": "assistant", "content": "2+2=4\nAnswer: 4"}, "finish_reason": "stop"},
            {"message": {"role": "assistant", "content": "it is"}, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 9},
    },
    "metadata": {"reference": "4", "domain": "logic"},
}


def test_an_export_comes_back_as_the_same_store(where, tmp_path_factory):
    other = Task("another question", Domain.LOGIC, metadata={"a": [1, {"b": None}]})
    runs = [a_run(1, nodes=5), a_run(2, error="broke", events=({"n": 1},)), a_run(3, traces=(a_trace("run-000003", task=other),))]
    stored(where, *runs)
    folder = tmp_path_factory.mktemp("other")

    done = import_jsonl(folder, export_jsonl(where, folder / "runs.jsonl"))

    assert (done.runs, done.traces, done.known) == (3, 5, 0)
    assert list(read_runs(folder)) == [with_split(run) for run in runs]
    assert summary(folder) == summary(where)


def test_an_import_can_be_repeated(where, tmp_path_factory):
    source = lines(tmp_path_factory.mktemp("in") / "chats.jsonl", CHAT, PAIR, CHAT)

    first, second = (import_chats(where, source, to_math) for _ in range(2))

    assert (first.runs, first.traces, first.known) == (2, 3, 1)
    assert (second.runs, second.traces, second.known) == (0, 0, 3)


def test_a_split_comes_with_its_task(tmp_path):
    stored(tmp_path / "a", a_run())
    path = export_jsonl(tmp_path / "a")
    path.write_text(path.read_text().replace('"split":"train"', '"split":"report"'))

    import_jsonl(tmp_path / "b", path)

    assert {t.split for t in read_traces(tmp_path / "b")} == {Split.REPORT}


def test_a_chat_becomes_a_task_and_a_trace_that_is_still_to_be_judged(tmp_path):
    import_file(tmp_path, lines(tmp_path / "chats.jsonl", CHAT), to_math)

    (trace,) = read_traces(tmp_path)
    assert (trace.query, trace.directive, trace.text, trace.answer) == ("1+1?", "Be brief.", "2", "2")
    assert (trace.verdict.outcome, trace.reward, trace.domain, trace.complete) == (Outcome.ABSTAIN, None, "math", True)


def test_each_choice_of_a_response_is_a_trace(tmp_path):
    import_chats(tmp_path, lines(tmp_path / "pairs.jsonl", PAIR), to_math)

    first, cut = read_traces(tmp_path)
    assert (first.query, first.answer, first.task.reference, first.domain) == ("2+2?", "4", "4", "logic")
    assert (first.model, first.created, first.usage.completion_tokens) == ("gpt-x-2026", 1700000000.0, 9)
    assert (first.complete, cut.complete, cut.text) == (True, False, "it is")
    assert first.steps == ("2+2=4", "Answer: 4")


def test_a_batch_keeps_its_parts_in_bodies(tmp_path):
    batch = {"custom_id": "a", "request": {"body": PAIR["request"]}, "response": {"status_code": 200, "body": PAIR["response"]}}

    import_chats(tmp_path, lines(tmp_path / "batch.jsonl", batch), to_math)

    assert [t.query for t in read_traces(tmp_path)] == ["2+2?"] * 2


def test_a_conversation_is_told_turn_by_turn(tmp_path):
    turns = [("user", "1+1?"), ("assistant", "2"), ("user", "and doubled?"), ("assistant", "4")]

    import_chats(tmp_path, lines(tmp_path / "c.jsonl", {"messages": [{"role": r, "content": c} for r, c in turns]}), to_math)

    (trace,) = read_traces(tmp_path)
    assert trace.query == "user: 1+1?\n\nassistant: 2\n\nuser: and doubled?"
    assert trace.text == "4"


def test_what_can_not_be_learnt_from_is_counted(tmp_path):
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    done = import_chats(
        tmp_path,
        lines(
            tmp_path / "c.jsonl",
            {"messages": [{"role": "user", "content": "?"}]},
            {"messages": [image, {"role": "assistant", "content": "a cat"}]},
            {"messages": [{"role": "assistant", "content": "hello"}]},
            CHAT,
        ),
        to_math,
    )

    assert done.runs == 1
    assert done.unusable == {"no answer in it": 1, "a message that is not text": 1, "no question before the answer": 1}


def test_secrets_do_not_come_in(tmp_path):
    secret = "ghp_" + "a1B2" * 9
    import_chats(tmp_path, lines(tmp_path / "c.jsonl", json.loads(json.dumps(CHAT).replace("1+1?", f"is {secret} good?"))), to_math)

    assert [t.query for t in read_traces(tmp_path)] == ["is [redacted:github] good?"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 of .* is no JSON"),
        ("[]", "line 2 of .*: a line is a JSON object"),
        ('{"prompt": "x"}', 'line 2 of .*: it has no "messages"'),
        ('{"messages": [1]}', "line 2 of .*: a message is"),
        ('{"messages": [{"role": "user", "content": "x"}], "response": {}}', 'has no "choices"'),
        ('{"messages": [{"role":"user","content":"x"},{"role":"assistant","content":"y"}], "domain": "maths"}', "no domain 'maths'"),
        ("[" * 100_000, "line 2 of .* is no JSON"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, told):
    source = tmp_path / "c.jsonl"
    source.write_text(json.dumps(CHAT) + "\n" + line + "\n")

    with pytest.raises(StoreError, match=told):
        import_chats(tmp_path, source, to_math)


def test_a_file_that_is_not_there_leaves_no_store(tmp_path):
    with pytest.raises(StoreError, match="can't read"):
        import_file(tmp_path / "store", tmp_path / "nothing.jsonl", to_math)

    assert list(tmp_path.iterdir()) == []


def test_a_line_of_ours_that_lacks_something_is_named(tmp_path):
    stored(tmp_path, a_run())
    path = export_jsonl(tmp_path)
    for old, new, told in (('"worker":', '"x":', "'x'"), ('"outcome":"pass"', '"outcome":"yes"', "yes"), ('"task":', '"tusk":', "task")):
        wrong = tmp_path / "wrong.jsonl"
        wrong.write_text(path.read_text().replace(old, new))
        with pytest.raises(StoreError, match=f"line 1 of .*{told}"):
            import_jsonl(tmp_path / "b", wrong)


NAMES = st.sampled_from(
    ["messages", "role", "content", "request", "response", "choices", "message", "body", "text", "metadata", "usage", "model"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(NAMES, c),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_json_breaks_the_reading_of_chats(values, answer):
    for line in (
        values,
        {"messages": values, "response": answer},
        {"messages": CHAT["messages"], "response": {"choices": answer}, "metadata": values},
    ):
        try:
            runs_of_chat(line, "x", to_math, 0.0)
        except (StoreError, TaskError):
            continue
