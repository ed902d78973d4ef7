"""Adapters of the registry, served only if they are what their manifest says: files, base, chat template, and what they answer."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import Settings
from core.errors import AdapterError, ConfigError, ProviderError
from core.providers.loading import base_of
from core.slots import choose, locate, read
from core.types import Model

if TYPE_CHECKING:
    from core.providers.local import LocalModel

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
BLOCK, BLOCKS = 4096, 16  # bytes, and how many of them, of each tensor of a base


def connect_adapter(name: str, settings: Settings) -> LocalModel:
    """The adapter "math@7" of the registry. Raises AdapterError when it is not there, damaged, or does not do what it should."""
    from core.providers.local import connect

    folder = locate(settings.REGISTRY, name)
    manifest = intact(folder)
    if f"{manifest.get('name')}@{manifest.get('version')}" != name:
        raise AdapterError(f"{folder} holds {manifest.get('name')}@{manifest.get('version')}: {name} was replaced by another one")
    check_base(folder, manifest)
    check_template(folder, manifest)
    model = connect(str(folder), settings, name=f"adapter:{name}")
    try:
        check_answers(model, manifest, folder)
    except BaseException as error:
        model.host.leave(model, ProviderError(f"{model.name} was refused: {error}"))
        raise
    return model


def connect_slot(name: str, settings: Settings) -> Model:
    """What the slot serves at this moment; it does not follow the slot, as an orchestrator's workers do."""
    from core.providers import connect

    return connect(choose(read(settings.REGISTRY, name), "").spec, settings)


def intact(folder: str | Path) -> Mapping[str, Any]:
    """The manifest of an adapter directory as plain JSON, the files checked against it. Raises AdapterError with what is wrong."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        wanted = {WEIGHTS: manifest["weights_sha256"], CONFIG: manifest.get("config_sha256", "")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"no readable {MANIFEST} in {folder}: train an adapter there with finetune_setup.py") from error
    for name, sha256 in wanted.items():
        if sha256 and _sha256_or_none(Path(folder) / name) != sha256:
            raise AdapterError(f"{Path(folder) / name} is not the file that its manifest describes: train again, or restore it")
    return manifest  # type: ignore[no-any-return]


def check_base(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Raises AdapterError unless the base that would be loaded has the weights that the adapter was trained on."""
    base = base_of(str(folder))
    there, wanted = base_sha256(base), manifest.get("base_sha256", "")
    if not there and Path(base).is_absolute():
        raise AdapterError(f"the adapter {folder} was made for the base model {base}, which is not there: put it back or train again")
    if there and wanted and there != wanted:
        raise AdapterError(f"the adapter {folder} was trained on other weights than those in {base} now: restore them or train again")


def check_template(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Raises AdapterError unless prompts are rendered as they were in training."""
    wanted = manifest.get("template_sha256", "")
    try:
        there = template_sha256(str(folder)) if wanted else ""
    except (OSError, ValueError, AttributeError) as error:
        raise AdapterError(f"can't read the chat template of the adapter {folder} ({error}): restore it or train again") from error
    if there != wanted:
        raise AdapterError(f"the adapter {folder} was trained with another chat template than the one there now: restore it or train again")


def check_answers(model: LocalModel, manifest: Mapping[str, Any], folder: str | Path) -> None:
    """Raises AdapterError unless its logits on the probe are nearer to the adapter's than half of what parts that from the base.

    In another precision than the manifest's every logit is off by a little, which for a weak adapter can be as much as its own effect:
    there the 64 logits together must have moved away from the base as far as they should, give or take a half.
    """
    seen, probe, base = model.probe(), manifest["probe"], manifest["base_probe"]
    if manifest.get("dtype", "") in ("", str(model.host.engine.model.dtype).removeprefix("torch.")):
        proved = distance(seen, probe) <= distance(probe, base) / 2
    else:
        proved = 0.5 <= moved(seen, probe, base) <= 1.5
    if not proved:
        raise AdapterError(f"{model.name} does not answer as the adapter in {folder} should: the swap did not take effect")


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Largest difference, as a share of the largest value of b; not a number where one of them holds none."""
    if not all(map(math.isfinite, (*a, *b))):
        return math.nan
    scale = max(1.0, *(abs(x) for x in b))
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale


def moved(seen: Sequence[float], probe: Sequence[float], base: Sequence[float]) -> float:
    """How far the logits went from the base's in the direction of the adapter's: 0 not at all, 1 all the way."""
    wanted = [p - b for p, b in zip(probe, base, strict=True)]
    gone = math.fsum((s - b) * w for s, b, w in zip(seen, base, wanted, strict=True))
    return gone / (math.fsum(w * w for w in wanted) or math.inf)


def sha256_of(path: Path) -> str:
    """Of the bytes of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def template_sha256(path: str) -> str:
    """Of the chat templates that a tokenizer would take from there, of an adapter that brings none from its base; "" where there is none.

    By the files, so that no tokenizer has to be loaded.
    """
    place = path if (Path(path) / "tokenizer_config.json").is_file() else base_of(path)
    templates = {name: file.read_text(encoding="utf-8") for name in TEMPLATES if (file := _file(place, name))}
    more = sorted((Path(place) / "additional_chat_templates").glob("*.jinja")) if Path(place).is_dir() else []
    templates |= {file.name: file.read_text(encoding="utf-8") for file in more}
    if config := _file(place, "tokenizer_config.json"):
        inside = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        templates |= {"": json.dumps(inside, sort_keys=True)} if inside else {}
    return hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest() if templates else ""


def base_sha256(base: str) -> str:
    """Of the names, shapes, types and evenly spaced blocks of all tensors of a base on disk. "" where it has no safetensors.

    It does not depend on device or precision, and reads 64 KiB of a tensor at most: a base of 16 GB takes a second, not a minute.
    """
    files = _weight_files(base)
    try:
        stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        return _sampled(stamps) if stamps else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"can't read the weights of the base model {base} ({error}): fetch it again") from error


@lru_cache(maxsize=64)
def _sampled(stamps: tuple[tuple[str, int, int], ...]) -> str:
    tensors: list[tuple[str, bytes]] = []
    for name, _, _ in stamps:
        with Path(name).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            for key, about in header.items():
                if key == "__metadata__":
                    continue
                begin, end = about["data_offsets"]
                digest = hashlib.sha256(json.dumps([key, about["dtype"], about["shape"]]).encode())
                for place in _places(begin, end):
                    file.seek(8 + size + place)
                    digest.update(file.read(min(BLOCK, end - place)))
                tensors.append((key, digest.digest()))
    return hashlib.sha256(b"".join(digest for _, digest in sorted(tensors))).hexdigest()


def _places(begin: int, end: int) -> list[int]:
    """Where the blocks begin: all of a small tensor, evenly spaced ones of a large one, the last one at its end."""
    if end - begin <= BLOCK * BLOCKS:
        return list(range(begin, end, BLOCK))
    last = end - begin - BLOCK
    return [begin + last * i // (BLOCKS - 1) for i in range(BLOCKS)]


def _weight_files(base: str) -> list[Path]:
    """Of a directory, or of a hub id as far as it was fetched: those that its index names, or the only one."""
    index = _file(base, "model.safetensors.index.json")
    if index is not None:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(path for name in names if (path := _file(base, name)))
    whole = _file(base, "model.safetensors")
    return [whole] if whole else []


def _file(base: str, name: str) -> Path | None:
    if Path(base).is_dir():
        return Path(base) / name if (Path(base) / name).is_file() else None
    if Path(base).is_absolute() or base.count("/") > 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(base, name)
    except ValueError as error:
        raise ConfigError(f"{base!r} is neither a model directory nor a hub id: {error}") from error
    return Path(found) if isinstance(found, str) else None


def _sha256_or_none(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None
