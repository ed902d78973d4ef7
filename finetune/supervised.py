"""Supervised fine-tuning: the loss covers what is to be answered and its stop token, nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.data import Row, split_rows
from finetune.estimate import fitting_tokens
from finetune.lora import shares_parameters
from finetune.order import Order
from finetune.token_trainer import epochs_of, token_trainer
from finetune.tokens import labels
from finetune.training import (
    Progress,
    TrainConfig,
    arguments,
    check_stop_token,
    keep,
    peft_model,
    prepare_folder,
    quiet,
    refuse_longer,
    run,
    total_steps,
)


def train_sft(
    rows: Sequence[Row], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None, style: str = "auto"
) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The evaluation rows belong to tasks that are not trained on.

    A `train_split` of 1 holds nothing back. `style` is one of finetune.styles: "auto" keeps the tokenizer's own template.
    """
    if not rows:
        raise TrainingError("no rows to train on: collect verified traces first")
    prepare_folder(config.output_dir)
    train, held = (list(rows), []) if train_split >= 1 else split_rows(rows, train_split, random.Random(config.seed))
    trainer = sft_trainer(train, held, config, style)
    metrics = run(trainer, config, len(train), on_step)
    keep(trainer, config.output_dir)
    return {**metrics, "rows": len(train), "held": len(held)}


def sft_trainer(train: Sequence[Row], held: Sequence[Row], config: TrainConfig, style: str = "auto") -> Any:
    """The library's trainer, ready to run. Without held rows the first training row stands in, and is evaluated once at the end."""
    from datasets import Dataset

    from finetune.styles import dress

    model, tokenizer = peft_model(config)
    dress(tokenizer, style)
    check_stop_token(tokenizer)
    examples, compared = ([_tokens(tokenizer, row) for row in side] for side in (train, held or train[:1]))
    lengths = [len(example["input_ids"]) for example in (*examples, *compared)]
    refuse_longer(lengths, config.max_length, getattr(model.config, "max_position_embeddings", None))
    sides = Dataset.from_list(examples), Dataset.from_list(compared)
    return token_level(model, tokenizer, sides[0], sides[1], lengths[: len(train)], config, evaluated=bool(held), data_collator=collate)


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows as tensors (rows, width), padded on the right. What pads is neither seen nor trained."""
    import torch

    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, fill: int) -> Any:
        return torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def token_level(
    model: Any, tokenizer: Any, train: Any, held: Any, lengths: Sequence[int], config: TrainConfig, *, evaluated: bool, **more: Any
) -> Any:
    """A trainer of rows that are token ids and labels already, cut to the memory that is free. `more` goes to the trainer."""
    from datasets import disable_progress_bars
    from trl import SFTConfig

    tokens, recompute = fitting_tokens(model, config, max(lengths), config.effective_batch)
    args = arguments(
        config.replace(gradient_checkpointing=recompute),
        total_steps(len(train), config),
        evaluated,
        SFTConfig,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        packing=False,
        per_device_eval_batch_size=min(16, max(1, tokens // max(lengths))),
    )
    disable_progress_bars()
    quiet()
    if not shares_parameters():
        args.per_device_train_batch_size, args.gradient_accumulation_steps = config.effective_batch, 1
    trainer = token_trainer()(model=model, args=args, processing_class=tokenizer, train_dataset=train, eval_dataset=held, **more)
    trainer.micro_tokens = tokens
    trainer.order = Order(lengths, config.effective_batch * args.world_size, config.seed)
    trainer.add_callback(epochs_of(trainer.order))
    return trainer


def _tokens(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    ids, trained = labels(tokenizer, row.directive, row.prompt, row.completion)
    return {"input_ids": ids, "labels": [i if learnt else -100 for i, learnt in zip(ids, trained, strict=True)]}
