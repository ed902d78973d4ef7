"""The manifest of an adapter directory: where its weights come from and what they do, and the proof that they do it.

Names are fixed at writing: `manifest.json` beside `adapter_model.safetensors`. No pickle is written or read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import AdapterError
from core.providers.local import PROBE, LocalModel, base_of, fingerprint, load
from core.providers.registered import CONFIG, MANIFEST, WEIGHTS, base_sha256, check_answers, distance, intact, sha256_of, template_sha256
from core.types import Record

LIBRARIES = ("torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Manifest(Record):
    """What an adapter was made from, what its files are, and what it answers.

    base_fingerprint and fingerprint are of the weights as they were loaded in `dtype`, the second with the adapter merged in: the one that
    traces carry. base_sha256 is of the base on disk, in any precision. `probe` are 64 logits after probe_prompt, base_probe those of the
    base alone. `dataset` has at least "sha256", where rows came from a dataset. What starts with `name` is written by the registry.
    """

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
    base_sha256: str = ""
    config_sha256: str = ""
    template_sha256: str = ""
    dtype: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: int = 0
    created: float = 0.0
    run: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """ "math@7"; "" for an adapter that is in no registry."""
        return f"{self.name}@{self.version}" if self.name else ""


def register(
    folder: Path,
    *,
    domain: str | None,
    trainer: str,
    trace_ids: Sequence[str],
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    device: str = "auto",
    dataset: Mapping[str, Any] | None = None,
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
    if distance(base_probe, probe) == 0:
        raise AdapterError(f"the adapter in {folder} changes nothing: raise the learning rate or train for longer")
    manifest = Manifest(
        base=base,
        base_fingerprint=base_fingerprint,
        weights_sha256=sha256_of(folder / WEIGHTS),
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
        base_sha256=base_sha256(base),
        config_sha256=sha256_of(folder / CONFIG),
        template_sha256=template_sha256(str(folder)),
        dtype=str(model.dtype).removeprefix("torch."),
        dataset=dict(dataset or {}),
    )
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Beside the weights. Raises OSError when that can't be."""
    (folder / MANIFEST).write_text(json.dumps(manifest.as_dict(), indent=2, default=str) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of an adapter directory, its files checked against it. Raises AdapterError when something is missing or damaged."""
    values = intact(folder)
    try:
        tuples = {name: tuple(values[name]) for name in ("probe", "base_probe", "trace_ids")}
        return Manifest(**{**values, **tuples})
    except (TypeError, KeyError) as error:
        raise AdapterError(f"no readable {MANIFEST} in {folder}: train an adapter there with finetune_setup.py") from error


def prove(model: LocalModel, folder: str | Path) -> None:
    """Raises AdapterError unless the model that serves does what this adapter did when it was registered, and not what its base does."""
    check_answers(model, read_manifest(folder).as_dict(), folder)


def _probe(model: Any, tokenizer: Any) -> tuple[float, ...]:
    """The first 64 logits after PROBE, asked as `LocalModel.probe` asks it."""
    import torch

    ids = tokenizer.apply_chat_template([{"role": "user", "content": PROBE}], add_generation_prompt=True)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1, :64]
    return tuple(float(x) for x in logits.float())
