"""What SFT and DPO share: the options, the LoRA model, the live trainer_state.json, the folder that is left behind."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.providers.local import base_of, is_adapter, load
from core.types import Record
from finetune.data import Pair, Row

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "out of memory: reduce --batch-size, or use --gradient-accumulation-steps to keep the effective batch"
Progress = Callable[[int, int, float | None], None]
"""Is told, after each step, its number, how many there are, and the loss that was logged last."""


@dataclass(frozen=True, slots=True)
class TrainConfig(Record):
    """Options of a training run. Learning rates of 2e-5 suit models of billions of parameters; the embedded one needs 2e-3."""

    model: str
    output_dir: Path
    epochs: float = 3.0
    batch_size: int = 4
    learning_rate: float = 2e-5
    gradient_accumulation_steps: int = 1
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    max_length: int = 1024
    beta: float = 0.1
    warmup_steps: int = 3
    evaluations: int = 4
    log_every: int = 1
    load_in_4bit: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "gradient_accumulation_steps", "lora_r", "max_length"):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: it must be greater than 0")


def prepare_folder(folder: Path) -> None:
    """Make the output folder and be sure that it can be written, before any compute is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"can't write to the output folder {folder}: {error.strerror}; choose another with --output-dir") from error


def peft_model(config: TrainConfig) -> tuple[Any, Any]:
    """(model with a trainable LoRA adapter named "default", tokenizer). An adapter directory is trained further, a model from scratch."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(config.seed)
    base = base_of(config.model)
    model, tokenizer = _load_4bit(base) if config.load_in_4bit else load(base, config.device)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.use_cache = False
    if is_adapter(config.model):
        return PeftModel.from_pretrained(model, config.model, is_trainable=True), tokenizer
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model.name_or_path = str(Path(base).resolve()) if Path(base).exists() else base
    return get_peft_model(model, lora), tokenizer


def arguments(config: TrainConfig, steps: int, evaluated: bool, kind: type[Any], **more: Any) -> Any:
    """The library's configuration object. Keywords that the installed version does not know are an error of ours, told at once."""
    import torch

    every = max(1, steps // config.evaluations)
    gpu = config.device != "cpu" and torch.cuda.is_available()
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
        "eval_strategy": "steps" if evaluated else "no",
        "eval_steps": every,
        "save_strategy": "no",
        "report_to": "none",
        "seed": config.seed,
        "max_length": config.max_length,
        "use_cpu": not gpu and (config.device == "cpu" or not torch.backends.mps.is_available()),
        "bf16": gpu and torch.cuda.is_bf16_supported(),
        recompute: gpu,
        "disable_tqdm": True,
        **more,
    }
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise TrainingError(
            f"the installed {kind.__module__.split('.')[0]} has no option {unknown[0]}: install the versions in constraints.txt"
        )
    return kind(**wanted)


def run(trainer: Any, config: TrainConfig, offered: int, on_step: Progress | None) -> dict[str, Any]:
    """Train with live files; returns the final metrics. Raises TrainingError when the library dropped rows, or memory ran out."""
    import torch
    from transformers import PrinterCallback

    kept = len(trainer.train_dataset)
    if kept != offered:
        raise TrainingError(f"{offered} rows were offered and the library kept {kept}: raise max_length={config.max_length}")
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_live(config.output_dir, on_step))
    started = time.monotonic()
    try:
        result = trainer.train()
        if not any("eval_loss" in entry for entry in trainer.state.log_history[-2:]):
            trainer.evaluate()
    except torch.OutOfMemoryError as error:
        raise TrainingError(OUT_OF_MEMORY) from error
    trainer.save_state()
    return {"train_loss": result.training_loss, "steps": trainer.state.global_step, "seconds": round(time.monotonic() - started, 2)}


def assemble(kind: type[Any], args: Any, train: list[dict[str, Any]], held: list[dict[str, Any]], config: TrainConfig) -> Any:
    """A trainer of that kind with its model, once the tokenizer and every example are known to be fit for training."""
    from datasets import Dataset, disable_progress_bars

    model, tokenizer = peft_model(config)
    check_stop_token(tokenizer)
    check_lengths([*train, *held], tokenizer, config.max_length, getattr(model.config, "max_position_embeddings", None))
    disable_progress_bars()
    return kind(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held),
    )


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


def check_lengths(examples: Iterable[dict[str, Any]], tokenizer: Any, max_length: int, context: int | None) -> None:
    """Raises TrainingError when the library would cut an answer short: then its stop token is not trained, or the row is dropped."""
    limit = min(max_length, context or max_length)
    whole = (e["prompt"] + e[key] for e in examples for key in ("completion", "chosen", "rejected") if key in e)
    lengths = [len(tokenizer.apply_chat_template(turns)["input_ids"]) for turns in whole]
    too_long = sum(length > limit for length in lengths)
    if too_long:
        raise TrainingError(
            f"{too_long} of {len(lengths)} answers are longer than {limit} tokens, the longest has {max(lengths)}: "
            f"raise --max-length (the model takes {context or 'any number'}), or leave these traces out"
        )


def total_steps(rows: int, config: TrainConfig) -> int:
    """Optimiser steps that this many rows make."""
    batch = config.batch_size * config.gradient_accumulation_steps
    return max(1, int(-(-rows // batch) * config.epochs))


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Adapter weights as safetensors, the tokenizer beside them, and nothing that a trainer left over."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")
        model.set_adapter("default")
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    for leftover in ("training_args.bin", "README.md"):
        (folder / leftover).unlink(missing_ok=True)


def conversation(row: Row | Pair) -> list[dict[str, str]]:
    """The messages that the worker had when it answered."""
    system = [{"role": "system", "content": row.directive}] if row.directive else []
    return [*system, {"role": "user", "content": row.prompt}]


def _load_4bit(base: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    return AutoModelForCausalLM.from_pretrained(base, quantization_config=quantised), AutoTokenizer.from_pretrained(base)


def _live(folder: Path, on_step: Progress | None) -> Any:
    from transformers import TrainerCallback

    class Live(TrainerCallback):  # type: ignore[misc]
        """Writes trainer_state.json in place, so that `tail -f` keeps following it, and a line of metrics.jsonl, at every log."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            state.save_to_json(str(folder / "trainer_state.json"))
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as journal:
                journal.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if on_step:
                losses = (entry["loss"] for entry in reversed(state.log_history) if "loss" in entry)
                on_step(state.global_step, state.max_steps, next(losses, None))

    return Live()
