"""From noise to pictures, and the trained model that does it."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, TrainingError
from finetune.diffusion.config import RANGES, DiffusionConfig, require_libraries
from finetune.diffusion.pictures import picture_of
from finetune.diffusion.schedule import STEPS, sampling_steps
from finetune.diffusion.words import Words, split

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from finetune.diffusion.network import Network

log = logging.getLogger(__name__)

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class DiffusionModel:
    """A network with averaged weights, ready to draw: load it once, draw often."""

    network: Network
    words: Words
    config: DiffusionConfig

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> DiffusionModel:
        """From model_final.pt, a checkpoint, or the folder of a training (its final model, else its newest checkpoint).

        Raises TrainingError when there is none, or it is damaged.
        """
        require_libraries()
        import torch

        from finetune.diffusion.checkpoint import read_model
        from finetune.diffusion.network import build

        config, words, weights = read_model(Path(path))
        network = build(config, words)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise TrainingError(f"the weights in {path} are not those of its configuration: train again, or restore the file") from error
        found = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            return cls(network.to(found).eval(), words, config)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"there is no device {device!r} here: {error}") from error

    def sample(
        self,
        prompts: Sequence[str | None],
        *,
        seed: int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        sampler: str = "dpmsolver++",
        batch_size: int = AT_ONCE,
    ) -> list[Image]:
        """A picture for each prompt; None or "" is any picture. The first of a seed is the same however many are drawn with it.

        `guidance` None is that of the training's configuration. `steps` None is 20, or all timesteps for the sampler "ddpm".
        Raises ConfigError for options that can't work.
        """
        guidance = self.config.guidance if guidance is None else guidance
        _check(prompts, seed, guidance, batch_size)
        if steps is None:
            steps = self.config.timesteps if sampler == "ddpm" else min(STEPS, self.config.timesteps)
        texts = [self._known(prompt) for prompt in prompts]
        seed = random.getrandbits(63) if seed is None else seed
        pictures: list[Image] = []
        for start in range(0, len(texts), batch_size):
            part = texts[start : start + batch_size]
            seeds = [random.Random(f"{seed}/{number}").getrandbits(63) for number in range(start, start + len(part))]
            drawn = draw(self.network, self.words, self.config, part, seeds, float(guidance), steps, sampler)
            pictures += [picture_of(pixels) for pixels in drawn.cpu().float().numpy()]
        return pictures

    def _known(self, prompt: str | None) -> str:
        if prompt and not self.words.words:
            log.warning("the prompt %r changes nothing: this model was trained without captions", prompt)
            return ""
        if not prompt:
            return ""
        unknown = self.words.unknown(prompt)
        if unknown:
            log.warning("no caption of the training had %s: left out of the prompt %r", ", ".join(unknown), prompt)
        if len(split(prompt)) - len(unknown) > self.words.room:
            log.warning("only the first %d words count, the longest caption had no more: %r", self.words.room, prompt)
        return prompt


def draw(
    network: Network,
    words: Words,
    config: DiffusionConfig,
    texts: Sequence[str],
    seeds: Sequence[int],
    guidance: float,
    steps: int,
    sampler: str,
) -> Tensor:
    """Pictures (batch, channels, height, width) from -1 to 1, one for each text and seed."""
    import torch

    scheduler, extra = sampling_steps(config, sampler, steps)
    device = next(network.parameters()).device
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (config.num_channels, config.image_size, config.image_size)
    if sampler == "ddpm" or sampler == "ddim":
        extra = {**extra, "generator": generators}
    with torch.inference_mode(), _precision(device):
        x = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device) * scheduler.init_noise_sigma
        mixed = guidance != 1 and any(texts)
        text = network.describe(torch.tensor(words.encode([*texts, *[""] * (len(texts) * mixed)]), device=device))
        for timestep in scheduler.timesteps:
            noisy = scheduler.scale_model_input(x, timestep)
            times = timestep.to(device).expand(len(texts) * (1 + mixed))
            velocity = network.velocity(torch.cat([noisy, noisy]) if mixed else noisy, times, text).float()
            if mixed:
                told, untold = velocity.chunk(2)
                velocity = untold + guidance * (told - untold)
            x = scheduler.step(velocity, timestep, x, return_dict=False, **extra)[0]
    return torch.clamp(x, -1, 1)


def _precision(device: Any) -> Any:
    """bfloat16 where a GPU has it."""
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def _check(prompts: Sequence[str | None], seed: int | None, guidance: float, batch_size: int) -> None:
    if isinstance(prompts, str) or not all(prompt is None or isinstance(prompt, str) for prompt in prompts):
        raise ConfigError(f"prompts are {prompts!r}: give a list of texts")
    least, greatest = RANGES["guidance"]
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not least <= guidance <= (greatest or least):
        raise ConfigError(f"guidance is {guidance!r}: choose a number from {least} to {greatest}")
    if seed is not None and type(seed) is not int:
        raise ConfigError(f"seed is {seed!r}: give a whole number, or None")
    if type(batch_size) is not int or batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size!r}: choose 1 or more")
