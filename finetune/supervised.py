"""Supervised fine-tuning on verified answers: the loss covers what the worker wrote and its stop token, nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.data import Row, split_rows
from finetune.training import Progress, TrainConfig, arguments, assemble, conversation, prepare_folder, run, save_adapter, total_steps


def train_sft(rows: Sequence[Row], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The evaluation rows belong to tasks that are not trained on."""
    if not rows:
        raise TrainingError("no rows to train on: collect verified traces first")
    prepare_folder(config.output_dir)
    train, held = split_rows(rows, train_split, random.Random(config.seed))
    trainer = sft_trainer(train, held, config)
    metrics = run(trainer, config, len(train), on_step)
    save_adapter(trainer.model, trainer.processing_class, config.output_dir)
    return {**metrics, "rows": len(train), "held": len(held)}


def sft_trainer(train: Sequence[Row], held: Sequence[Row], config: TrainConfig) -> Any:
    """The library's trainer, ready to run. Without held rows the first training row stands in, and is evaluated once at the end."""
    from trl import SFTConfig, SFTTrainer

    args = arguments(
        config,
        total_steps(len(train), config),
        bool(held),
        SFTConfig,
        completion_only_loss=True,
        train_sampling_strategy="group_by_length",
        packing=False,
    )
    return assemble(SFTTrainer, args, [_example(row) for row in train], [_example(row) for row in held or train[:1]], config)


def _example(row: Row) -> dict[str, Any]:
    return {"prompt": conversation(row), "completion": [{"role": "assistant", "content": row.completion}]}
