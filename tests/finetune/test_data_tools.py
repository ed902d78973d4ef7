"""Calls of tools go through store, dataset and `datasets` word for word: no argument of one call becomes a null in another."""

from __future__ import annotations

import json
from pathlib import Path

from sample_traces import problems, run_of, solved

from core.types import Domain
from finetune.build import build_dataset
from logs.export import as_dataset, export_parquet
from logs.imports import import_chats
from logs.reading import read_traces
from logs.store import TraceStore

FIRST, SECOND = '{"expression": "17*6+23"}', '{"city": "Oslo", "days": 3, "units": null}'
CALLS = [f"Action: calculator({FIRST})\nObservation: 125\nAnswer: 125", f"Action: weather({SECOND})\nObservation: rain\nAnswer: rain"]


def test_arguments_of_calls_come_out_of_a_dataset_as_they_went_in(tmp_path: Path):
    import datasets

    with TraceStore(tmp_path / "logs") as store:
        for problem, text in zip(problems(2), CALLS, strict=True):
            task = problem.task.replace(metadata={"tools": [json.loads(text[text.index("{") : text.index("}") + 1])]})
            store.put(run_of(solved(problem, text=text, task=task)))

    rows = list(build_dataset(tmp_path / "logs", tmp_path / "d"))
    columns = datasets.Dataset.from_list([{**row.as_dict()} for row in rows])
    columns.to_parquet(tmp_path / "rows.parquet")
    read = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))

    assert sorted(row["completion"] for row in read) == sorted(CALLS)
    exported = as_dataset(tmp_path / "logs", tmp_path / "logs.arrow")
    found = [json.loads(metadata)["tools"][0] for metadata in exported["metadata"]]
    assert sorted(map(list, found)) == sorted(map(list, (json.loads(FIRST), json.loads(SECOND))))
    assert export_parquet(tmp_path / "logs", tmp_path / "logs.parquet").stat().st_size > 0


def test_calls_in_imported_chats_keep_their_arguments_as_they_came(tmp_path: Path):
    def call(name: str, arguments: object) -> dict[str, object]:
        return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}

    question = {"role": "user", "content": "What is 17*6+23?"}
    asked = {"role": "assistant", "content": None, "tool_calls": [call("calculator", FIRST)]}
    answered = {"role": "tool", "tool_call_id": "c1", "content": "125"}
    chats = [
        {"messages": [question, asked], "domain": "math"},
        {"messages": [question, asked, answered, {"role": "user", "content": "And then?"}, {"role": "assistant", "content": "125"}]},
        {"messages": [question], "response": {"choices": [{"message": {**asked, "tool_calls": [call("weather", json.loads(SECOND))]}}]}},
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")

    done = import_chats(tmp_path / "logs", tmp_path / "chats.jsonl", lambda question: Domain.MATH)

    traces = list(read_traces(tmp_path / "logs"))
    assert (done.traces, dict(done.unusable)) == (3, {})
    assert {trace.text for trace in traces} == {f"Action: calculator({FIRST})", "125", f"Action: weather({SECOND})"}
    conversation = next(trace.query for trace in traces if trace.text == "125")
    assert f"assistant: Action: calculator({FIRST})\n\ntool: 125" in conversation
