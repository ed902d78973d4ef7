"""What a diffusion training is told: the pictures, the network, the steps, and what is kept while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, Literal, get_args, get_type_hints

from core.errors import ConfigError
from core.types import Record

# name -> (least, greatest); None is no bound
RANGES: dict[str, tuple[float, float | None]] = {
    "image_size": (8, 2048),
    "channels": (16, 4096),
    "timesteps": (2, 100_000),
    "num_epochs": (1, None),
    "batch_size": (1, None),
    "learning_rate": (1e-12, 1),
    "checkpoint_frequency": (0, None),
    "keep_checkpoints": (1, None),
    "caption_dropout": (0, 1),
    "guidance": (0, 100),
    "ema_decay": (0, 0.999999),
    "warmup_steps": (0, None),
    "sample_frequency": (0, None),
    "seed": (0, 2**63 - 1),
}
REQUIRED = ("torch", "diffusers", "transformers", "accelerate", "PIL", "safetensors")


@dataclass(frozen=True, slots=True)
class DiffusionConfig(Record):
    """All options, with their defaults. Raises ConfigError for a value that can't work."""

    image_size: int = 128
    """height and width of training images, in pixels"""
    channels: int = 256
    """UNet channel width, a multiple of 16; the level at full resolution has half of it"""
    timesteps: int = 1000
    """diffusion timesteps of training; how many a sampler takes is said when sampling"""
    num_epochs: int = 100
    """passes over the pictures"""
    batch_size: int = 4
    """pictures a step, on each device"""
    learning_rate: float = 1e-5
    """of AdamW at its highest; a small network (64 channels) learns best at 2e-3"""
    checkpoint_frequency: int = 10
    """save a checkpoint every so many steps; 0: none"""
    num_channels: int = 3
    """image channels: 1 grey, 3 RGB, 4 RGB with transparency"""
    output_model_path: str = "diffusion_model"
    """folder for checkpoints, samples and model_final.pt"""
    schedule: Literal["cosine", "linear"] = "cosine"
    """of the noise: squared cosine (Nichol and Dhariwal, 2021), or linear betas (Ho et al., 2020)"""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """how a picture of another shape becomes square: cut at its longer side, white borders at its shorter side, or distorted"""
    keep_checkpoints: int = 2
    """the newest that stay; older ones are deleted"""
    caption_dropout: float = 0.1
    """share of pictures that are shown without their caption: what classifier-free guidance needs (Ho and Salimans, 2022)"""
    guidance: float = 3.0
    """how strongly samples follow the prompt unless told otherwise: 0 ignores it, 1 as trained, more exaggerates"""
    ema_decay: float = 0.998
    """of the averaged weights, which are the ones that are sampled"""
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    """of the learning rate after the warm-up: falls to nothing by the last step, or stays"""
    warmup_steps: int = 100
    """steps until the learning rate is at its highest; at most a tenth of all"""
    sample_frequency: int = 0
    """draw a grid of samples every so many steps, as PNG in `samples`; 0: none"""
    sample_prompts: tuple[str, ...] = ()
    """what the grids show; empty: the first eight captions that differ"""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """auto: bf16, or fp16 where that is missing, on a CUDA GPU, and none elsewhere"""
    device: Literal["auto", "cpu"] = "auto"
    """auto: what accelerate finds, on one device or many; cpu: no GPU even where there is one"""
    seed: int = 0
    """of the first weights, the order, the noise and the captions that are left out"""

    def __post_init__(self) -> None:
        if type(self.sample_prompts) in (list, tuple):
            object.__setattr__(self, "sample_prompts", tuple(self.sample_prompts))
        hints = get_type_hints(type(self))
        for field in fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])
        if self.channels % 16:
            raise ConfigError(f"channels is {self.channels}: choose a multiple of 16")
        if self.num_channels not in (1, 3, 4):
            raise ConfigError(f"num_channels is {self.num_channels}: choose 1 (grey), 3 (RGB) or 4 (RGB with transparency)")


def require_libraries() -> None:
    """Raises ConfigError with the command that installs them when libraries are missing."""
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        raise ConfigError(f'diffusion needs {", ".join(missing)}: pip install "ratchet-agents[diffusion]"')


def _check(name: str, value: Any, hint: Any) -> None:
    choices = get_args(hint)
    if name == "sample_prompts":
        if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
            raise ConfigError(f"sample_prompts is {value!r}: give a list of texts")
    elif choices:
        if value not in choices:
            raise ConfigError(f"{name} is {value!r}: choose one of {', '.join(choices)}")
    elif hint is str:
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{name} is {value!r}: give the path of a folder")
    else:
        _check_number(name, value, hint)


def _check_number(name: str, value: Any, wanted: type) -> None:
    fits = type(value) is wanted or (wanted is float and type(value) is int)
    if not fits or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}: give a {'whole ' if wanted is int else ''}number")
    least, greatest = RANGES.get(name, (-math.inf, None))
    if value < least or (greatest is not None and value > greatest):
        raise ConfigError(f"{name} is {value}: choose {f'{least} or more' if greatest is None else f'a number from {least} to {greatest}'}")
