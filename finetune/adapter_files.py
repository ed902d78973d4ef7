"""What of an adapter directory goes into the registry: weights as safetensors, config and tokenizer. Nothing that could be a pickle."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from core.errors import AdapterError, ProviderError
from core.providers.loading import base_of
from core.providers.registered import CONFIG, MANIFEST, WEIGHTS

TOKENIZER = re.compile(
    r"tokenizer[a-z_.]*\.(json|model)|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|chat_template\.(jinja|json)|spiece\.model|generation_config\.json"
)


def copy_adapter(source: Path, target: Path) -> None:
    """Copy what serves, with the base's path made absolute. Raises AdapterError for files that are missing, or don't fit together."""
    check_files(source)
    for path in sorted(source.iterdir()):
        if path.is_file() and (path.name in (WEIGHTS, MANIFEST) or TOKENIZER.fullmatch(path.name)):
            shutil.copyfile(path, target / path.name)
    templates = source / "additional_chat_templates"
    if templates.is_dir():
        (target / templates.name).mkdir()
        for path in sorted(templates.glob("*.jinja")):
            shutil.copyfile(path, target / templates.name / path.name)
    config = read_config(source)
    base = base_of(str(source))
    config["base_model_name_or_path"] = str(Path(base).resolve()) if Path(base).is_dir() else base
    config["inference_mode"] = True
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Raises AdapterError unless there are weights and a config that belong to each other."""
    if not folder.is_dir():
        raise AdapterError(f"there is no adapter directory {folder}: give the output folder of a training run")
    if not (folder / WEIGHTS).is_file():
        pickled = sorted(path.name for pattern in ("adapter_model*.bin", "adapter_model*.pt") for path in folder.glob(pattern))
        if pickled:
            raise AdapterError(f"{folder / pickled[0]} is a pickle, which can run code when it is read: save the adapter as safetensors")
        raise AdapterError(f"{folder} has no {WEIGHTS}: give the output folder of a training run that came to its end")
    config = read_config(folder)
    shapes = read_shapes(folder)
    if config.get("peft_type") != "LORA" or config.get("rank_pattern"):
        return
    ranks = {shape[0] for key, shape in shapes.items() if key.endswith("lora_A.weight")}
    if ranks - {config.get("r")}:
        raise AdapterError(f"{folder / CONFIG} says r={config.get('r')}, and the weights have rank {max(ranks)}: one of them is foreign")


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises AdapterError when it can't be read."""
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no keys")
        base_of(str(folder))
    except (OSError, ValueError, ProviderError) as error:
        raise AdapterError(f"can't read {folder / CONFIG} ({error}): fetch or train the adapter again") from error
    return config


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, from the file's header alone. Raises AdapterError when it is no whole safetensors file."""
    path = folder / WEIGHTS
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ends = [about["data_offsets"][1] for about in header.values()]
        if not ends or 8 + length + max(ends) != size:
            raise ValueError("it is cut off")
        return {key: tuple(about["shape"]) for key, about in header.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"{path} is no whole safetensors file ({error}): train again, or restore it") from error


def sync_files(folder: Path) -> None:
    """All that is in the folder is on disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
