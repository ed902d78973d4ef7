"""Memory before it is needed: the parts are those of the real model, and what is cut by them fits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from core.errors import ProviderError
from core.providers.loading import load_base
from finetune.estimate import LLAMA, advice, estimate, estimate_of, fitting_tokens, free_memory, model_config, table, token_bytes
from finetune.lora import peft_model
from finetune.options import TrainConfig

# peft asks transformers by a name that it is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def config(model: str = "embedded", **changes: Any) -> TrainConfig:
    return TrainConfig(model, Path("nowhere"), device="cpu", lora_r=8).replace(**changes)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_parameters_are_those_of_the_model_that_would_be_trained(targets: Any):
    options = config(target_modules=targets)
    model, _ = peft_model(options)

    found = estimate(options, on_gpu=False)

    assert found.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.parameters == sum(p.numel() for p in model.parameters()) - found.trained
    assert found.weights == 4 * found.parameters
    assert found.optimiser == 2 * found.gradients == 2 * found.adapter == 8 * found.trained


@pytest.mark.parametrize("recompute", [False, True])
def test_activations_are_about_what_autograd_keeps(recompute: bool):
    """Without recomputing they are counted; with it, only that there is less to keep."""
    import torch

    model, _ = peft_model(config())
    model.train()
    kept: dict[int, int] = {}

    def count(tensor: Any) -> Any:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.zeros(2, 200, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = model(ids, labels=ids, use_cache=False).loss
    measured = sum(kept.values()) / ids.numel()
    del loss

    said = token_bytes(model.config, recompute=recompute, on_gpu=False)
    assert (said < measured) if recompute else (0.8 * measured < said < 1.6 * measured)


def test_few_bits_and_recomputing_take_less():
    whole = estimate_of(model_config("embedded"), config())
    few = estimate_of(model_config("embedded"), config(load_in_4bit=True))

    assert few.weights < 0.5 * whole.weights
    assert whole.row < estimate_of(model_config("embedded"), config(), recompute=False).row
    assert whole.total(4) - whole.total(2) == 2 * whole.row


@pytest.mark.parametrize(
    ("name", "billions", "memory", "batch"),
    [(*row, m, b) for row, m, b in zip(zip(LLAMA, (3.2, 6.7, 13.0), strict=True), (16, 24, 40), (4, 2, 1), strict=True)],
)
def test_the_guides_models_fit_where_the_guide_says(name: str, billions: float, memory: int, batch: int):
    from transformers import LlamaConfig

    found = estimate_of(LlamaConfig(**LLAMA[name]), TrainConfig(name, Path("nowhere")))

    assert found.parameters == pytest.approx(billions * 1e9, rel=0.02)
    assert memory / 2.5 < found.total(batch) / 1e9 < memory


def test_the_table_names_every_part_and_needs_no_weights(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    said = table(TrainConfig("meta-llama/Llama-3.2-3B-Instruct", Path("nowhere")))

    for part in ("weights", "adapter", "gradients", "optimiser", "activations", "total at batch size 1", "total at batch size 4", "13B"):
        assert part in said
    assert "3,213 M parameters" in said
    assert "its published sizes are used" in caplog.text


def test_a_model_that_cannot_be_had_is_told():
    with pytest.raises(ProviderError, match="can't read the configuration of nobody/has-this"):
        estimate(config("nobody/has-this"))


def test_what_fits_follows_from_the_free_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    model = load_base("embedded", "cpu")
    one = token_bytes(model.config, recompute=False, on_gpu=False)

    monkeypatch.setattr("finetune.estimate.free_memory", lambda _: 1000 * one / 0.6 + 1)
    enough = fitting_tokens(model.requires_grad_(False), config(), 100, 8)
    monkeypatch.setattr("finetune.estimate.free_memory", lambda _: 300 * one / 0.6 + 1)
    little = fitting_tokens(model, config(gradient_checkpointing=False), 100, 8)
    again = fitting_tokens(model, config(), 100, 8)
    assert enough == (1000, False)
    assert little == (300, False)
    assert again[0] > 300
    assert again[1]
    assert caplog.text == ""

    monkeypatch.setattr("finetune.estimate.free_memory", lambda _: 10)
    assert fitting_tokens(model, config(), 100, 8) == (100, True)
    assert "a row of 100 tokens may need" in caplog.text


def test_the_free_memory_of_this_machine_is_a_number_of_bytes():
    import torch

    assert 1e6 < free_memory(torch.device("cpu")) < 1e15


def test_advice_keeps_the_update_the_same():
    assert advice(config(batch_size=4, gradient_accumulation_steps=2)).startswith("--batch-size 2 --gradient-accumulation-steps 4 keeps")
    assert advice(config(batch_size=1, load_in_4bit=True)) == "--max-length below 1024"
