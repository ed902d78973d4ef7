import sqlite3

import pytest

from core.apps.cli import main
from core.apps.watch import SHOWN, line
from core.search.events import Event


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("ask", 0, "", {"n": 4, "first": 0, "whole": False, "reflect": False}), "ask      root: 4 steps"),
        (Event("ask", 1, "2", {"n": 1, "first": 0, "whole": True, "reflect": False}), "ask      2: 1 whole answers"),
        (Event("ask", 1, "2", {"n": 1, "first": 0, "whole": True, "reflect": True}), "ask      2: a reflection"),
        (Event("verdict", 1, "2.0", {"outcome": "fail", "value": 0.25}), "verdict  2.0: fail, worth 0.25"),
        (Event("verdict", 1, "2.0", {"outcome": "abstain", "value": None}), "verdict  2.0: abstain"),
        (Event("prune", -1, "3"), "prune    3"),
        (Event("stop", data={"reason": "verified"}), "stop     verified"),
    ],
)
def test_an_event_is_one_line(event, said):
    assert line(event) == said


def test_what_a_model_wrote_is_cut_to_a_line():
    event = Event("tell", 0, "", {"children": [{"text": "a\n" * 500}, {"text": "b"}]})

    assert "\n" not in line(event)
    assert len(line(event)) < SHOWN + 20


def test_a_question_can_be_watched(capsys):
    assert main(["ask", "Solve 2+3", "--watch"]) == 0

    told = capsys.readouterr().err.splitlines()
    assert any(text.startswith("ask      root: ") for text in told)
    assert any(text.startswith("stop     ") for text in told)


def test_a_corpus_is_built_and_searched(tmp_path, capsys):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "towns.txt").write_text("Oslo is the capital of Norway. Bern is the capital of Switzerland.")

    assert main(["corpus", "build", str(tmp_path / "documents"), str(tmp_path / "index.sqlite")]) == 0
    assert main(["corpus", "search", str(tmp_path / "index.sqlite"), "capital Norway"]) == 0

    told = capsys.readouterr().out
    assert "1 documents" in told
    assert "Oslo is the capital of Norway." in told
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
