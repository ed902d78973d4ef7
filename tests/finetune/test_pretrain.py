"""Making the embedded model: its tokenizer, its chat template, what its corpus never shows, and that a seed decides the weights."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_traces import problems as problems_of

from core.tasks.draw import draw
from core.tasks.splits import shown_in_pretraining, split_of
from core.types import Split
from finetune.pretrain import AUTHORS, DOMAINS, SHOWN, Phase, Recipe, batches, make_model, make_tokenizer, problems, train

MIX = Recipe().phases[0].shares
SMALL = Recipe(
    phases=(Phase(20, MIX, 1.0, 0.5, 0.1), Phase(10, MIX, 0.1, 0.0, 0.0)), batch_tokens=300, hidden=32, layers=1, heads=2, ffn=64
)
CONVERSATION = [
    {"role": "system", "content": "You solve."},
    {"role": "user", "content": "Solve 17*6+23"},
    {"role": "assistant", "content": "17*6 = 102\nAnswer: 125"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    train(SMALL, folder, "cpu", evaluate_every=1_000)
    return folder


@settings(deadline=None)
@given(number=st.integers(0, 10**30))
def test_every_digit_is_a_token_of_its_own(tokenizer: Any, number: int):
    tokens = tokenizer.tokenize(f"x = {number}*{number}")

    assert [token for token in tokens if any(c.isdigit() for c in token)] == list(f"{number}{number}")


@settings(deadline=None)
@given(text=st.text())
def test_any_text_comes_back_as_it_went_in(tokenizer: Any, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    assert tokenizer.decode(ids) == text


def test_what_is_learnt_of_a_conversation_is_the_answer_and_the_stop_token(tokenizer: Any):
    encoded = tokenizer.apply_chat_template(CONVERSATION, return_assistant_tokens_mask=True, return_dict=True)

    learnt = [token for token, written in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if written]
    assert tokenizer.decode(learnt) == CONVERSATION[-1]["content"] + tokenizer.eos_token


def test_an_open_conversation_is_what_the_corpus_looks_like(tokenizer: Any):
    (ids, labels, _) = next(batches(SMALL, 0, tokenizer))
    first = ids[0][(labels[0] == -100) & (ids[0] != tokenizer.pad_token_id)]

    prompt = tokenizer.decode(first)
    question = prompt.removeprefix("<|user|>").removesuffix("\n<|assistant|>")
    asked = [{"role": "user", "content": question}]
    assert tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False) == prompt


def test_batches_stay_full_after_the_tokenizer_was_used_with_padding(tokenizer: Any):
    used = copy.deepcopy(tokenizer)
    before = list(islice(batches(SMALL, 0, used), 5))

    stream = batches(SMALL, 0, used)
    first = next(stream)
    used(["Solve 1+1", "Solve 17*6+23"], padding=True)
    after = [first, *islice(stream, 4)]

    for (ids, labels, weights), (again, *_) in zip(before, after, strict=True):
        assert ids.equal(again)
        assert ids.shape == labels.shape == weights.shape
        assert ids.numel() <= SMALL.batch_tokens
        assert (ids != used.pad_token_id).float().mean() > 0.5


def test_a_label_is_the_token_itself_and_stands_only_where_the_author_writes(tokenizer: Any):
    ids, labels, weights = next(batches(SMALL, 0, tokenizer))

    written = labels != -100
    assert labels[written].equal(ids[written])
    assert (ids[written] == tokenizer.eos_token_id).sum() == len(ids)
    assert {round(float(w), 4) for w in weights.unique()} <= {1.0, *(round(AUTHORS[s] / SHOWN[s], 4) for s in AUTHORS)}


def test_the_corpus_shows_nothing_of_the_held_out_splits_or_of_the_collecting_side():
    rng = random.Random(1)
    shown = [problem.task for problem, _ in islice(problems(random.Random(0), MIX), 20_000)]

    assert all(split_of(task) is Split.TRAIN and shown_in_pretraining(task) for task in shown)
    prompts = {bare(task.prompt) for task in shown}
    for source in MIX:
        for split in Split:
            assert prompts.isdisjoint(bare(task.prompt) for task in draw(source, 40, split, rng, levels=(3, 4)))


def test_the_rate_warms_up_holds_and_goes_down():
    phase = Phase(steps=100, shares=MIX, peak=0.8, hold=0.5, end=0.2)
    rates = [phase.rate(step, warmup=10) for step in range(101)]

    assert rates[:10] == sorted(rates[:10])
    assert set(rates[10:50]) == {0.8}
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[100] == pytest.approx(0.2)


@pytest.mark.slow
def test_training_leaves_weights_a_tokenizer_and_a_journal(made: Path):
    from transformers import AutoModelForCausalLM

    lines = [json.loads(line) for line in (made / "pretrain.jsonl").read_text(encoding="utf-8").splitlines()]

    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= {path.name for path in made.iterdir()}
    assert [phase["steps"] for phase in lines[0]["recipe"]["phases"]] == [20, 10]
    assert [line["phase"] for line in lines if "accuracy" in line] == [1, 2]
    assert set(lines[-1]["accuracy"]) == {"math/steps", *(f"{domain}/free" for domain in DOMAINS)}
    assert "Not a useful assistant" in (made / "README.md").read_text(encoding="utf-8")
    assert AutoModelForCausalLM.from_pretrained(made).num_parameters() == lines[0]["parameters"]


@pytest.mark.slow
def test_a_later_phase_goes_on_from_the_saved_weights(made: Path, tmp_path: Path):
    first_only = replace(SMALL, phases=SMALL.phases[:1])
    train(first_only, tmp_path, "cpu", evaluate_every=1_000)
    train(SMALL, tmp_path, "cpu", evaluate_every=1_000, first=1)

    assert (tmp_path / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_same_seed_makes_the_same_weights(made: Path, tmp_path: Path, tokenizer: Any):
    train(SMALL, tmp_path, "cpu", evaluate_every=1_000)

    assert (tmp_path / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()


def test_the_model_of_the_recipe_has_about_a_million_parameters(tokenizer: Any):
    assert 0.8e6 < make_model(Recipe(), tokenizer).num_parameters() < 1.2e6


def test_the_collecting_side_exists():
    """Otherwise the test of the corpus would say nothing."""
    assert any(not shown_in_pretraining(problem.task) for problem in problems_of(20))


def bare(prompt: str) -> str:
    return "".join(prompt.split()).casefold()
