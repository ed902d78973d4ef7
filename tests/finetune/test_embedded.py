"""The model that ships: small, made by the generators that ship, and only partly competent, as its card says."""

from __future__ import annotations

import json

from core.providers.local import EMBEDDED_DIRECTORY
from finetune.card import card
from finetune.pretrain import Recipe, make_tokenizer


def test_the_weights_are_small_and_no_pickle():
    assert (EMBEDDED_DIRECTORY / "model.safetensors").stat().st_size <= 10_000_000
    assert not [*EMBEDDED_DIRECTORY.glob("*.bin"), *EMBEDDED_DIRECTORY.glob("*.pt")]


def test_the_tokenizer_is_the_one_that_the_recipe_makes():
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY).get_vocab() == make_tokenizer(Recipe()).get_vocab()


def test_the_card_is_the_one_that_the_log_makes():
    lines = [json.loads(line) for line in (EMBEDDED_DIRECTORY / "pretrain.jsonl").read_text(encoding="utf-8").splitlines()]

    assert (EMBEDDED_DIRECTORY / "README.md").read_text(encoding="utf-8") == card(lines)
    assert lines[0]["recipe"]["seed"] == Recipe().seed
    assert [phase["steps"] for phase in lines[0]["recipe"]["phases"]] == [phase.steps for phase in Recipe().phases]


def test_three_domains_and_more_are_known_in_part():
    lines = [json.loads(line) for line in (EMBEDDED_DIRECTORY / "pretrain.jsonl").read_text(encoding="utf-8").splitlines()]
    accuracy = [line for line in lines if "accuracy" in line][-1]["accuracy"]
    means = {name: sum(levels.values()) / len(levels) for name, levels in accuracy.items()}

    assert sum(0.2 < mean < 0.9 for name, mean in means.items() if name != "math/free") >= 3
    assert means["math/free"] < means["math/steps"] - 0.2
