"""Looks: what a held-out set may still decide, kept on disk, and paid for once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import ConfigError, TrainingError
from core.types import Domain, Task
from finetune.looks import Looks, held_out_id

TASKS = [Task(f"What is {i}+{i}?", Domain.MATH, str(2 * i)) for i in range(5)]


def test_the_same_tasks_are_the_same_set_in_any_order_and_wording_of_case():
    assert held_out_id(TASKS) == held_out_id(TASKS[::-1]) == held_out_id([*TASKS, TASKS[0].replace(key="", prompt="WHAT is 0+0?")])
    assert held_out_id(TASKS) != held_out_id(TASKS[:-1])


def test_no_tasks_are_no_set():
    with pytest.raises(TrainingError, match="at least one task"):
        held_out_id([])


def test_each_look_spends_its_share_until_the_set_has_to_be_refreshed(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl", planned=3, alpha=0.06)

    taken = [looks.take("set", f"candidate {i}") for i in range(4)]

    assert [look.number for look in taken] == [1, 2, 3, 3]
    assert [look.alpha for look in taken] == pytest.approx([0.02, 0.02, 0.02, 0])
    assert [look.used_up for look in taken] == [False, False, False, True]
    assert (looks.used("set"), looks.left("set")) == (3, 0)


def test_sets_spend_apart(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl", planned=1)
    looks.take("one", "a")

    assert not looks.take("other", "a").used_up


def test_what_was_spent_is_remembered_by_whoever_opens_the_file_next(tmp_path: Path):
    Looks(tmp_path / "looks.jsonl", planned=2).take("set", "a")

    assert Looks(tmp_path / "looks.jsonl", planned=2).left("set") == 1


def test_the_same_question_again_costs_nothing(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl", planned=2)
    first = looks.take("set", "a")

    assert looks.take("set", "a") == first
    assert looks.used("set") == 1


def test_another_plan_does_not_give_back_what_was_spent(tmp_path: Path):
    Looks(tmp_path / "looks.jsonl", planned=2, alpha=0.05).take("set", "a")

    greedy = Looks(tmp_path / "looks.jsonl", planned=5, alpha=0.05)

    assert greedy.left("set") == 2
    assert [greedy.take("set", name).alpha for name in "bcd"] == pytest.approx([0.01, 0.01, 0])


def test_a_look_that_was_cut_off_while_it_was_written_was_not_taken(tmp_path: Path):
    path = tmp_path / "looks.jsonl"
    Looks(path, planned=2).take("set", "a")
    with path.open("ab") as file:
        file.write(b'{"held_out": "set", "num')

    looks = Looks(path, planned=2)

    assert looks.used("set") == 1
    assert looks.take("set", "b").number == 2
    assert looks.used("set") == 2


def test_twenty_who_ask_at_once_get_no_more_looks_than_there_are(tmp_path: Path):
    looks = Looks(tmp_path / "looks.jsonl", planned=10)

    with ThreadPoolExecutor(20) as pool:
        taken = list(pool.map(lambda i: looks.take("set", f"candidate {i}"), range(20)))

    assert sorted(look.number for look in taken if not look.used_up) == list(range(1, 11))


def test_a_damaged_file_stops_the_gate(tmp_path: Path):
    (tmp_path / "looks.jsonl").write_text('{"held_out": "set"}\n')
    with pytest.raises(TrainingError, match="no look"):
        Looks(tmp_path / "looks.jsonl").take("set", "a")

    (tmp_path / "looks.jsonl").write_text("{\n")
    with pytest.raises(TrainingError, match="damaged"):
        Looks(tmp_path / "looks.jsonl").left("set")


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TrainingError, match="can't keep the looks"):
        Looks(tmp_path / "file" / "looks.jsonl").take("set", "a")


@pytest.mark.parametrize(("planned", "alpha"), [(0, 0.05), (1, 0.0), (1, 1.0)])
def test_a_plan_that_means_nothing_is_refused(planned: int, alpha: float, tmp_path: Path):
    with pytest.raises(ConfigError, match="looked at once or more"):
        Looks(tmp_path / "looks.jsonl", planned, alpha)
