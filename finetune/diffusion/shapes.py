"""Coloured shapes with captions, to try a diffusion model on, and a judge that says which colour and shape a picture shows.

The judge is a program: what differs from the border is the shape; its colour is the nearest by name, its form the one whose ideal outline
covers it best. `measure` says how often it is right on true pictures, and how often it passes what shows nothing. It answers None rather
than guess. That a picture passes says that colour and shape are right, and nothing about beauty.
"""

from __future__ import annotations

import csv
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.types import Record
from finetune.diffusion.config import DiffusionConfig

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 40),
    "green": (40, 160, 75),
    "blue": (40, 85, 215),
    "yellow": (240, 200, 40),
    "purple": (150, 60, 190),
    "black": (35, 35, 40),
}
# x and y from the centre, y downwards, in radii -> inside or not
SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: (abs(x) <= 0.88) & (abs(y) <= 0.88),
    "triangle": lambda x, y: (y <= 0.8) & (y >= 1.8 * abs(x) - 1),
    "cross": lambda x, y: ((abs(x) <= 0.34) & (abs(y) <= 1)) | ((abs(y) <= 0.34) & (abs(x) <= 1)),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.3),
}
PAIRS = tuple(itertools.product(COLOURS, SHAPES))
FINE = 4
"""Samples of each pixel's side, when drawing."""
FAR = 70.0
"""Euclidean distance in RGB at which a pixel is no longer of a colour; shades vary by at most 24."""
LEAST_OVERLAP = 0.75
LEAST_LEAD = 0.04
"""By which the best shape must overlap more than the next."""


@dataclass(frozen=True, slots=True)
class Seen(Record):
    """What a picture shows; None where it is not clear. `overlap` is that of the best shape, 0 to 1 (intersection over union)."""

    colour: str | None
    shape: str | None
    overlap: float

    @property
    def pair(self) -> tuple[str | None, str | None]:
        """Colour and shape."""
        return (self.colour, self.shape)


@dataclass(frozen=True, slots=True)
class JudgeReport(Record):
    """Shares: right on true pictures; named something in noise, in two shapes drawn half over half, and in a shape of two colours."""

    right: float
    noise: float
    morphs: float
    two_colours: float
    pictures: int


def caption(pair: tuple[str, str]) -> str:
    """The words for a colour and a shape."""
    return f"a {pair[0]} {pair[1]}"


def held_out_pairs(rng: random.Random, count: int = 5) -> tuple[tuple[str, str], ...]:
    """Pairs to leave out of training, no two of one colour or one shape, so that each is still seen with all others."""
    colours, shapes = rng.sample(list(COLOURS), count), rng.sample(list(SHAPES), count)
    return tuple(zip(colours, shapes, strict=True))


def picture(pair: tuple[str, str], rng: random.Random, size: int = 32) -> Image:
    """One shape on a nearly white ground; place, radius and shade vary."""
    from PIL import Image

    return Image.fromarray(_pixels(pair, rng, size).round().astype("uint8"))


def write_shapes(
    folder: str | Path, count: int, rng: random.Random, *, size: int = 32, without: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """So many pictures as PNG with captions.csv; returns the pairs that they show, equally often, none of `without`."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    pairs = [pair for pair in PAIRS if pair not in set(without)]
    shown = [pairs[number % len(pairs)] for number in range(count)]
    with (target / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "caption"))
        for number, pair in enumerate(shown):
            name = f"{number:05d}.png"
            picture(pair, rng, size).save(target / name)
            table.writerow((name, caption(pair)))
    return pairs


def recipe(folder: str | Path, seed: int = 0, epochs: int = 26) -> DiffusionConfig:
    """Options that suit these pictures at 32 pixels: 26 epochs of 3,200 are 5,200 steps."""
    return DiffusionConfig(
        image_size=32,
        channels=64,
        batch_size=16,
        num_epochs=epochs,
        learning_rate=2e-3,
        checkpoint_frequency=250,
        output_model_path=str(folder),
        seed=seed,
    )


def judge(shown: Image) -> Seen:
    """Colour and shape of a picture."""
    import numpy as np

    return _judge(np.asarray(shown.convert("RGB"), dtype=np.float64))


def measure(rng: random.Random, count: int = 600, size: int = 32) -> JudgeReport:
    """How good the judge is, on so many pictures of each kind."""
    import numpy as np

    noise = np.random.default_rng(rng.getrandbits(64))
    right = named_noise = named_morph = named_two = 0
    for number in range(count):
        pair = PAIRS[number % len(PAIRS)]
        other = rng.choice([p for p in PAIRS if p[0] != pair[0] and p[1] != pair[1]])
        true, second = _pixels(pair, rng, size), _pixels(other, rng, size)
        right += _judge(true).pair == pair
        named_noise += None not in _judge(noise.integers(0, 256, (size, size, 3)).astype(float)).pair
        named_morph += None not in _judge((true + second) / 2).pair
        named_two += None not in _judge(_two_coloured(pair, other[0], rng, size)).pair
    return JudgeReport(right / count, named_noise / count, named_morph / count, named_two / count, count)


def _judge(pixels: np.ndarray[Any, Any]) -> Seen:
    import numpy as np

    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    distance = np.linalg.norm(pixels - np.median(border, axis=0), axis=2)
    strongest = np.percentile(distance, 97)
    covered = distance > strongest / 2
    if strongest < 60 or not 0.03 < covered.mean() < 0.7:
        return Seen(None, None, 0.0)
    colour = _colour(pixels[_interior(covered)])
    overlaps = {name: _overlap(covered, inside) for name, inside in SHAPES.items()}
    best, next_best = sorted(overlaps, key=overlaps.__getitem__, reverse=True)[:2]
    clear = overlaps[best] >= LEAST_OVERLAP and overlaps[best] - overlaps[next_best] >= LEAST_LEAD
    return Seen(colour, best if clear else None, overlaps[best])


def _interior(covered: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pixels whose four neighbours are covered too: free of the edge's blend with the ground."""
    import numpy as np

    inner = covered.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inner &= np.roll(covered, step, axis)
    return inner


def _colour(pixels: np.ndarray[Any, Any]) -> str | None:
    """The nearest name of their median, when nine of ten pixels are near to it."""
    import numpy as np

    if not len(pixels):
        return None
    middle = np.median(pixels, axis=0)
    nearest = min(COLOURS, key=lambda name: float(np.linalg.norm(middle - COLOURS[name])))
    distances = np.linalg.norm(pixels - np.array(COLOURS[nearest]), axis=1)
    return nearest if np.mean(distances < FAR) > 0.9 else None


def _overlap(covered: np.ndarray[Any, Any], inside: Callable[[Any, Any], Any]) -> float:
    """The best of outlines of this form near the place and size of what is covered."""
    import numpy as np

    rows, columns = np.nonzero(covered)
    grid_y, grid_x = np.mgrid[: covered.shape[0], : covered.shape[1]] + 0.5
    extents = _extents(inside)
    width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
    middle_x, middle_y = (columns.max() + columns.min() + 1) / 2, (rows.max() + rows.min() + 1) / 2
    radius = max((width / extents[0] + height / extents[1]) / 2, 1.0)
    best = 0.0
    for scale in (0.93, 1.0, 1.07):
        r = radius * scale
        ideal = inside((grid_x - middle_x) / r, (grid_y - middle_y) / r + extents[2])
        best = max(best, float((ideal & covered).sum() / max(1, (ideal | covered).sum())))
    return best


def _extents(inside: Callable[[Any, Any], Any]) -> tuple[float, float, float]:
    """(width, height, middle in y) of a form, in radii."""
    import numpy as np

    y, x = np.mgrid[-1.1:1.1:111j, -1.1:1.1:111j]
    found = inside(x, y)
    return (
        float(x[found].max() - x[found].min()),
        float(y[found].max() - y[found].min()),
        float(y[found].max() + y[found].min()) / 2,
    )


def _pixels(pair: tuple[str, str], rng: random.Random, size: int) -> np.ndarray[Any, Any]:
    """(size, size, 3), 0 to 255."""
    return _painted(SHAPES[pair[1]], lambda x, y: _shade(COLOURS[pair[0]], rng), rng, size)


def _two_coloured(pair: tuple[str, str], other: str, rng: random.Random, size: int) -> np.ndarray[Any, Any]:
    """The left half in one colour, the right in another."""
    import numpy as np

    def shades(x: Any, y: Any) -> Any:
        left, right = _shade(COLOURS[pair[0]], rng), _shade(COLOURS[other], rng)
        return np.where((x < 0)[..., None], left, right)

    return _painted(SHAPES[pair[1]], shades, rng, size)


def _painted(inside: Callable[[Any, Any], Any], shades: Callable[[Any, Any], Any], rng: random.Random, size: int) -> np.ndarray[Any, Any]:
    import numpy as np

    radius = size * rng.uniform(0.24, 0.38)
    centre_x, centre_y = (rng.uniform(radius + 1, size - radius - 1) for _ in range(2))
    y, x = (np.mgrid[: size * FINE, : size * FINE] + 0.5) / FINE
    x, y = (x - centre_x) / radius, (y - centre_y) / radius
    ground = np.array([rng.uniform(242, 255)] * 3)
    fine = np.where(inside(x, y)[..., None], shades(x, y), ground)
    smooth: np.ndarray[Any, Any] = fine.reshape(size, FINE, size, FINE, 3).mean(axis=(1, 3))
    return smooth


def _shade(colour: tuple[int, int, int], rng: random.Random) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.clip([part + rng.uniform(-14, 14) for part in colour], 0, 255)
