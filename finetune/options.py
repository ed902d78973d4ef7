"""The options of a training run: flat, and checked when they are set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TrainingError
from core.types import Record

if TYPE_CHECKING:
    from finetune.sft import SFTConfig
    from finetune.usft import USFTConfig

POSITIVE = (
    "epochs",
    "batch_size",
    "learning_rate",
    "gradient_accumulation_steps",
    "lora_r",
    "lora_alpha",
    "max_length",
    "log_every",
    "beta",
)
NOT_NEGATIVE = ("warmup_steps", "evaluations", "micro_tokens", "save_steps")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class TrainConfig(Record):
    """Options of a training run. Learning rates of 2e-5 suit models of billions of parameters; the embedded one needs 2e-3.

    batch_size: rows a step and device. An update sees batch_size x gradient_accumulation_steps of them on each device.
    target_modules: "all-linear", or the names of the layers that get an adapter.
    dtype: of the weights; auto is float32 on a CPU, else bfloat16, or float16 where a GPU has no bfloat16.
    gradient_checkpointing: compute activations again instead of keeping them; None decides by the memory that is free.
    micro_tokens: tokens with padding that go forward and back at a time; 0 takes as many as the free memory holds.
    save_steps: updates between checkpoints; 0 makes one for every minute of training.
    resume: go on from the last whole checkpoint in output_dir, where there is one.
    beta: of DPO and KTO, how strongly the answers are held to those of the model that training began with.
    num_generations, max_completion_length, temperature, kl: of GRPO, see `finetune.grpo.Generation`.
    """

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
    target_modules: str | tuple[str, ...] = "all-linear"
    load_in_8bit: bool = False
    dtype: str = "auto"
    gradient_checkpointing: bool | None = None
    micro_tokens: int = 0
    save_steps: int = 0
    resume: bool = False
    num_generations: int = 8
    max_completion_length: int = 256
    temperature: float = 1.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        for name in POSITIVE:
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise TrainingError(f"{name} is {value}: it must be greater than 0")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: it can't be less than 0")
        if not 0 <= self.lora_dropout < 1:
            raise TrainingError(f"lora_dropout is {self.lora_dropout}: it must be at least 0 and less than 1")
        if self.load_in_4bit and self.load_in_8bit:
            raise TrainingError("load_in_4bit and load_in_8bit exclude each other: choose one")
        if self.dtype not in DTYPES:
            raise TrainingError(f"there is no dtype {self.dtype!r}: choose from {', '.join(DTYPES)}")
        if not self.target_modules:
            raise TrainingError('target_modules is empty: name layers, or take "all-linear"')

    @property
    def effective_batch(self) -> int:
        """Rows of one update on one device."""
        return self.batch_size * self.gradient_accumulation_steps


def train_config(config: SFTConfig | USFTConfig) -> TrainConfig:
    """The options of the documented faces, as the trainers' core names them."""
    return TrainConfig(
        config.base_model_name,
        Path(config.output_model_path),
        config.num_train_epochs,
        config.per_device_train_batch_size,
        config.learning_rate,
        config.gradient_accumulation_steps,
        config.lora_r,
        config.lora_alpha,
        config.lora_dropout,
        config.max_length,
        target_modules=config.target_modules,
        load_in_4bit=config.load_in_4bit,
        load_in_8bit=config.load_in_8bit,
        device=config.device,
        seed=config.seed,
        save_steps=config.save_steps,
        resume=config.resume,
    )
