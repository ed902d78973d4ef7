"""Supervised fine-tuning on verified answers: the loss covers what the worker wrote and its stop token, nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.data import Row, split_rows
from finetune.training import Progress, TrainConfig, arguments, conversation, peft_model, prepare_folder, run, save_adapter, total_steps


def train_sft(rows: Sequence[Row], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The evaluation rows belong to tasks that are not trained on."""
    if not rows:
        raise TrainingError("no rows to train on: collect verified traces first")
    prepare_folder(config.output_dir)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    train, held = split_rows(rows, train_split, random.Random(config.seed))
    model, tokenizer = peft_model(config)
    check_stop_token(tokenizer)
    args = arguments(
        config,
        total_steps(len(train), config),
        bool(held),
        SFTConfig,
        completion_only_loss=True,
        train_sampling_strategy="group_by_length",
        packing=False,
    )
    trainer = SFTTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([_example(row) for row in train]),
        eval_dataset=Dataset.from_list([_example(row) for row in held or train[:1]]),
    )
    metrics = run(trainer, config, len(train), on_step)
    save_adapter(trainer.model, tokenizer, config.output_dir)
    return {**metrics, "rows": len(train), "held": len(held)}


def check_stop_token(tokenizer: Any) -> None:
    """A worker whose stop token is never trained does not stop. Raises TrainingError when the chat template leaves it out."""
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the tokenizer has no chat template: use an instruct model, or set tokenizer.chat_template and save it")
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    if not whole.startswith(prompt):
        raise TrainingError("the chat template renders a finished turn differently from an open one: training would not match serving")
    after = whole[len(prompt) :].partition("a")[2].strip()
    ends = {tokenizer.eos_token, *(t for t in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>") if t in tokenizer.get_vocab())}
    if not any(end and after.startswith(end) for end in ends):
        raise TrainingError(f"the chat template does not close an answer with a stop token (it writes {after[:20]!r} after it)")


def _example(row: Row) -> dict[str, Any]:
    return {"prompt": conversation(row), "completion": [{"role": "assistant", "content": row.completion}]}
