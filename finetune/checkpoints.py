"""Checkpoints that a kill can't spoil: each is sealed once it is whole, and only a sealed one of the same run is gone on from.

A seal names every file with its size, and the run: its options and its data. What the library writes as pickles (the optimiser's state, the
scheduler's, the random generators') it reads with `weights_only`; the one that it never reads is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.providers.loading import base_of
from finetune.lora import several_processes, wait_for_all
from finetune.options import TrainConfig

SEAL = "sealed.json"
KEPT = 2  # the last could be half-written when the one before is needed
SECONDS = 60.0
FREE = ("output_dir", "resume", "save_steps", "micro_tokens", "log_every", "evaluations", "device", "gradient_checkpointing")


def newest(folder: Path, run: Callable[[], str]) -> Path | None:
    """The last whole checkpoint in `folder`, None where there is none. Raises TrainingError when those there are belong to another run."""
    whole = [path for path in _by_step(folder) if _is_whole(path)]
    if not whole:
        return None
    mine = run()
    found = next((path for path in whole if _seal(path).get("run") == mine), None)
    if found is None:
        raise TrainingError(
            f"the checkpoints in {folder} were made with other options or other data: give the same ones, or begin anew without --resume"
        )
    return found


def identity(trainer: Any, config: TrainConfig) -> str:
    """A hash of what decides the weights: the data in its order, and the options but for those that only say how it is computed."""
    options = {key: value for key, value in config.as_dict().items() if key not in FREE}
    digest = hashlib.sha256(json.dumps({**options, "model": base_of(config.model)}, sort_keys=True, default=str).encode())
    digest.update((getattr(trainer, "data_hash", None) or hash_of(trainer.train_dataset)).encode())
    return digest.hexdigest()


def hash_of(rows: Iterable[Any]) -> str:
    """The same for the same rows in the same order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def checkpoints(config: TrainConfig, run: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> Any:
    """The trainer's callback that asks for checkpoints and seals them."""
    from transformers import TrainerCallback

    class Checkpoints(TrainerCallback):  # type: ignore[misc]
        """Every so many steps; without a number every minute, or ten times in a run of several processes, whose clocks differ."""

        def __init__(self) -> None:
            self.since = clock()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = clock()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            every = config.save_steps or (max(1, state.max_steps // 10) if several_processes() else 0)
            due = state.global_step % every == 0 if every else clock() - self.since >= SECONDS
            if due and state.global_step < state.max_steps:
                control.should_save = True
                self.since = clock()
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wait_for_all()
            if state.is_world_process_zero:
                seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", run())

    return Checkpoints()


def seal(folder: Path, run: str) -> None:
    """Say that everything of a checkpoint is on the disk."""
    for leftover in ("training_args.bin", "README.md"):
        (folder / leftover).unlink(missing_ok=True)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    aside = folder / f"{SEAL}.tmp"
    aside.write_text(json.dumps({"run": run, "files": {str(p.relative_to(folder)): p.stat().st_size for p in files}}), encoding="utf-8")
    os.replace(aside, folder / SEAL)


def _by_step(folder: Path) -> list[Path]:
    numbered = [(int(path.name.rpartition("-")[2]), path) for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return [path for _, path in sorted(numbered, reverse=True)]


def _is_whole(folder: Path) -> bool:
    files = _seal(folder).get("files", {})
    return bool(files) and all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items())


def _seal(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
