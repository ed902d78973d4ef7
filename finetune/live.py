"""What can be watched while a model trains: trainer_state.json, metrics.jsonl, the steps; and at the end the losses as a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

STATE, METRICS, PICTURE = "trainer_state.json", "metrics.jsonl", "loss.png"
SHARE = 0.02  # of the time that writing trainer_state.json may take: it grows with every log
Progress = Callable[[int, int, float | None], None]
"""Is told, after each step, its number, how many there are, and the loss that was logged last."""


@runtime_checkable
class Paced(Protocol):
    """A progress that wants to know the speed too."""

    def pace(self, tokens_per_second: float) -> None:
        """Tokens without padding since the last log."""


def live(folder: Path, on_step: Progress | None) -> Any:
    """The trainer's callback. Files are written in place, so that `tail -f` keeps following them, and by the first process only."""
    from transformers import TrainerCallback

    watcher: object = on_step

    class Live(TrainerCallback):  # type: ignore[misc]
        """trainer_state.json and a line of metrics.jsonl at every log."""

        def __init__(self) -> None:
            self.since = time.monotonic()
            self.tokens = 0.0
            self.next_write = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                _cut_back(folder / METRICS, state.global_step)
            self.since = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            if not state.is_world_process_zero:
                return
            line = {"step": state.global_step, **(logs or {})}
            if speed := self._speed(line.get("num_tokens")):
                line["tokens_per_second"] = round(speed, 1)
                if isinstance(watcher, Paced):
                    watcher.pace(speed)
            with (folder / METRICS).open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(line) + "\n")
            started = time.monotonic()
            if started >= self.next_write or "eval_loss" in line:
                state.save_to_json(str(folder / STATE))
                ended = time.monotonic()
                self.next_write = ended + (ended - started) / SHARE if ended - started > 0.01 else 0.0

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = time.monotonic()  # what it took is no part of the speed

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if on_step and state.is_world_process_zero:
                losses = (entry["loss"] for entry in reversed(state.log_history) if "loss" in entry)
                on_step(state.global_step, state.max_steps, next(losses, None))

        def _speed(self, tokens: float | None) -> float | None:
            """Tokens a second since the last log that counted them."""
            if tokens is None:
                return None
            now, before = time.monotonic(), self.tokens
            seconds, self.since, self.tokens = now - self.since, now, tokens
            return (tokens - before) / seconds if seconds > 0 and tokens > before else None

    return Live()


def plot_losses(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training and evaluation loss by step, from a trainer's log."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "evaluation", "o-")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=3)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    figure.savefig(path)


def _cut_back(journal: Path, step: int) -> None:
    """Lines of steps that are still to come, and what a kill left half-written, would stand there twice."""
    lines = journal.read_text(encoding="utf-8").splitlines() if step and journal.exists() else []
    kept = [line for line in lines if (_step_of(line) or step + 1) <= step]
    journal.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
