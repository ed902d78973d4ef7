"""The command line as a person meets it: exit codes, and errors that say what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from core.apps.cli import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_question_is_answered_and_its_verdict_told(capsys, tmp_path):
    assert main(["ask", "Solve 2+2", "--expected", "4", "--log-dir", str(tmp_path / "logs")]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert "verified" in captured.err
    assert main(["traces", "stats", "--log-dir", str(tmp_path / "logs")]) == 0
    assert "math" in capsys.readouterr().out
    assert main(["traces", "export", "--log-dir", str(tmp_path / "logs")]) == 0
    assert (tmp_path / "logs" / "traces.csv").read_text().count("\n") >= 2


def test_an_empty_question_is_an_error(capsys):
    assert main(["ask", "  "]) == 1
    assert "the question is empty" in told(capsys)


def test_an_unknown_domain_is_an_error_that_lists_the_domains(capsys):
    assert main(["ask", "2+2", "--domain", "maths"]) == 1
    assert "choose one of math, code" in told(capsys)


def test_an_unknown_strategy_is_an_error_that_lists_the_strategies(capsys):
    assert main(["ask", "2+2", "--strategy", "magic"]) == 1
    assert "best_of_n" in told(capsys)


def test_a_dead_ollama_is_an_error_that_says_how_to_start_it(capsys, monkeypatch):
    monkeypatch.setenv("RATCHET_MATH_WORKER_MODEL", "ollama:qwen3:0.6b")
    monkeypatch.setenv("RATCHET_OLLAMA_HOST", "http://127.0.0.1:9")
    assert main(["ask", "Solve 2+2", "--domain", "math"]) == 1
    assert "ollama serve" in told(capsys)


def test_a_question_of_a_megabyte_is_an_error_that_says_how_long_it_may_be(capsys):
    assert main(["ask", "Solve " + "1+" * 500_000 + "1", "--domain", "math"]) == 1
    assert "512" in told(capsys)


def test_traces_that_are_not_there_are_an_error_that_says_how_to_make_them(capsys):
    for command in (["traces", "stats"], ["traces", "export"]):
        assert main([*command, "--log-dir", "nowhere"]) == 1
        assert "enable_logging=True" in told(capsys)


def test_a_bad_line_of_a_task_file_is_named(capsys, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"prompt": "Solve 2+2", "reference": 4}\n{"promt": "Solve 3+3"}\n')
    assert main(["collect", str(tasks)]) == 1
    error = told(capsys)
    assert "line 2" in error
    assert "promt" in error


def test_collect_logs_a_file_of_tasks_and_says_what_is_next(capsys, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join(json.dumps({"prompt": f"Solve {i}+{i}", "reference": str(2 * i)}) for i in range(3, 6)))
    assert main(["collect", str(tasks), "--log-dir", "logs"]) == 0
    out = capsys.readouterr().out
    assert "3 tasks" in out
    assert "finetune_setup.py" in out


def test_a_worker_compared_with_itself_is_not_better(capsys):
    assert main(["evaluate", "embedded", "embedded", "-n", "12"]) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out
    assert "0 gained, 0 lost" in out
    assert "p = 1" in out


def test_evaluation_without_references_is_an_error(capsys, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"prompt": "Solve 2+2"}\n')
    assert main(["evaluate", "embedded", "embedded", "--tasks", str(tasks)]) == 1
    assert "nothing to verify an answer by" in told(capsys)


def test_a_model_that_does_not_exist_is_an_error(capsys):
    assert main(["evaluate", "embedded", "./no-such-model", "-n", "4"]) == 1
    assert "no-such-model" in told(capsys)


def test_seeds_that_are_no_numbers_are_an_error(capsys):
    assert main(["demo", "--seeds", "a,b"]) == 1
    assert "0,1,2" in told(capsys)


def test_a_demo_does_not_touch_a_folder_that_holds_something_else(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path / "mine")]) == 1
    assert "thesis.txt" in told(capsys)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_demo_that_cannot_write_says_so(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "demo")]) == 1
    assert "can't write" in told(capsys)


def test_help_needs_no_torch(tmp_path):
    import subprocess

    code = (
        "import sys\nfrom core.apps.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, capture_output=True).returncode == 0
