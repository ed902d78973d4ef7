"""What a training leaves behind: checkpoints to go on from, and the final model. safetensors and JSON; no pickle is written or trusted.

`checkpoint-00000010/` holds weights, ema and optimizer as safetensors and state.json: configuration, words, epoch, step, the place in the
learning rate's and the data's schedule, the hashes of the other files. There is no state of a random generator to keep: the order of an
epoch follows from the seed and the epoch, the noise of a step from the seed and the step.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, TrainingError
from core.types import Record
from finetune.diffusion.config import DiffusionConfig
from finetune.diffusion.words import Words

if TYPE_CHECKING:
    from torch import Tensor

FINAL = "model_final.pt"
STATE = "state.json"
PARTS = ("weights", "ema", "optimizer")
FORMAT = 1
FOLDER = re.compile(r"checkpoint-(\d{8,})")


@dataclass(frozen=True, slots=True)
class State(Record):
    """Where a training stands after `step` steps, of which an epoch has `steps_per_epoch`."""

    config: DiffusionConfig
    words: Words
    step: int
    epoch: int
    steps_per_epoch: int
    processes: int
    pictures: str
    """digest of the files' names and captions"""
    scaler: Mapping[str, Any] | None
    """state of the loss scaling that fp16 needs"""


def write_checkpoint(folder: Path, state: State, parts: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """The new checkpoint's folder, which appears all at once. Older than `keep_checkpoints`, and any of later steps, are deleted.

    Raises TrainingError when it can't be written, for example on a full disk.
    """
    from safetensors.torch import save_file

    target = folder / f"checkpoint-{state.step:08d}"
    draft = folder / f".{target.name}.part"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        hashes = {}
        for name in PARTS:
            save_file({key: tensor.detach().contiguous() for key, tensor in parts[name].items()}, draft / _file(name))
            hashes[_file(name)] = _hash(draft / _file(name))
        random = {"seed": state.config.seed, "drawn_for_steps": state.step}
        values = {"format": FORMAT, **state.as_dict(), "schedule_position": state.step, "random": random, "sha256": hashes}
        (draft / STATE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    except OSError as error:
        raise TrainingError(f"can't write the checkpoint {target}: {error}; free some space or choose another output_model_path") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # also after Ctrl-C
    _prune(folder, state)
    return target


def find_checkpoint(path: Path) -> Path:
    """The checkpoint at a path: itself, or the newest of a training's folder. Raises TrainingError when there is none."""
    if (path / STATE).is_file():
        return path
    newest = checkpoints(path)[-1:]
    if newest:
        return newest[0]
    if path.is_file():
        raise TrainingError(f"{path} is no checkpoint: give a checkpoint-... folder, or the folder that holds them")
    raise TrainingError(f"there is no checkpoint in {path}: give a checkpoint-... folder, or the folder that holds them")


def checkpoints(folder: Path) -> list[Path]:
    """Those of a training's folder, the oldest first."""
    found = {int(match[1]): path for path in folder.glob("checkpoint-*") if (match := FOLDER.fullmatch(path.name)) and path.is_dir()}
    return [found[step] for step in sorted(found)]


def read_state(checkpoint: Path) -> State:
    """state.json, with every other file checked against it. Raises TrainingError when something is missing or damaged."""
    try:
        values = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        _check_format(values, checkpoint)
        state = State(
            DiffusionConfig(**values["config"]),
            Words.read(values["words"]),
            step=int(values["step"]),
            epoch=int(values["epoch"]),
            steps_per_epoch=int(values["steps_per_epoch"]),
            processes=int(values["processes"]),
            pictures=str(values["pictures"]),
            scaler=values["scaler"],
        )
        changed = [_file(name) for name in PARTS if _hash(checkpoint / _file(name)) != values["sha256"][_file(name)]]
    except (OSError, ValueError, TypeError, KeyError, ConfigError) as error:
        raise _damaged(checkpoint, str(error)) from error
    if changed:
        raise _damaged(checkpoint, f"{changed[0]} is not the file that was written")
    return state


def read_part(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """The tensors of weights, ema or optimizer."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(checkpoint / _file(name)))
    except (OSError, SafetensorError) as error:
        raise _damaged(checkpoint, str(error)) from error


def write_final(folder: Path, config: DiffusionConfig, words: Words, weights: Mapping[str, Tensor]) -> Path:
    """model_final.pt: configuration, words and averaged weights, for `torch.load(..., weights_only=True)`."""
    import torch

    target, draft = folder / FINAL, folder / f".{FINAL}.part"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    values = {"format": FORMAT, "config": config.as_dict(), "words": words.as_dict(), "weights": tensors}
    try:
        torch.save(values, draft)
        os.replace(draft, target)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        draft.unlink(missing_ok=True)
        raise TrainingError(f"can't write {target}: {error}; free some space, then go on from the last checkpoint") from error
    return target


def read_model(path: Path) -> tuple[DiffusionConfig, Words, dict[str, Tensor]]:
    """(configuration, words, averaged weights) of model_final.pt, a checkpoint, or a training's folder.

    Raises TrainingError when there is none, or it is damaged.
    """
    if path.is_file() and path.name != STATE:
        return _read_final(path)
    if (path / FINAL).is_file():
        return _read_final(path / FINAL)
    if not path.exists():
        raise TrainingError(f"there is no model at {path}: give a {FINAL}, a checkpoint-... folder, or the folder of a training")
    checkpoint = find_checkpoint(path)
    state = read_state(checkpoint)
    return state.config, state.words, read_part(checkpoint, "ema")


def _read_final(path: Path) -> tuple[DiffusionConfig, Words, dict[str, Tensor]]:
    import torch

    try:
        values = torch.load(path, weights_only=True, map_location="cpu")
        _check_format(values, path)
        return DiffusionConfig(**values["config"]), Words.read(values["words"]), values["weights"]
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, TypeError, KeyError, ConfigError) as error:
        raise _damaged(path, str(error).split("\n")[0]) from error


def _check_format(values: Any, path: Path) -> None:
    if not isinstance(values, dict) or "format" not in values:
        raise ValueError("it was not written by train_diffusion")
    if values["format"] != FORMAT:
        raise TrainingError(f"{path} has format {values['format']}, this version reads {FORMAT}: use the version that wrote it")


def _prune(folder: Path, state: State) -> None:
    """Steps later than the one just written belong to a run that this one replaces."""
    steps = {path: int(path.name.removeprefix("checkpoint-")) for path in checkpoints(folder)}
    current = [path for path, step in steps.items() if step <= state.step]
    for path in set(steps) - set(current[-state.config.keep_checkpoints :]):
        shutil.rmtree(path, ignore_errors=True)


def _damaged(path: Path, why: str) -> TrainingError:
    return TrainingError(f"{path} is damaged or no model of this kind ({why}): restore it, or use an older checkpoint")


def _file(part: str) -> str:
    return f"{part}.safetensors"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
