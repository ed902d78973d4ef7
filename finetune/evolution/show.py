"""An evolution to look at: a bar while it runs, a plot of its history."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from core.errors import ConfigError, TrainingError
from finetune.evolution.records import Generation


@contextmanager
def progress_bar(generations: int, shown: bool) -> Generator[Callable[[Generation], None]]:
    """A function to call with each row; on stderr, and only when it was asked for."""
    if not shown or not generations:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("evolving", total=generations)
        yield lambda row: bar.update(task, advance=1, description=f"best {row.best_so_far:.4g}, average {row.avg_fitness:.4g}")


def plot_history(history: Sequence[Generation], path: str | Path) -> None:
    """Best, average and its spread by generation, and the evaluations that were made; the ending of `path` says the format."""
    if not history:
        raise TrainingError("there is no history to plot: run at least one generation")
    if find_spec("matplotlib") is None:
        raise ConfigError('a plot needs matplotlib: pip install "ratchet-agents[train]"')
    from matplotlib.figure import Figure

    numbers = [row.generation for row in history]
    average, spread = [row.avg_fitness for row in history], [row.std_fitness for row in history]
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    upper.plot(numbers, [row.best_so_far for row in history], color="tab:green", linestyle=":", label="best so far")
    upper.plot(numbers, [row.best_fitness for row in history], color="tab:green", label="best")
    upper.plot(numbers, average, color="tab:blue", label="average")
    low, high = ([a + sign * s for a, s in zip(average, spread, strict=True)] for sign in (-1, 1))
    upper.fill_between(numbers, low, high, color="tab:blue", alpha=0.15, linewidth=0, label="standard deviation")
    upper.set_ylabel("fitness")
    upper.legend(frameon=False)
    lower.bar(numbers, [row.evaluations for row in history], color="tab:gray")
    lower.set_ylabel("evaluations")
    lower.set_xlabel("generation")
    try:
        figure.savefig(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"can't write the plot {path}: {error}") from error
