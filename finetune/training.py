"""What all trainers share: the library's options, the run with its live files and checkpoints, the checks before it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from core.errors import TrainingError
from finetune.checkpoints import KEPT, checkpoints, identity, newest
from finetune.data import Opinion, Pair, Row
from finetune.estimate import advice, fitting_tokens
from finetune.live import PICTURE, Progress, live, plot_losses
from finetune.lora import checked, is_first_process, peft_model, save_adapter, several_processes
from finetune.options import TrainConfig

log = logging.getLogger(__name__)

__all__ = [
    "Progress",
    "TrainConfig",
    "arguments",
    "assemble",
    "check_lengths",
    "check_stop_token",
    "conversation",
    "keep",
    "peft_model",
    "prepare_folder",
    "refuse_longer",
    "run",
    "save_adapter",
    "total_steps",
]


def prepare_folder(folder: Path) -> None:
    """Make the output folder and be sure that it can be written, before any compute is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise TrainingError(f"can't write to the output folder {folder}: {error.strerror}; choose another with --output-dir") from error


def arguments(config: TrainConfig, steps: int, evaluated: bool, kind: type[Any], **more: Any) -> Any:
    """The library's configuration object. Keywords that the installed version does not know are an error of ours, told at once.

    Checkpoints are asked for by `run`, not by the library.
    """
    import torch

    gpu = config.device != "cpu" and torch.cuda.is_available()
    half = gpu and config.dtype != "float32"
    known = {f.name for f in fields(kind)}
    recompute = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    wanted: dict[str, Any] = {
        "output_dir": str(config.output_dir),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": max(config.batch_size, 16),
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(config.warmup_steps, max(steps - 1, 0)),
        "logging_steps": config.log_every,
        "eval_strategy": "steps" if evaluated and config.evaluations else "no",
        "eval_steps": max(1, steps // max(1, config.evaluations)),
        "save_strategy": "no",
        "save_total_limit": KEPT,
        "report_to": "none",
        "seed": config.seed,
        "max_length": config.max_length,
        "use_cpu": not gpu and (config.device == "cpu" or not torch.backends.mps.is_available()),
        "bf16": half and config.dtype != "float16" and torch.cuda.is_bf16_supported(),
        "fp16": half and (config.dtype == "float16" or not torch.cuda.is_bf16_supported()),
        recompute: gpu if config.gradient_checkpointing is None else config.gradient_checkpointing,
        "disable_tqdm": True,
        **more,
    }
    return checked(kind, **wanted)


def run(trainer: Any, config: TrainConfig, offered: int, on_step: Progress | None) -> dict[str, Any]:
    """Train with live files and checkpoints, from the last of these when config.resume; returns the final metrics.

    Raises TrainingError when the library dropped rows, memory ran out, or the checkpoints belong to another run.
    """
    import torch
    from transformers import PrinterCallback

    kept = len(trainer.train_dataset)
    if kept != offered:
        raise TrainingError(f"{offered} rows were offered and the library kept {kept}: raise max_length={config.max_length}")

    def which() -> str:
        return identity(trainer, config)

    checkpoint = newest(config.output_dir, which) if config.resume else None
    if config.resume:
        log.warning("%s", f"going on from {checkpoint}" if checkpoint else f"no whole checkpoint in {config.output_dir}: beginning anew")
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(live(config.output_dir, on_step))
    trainer.add_callback(checkpoints(config, which))
    started = time.monotonic()
    try:
        with told_when_full(config.output_dir):
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if not any("eval_loss" in entry for entry in trainer.state.log_history[-2:]):
                trainer.evaluate()
            trainer.save_state()
            if is_first_process():
                plot_losses(trainer.state.log_history, config.output_dir / PICTURE)
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"out of memory: {advice(config)}") from error
    return {"train_loss": result.training_loss, "steps": trainer.state.global_step, "seconds": round(time.monotonic() - started, 2)}


def assemble(
    kind: type[Any],
    args: Any,
    train: list[dict[str, Any]],
    held: list[dict[str, Any]],
    config: TrainConfig,
    *,
    sequences: int | None = None,
    **more: Any,
) -> Any:
    """A trainer of that kind with its model, once the tokenizer and every example are known to be fit for training.

    `sequences`: how many an example puts through the model at a time (2 for pairs). If given, an update is cut to what the memory holds
    instead of to config.batch_size. `more` goes to the trainer.
    """
    from datasets import Dataset, disable_progress_bars

    model, tokenizer = peft_model(config)
    check_stop_token(tokenizer)
    longest = check_lengths([*train, *held], tokenizer, config.max_length, getattr(model.config, "max_position_embeddings", None))
    if sequences and not several_processes():
        tokens, _ = fitting_tokens(model, config, sequences * longest, config.effective_batch)
        size = largest_divisor(config.effective_batch, tokens // (sequences * longest))
        args.per_device_train_batch_size, args.gradient_accumulation_steps = size, config.effective_batch // size
    quiet()
    disable_progress_bars()
    return kind(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held),
        **more,
    )


def keep(trainer: Any, folder: Path) -> None:
    """Save the adapter that a trainer trained, gathered first where its parameters are shared out between processes.

    Raises TrainingError when its weights are no numbers, or the disk is full.
    """
    shared_out = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if shared_out else None
    if not all(bool(p.isfinite().all()) for p in trainer.model.parameters() if p.requires_grad):
        raise TrainingError("training has diverged, the adapter's weights are no numbers: lower the learning rate")
    with told_when_full(folder):
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, folder, state)


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Torch and safetensors have errors of their own for a disk without room."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not any(sign in str(error) for sign in ("No space left", "PytorchStreamWriter failed writing", "Disk quota exceeded")):
            raise
        raise TrainingError(f"the disk of {folder} is full: make room and go on with --resume") from error


def quiet() -> None:
    """TRL tells its makers of every run. Nothing of ours leaves the machine."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


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


def check_lengths(examples: Iterable[dict[str, Any]], tokenizer: Any, max_length: int, context: int | None) -> int:
    """The length of the longest example in tokens. Raises TrainingError when the library would cut one short."""
    whole = (e["prompt"] + e[key] for e in examples for key in ("completion", "chosen", "rejected") if key in e)
    return refuse_longer([len(tokenizer.apply_chat_template(turns)["input_ids"]) for turns in whole], max_length, context)


def refuse_longer(lengths: Sequence[int], max_length: int, context: int | None) -> int:
    """The greatest. Raises TrainingError when it is more than is allowed: a row cut short loses its stop token, or is dropped."""
    limit = min(max_length, context or max_length)
    too_long = sum(length > limit for length in lengths)
    if too_long:
        raise TrainingError(
            f"{too_long} of {len(lengths)} answers are longer than {limit} tokens, the longest has {max(lengths)}: "
            f"raise --max-length (the model takes {context or 'any number'}), or leave these traces out"
        )
    return max(lengths, default=1)


def total_steps(rows: int, config: TrainConfig) -> int:
    """Optimiser steps that this many rows make."""
    return max(1, int(-(-rows // config.effective_batch) * config.epochs))


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is not greater than `most`, at least 1."""
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)


def conversation(row: Row | Pair | Opinion) -> list[dict[str, str]]:
    """The messages that the worker had when it answered."""
    system = [{"role": "system", "content": row.directive}] if row.directive else []
    return [*system, {"role": "user", "content": row.prompt}]
