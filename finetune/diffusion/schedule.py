"""Noise in training and the way back when sampling, by diffusers' schedulers. What is predicted is always the velocity."""

from __future__ import annotations

from typing import Any, Literal, get_args

from core.errors import ConfigError
from finetune.diffusion.config import DiffusionConfig

Sampler = Literal["dpmsolver++", "ddim", "ddpm"]
STEPS = 20


def training_noise(config: DiffusionConfig) -> Any:
    """The scheduler that adds noise and says the velocity."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**_shared(config))


def sampling_steps(config: DiffusionConfig, sampler: str, steps: int) -> tuple[Any, dict[str, Any]]:
    """(scheduler with its timesteps set, further arguments of its `step`). "ddpm" is ancestral sampling (Ho et al., 2020).

    Raises ConfigError for a sampler that there is not, or more steps than training had.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    if sampler not in get_args(Sampler):
        raise ConfigError(f"sampler is {sampler!r}: choose one of {', '.join(get_args(Sampler))}")
    if type(steps) is not int or not 1 <= steps <= config.timesteps:
        raise ConfigError(f"steps is {steps!r}: choose 1 to {config.timesteps}, the timesteps of training")
    scheduler: Any
    extra: dict[str, Any] = {}
    if sampler == "ddim":
        # without the clipped output more steps make worse pictures: the noise that is put back contradicts the clipped picture
        scheduler, extra = DDIMScheduler(**_shared(config), timestep_spacing="trailing"), {"use_clipped_model_output": True}
    elif sampler == "ddpm":
        scheduler = DDPMScheduler(**_shared(config), timestep_spacing="trailing")
    else:
        scheduler = DPMSolverMultistepScheduler(**_shared(config), algorithm_type="dpmsolver++", solver_order=2)
    scheduler.set_timesteps(steps)
    return scheduler, extra


def _shared(config: DiffusionConfig) -> dict[str, Any]:
    """Linear betas are those of 1,000 timesteps, stretched, so that the last timestep is noise whatever their number."""
    return {
        "num_train_timesteps": config.timesteps,
        "beta_schedule": "squaredcos_cap_v2" if config.schedule == "cosine" else "linear",
        "beta_start": min(0.1 / config.timesteps, 0.999),
        "beta_end": min(20 / config.timesteps, 0.999),
        "prediction_type": "v_prediction",
    }
