"""Adapter directories: a manifest that says where the weights come from and what they do, and the proof that they do it.

Names are fixed at writing: `manifest.json` beside `adapter_model.safetensors`. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import AdapterError
from core.providers.local import PROBE, LocalModel, base_of, fingerprint, load
from core.types import Record

MANIFEST = "manifest.json"
WEIGHTS = "adapter_model.safetensors"
LIBRARIES = ("torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Manifest(Record):
    """base, the hashes of both sets of weights, the fingerprint that traces carry, the logits on a probe, and the training behind it."""

    base: str
    base_fingerprint: str
    weights_sha256: str
    fingerprint: str
    probe_prompt: str
    probe: tuple[float, ...]
    base_probe: tuple[float, ...]
    domain: str | None
    trainer: str
    trace_ids: tuple[str, ...]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)


def register(
    folder: Path,
    *,
    domain: str | None,
    trainer: str,
    trace_ids: Sequence[str],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    device: str = "auto",
) -> Manifest:
    """Write the manifest of a freshly trained adapter. Raises AdapterError if the adapter changes nothing, or has diverged."""
    from peft import PeftModel

    base = base_of(str(folder))
    model, tokenizer = load(base, device)
    base_fingerprint, base_probe = fingerprint(model), _probe(model, tokenizer)
    adapted = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    probe = _probe(adapted, tokenizer)
    if not all(map(math.isfinite, probe)):
        raise AdapterError(f"the adapter in {folder} has diverged, its answers are no numbers: lower the learning rate")
    if _distance(base_probe, probe) == 0:
        raise AdapterError(f"the adapter in {folder} changes nothing: raise the learning rate or train for longer")
    manifest = Manifest(
        base=base,
        base_fingerprint=base_fingerprint,
        weights_sha256=_sha256(folder / WEIGHTS),
        fingerprint=fingerprint(adapted),
        probe_prompt=PROBE,
        probe=probe,
        base_probe=base_probe,
        domain=domain,
        trainer=trainer,
        trace_ids=tuple(dict.fromkeys(trace_ids)),
        settings=dict(settings),
        metrics=dict(metrics),
        versions={name: version(name) for name in LIBRARIES},
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.as_dict(), indent=2, default=str) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of an adapter directory, its weights checked against it. Raises AdapterError when something is missing or damaged."""
    path = Path(folder) / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(
            **{
                **values,
                "probe": tuple(values["probe"]),
                "base_probe": tuple(values["base_probe"]),
                "trace_ids": tuple(values["trace_ids"]),
            }
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"no readable {MANIFEST} in {folder}: train an adapter there with finetune_setup.py") from error
    if not (Path(folder) / WEIGHTS).is_file() or _sha256(Path(folder) / WEIGHTS) != manifest.weights_sha256:
        raise AdapterError(f"{Path(folder) / WEIGHTS} is not the file that its manifest describes: train again, or restore it")
    return manifest


def prove(model: LocalModel, folder: str | Path) -> None:
    """Raises AdapterError unless the model that serves does what this adapter did when it was registered, and not what its base does."""
    manifest = read_manifest(folder)
    seen = model.probe()
    if _distance(seen, manifest.probe) > _distance(manifest.probe, manifest.base_probe) / 2:
        raise AdapterError(f"{model.name} does not answer as the adapter in {folder} should: the swap did not take effect")


def _probe(model: Any, tokenizer: Any) -> tuple[float, ...]:
    """The first 64 logits after PROBE, asked as `LocalModel.probe` asks it."""
    import torch

    ids = tokenizer.apply_chat_template([{"role": "user", "content": PROBE}], add_generation_prompt=True)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1, :64]
    return tuple(float(x) for x in logits.float())


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Largest difference, as a share of the largest value."""
    scale = max(1.0, *(abs(x) for x in b))
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
