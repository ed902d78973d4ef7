"""The options of learning from agents at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError
from core.types import Record
from finetune.training import TrainConfig


@dataclass(frozen=True, slots=True)
class RLConfig(Record):
    """How agents are asked, what is a pair, and how pairs are learnt.

    base_model_name: hub id, model directory, adapter directory (it is trained further, and is its own reference), or "embedded".
    max_iterations: answers an agent gives to each task; pairs are made among them. temperature, max_tokens: where the agent sets none.
    min_reward_gap: how far apart the rewards of a pair are at least. length_ratio: of the longer answer of a pair to the shorter one.
    sft_weight: of the chosen answer's own likelihood in the loss; 0.2 keeps it from falling. log_dir: where the CSV of the traces goes,
    None for no CSV. resume: go on from the last whole checkpoint of the same training on the same traces, where there is one.
    """

    base_model_name: str = "Qwen/Qwen3-0.6B"
    adapter_path: str | Path = "./rl_adapter"
    max_iterations: int = 8
    min_reward_gap: float = 0.4
    num_train_epochs: float = 20
    learning_rate: float = 1e-6
    beta: float = 0.5
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 1
    max_length: int = 1024
    lora_r: int = 16
    lora_alpha: int = 32
    target_modules: str | tuple[str, ...] = "all-linear"
    sft_weight: float = 0.0
    pairs_per_task: int = 4
    length_ratio: float = 2.0
    temperature: float = 1.0
    max_tokens: int = 256
    concurrency: int = 16
    log_dir: str | Path | None = "./logs"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    device: str = "auto"
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("max_iterations", "pairs_per_task", "max_tokens", "concurrency"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 1 or more")
        if not self.min_reward_gap > 0:
            raise ConfigError(f"min_reward_gap is {self.min_reward_gap}: it must be greater than 0, or nothing is better than anything")
        if not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature is {self.temperature}: choose one from 0 to 2")
        if not self.length_ratio >= 1:
            raise ConfigError(f"length_ratio is {self.length_ratio}: the longer answer over the shorter one is 1 or more")
        if not (self.beta > 0 and self.sft_weight >= 0):
            raise ConfigError(f"beta is {self.beta} and sft_weight {self.sft_weight}: beta is above 0, sft_weight 0 or more")
        self.training()

    def training(self) -> TrainConfig:
        """The same for the trainer. Raises TrainingError on what it can't be."""
        return TrainConfig(
            model=str(Path(self.base_model_name).expanduser()) if self.base_model_name.startswith("~") else self.base_model_name,
            output_dir=Path(self.adapter_path).expanduser(),
            epochs=self.num_train_epochs,
            batch_size=self.per_device_train_batch_size,
            learning_rate=self.learning_rate,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            lora_r=self.lora_r,
            lora_alpha=self.lora_alpha,
            max_length=self.max_length,
            beta=self.beta,
            target_modules=self.target_modules,
            load_in_4bit=self.load_in_4bit,
            load_in_8bit=self.load_in_8bit,
            resume=self.resume,
            device=self.device,
            seed=self.seed,
        )
