"""Train a small image model from pictures and captions, and have it draw what a prompt says. For small domains, from nothing.

A program that calls `train_diffusion` trains on several devices when it is started with `accelerate launch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from finetune.diffusion.config import RANGES, DiffusionConfig, require_libraries
from finetune.diffusion.pictures import Pictures, sources
from finetune.diffusion.sampling import DiffusionModel

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DiffusionConfig", "DiffusionModel", "generate_image", "train_diffusion"]


def train_diffusion(
    image_paths: Sequence[str | Path] | str | Path,
    captions: Sequence[str] | None = None,
    config: DiffusionConfig | None = None,
    *,
    resume_from: str | Path | None = None,
    progress_callback: Callable[[dict[str, Any]], object] | None = None,
) -> str:
    """Train on pictures, a caption for each; returns the folder that then holds model_final.pt, for `generate_image`.

    `image_paths` is a list, or a folder with captions.csv or metadata.jsonl (columns file_name and caption or text), or with pictures
    alone. captions=None trains without prompts. What can't be read is skipped, logged, and listed in skipped.jsonl. `resume_from` is a
    checkpoint, or the folder of a training, whose newest it takes. `progress_callback` gets after each step: epoch, total_epochs, step,
    total_steps, loss, learning_rate, images_per_second, seconds_left.

    Raises TrainingError when there is nothing to train on, the folder can't be written, a checkpoint is missing, damaged or of another
    training, or training diverges or runs out of memory; ConfigError when libraries are missing.
    """
    require_libraries()
    from finetune.diffusion.training import Run, prepare_output, report_skipped

    config = config or DiffusionConfig()
    found = sources(image_paths, captions)
    folder = prepare_output(config)
    pictures = Pictures(found, config)
    try:
        report_skipped(folder, pictures.skipped)
        Run(pictures, config, None if resume_from is None else Path(resume_from), progress_callback).train()
    finally:
        pictures.close()
    return str(config.output_model_path)


def generate_image(
    model_path: str | Path,
    prompt: str | None = None,
    num_samples: int = 1,
    image_size: int | None = None,
    *,
    seed: int | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    sampler: str = "dpmsolver++",
    device: str = "auto",
) -> Image | list[Image]:
    """A picture of the prompt, or a list when `num_samples` is above 1; prompt None is any picture.

    `model_path` is model_final.pt, a checkpoint, or the folder of a training. The picture is drawn at the size of training, where the model
    is at home, and resized to `image_size` when that is another. `seed` makes it repeatable. Samplers: dpmsolver++ (20 steps), ddim, ddpm
    (ancestral, all timesteps). `DiffusionModel.load` keeps the model for many prompts.

    Raises TrainingError when the model is missing or damaged, ConfigError for options that can't work.
    """
    least, greatest = RANGES["image_size"]
    if image_size is not None and (type(image_size) is not int or not least <= image_size <= (greatest or image_size)):
        raise ConfigError(f"image_size is {image_size!r}: choose a whole number from {least} to {greatest}")
    if type(num_samples) is not int or num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples!r}: choose 1 or more")
    if prompt is not None and not isinstance(prompt, str):
        raise ConfigError(f"prompt is {prompt!r}: give a text, or None")
    model = DiffusionModel.load(model_path, device)
    pictures = model.sample([prompt] * num_samples, seed=seed, guidance=guidance, steps=steps, sampler=sampler)
    if image_size not in (None, model.config.image_size):
        pictures = [picture.resize((image_size, image_size)) for picture in pictures]
    return pictures[0] if num_samples == 1 else pictures
