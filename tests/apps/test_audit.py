"""The audit as a person meets it: what passes falsely is listed and makes the exit code 1; stored verdicts can be made again."""

from __future__ import annotations

import json

import pytest
from sample_audits import CARELESS, EXACT, HONEST_CASES, run_with_a_false_pass

from core.apps.audit import judge_cases, summarise
from core.apps.audit_cases import NEVER_PASS, Case, junk_for, read_cases, shipped_cases
from core.apps.cli import main
from core.types import Domain, Outcome, Task
from core.verifiers import Verifiers
from logs.reading import read_traces
from logs.store import TraceStore
from logs.verdicts import verdicts_of


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's two verifiers and cases, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(EXACT + CARELESS)
    monkeypatch.setenv("RATCHET_VERIFIERS", json.dumps({"exact": "mine.py:exact", "careless": "mine.py:careless"}))
    (tmp_path / "cases.jsonl").write_text("\n".join(json.dumps(case) for case in HONEST_CASES) + "\n")
    return tmp_path


def test_a_sound_verifier_of_the_users_own_passes_the_audit(own, capsys):
    assert main(["audit", "--verifier", "exact", "--cases", "cases.jsonl"]) == 0
    assert "0 false PASS" in capsys.readouterr().out


def test_a_verifier_that_takes_junk_fails_the_audit_and_is_shown_with_task_text_and_reason(own, capsys):
    assert main(["audit", "--verifier", "careless", "--cases", "cases.jsonl", "--json", "report.json"]) == 1

    said = capsys.readouterr().out
    assert "careless: PASS instead of" in said
    assert "the right words are in it" in said
    report = json.loads((own / "report.json").read_text())
    assert report["verifiers"][0]["verifier"] == "careless"
    assert {"Answer: not 42", "Answer: 42 or banana"} <= {mistake["text"] for mistake in report["mistakes"]}


def test_a_false_fail_is_listed_and_is_no_reason_to_stop(own, capsys):
    (own / "cases.jsonl").write_text('{"prompt": "6*7", "reference": "42", "text": "forty-two", "expect": ["pass"]}\n')

    assert main(["audit", "--verifier", "exact", "--cases", "cases.jsonl"]) == 0
    assert "exact: FAIL instead of pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "a case is a JSON object"),
        ("{", "line 1"),
        ('{"prompt": "1+1", "text": "2", "expect": ["maybe"]}', "a list of pass, fail"),
        ('{"prompt": "1+1", "text": 2, "expect": ["pass"]}', "needs a text"),
        ('{"prompt": "1+1", "text": "2", "expect": ["pass"], "kind": "trash"}', "choose one of gold"),
        ('{"prompt": "1+1", "text": "2", "expect": ["pass"], "answer": "2"}', "unknown field 'answer'"),
        ('{"prompt": "1+1", "text": "2", "expect": ["pass"], "metadata": [1]}', "write a JSON object"),
        ("", "holds no cases"),
    ],
)
def test_a_file_of_cases_that_cannot_be_read_is_an_error_that_says_where(own, capsys, line, told):
    (own / "cases.jsonl").write_text(line)

    assert main(["audit", "--cases", "cases.jsonl"]) == 1
    assert told in capsys.readouterr().err


def test_unknown_verifiers_and_options_that_go_with_others_are_errors(own, capsys):
    assert main(["audit", "--verifier", "maths"]) == 1
    assert "choose one of" in capsys.readouterr().err
    assert main(["audit", "--dry-run"]) == 1
    assert "--rescore" in capsys.readouterr().err


def test_a_verifier_that_raises_has_made_an_error():
    case = Case("mine", "gold", Task("6*7", Domain.MATH), "42", frozenset({Outcome.PASS}), "here")

    def breaks(name, task, text):
        raise ZeroDivisionError("no")

    (found,) = judge_cases([case], breaks)

    assert found.verdict.outcome is Outcome.ERROR
    assert "ZeroDivisionError" in found.verdict.reason
    assert summarise([found])[0].false_error == 1


def test_junk_never_contains_the_right_answer_in_another_dress():
    for gold, equal in (("0.0", "0"), ("yes, it follows", "True"), ("banana", "banana"), ("1", "yes")):
        case = Case("math", "gold", Task("?", Domain.MATH, reference=gold), gold, frozenset({Outcome.PASS}), "here")
        junk = [one.text.removeprefix("Answer: ") for one in junk_for([case])]
        assert equal not in junk
        assert f"not {gold}" in junk
        assert all(one.expect == NEVER_PASS for one in junk_for([case]))


def test_the_cases_that_ship_are_read_and_each_belongs_to_a_verifier():
    cases = shipped_cases()

    assert len(cases) > 1_500
    assert {case.verifier for case in cases} <= set(Verifiers().names())


def test_a_case_names_its_verifier_or_leaves_it_to_its_domain(tmp_path):
    rows = [{"verifier": "a"}, {"metadata": {"verifier": "b"}}, {"domain": "logic"}, {}]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "?", "text": "", "expect": ["fail"], **row}) for row in rows))

    assert [case.verifier for case in read_cases(path)] == ["a", "b", "logic", "math"]


@pytest.mark.slow
def test_nothing_that_ships_passes_falsely(capsys):
    assert main(["audit", "--draws", "2"]) == 0
    assert "0 false PASS" in capsys.readouterr().out


def test_stored_traces_are_judged_again_and_the_first_verdicts_are_kept(tmp_path, capsys):
    with TraceStore(tmp_path) as store:
        store.put(run_with_a_false_pass())

    assert main(["audit", "--rescore", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 changed: 1 pass -> fail" in said
    assert "nothing was written" in said
    assert [trace.verdict.outcome for trace in read_traces(tmp_path)] == [Outcome.PASS]

    assert main(["audit", "--rescore", str(tmp_path)]) == 0
    (trace,) = read_traces(tmp_path)
    assert trace.verdict.outcome is Outcome.FAIL
    assert [verdict.outcome for verdict in verdicts_of(tmp_path, trace.id)] == [Outcome.PASS, Outcome.FAIL]
    assert main(["audit", "--rescore", str(tmp_path)]) == 0
    assert "0 changed" in capsys.readouterr().out


def test_a_folder_without_traces_is_told(tmp_path, capsys):
    assert main(["audit", "--rescore", str(tmp_path / "nothing")]) == 1
    assert "no traces in" in capsys.readouterr().err
