"""`ratchet train-values`: step values from the trees in the store, and what they are worth on held-out tasks."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from core.errors import TrainingError


def run(args: argparse.Namespace) -> int:
    """The command. 1 when what it made is not calibrated and can't be used."""
    if find_spec("sklearn") is None:
        raise TrainingError('step values are fitted with scikit-learn: pip install "ratchet-agents[verify]"')
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from finetune.process_reward import train
    from logs.reading import read_runs

    console = Console()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("trees", total=None)
        made = train(read_runs(args.log_dir), args.out, seed=args.seed, guided=args.guided, on_run=lambda _: progress.advance(bar))
    table = Table("on held-out tasks", "")
    for name, value in made.quality.as_dict().items():
        table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(", ".join(f"{count} {name}" for name, count in made.counts.items()), highlight=False)
    if not made.calibrated:
        console.print(f"not calibrated, so that no search will use it: {made.reason}", highlight=False)
        return 1
    console.print(f"calibrated: use it with Settings(PROCESS_REWARD={str(args.out)!r})", highlight=False)
    return 0
