"""The router's weights: a small safetensors file, written and read with the standard library, and scores from them.

For each group of features (words, letters, kinds) the file holds their names, one a line, a row of signed bytes for each name, one a
domain, and the scale of these bytes.
"""

from __future__ import annotations

import array
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.routing.features import Features
from core.types import Record

SHIPPED = Path(__file__).with_name("weights.safetensors")
GROUPS = ("words", "letters", "kinds")
FORMAT = "ratchet-routing-1"
LARGEST = 4_000_000  # bytes that are read of a file
LANE, LANE_MASK, OFFSET = 4, 0xFFFFFFFF, 128
SIGNED_TO_OFFSET = bytes(value ^ OFFSET for value in range(256))


@dataclass(frozen=True, slots=True)
class Group(Record):
    """Rows by the name of the feature. A row is one integer with a lane of 32 bits for each domain, so that a sum is a sum of all six.

    A lane holds the signed byte plus 128. Where `averaged`, the sum is divided by the square root of the number of known features.
    """

    rows: Mapping[str, int]
    scale: float
    averaged: bool


@dataclass(frozen=True, slots=True)
class Weights(Record):
    """What `read` returns. `examples` is the fingerprint of the examples that the weights were fitted to."""

    groups: tuple[Group, ...]
    bias: tuple[float, ...]
    examples: str

    def scores(self, found: Features) -> list[float] | None:
        """One logit a domain, or None where no word is known."""
        scores = list(self.bias)
        for number, (group, names) in enumerate(zip(self.groups, found.groups(), strict=True)):
            rows = [row for name in names if (row := group.rows.get(name)) is not None]
            if not rows and number == 0:
                return None
            if rows:
                factor = group.scale / (math.sqrt(len(rows)) if group.averaged else 1.0)
                total, base = sum(rows), OFFSET * len(rows)
                for domain in range(len(scores)):
                    scores[domain] += factor * (((total >> (8 * LANE * domain)) & LANE_MASK) - base)
        return scores


def read(path: Path, domains: Sequence[str]) -> Weights:
    """The weights in a file. Raises ConfigError when it is no such file, is damaged, or was made for other domains."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        return _decoded(data, list(domains))
    except OSError as error:
        raise ConfigError(f"can't read the routing weights {path}: {error}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ConfigError(f"{path} holds no routing weights ({error}): make them with python -m core.routing.train --out {path}") from error


def write(
    path: Path, tables: Sequence[tuple[Sequence[str], bytes, float]], bias: Sequence[float], domains: Sequence[str], examples: str
) -> None:
    """For each group its names, their signed bytes row by row, and the scale. The same weights give the same bytes."""
    tensors: dict[str, tuple[str, list[int], bytes]] = {"bias": ("F32", [len(bias)], _floats(bias))}
    for group, (names, rows, scale) in zip(GROUPS, tables, strict=True):
        text = "\n".join(names).encode()
        tensors[f"{group}.names"] = ("U8", [len(text)], text)
        tensors[f"{group}.rows"] = ("I8", [len(names), len(domains)], rows)
        tensors[f"{group}.scale"] = ("F32", [1], _floats([scale]))
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "domains": ",".join(domains), "examples": examples}}
    start = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(raw)]}
        start += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + b"".join(raw for _, _, raw in tensors.values())
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def fingerprint(texts: Sequence[bytes]) -> str:
    """16 hex digits of the files that were learned from."""
    return hashlib.sha256(b"\0".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()[:16]


def _decoded(data: bytes, domains: list[str]) -> Weights:
    if not 8 < len(data) <= LARGEST:
        raise ValueError(f"{len(data)} bytes")
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data):
        raise ValueError("its header is cut off")
    header = json.loads(data[8:end])
    about = header["__metadata__"]
    if about["format"] != FORMAT or about["domains"].split(",") != domains:
        raise ValueError(f"format {about['format']!r} for the domains {about['domains']!r}")
    body = data[end:]
    bias = _finite(_tensor(header, body, "bias", "F32"), len(domains))
    groups = tuple(_group(header, body, name, len(domains)) for name in GROUPS)
    return Weights(groups, bias, str(about["examples"]))


def _group(header: Mapping[str, Any], body: bytes, name: str, width: int) -> Group:
    text = _tensor(header, body, f"{name}.names", "U8").decode()
    names = text.split("\n") if text else []
    rows = _tensor(header, body, f"{name}.rows", "I8").translate(SIGNED_TO_OFFSET)
    (scale,) = _finite(_tensor(header, body, f"{name}.scale", "F32"), 1)
    if len(rows) != width * len(names):
        raise ValueError(f"{len(names)} {name} with {len(rows)} weights")
    lanes = bytearray(LANE * len(rows))
    lanes[::LANE] = rows
    step = LANE * width
    packed = {feature: int.from_bytes(lanes[i * step : (i + 1) * step], "little") for i, feature in enumerate(names)}
    return Group(packed, scale, averaged=name != "kinds")


def _tensor(header: Mapping[str, Any], body: bytes, name: str, dtype: str) -> bytes:
    about = header[name]
    start, end = about["data_offsets"]
    if about["dtype"] != dtype or not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(body)):
        raise ValueError(f"{name} is damaged")
    return body[start:end]


def _floats(values: Sequence[float]) -> bytes:
    numbers = array.array("f", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _finite(raw: bytes, count: int) -> tuple[float, ...]:
    numbers = array.array("f", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ValueError("a number is missing or not finite")
    return tuple(numbers)
