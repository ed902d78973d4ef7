"""What two adapters have in common and what not: settings, data, metrics, and how far apart they move each layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import AdapterError
from core.providers.registered import WEIGHTS
from core.types import Record
from finetune.adapter_files import read_config
from finetune.adapters import Version

LORA = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight")


@dataclass(frozen=True, slots=True)
class Layer(Record):
    """How far two adapters are apart in one layer: |difference| / the larger |change|, both Frobenius norms; 0 same, 1 one is not there.

    Above 1, up to 2, they move it in opposite directions. `a` and `b` are the norms of their changes to the base.
    """

    name: str
    distance: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Difference(Record):
    """By name, what a and b have, where that is not the same; `shared_traces` of `traces` = (of a, of b); layers, the farthest first."""

    a: str
    b: str
    settings: Mapping[str, tuple[Any, Any]]
    data: Mapping[str, tuple[Any, Any]]
    metrics: Mapping[str, tuple[Any, Any]]
    versions: Mapping[str, tuple[Any, Any]]
    traces: tuple[int, int]
    shared_traces: int
    layers: tuple[Layer, ...]

    @property
    def distance(self) -> float:
        """Of all layers together, weighted by the sizes of their changes."""
        apart = math.fsum((layer.distance * max(layer.a, layer.b)) ** 2 for layer in self.layers)
        size = max(math.fsum(layer.a**2 for layer in self.layers), math.fsum(layer.b**2 for layer in self.layers))
        return math.sqrt(apart / size) if size else 0.0


def diff(a: Version, b: Version) -> Difference:
    """Compare two versions. Raises AdapterError when one of them can't be read."""
    for version in (a, b):
        if version.manifest is None:
            raise AdapterError(f"{version.reference} can't be compared: {version.problem}")
    assert a.manifest is not None
    assert b.manifest is not None
    configs = [read_config(version.folder) for version in (a, b)]
    kept = [{key: config.get(key) for key in ("r", "lora_alpha", "target_modules", "use_dora", "use_rslora")} for config in configs]
    kept = [{**each, "target_modules": _in_order(each["target_modules"])} for each in kept]
    bases = [{"base": version.manifest.base, "base_sha256": version.manifest.base_sha256} for version in (a, b) if version.manifest]
    traces = [set(version.manifest.trace_ids) for version in (a, b) if version.manifest]
    return Difference(
        a=a.reference,
        b=b.reference,
        settings=_unlike({**a.manifest.settings, **kept[0], **bases[0]}, {**b.manifest.settings, **kept[1], **bases[1]}),
        data=_unlike(a.manifest.dataset, b.manifest.dataset),
        metrics=_unlike(
            {**_flat(a.manifest.metrics), **_flat(a.manifest.evaluation)}, {**_flat(b.manifest.metrics), **_flat(b.manifest.evaluation)}
        ),
        versions=_unlike(a.manifest.versions, b.manifest.versions),
        traces=(len(traces[0]), len(traces[1])),
        shared_traces=len(traces[0] & traces[1]),
        layers=tuple(sorted(_layers(a.folder, configs[0], b.folder, configs[1]), key=lambda layer: (-layer.distance, layer.name))),
    )


def _layers(a: Path, config_a: Mapping[str, Any], b: Path, config_b: Mapping[str, Any]) -> list[Layer]:
    ours, theirs = _changes(a, config_a), _changes(b, config_b)
    found = []
    for name in sorted({*ours, *theirs}):
        norms = [_norm([each[name]]) if name in each else 0.0 for each in (ours, theirs)]
        both = [ours[name], _negative(theirs[name])] if name in ours and name in theirs else []
        fits = both and len({(up.shape[0], down.shape[1]) for up, down in both}) == 1
        apart = _norm(both) if fits else math.hypot(*norms)
        found.append(Layer(name, apart / max(norms) if max(norms) else 0.0, norms[0], norms[1]))
    return found


def _changes(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By layer (up, down), whose product is its change; whole tensors that are no LoRA with the identity."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = {key: tensor.double() for key, tensor in load_file(folder / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"can't read {folder / WEIGHTS} ({error}): restore it, or train again") from error
    halves: dict[str, dict[str, Any]] = {}
    changes = {}
    for key, tensor in tensors.items():
        match = LORA.fullmatch(key)
        if match and tensor.dim() == 2:
            halves.setdefault(match[1], {})[match[2]] = tensor
        else:
            flat = tensor.reshape(-1, 1)
            changes[key] = flat, torch.ones(1, 1, dtype=torch.float64)
    for name, half in halves.items():
        if set(half) == {"A", "B"}:
            changes[name] = half["B"] * _scale(config, name, half["A"].shape[0]), half["A"]
    return changes


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """What PEFT multiplies B A with."""
    alpha = next(
        (value for pattern, value in (config.get("alpha_pattern") or {}).items() if re.fullmatch(rf"(.*\.)?({pattern})", name)),
        config.get("lora_alpha", rank),
    )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _norm(changes: list[tuple[Any, Any]]) -> float:
    """Of the sum of products up @ down, by way of the small Gram matrices: the products themselves are as large as the base's layers."""
    import torch

    up = torch.cat([up for up, _ in changes], dim=1)
    down = torch.cat([down for _, down in changes], dim=0)
    square = float(((up.T @ up) * (down @ down.T).T).sum())
    return math.sqrt(max(0.0, square))


def _negative(change: tuple[Any, Any]) -> tuple[Any, Any]:
    return -change[0], change[1]


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _in_order(modules: Any) -> Any:
    """A set in PEFT, whose order in the file means nothing."""
    return sorted(modules) if isinstance(modules, list) else modules
