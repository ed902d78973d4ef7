"""`ratchet traces`, as it is typed."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "logs"))
from sample_runs import a_run, a_trace

from core.apps.cli import main
from core.types import Domain, Task
from logs.store import TraceStore


@pytest.fixture
def where(tmp_path):
    logic = Task("Are all herons birds?", Domain.LOGIC)
    with TraceStore(tmp_path / "logs") as store:
        store.put(a_run(1, created=1e9))
        store.put(a_run(2, created=2e9, task=logic, traces=(a_trace("run-000002", task=logic, text="every heron is a bird", created=2e9),)))
    return str(tmp_path / "logs")


def test_traces_are_listed_newest_first_page_by_page(where, capsys):
    assert main(["traces", "list", "--log-dir", where, "-n", "2"]) == 0

    told = capsys.readouterr()
    assert told.out.index("run-000002-0") < told.out.index("run-000001-1")
    after = told.err.split()[-1]
    assert main(["traces", "list", "--log-dir", where, "--after", after]) == 0
    told = capsys.readouterr()
    assert ("run-000001-0" in told.out, "run-000001-1" in told.out, told.err) == (True, False, "")


def test_traces_are_listed_as_json_by_what_is_known_of_them(where, capsys):
    assert main(["traces", "list", "--log-dir", where, "--json", "--domain", "logic", "--outcome", "pass", "--since", "2020-01-01"]) == 0

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["text"] == "every heron is a bird"


def test_words_are_searched_for(where, capsys):
    assert main(["traces", "search", 'heron* "a bird"', "--log-dir", where]) == 0

    told = capsys.readouterr().out
    assert ("run-000002-0" in told, "run-000001" in told) == (True, False)


def test_a_trace_is_shown_with_its_tree(where, capsys):
    assert main(["traces", "show", "run-000002-0", "--log-dir", where, "--tree"]) == 0

    told = capsys.readouterr().out
    assert "Are all herons birds?" in told
    assert "pass: equal (evidence: reference)" in told
    assert "step 2 of 2" in told


def test_a_run_is_shown_by_its_id_and_as_json(where, capsys):
    assert main(["traces", "show", "run-000001", "--log-dir", where]) == 0
    assert main(["traces", "show", "run-000001", "--log-dir", where, "--json"]) == 0

    told = capsys.readouterr().out
    assert "run run-000001: lats, 3 nodes, 2 traces" in told
    assert json.loads(told[told.index("{") :])["id"] == "run-000001"


@pytest.mark.parametrize("by", ["hour", "day", "domain", "worker", "model", "fingerprint", "outcome"])
def test_sums_are_told(where, capsys, by):
    assert main(["traces", "stats", "--by", by, "--log-dir", where]) == 0

    assert "mean reward" in capsys.readouterr().out


def test_an_export_goes_to_another_store_and_what_was_chosen_to_a_table(where, capsys, tmp_path):
    runs, table, other = tmp_path / "runs.jsonl", tmp_path / "chosen.csv", str(tmp_path / "other")

    assert main(["traces", "export", "--jsonl", str(runs), "--log-dir", where]) == 0
    assert main(["traces", "import", str(runs), "--log-dir", other]) == 0
    assert main(["traces", "export", "--csv", str(table), "--domain", "logic", "--log-dir", other]) == 0

    assert "2 runs with 3 traces imported" in capsys.readouterr().out
    with table.open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["run-000002-0"]


def test_a_chat_log_is_imported_and_routed(capsys, tmp_path):
    log = tmp_path / "chats.jsonl"
    chat = {"messages": [{"role": "user", "content": "What is 17*6+23?"}, {"role": "assistant", "content": "125"}]}
    log.write_text(json.dumps(chat) + "\n")

    assert main(["traces", "import", str(log), "--log-dir", str(tmp_path)]) == 0
    assert main(["traces", "list", "--json", "--log-dir", str(tmp_path)]) == 0

    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("1 runs with 1 traces imported")
    assert (json.loads(told[1])["task"]["domain"], json.loads(told[1])["verdict"]["outcome"]) == ("math", "abstain")


def test_a_deletion_asks_first_and_marks_what_was_trained(where, capsys, tmp_path, monkeypatch):
    adapter = tmp_path / "models" / "v1"
    adapter.mkdir(parents=True)
    (adapter / "manifest.json").write_text('{"trace_ids": ["run-000001-0"]}')
    command = ["traces", "delete", "run-000001-0", "--log-dir", where, "--adapters", str(tmp_path / "models")]

    assert main(command) == 1
    assert "say --yes" in capsys.readouterr().err
    assert main([*command, "--yes"]) == 0

    assert f"{adapter} was made with some of them" in capsys.readouterr().out
    assert (adapter / "deleted_traces.json").exists()


def test_old_runs_are_pruned(where, capsys):
    assert main(["traces", "prune", "--older-than", "52w", "--log-dir", where, "--yes"]) == 0

    assert "2 traces and 1 runs deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["show", "nope"], "no trace 'nope'"),
        (["list", "--after", "x"], "no place in the list"),
        (["list", "--since", "yesterdayish"], "is no time: write 2026-11-22"),
        (["list", "-n", "0"], "a page has 1 to 1000 traces"),
        (["search", "..."], "there is no word in"),
        (["delete", "nope", "--yes"], "no trace 'nope'"),
        (["prune", "--yes"], "nothing says what is to go"),
        (["prune", "--older-than", "old", "--yes"], "is no age"),
        (["prune", "--max-size", "2 apples", "--yes"], "is no size"),
        (["import", "nothing.jsonl"], "can't read nothing.jsonl"),
        (["export", "--jsonl", "x", "--domain", "math"], "can't choose by domain"),
        (["list", "--log-dir", "mysql://x"], "a store can't be in 'mysql'"),
        (["list", "--log-dir", "nowhere"], "no traces in"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(where, capsys, command, told):
    where_option = [] if "--log-dir" in command else ["--log-dir", where]

    assert main(["traces", *command, *where_option]) == 1

    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
