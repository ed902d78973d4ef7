"""The order of rows and the cutting of updates: the same whatever the memory, and every row once."""

from __future__ import annotations

import random

import pytest

from finetune.order import Order, cut, shuffled


@pytest.mark.parametrize("rows", [1, 7, 8, 200])
def test_every_row_comes_once(rows: int):
    lengths = [random.Random(place).randint(1, 99) for place in range(rows)]

    assert sorted(shuffled(lengths, 8, random.Random(0))) == list(range(rows))


def test_an_update_begins_with_its_longest_row_and_updates_are_of_any_length():
    lengths = [random.Random(place).randint(1, 1000) for place in range(200)]

    order = [lengths[place] for place in shuffled(lengths, 8, random.Random(0))]

    updates = [order[i : i + 8] for i in range(0, 200, 8)]
    assert all(update == sorted(update, reverse=True) for update in updates)
    assert sum(max(update) - min(update) for update in updates) / len(updates) > 500


def test_an_epoch_has_its_own_order_whenever_it_is_asked_for():
    order = Order([5, 3, 8, 2, 9, 4], 2, seed=1)
    first = list(order)
    order.epoch = 1
    second = list(order)
    order.epoch = 0

    assert list(order) == first
    assert first != second


def test_parts_keep_every_token_and_hold_no_more_than_was_allowed():
    import torch

    lengths = [9, 8, 5, 5, 2, 1]
    mask = torch.tensor([[1] * n + [0] * (9 - n) for n in lengths])
    batch = {"input_ids": torch.arange(54).reshape(6, 9), "attention_mask": mask}

    parts = list(cut(batch, 18))

    assert [tuple(part["input_ids"].shape) for part in parts] == [(2, 9), (2, 5), (2, 2)]
    assert sum(int(part["attention_mask"].sum()) for part in parts) == sum(lengths)
    assert torch.equal(parts[1]["input_ids"], batch["input_ids"][2:4, :5])


def test_a_row_that_is_larger_than_what_is_allowed_goes_alone():
    import torch

    batch = {"input_ids": torch.zeros(3, 9)}

    assert [part["input_ids"].shape[0] for part in cut(batch, 4)] == [1, 1, 1]
