"""Direct Preference Optimization (Rafailov et al., 2023) on pairs that share their prompt, from base or on top of an SFT adapter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.data import Pair, split_rows
from finetune.training import Progress, TrainConfig, arguments, assemble, conversation, prepare_folder, run, save_adapter, total_steps


def train_dpo(pairs: Sequence[Pair], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The reference is what `config.model` was before."""
    if len(pairs) < 2:
        raise TrainingError(f"{len(pairs)} preference pairs: at least two are needed; collect tasks with verified and failed attempts")
    prepare_folder(config.output_dir)
    from trl import DPOConfig, DPOTrainer

    train, held = split_rows(pairs, train_split, random.Random(config.seed))
    args = arguments(config, total_steps(len(train), config), bool(held), DPOConfig, beta=config.beta)
    trainer = assemble(DPOTrainer, args, [_example(pair) for pair in train], [_example(pair) for pair in held or train[:1]], config)
    metrics = run(trainer, config, len(train), on_step)
    save_adapter(trainer.model, trainer.processing_class, config.output_dir)
    return {**metrics, "pairs": len(train), "held": len(held)}


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": conversation(pair),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
