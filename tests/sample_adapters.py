"""Adapters of the embedded model with random weights, registered as training would leave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.providers.local import load
from finetune.adapters import register


def make_adapter(folder: Path, seed: int = 0, *, base: str = "embedded", r: int = 4, alpha: int = 8, spread: float = 0.1) -> Path:
    """Weights, config and tokenizer; no manifest."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model, tokenizer = load(base, "cpu")
    adapted = get_peft_model(model, LoraConfig(r=r, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread)
    adapted.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    return folder


def make_registered(
    folder: Path, seed: int = 0, *, trace_ids: Sequence[str] = ("a", "b"), r: int = 4, alpha: int = 8, base: str = "embedded"
) -> Path:
    """The same with its manifest."""
    make_adapter(folder, seed, base=base, r=r, alpha=alpha)
    register(
        folder,
        domain="math",
        trainer="sft",
        trace_ids=trace_ids,
        settings={"epochs": 1.0, "seed": seed},
        metrics={"train_loss": 0.5 + seed},
        device="cpu",
    )
    return folder
