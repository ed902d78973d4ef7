"""Pictures on their way in: files and folders of any size and mode to one square array, unreadable ones reported and skipped."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError
from core.types import Record
from finetune.diffusion.config import DiffusionConfig

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

log = logging.getLogger(__name__)

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FILE_COLUMNS = ("file_name", "file", "filename", "image", "path")
CAPTION_COLUMNS = ("caption", "text", "prompt")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
READERS = 4
IN_MEMORY = 2 * 1024**3
"""Bytes of pixels that are held; beyond that pictures are read again for each batch."""


@dataclass(frozen=True, slots=True)
class Source(Record):
    """A picture file and its caption."""

    path: Path
    caption: str


def sources(image_paths: Any, captions: Sequence[str] | None) -> list[Source]:
    """The pictures of a list of paths, or of a folder with captions.csv or metadata.jsonl, or with pictures alone.

    Raises TrainingError for no pictures, captions that don't fit them, or a table that can't be read.
    """
    if isinstance(image_paths, str | Path):
        return _folder(Path(image_paths), captions)
    paths = list(image_paths)
    if not paths:
        raise TrainingError("there are no pictures to train on: image_paths is empty")
    wrong = next((path for path in paths if not isinstance(path, str | Path)), None)
    if wrong is not None:
        raise TrainingError(f"image_paths holds {wrong!r}: give paths, or the path of a folder")
    if captions is None:
        return [Source(Path(path), "") for path in paths]
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise TrainingError("captions must be a list of texts, one for each picture")
    if len(captions) != len(paths):
        raise TrainingError(f"{len(captions)} captions for {len(paths)} pictures: give one for each, or captions=None")
    return [Source(Path(path), caption) for path, caption in zip(paths, captions, strict=True)]


class Pictures:
    """Square pictures, all of which could be read, with their captions. `skipped` are (path, reason) of the others."""

    def __init__(self, found: Sequence[Source], config: DiffusionConfig) -> None:
        """Reads every file once. Raises TrainingError when none can be read."""
        import numpy as np

        self._config = config
        self._pool = ThreadPoolExecutor(READERS)
        size = config.image_size
        hold = len(found) * size * size * config.num_channels <= IN_MEMORY
        self.sources: list[Source] = []
        self.skipped: list[tuple[Path, str]] = []
        held: list[Any] = []
        for source, pixels in zip(found, self._pool.map(self._try, found), strict=True):
            if isinstance(pixels, str):
                self.skipped.append((source.path, pixels))
                continue
            self.sources.append(source)
            if hold:
                held.append(pixels)
        self._report(len(found))
        self._held: Any = np.stack(held) if hold else None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def captions(self) -> list[str]:
        """The caption of each, "" where there is none."""
        return [source.caption for source in self.sources]

    @property
    def digest(self) -> str:
        """The same for the same files and captions in the same order, wherever the folder lies."""
        told = [[source.path.name, source.caption] for source in self.sources]
        return sha256(json.dumps(told).encode()).hexdigest()

    def batch(self, indices: Sequence[int]) -> np.ndarray[Any, Any]:
        """Pixels (batch, channels, height, width) as floats from -1 to 1."""
        import numpy as np

        if self._held is not None:
            pixels = self._held[list(indices)]
        else:
            pixels = np.stack(list(self._pool.map(lambda i: pixels_of(self.sources[i].path, self._config), indices)))
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1

    def close(self) -> None:
        """Give the reading threads back."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, source: Source) -> Any:
        from PIL import UnidentifiedImageError
        from PIL.Image import DecompressionBombError

        try:
            return pixels_of(source.path, self._config)
        except FileNotFoundError:
            return "there is no such file"
        except UnidentifiedImageError:
            return "not a picture"
        except (OSError, ValueError, SyntaxError, EOFError, DecompressionBombError) as error:
            return str(error) or type(error).__name__

    def _report(self, found: int) -> None:
        told = "; ".join(f"{path}: {reason}" for path, reason in self.skipped[:5])
        more = f"; and {len(self.skipped) - 5} more" if len(self.skipped) > 5 else ""
        if not self.sources:
            raise TrainingError(f"none of the {found} pictures can be read ({told}{more})")
        if self.skipped:
            log.warning("%d of %d pictures can't be read and are skipped: %s%s", len(self.skipped), found, told, more)


def pixels_of(path: Path, config: DiffusionConfig) -> np.ndarray[Any, Any]:
    """(height, width, channels), 0 to 255. Raises what Pillow raises."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        picture = _in_mode(ImageOps.exif_transpose(file), MODES[config.num_channels])
    size = (config.image_size, config.image_size)
    if config.fit == "crop":
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    elif config.fit == "pad":
        white: Any = {1: 255, 3: (255,) * 3, 4: (255, 255, 255, 0)}[config.num_channels]
        picture = ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=white)
    else:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def picture_of(pixels: np.ndarray[Any, Any]) -> Image:
    """A Pillow image of floats from -1 to 1, (channels, height, width)."""
    import numpy as np
    from PIL import Image

    whole = np.clip((pixels.transpose(1, 2, 0) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)


def grid(pictures: Sequence[Image], columns: int, scale: int = 1, gap: int = 2) -> Image:
    """Pictures of one size side by side on white, row by row, each enlarged `scale` times."""
    from PIL import Image

    width, height = (side * scale for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        tile = picture.convert("RGBA").resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)), tile)
    return sheet


def _in_mode(picture: Image, mode: str) -> Image:
    """16-bit greys are scaled down, not cut off; what is transparent becomes white where there is no channel for it."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if mode == "RGBA" or not picture.has_transparency_data:
        return picture.convert(mode)
    opaque = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert(mode)


def _folder(folder: Path, captions: Sequence[str] | None) -> list[Source]:
    if captions is not None:
        raise TrainingError("captions of a folder stand in its captions.csv or metadata.jsonl: leave captions=None or list the paths")
    if not folder.is_dir():
        raise TrainingError(f"there is no folder {folder}: give one with pictures, or a list of paths")
    tables = [folder / name for name in ("captions.csv", "metadata.jsonl") if (folder / name).is_file()]
    if tables:
        found = [source for table in tables[:1] for source in _table(table)]
        if not found:
            raise TrainingError(f"{tables[0]} names no picture: give it a row for each")
        return found
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not paths:
        raise TrainingError(f"there are no pictures in {folder} ({', '.join(sorted(ENDINGS))})")
    return [Source(path, "") for path in paths]


def _table(table: Path) -> Iterator[Source]:
    """The rows of captions.csv or metadata.jsonl; paths are beside the table."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file)) if table.suffix == ".csv" else [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise TrainingError(f"{table} can't be read: {error}") from error
    for number, row in enumerate(rows, 1):
        name, caption = (_first(row, columns) if isinstance(row, dict) else None for columns in (FILE_COLUMNS, CAPTION_COLUMNS))
        if not isinstance(name, str) or not name or not isinstance(caption, str):
            raise TrainingError(f"row {number} of {table} needs a {FILE_COLUMNS[0]} and a {CAPTION_COLUMNS[0]}: {row}")
        yield Source(table.parent / name, caption)


def _first(row: dict[str, Any], columns: Sequence[str]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)
