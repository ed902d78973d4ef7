"""The training loop, on one device or, started with `accelerate launch`, on many.

Everything random follows from the seed and the number of the epoch or step, so a run that is interrupted and resumed ends with the
weights of one that was not: bit by bit on a CPU at the same number of threads. Left out: gradient accumulation, augmentation.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError
from finetune.diffusion.checkpoint import (
    State,
    checkpoints,
    find_checkpoint,
    read_part,
    read_state,
    write_checkpoint,
    write_final,
)
from finetune.diffusion.config import DiffusionConfig
from finetune.diffusion.pictures import Pictures, grid, picture_of
from finetune.diffusion.schedule import STEPS, training_noise
from finetune.diffusion.words import Words

if TYPE_CHECKING:
    from torch import Tensor

    from finetune.diffusion.network import Network

log = logging.getLogger(__name__)

Progress = Callable[[dict[str, Any]], object]
WINDOW = 50
MOST_GRADIENT = 1.0
FREE_TO_CHANGE = frozenset(
    {
        "num_epochs",
        "checkpoint_frequency",
        "output_model_path",
        "keep_checkpoints",
        "guidance",
        "sample_frequency",
        "sample_prompts",
        "device",
    }
)
"""Options that a resumed run may have otherwise. More epochs also stretch a cosine learning rate."""


class Run:
    """One training: network, averaged weights, optimiser, and where it stands."""

    def __init__(self, pictures: Pictures, config: DiffusionConfig, resume_from: Path | None, on_step: Progress | None) -> None:
        import torch
        from accelerate import Accelerator

        from finetune.diffusion.network import build

        self.pictures, self.config, self.on_step = pictures, config, on_step
        self.folder = Path(config.output_model_path)
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=_precision(config))
        self.words = Words.of(pictures.captions)
        self.batch: int = config.batch_size * self.accelerator.num_processes
        self.steps_per_epoch: int = math.ceil(len(pictures) / self.batch)
        self.steps: int = self.steps_per_epoch * config.num_epochs
        self.step = 0
        self._shuffled: tuple[int, list[int]] | None = None
        network = build(config, self.words)
        self.average = copy.deepcopy(network).eval().requires_grad_(False).to(self.accelerator.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=_fused(self.accelerator))
        self.network, self.optimiser = self.accelerator.prepare(network, optimiser)
        self.noise = training_noise(config)
        self.tokens = torch.tensor(self.words.encode(pictures.captions))
        self.untold = torch.tensor(self.words.encode([""]))
        if resume_from is not None:
            self._resume(find_checkpoint(resume_from))
        elif checkpoints(self.folder) and self.accelerator.is_main_process:
            log.warning(
                "%s holds checkpoints of an earlier run, which go when the first new one is written: "
                "stop now and give resume_from to go on with that run",
                self.folder,
            )

    def train(self) -> None:
        """All steps that are left, and model_final.pt. Raises TrainingError when the loss is no number, or memory runs out."""
        import torch

        self.network.train()
        recent: deque[float] = deque([time.monotonic()], maxlen=WINDOW + 1)
        try:
            while self.step < self.steps:
                loss = self._learn()
                self.step += 1
                recent.append(time.monotonic())
                self._check_loss(loss)
                self._save_what_is_due()
                if self.on_step and self.accelerator.is_main_process:
                    self.on_step(self._info(loss, recent))
        except torch.OutOfMemoryError as error:
            raise TrainingError("out of memory: lower batch_size, image_size or channels") from error
        except KeyboardInterrupt:
            log.warning("stopped after step %d of %d; %s", self.step, self.steps, self._way_on())
            raise
        if self.accelerator.is_main_process:
            write_final(self.folder, self.config, self.words, self.average.state_dict())
        self.accelerator.wait_for_everyone()

    def _learn(self) -> float:
        """One step; returns the loss."""
        import torch

        pictures, tokens, noise, timesteps = self._batch()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        noisy = self.noise.add_noise(pictures, noise, timesteps)
        target = self.noise.get_velocity(pictures, noise, timesteps)
        velocity = self.network(noisy, timesteps, tokens)
        loss: Tensor = torch.nn.functional.mse_loss(velocity.float(), target)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), MOST_GRADIENT)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average()
        if self.accelerator.num_processes > 1:
            loss = self.accelerator.reduce(loss.detach(), "mean")
        return float(loss.detach())

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """This process's share of a step's pictures, tokens, noise and timesteps. All processes draw the same and take different parts."""
        import torch

        epoch, position = divmod(self.step, self.steps_per_epoch)
        order = self._order(epoch)
        chosen = order[position * self.batch : (position + 1) * self.batch]
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        while len(chosen) % processes:
            chosen.append(order[len(chosen) % len(order)])
        generator = torch.Generator().manual_seed(random.Random(f"{self.config.seed}/step/{self.step}").getrandbits(63))
        count, size = len(chosen), self.config.image_size
        noise = torch.randn((count, self.config.num_channels, size, size), generator=generator)
        # one timestep from each of `count` equal parts: the loss varies less from step to step than with independent ones
        places = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        timesteps = (places * self.config.timesteps).long().clamp(max=self.config.timesteps - 1)
        dropped = torch.rand(count, generator=generator) < self.config.caption_dropout
        tokens = torch.where(dropped[:, None], self.untold, self.tokens[chosen])
        share = slice(rank * count // processes, (rank + 1) * count // processes)
        pictures = torch.from_numpy(self.pictures.batch(chosen[share]))
        device = self.accelerator.device
        parts = (pictures, tokens[share], noise[share], timesteps[share])
        return tuple(part.to(device, non_blocking=True) for part in parts)  # type: ignore[return-value]

    def _order(self, epoch: int) -> list[int]:
        """The pictures in the order of that epoch."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = list(range(len(self.pictures)))
            random.Random(f"{self.config.seed}/epoch/{epoch}").shuffle(order)
            self._shuffled = (epoch, order)
        return self._shuffled[1]

    def _rate(self) -> float:
        """The share of the learning rate at this step."""
        warmup = min(self.config.warmup_steps, self.steps // 10)
        if self.step < warmup:
            return (self.step + 1) / warmup
        if self.config.lr_schedule == "constant":
            return 1.0
        return 0.5 + 0.5 * math.cos(math.pi * (self.step - warmup) / max(1, self.steps - warmup))

    def _average(self) -> None:
        """Towards the new weights; quickly at first, so that the first weights are forgotten."""
        import torch

        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self._plain().parameters(), strict=True):
                mean.lerp_(now, 1 - decay)

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is no number after step {self.step}: lower the learning rate; {self._way_on()}")

    def _save_what_is_due(self) -> None:
        config, main = self.config, self.accelerator.is_main_process
        if config.checkpoint_frequency and self.step % config.checkpoint_frequency == 0:
            if main:
                write_checkpoint(self.folder, self._state(), self._parts())
            self.accelerator.wait_for_everyone()
        if config.sample_frequency and self.step % config.sample_frequency == 0 and main:
            self._draw_samples()

    def _draw_samples(self) -> None:
        from finetune.diffusion.sampling import draw

        prompts = list(self.config.sample_prompts or dict.fromkeys(self.pictures.captions))[:8]
        seeds = [random.Random(f"{self.config.seed}/sample/{number}").getrandbits(63) for number in range(len(prompts))]
        steps = min(STEPS, self.config.timesteps)
        drawn = draw(self.average, self.words, self.config, prompts, seeds, self.config.guidance, steps, "dpmsolver++")
        sheet = grid([picture_of(pixels) for pixels in drawn.cpu().float().numpy()], columns=min(4, len(prompts)))
        path = self.folder / "samples" / f"step-{self.step:08d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            sheet.save(path)
        except OSError as error:
            log.warning("the samples %s can't be written: %s", path, error)

    def _info(self, loss: float, recent: deque[float]) -> dict[str, Any]:
        per_step = (recent[-1] - recent[0]) / max(1, len(recent) - 1)
        return {
            "epoch": (self.step - 1) // self.steps_per_epoch + 1,
            "total_epochs": self.config.num_epochs,
            "step": self.step,
            "total_steps": self.steps,
            "loss": loss,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "images_per_second": self.batch / per_step if per_step else 0.0,
            "seconds_left": per_step * (self.steps - self.step),
        }

    def _plain(self) -> Network:
        """The network without what accelerate wraps around it."""
        plain: Network = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=True)
        return plain

    def _state(self) -> State:
        scaler = self.accelerator.scaler
        return State(
            config=self.config,
            words=self.words,
            step=self.step,
            epoch=self.step // self.steps_per_epoch,
            steps_per_epoch=self.steps_per_epoch,
            processes=self.accelerator.num_processes,
            pictures=self.pictures.digest,
            scaler=scaler.state_dict() if scaler else None,
        )

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        moments = self.optimiser.state_dict()["state"]
        return {
            "weights": self._plain().state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": {f"{number}.{name}": value for number, values in moments.items() for name, value in values.items()},
        }

    def _resume(self, checkpoint: Path) -> None:
        import torch

        state = read_state(checkpoint)
        self._check_same(state, checkpoint)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in read_part(checkpoint, "optimizer").items():
            number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = value
        self._plain().load_state_dict(read_part(checkpoint, "weights"))
        self.average.load_state_dict(read_part(checkpoint, "ema"))
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        for weight, values in self.optimiser.state.items():
            for name, value in values.items():
                if value.shape == weight.shape:  # laid out as the weight is: fused steps go through both side by side
                    values[name] = torch.empty_like(weight).copy_(value)
        if state.scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(dict(state.scaler))
        self.step = state.step
        if self.step >= self.steps:
            log.warning("%s has all %d steps already: raise num_epochs to train on", checkpoint, self.steps)

    def _check_same(self, state: State, checkpoint: Path) -> None:
        """Raises TrainingError unless what is resumed is what was interrupted."""
        for name in dict(self.config):
            was, now = state.config[name], self.config[name]
            if was != now and name not in FREE_TO_CHANGE:
                raise TrainingError(f"{checkpoint} was trained with {name}={was!r}, the configuration says {now!r}: make them the same")
        if state.pictures != self.pictures.digest:
            raise TrainingError(f"{checkpoint} was trained with other pictures or captions: give the same in the same order, or start anew")
        if state.processes != self.accelerator.num_processes:
            raise TrainingError(f"{checkpoint} was trained on {state.processes} processes, these are {self.accelerator.num_processes}")

    def _way_on(self) -> str:
        newest = checkpoints(self.folder)[-1:]
        return f"resume_from={str(newest[0])!r} goes on" if newest else "there is no checkpoint yet"


def prepare_output(config: DiffusionConfig) -> Path:
    """The output folder, which can be written. Raises TrainingError before any compute is spent."""
    folder = Path(config.output_model_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"can't write to {folder}: {error.strerror}; choose another output_model_path") from error
    return folder


def report_skipped(folder: Path, skipped: Sequence[tuple[Path, str]]) -> None:
    """skipped.jsonl: a line for each picture that can't be read; no file when all can."""
    path = folder / "skipped.jsonl"
    path.unlink(missing_ok=True)
    if skipped:
        lines = (json.dumps({"file": str(file), "reason": reason}) for file, reason in skipped)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _precision(config: DiffusionConfig) -> str:
    import torch

    if config.mixed_precision != "auto":
        return config.mixed_precision
    if config.device == "cpu" or not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _fused(accelerator: Any) -> bool | None:
    """torch's one kernel for all weights, where there is one."""
    return True if accelerator.device.type in ("cpu", "cuda") else None
