"""Train a diffusion model on coloured shapes and draw the grid of the README: `python examples/shapes.py --out docs/shapes.png`.

About a quarter of an hour on two cores. A row for each shape, a column for each colour; the framed pairs were never shown in training.
With --model an earlier training (the folder that was printed) is drawn again.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from PIL import ImageOps
from PIL.Image import Image

from finetune.diff import DiffusionModel, train_diffusion
from finetune.diffusion.pictures import grid
from finetune.diffusion.shapes import COLOURS, SHAPES, caption, held_out_pairs, judge, recipe, write_shapes

PICTURES = 3200


def on_progress(info: dict[str, Any]) -> None:
    if info["step"] % 100 == 0:
        left = f"{info['images_per_second']:.0f} images/s, {info['seconds_left'] / 60:.1f} minutes left"
        print(f"epoch {info['epoch']}/{info['total_epochs']} step {info['step']} loss {info['loss']:.4f}, {left}", file=sys.stderr)


def drawn(model: DiffusionModel, held_out: Collection[tuple[str, str]], seed: int) -> tuple[Image, int]:
    """(the sheet, how many of its pictures show what was asked)."""
    pairs = [(colour, shape) for shape in SHAPES for colour in COLOURS]
    pictures = model.sample([caption(pair) for pair in pairs], seed=seed)
    right = sum(judge(picture).pair == pair for picture, pair in zip(pictures, pairs, strict=True))
    frames = ["dimgray" if pair in held_out else "white" for pair in pairs]
    framed = [ImageOps.expand(picture.resize((64, 64)), 2, frame) for picture, frame in zip(pictures, frames, strict=True)]
    return grid(framed, columns=len(COLOURS)), right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("shapes.png"))
    parser.add_argument("--folder", type=Path, default=Path("shapes"), help="for the pictures and the model")
    parser.add_argument("--model", type=Path, help="draw with this one, and train nothing")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(f"shapes/{args.seed}")
    held_out = held_out_pairs(rng)
    path = args.model
    if path is None:
        write_shapes(args.folder / "pictures", PICTURES, rng, without=held_out)
        config = recipe(args.folder / "model", args.seed, args.epochs)
        path = train_diffusion(args.folder / "pictures", config=config, progress_callback=on_progress)
    sheet, right = drawn(DiffusionModel.load(path), held_out, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(96).save(args.out, optimize=True)  # a small file
    print(f"{args.out}: {right} of {len(COLOURS) * len(SHAPES)} show what was asked; model in {path}")


if __name__ == "__main__":
    main()
