"""E5 and E6: does the prompt decide the picture, and how fast are pictures drawn, on coloured shapes that a generator makes.

Training has a budget in steps, not in time, so that the result does not depend on what else the machine does. Pairs that are never shown
together are drawn anew for each seed.

    python -m benchmarks.diffusion --seed 0 --folder trained     # one seed on its own, its model kept; prints JSON
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Figure, figure
from finetune.diff import DiffusionModel, train_diffusion
from finetune.diffusion.shapes import PAIRS, JudgeReport, caption, held_out_pairs, judge, recipe, write_shapes
from finetune.diffusion.shapes import measure as measure_judge

SEEDS = (0, 1, 2)
PICTURES = 3200
EPOCHS = 30
SAMPLES = 200
BATCH = 50


def measure(ids: Sequence[str]) -> list[Figure]:
    """E6 needs one of the models of E5; alone it trains one."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [trained(seed, Path(folder) / str(seed)) for seed in (SEEDS if "E5" in ids else SEEDS[:1])]
        quality = _quality(runs) if "E5" in ids else []
        return [*quality, *(_speed(Path(folder) / str(SEEDS[0]) / "model") if "E6" in ids else [])]


def trained(seed: int, folder: Path) -> dict[str, Any]:
    """Train with one seed in a folder and judge samples: right shares of `seen` and `unseen` pairs, times, steps."""
    rng = random.Random(f"shapes/{seed}")
    held = held_out_pairs(rng)
    pairs = write_shapes(folder / "pictures", PICTURES, rng, without=held)
    last: dict[str, Any] = {}
    began, began_cpu = time.monotonic(), time.process_time()
    model_path = train_diffusion(folder / "pictures", config=recipe(folder / "model", seed, EPOCHS), progress_callback=last.update)
    seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    model = DiffusionModel.load(model_path)
    return {
        "seed": seed,
        "unseen_pairs": [caption(pair) for pair in held],
        "steps": last["step"],
        "loss": last["loss"],
        "minutes": seconds / 60,
        "cpu_minutes": cpu / 60,
        "seen": right_share(model, pairs, seed),
        "unseen": right_share(model, held, seed + 1000),
    }


def right_share(model: DiffusionModel, pairs: Sequence[tuple[str, str]], seed: int, count: int = SAMPLES, **options: Any) -> float:
    """Of so many samples, the share that shows the colour and the shape that were asked for."""
    asked = [pairs[number % len(pairs)] for number in range(count)]
    drawn = model.sample([caption(pair) for pair in asked], seed=seed, batch_size=BATCH, **options)
    return sum(judge(picture).pair == pair for picture, pair in zip(drawn, asked, strict=True)) / count


def _quality(runs: Sequence[dict[str, Any]]) -> list[Figure]:
    found: JudgeReport = measure_judge(random.Random("judge"))
    seen, unseen, minutes = ([run[name] for run in runs] for name in ("seen", "unseen", "minutes"))
    versus = {"chance": round(100 / len(PAIRS), 1)}
    judged = {"passes noise": found.noise * 100, "passes morphs": found.morphs * 100, "passes two colours": found.two_colours * 100}
    return [
        figure("E5", "prompted samples right, 200 a seed", [s * 100 for s in seen], "%", "95", min(seen) >= 0.95, versus),
        figure("E5", "of pairs never seen together, 200 a seed", [s * 100 for s in unseen], "%", "90", min(unseen) >= 0.9, versus),
        figure(
            "E5",
            f"training, {runs[0]['steps']} steps",
            minutes,
            "minutes",
            "at most 10",
            max(minutes) <= 10,
            {"CPU minutes": round(max(run["cpu_minutes"] for run in runs), 2)},
        ),
        figure("E5", "the judge on true pictures", [found.right * 100], "%", "reported", None, judged),
    ]


def _speed(model_path: Path, repeats: int = 5) -> list[Figure]:
    """Both samplers draw the same prompts with the same guidance in batches of 50; quality on 200 and 50 samples."""
    model = DiffusionModel.load(model_path)
    _seconds(model, "dpmsolver++")
    quick = [_seconds(model, "dpmsolver++") for _ in range(repeats)]
    slow = _seconds(model, "ddpm")
    shares = {
        "20 steps right %": right_share(model, PAIRS, 7) * 100,
        "1000 steps right %": right_share(model, PAIRS, 7, BATCH, sampler="ddpm") * 100,
    }
    times = [slow / seconds for seconds in quick]
    return [
        figure(
            "E6",
            "a picture, DPM-Solver++ 20 steps, guided, batch of 50",
            quick,
            "s",
            "at most 0.05",
            max(quick) <= 0.05,
            {"ancestral": round(slow, 3)},
        ),
        figure("E6", "faster than 1,000-step ancestral sampling", times, "times", "40", min(times) >= 40, shares),
    ]


def _seconds(model: DiffusionModel, sampler: str) -> float:
    """For one picture, in a batch of 50."""
    prompts = [caption(PAIRS[number % len(PAIRS)]) for number in range(BATCH)]
    began = time.perf_counter()
    model.sample(prompts, seed=1, sampler=sampler, batch_size=BATCH)
    return (time.perf_counter() - began) / BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="for the pictures and the model")
    args = parser.parse_args()
    print(json.dumps(trained(args.seed, args.folder), indent=1))


if __name__ == "__main__":
    main()
