"""Rounds of training loops in the store, on SQLite and PostgreSQL."""

import pytest
from sample_runs import a_run
from test_databases import stored

from core.errors import StoreError
from logs.rounds import Round, keep_round, read_rounds

FIRST = Round("a1b2", 1, "math", "promoted", "math@1", {"build": {"sft": {"rows": 31}}, "at": 1.0}, 1.0)


def test_rounds_are_kept_once_each_and_read_back_in_order(where):
    stored(where, a_run())
    second = FIRST.replace(number=2, outcome="reject", reference="math@2", created=2.0)
    other = FIRST.replace(loop="c3d4", slot="code", created=3.0)
    for made in (second, FIRST, other, FIRST.replace(outcome="reject"), FIRST):
        keep_round(where, made)

    assert read_rounds(where) == [FIRST, second, other]
    assert read_rounds(where, "math") == [FIRST, second]


def test_without_a_store_there_is_nothing_to_keep_them_in(tmp_path):
    with pytest.raises(StoreError):
        keep_round(tmp_path / "nowhere", FIRST)
