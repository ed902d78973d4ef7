from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sample_runs import a_run, a_trace

from core.errors import StoreError
from core.types import Domain, Run, Task
from logs.export import as_dataset, export_csv, export_parquet
from logs.reading import read_traces
from logs.store import TraceStore


def stored(log_dir: Path, *runs: Run) -> None:
    with TraceStore(log_dir) as store:
        for run in runs:
            store.put(run)
        store.flush()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_trace_is_a_row_under_a_header(tmp_path: Path) -> None:
    stored(tmp_path, a_run(1), a_run(2))

    path = export_csv(tmp_path)

    assert path == tmp_path / "traces.csv"
    assert [row["id"] for row in rows(path)] == ["run-000001-0", "run-000001-1", "run-000002-0", "run-000002-1"]
    first = rows(path)[0]
    assert (first["domain"], first["query"], first["outcome"], first["reward"]) == ("math", "What is 1+1?", "pass", "1.0")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_a_cell_that_a_spreadsheet_would_run_is_guarded(tmp_path: Path, start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    task = Task("?", Domain.MATH, reference=text, family=text)
    stored(tmp_path, a_run(traces=(a_trace(task=task, text=text, answer=text, worker=text),), task=task))

    (row,) = rows(export_csv(tmp_path))

    assert [row[name] for name in ("text", "answer", "worker", "reference", "family")] == [f"'{text}"] * 5


def test_texts_of_many_traces_are_guarded_and_quoted_each_by_itself(tmp_path: Path) -> None:
    texts = ["plain", "=1", 'say "so"', '"', "@", "é＝", "＝é", "", "a\r\nb", "\n=", "last"]
    kinds = [*texts, "a\0=b", "\0=", "=\0"]  # a mark of its own
    numbers = range(len(kinds))
    answers = [kinds[n] if n % 2 else None for n in numbers]
    stored(tmp_path, a_run(traces=tuple(a_trace(rank=n, text=kinds[n], answer=answers[n], created=float(n)) for n in numbers)))
    stored(tmp_path / "no marks", a_run(traces=tuple(a_trace(rank=n, text=text, created=float(n)) for n, text in enumerate(texts))))

    some, others = rows(export_csv(tmp_path)), rows(export_csv(tmp_path / "no marks"))

    safe = {text: f"'{text}" if text[:1] in ("=", "@", "＝", "\n") and text else text for text in kinds}
    assert [row["text"] for row in some] == [safe[text] for text in kinds]
    assert [row["answer"] for row in some] == ["" if answer is None else safe[answer] for answer in answers]
    assert [row["text"] for row in others] == [safe[text] for text in texts]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    task = Task("?", Domain.MATH, level=-1)
    stored(tmp_path, a_run(traces=(a_trace(task=task, reward=-0.5, created=-2.0),), task=task))

    (row,) = rows(export_csv(tmp_path))

    assert (row["reward"], row["created"], row["level"], row["cost"]) == ("-0.5", "-2.0", "-1", "0.001")


def test_a_text_of_many_lines_is_one_row(tmp_path: Path) -> None:
    text = 'one,\n"two"\r\nthree\rfour\x00é'
    stored(tmp_path, a_run(traces=(a_trace(text=text), a_trace(rank=1))))

    first, second = rows(export_csv(tmp_path))

    assert first["text"] == text
    assert second["id"] == "run-000001-1"


def test_an_export_replaces_the_last_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out" / "mine.csv"
    target.parent.mkdir()
    target.write_text("before")
    stored(tmp_path / "logs", a_run())

    assert export_csv(tmp_path / "logs", target) == target

    assert len(rows(target)) == 2
    assert list(target.parent.iterdir()) == [target]


def test_an_export_that_fails_leaves_the_last_one_alone(tmp_path: Path) -> None:
    stored(tmp_path, *(a_run(number) for number in range(200)))
    target = export_csv(tmp_path)
    before = target.read_bytes()
    store = tmp_path / "traces.sqlite"
    content = store.read_bytes()
    store.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))

    with pytest.raises(StoreError, match="damaged"):
        export_csv(tmp_path)

    assert target.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"traces.csv", "traces.sqlite", "traces.sqlite-wal", "traces.sqlite-shm"}


def test_a_place_that_can_not_be_written_to_is_named(tmp_path: Path) -> None:
    stored(tmp_path, a_run())
    (tmp_path / "file").write_text("")

    for target in (tmp_path / "no folder" / "x.csv", tmp_path / "file" / "x.csv"):
        with pytest.raises(StoreError, match=r"can't write .*x\.csv .*: choose another file"):
            export_csv(tmp_path, target)


def test_an_export_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="enable_logging=True"):
        export_csv(tmp_path)


def test_a_table_of_parquet_holds_what_the_traces_hold(where, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    task = Task("?", Domain.MATH, level=3, metadata={"a": [1, "é"]})
    stored(where, a_run(1, task=task, traces=(a_trace(task=task, steps=("one", "two"), reward=None),)), a_run(2))

    table = parquet.read_table(export_parquet(where, tmp_path / "t.parquet")).to_pylist()

    assert [row["id"] for row in table] == [t.id for t in read_traces(where)]
    first = table[0]
    assert (first["query"], first["level"], first["steps"], first["reward"], first["complete"]) == ("?", 3, ["one", "two"], None, True)
    assert json.loads(first["metadata"]) == {"a": [1, "é"]}


def test_a_table_holds_only_what_was_chosen_even_if_that_is_nothing(where, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    stored(where, a_run(1))

    chosen = export_csv(where, tmp_path / "c.csv", outcome="pass")
    nothing = export_parquet(where, tmp_path / "n.parquet", domain="code")

    assert [row["id"] for row in rows(chosen)] == ["run-000001-0"]
    assert parquet.read_table(nothing).num_rows == 0


@pytest.mark.slow
def test_a_dataset_is_mapped_from_a_file(where, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    stored(where, *(a_run(number) for number in range(20)))

    dataset = as_dataset(where, tmp_path / "t.arrow", outcome="pass")

    assert len(dataset) == 20
    assert dataset[0]["steps"] == ["1+1=2", "so 2"]
