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
from statistics import fmean, median
from typing import Any

from benchmarks.record import Figure, figure
from finetune.diff import DiffusionConfig, DiffusionModel, train_diffusion
from finetune.diffusion.shapes import PAIRS, JudgeReport, caption, held_out_pairs, judge, recipe, write_shapes
from finetune.diffusion.shapes import measure as measure_judge

SEEDS = (0, 1, 2)
PICTURES = 3200
EPOCHS = 26
SAMPLES = 200
BATCH = 50


def measure(ids: Sequence[str]) -> list[Figure]:
    """E6 needs one of the models of E5; alone it trains one."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [trained(seed, Path(folder) / str(seed)) for seed in (SEEDS if "E5" in ids else SEEDS[:1])]
        quality = _quality(runs) if "E5" in ids else []
        return [*quality, *(_speed(Path(folder) / str(SEEDS[0]) / "model") + _on_gpu(Path(folder) / "gpu") if "E6" in ids else [])]


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


def right_share(model: DiffusionModel, pairs: Sequence[tuple[str, str]], seed: int, count: int = SAMPLES) -> float:
    """Of so many samples, the share that shows the colour and the shape that were asked for."""
    asked = [pairs[number % len(pairs)] for number in range(count)]
    drawn = model.sample([caption(pair) for pair in asked], seed=seed, batch_size=BATCH)
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
    """Both samplers draw the same prompts with the same guidance in batches of 50: `repeats` batches quickly, one slowly."""
    model = DiffusionModel.load(model_path)
    _timed(model, "dpmsolver++", 0)
    quick = [_timed(model, "dpmsolver++", seed) for seed in range(1, repeats + 1)]
    slow, slow_right = _timed(model, "ddpm", 1)
    times = [seconds for seconds, _ in quick]
    quality = {"right %, 20 steps": 100 * fmean(right for _, right in quick), "right %, 1,000 steps": 100 * slow_right}
    name = "a picture, DPM-Solver++ 20 steps, guided, batch of 50"
    ratios = [slow / seconds for seconds in times]
    return [
        figure("E6", name, times, "s", "at most 0.05", median(times) <= 0.05, {"ancestral": round(slow, 3)}),
        figure("E6", "faster than 1,000-step ancestral sampling", ratios, "times", "40", median(ratios) >= 40, quality),
    ]


def _on_gpu(folder: Path) -> list[Figure]:
    """128 px at the documented defaults, where there is a GPU: pictures a second in training (batch of 4) and sampling (batch of 50)."""
    import torch

    if not torch.cuda.is_available():
        return []
    write_shapes(folder / "pictures", 64, random.Random("gpu"), size=128)
    last: dict[str, Any] = {}
    config = DiffusionConfig(num_epochs=10, checkpoint_frequency=0, output_model_path=str(folder / "model"))
    model = DiffusionModel.load(train_diffusion(folder / "pictures", config=config, progress_callback=last.update))
    _timed(model, "dpmsolver++", 0)
    drawn = [1 / _timed(model, "dpmsolver++", seed)[0] for seed in range(1, 4)]
    setup = torch.cuda.get_device_name()
    return [
        figure("E6", "128 px at the defaults, training", [last["images_per_second"]], "images/s", "reported", None, setup=setup),
        figure("E6", "128 px at the defaults, sampling in 20 steps", drawn, "images/s", "reported", None, setup=setup),
    ]


def _timed(model: DiffusionModel, sampler: str, seed: int) -> tuple[float, float]:
    """(seconds for a picture, share of them that is right), in one batch of 50."""
    began = time.perf_counter()
    pairs = [PAIRS[number % len(PAIRS)] for number in range(BATCH)]
    drawn = model.sample([caption(pair) for pair in pairs], seed=seed, sampler=sampler, batch_size=BATCH)
    seconds = (time.perf_counter() - began) / BATCH
    return seconds, fmean(judge(picture).pair == pair for picture, pair in zip(drawn, pairs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="for the pictures and the model")
    args = parser.parse_args()
    print(json.dumps(trained(args.seed, args.folder), indent=1))


if __name__ == "__main__":
    main()
