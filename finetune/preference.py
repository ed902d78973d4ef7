"""Direct Preference Optimization (Rafailov et al., 2023) on pairs that share their prompt, from base or on top of an SFT adapter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.data import Pair
from finetune.supervised import check_stop_token
from finetune.training import Progress, TrainConfig, arguments, conversation, peft_model, prepare_folder, run, save_adapter, total_steps


def train_dpo(pairs: Sequence[Pair], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The reference is what `config.model` was before."""
    if len(pairs) < 2:
        raise TrainingError(f"{len(pairs)} preference pairs: at least two are needed; collect tasks with verified and failed attempts")
    prepare_folder(config.output_dir)
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    train, held = _split(pairs, train_split, random.Random(config.seed))
    model, tokenizer = peft_model(config)
    check_stop_token(tokenizer)
    args = arguments(config, total_steps(len(train), config), True, DPOConfig, beta=config.beta)
    trainer = DPOTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([_example(pair) for pair in train]),
        eval_dataset=Dataset.from_list([_example(pair) for pair in held]),
    )
    metrics = run(trainer, config, len(train), on_step)
    save_adapter(trainer.model, tokenizer, config.output_dir)
    return {**metrics, "pairs": len(train), "held": len(held)}


def _split(pairs: Sequence[Pair], share: float, rng: random.Random) -> tuple[list[Pair], list[Pair]]:
    tasks = sorted({pair.task_id for pair in pairs})
    rng.shuffle(tasks)
    chosen = set(tasks[: max(1, min(len(tasks) - 1, round(share * len(tasks))))])
    held = [pair for pair in pairs if pair.task_id not in chosen]
    return [pair for pair in pairs if pair.task_id in chosen], held or list(pairs[:1])


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": conversation(pair),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
