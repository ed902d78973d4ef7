"""A trained adapter in forms that other programs take: a merged model, GGUF for llama.cpp, a folder for `ollama create`.

What was written is read back and asked the same as the adapter, greedily, before it gets its name: an export that answers otherwise is no
export. GGUF is read back by Transformers, not by llama.cpp, whose own sums and tokens are not seen here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from core.errors import AdapterError, ConfigError
from core.providers.loading import base_of, is_adapter, load, load_tokenizer
from core.providers.local import LocalModel
from core.types import Record
from finetune.adapters import MANIFEST, prove, read_manifest
from finetune.gguf import Weights, write_adapter, write_model
from finetune.modelfile import context_of, modelfile, stop_words, turnings
from finetune.parity import LEAST, PROMPTS, Parity, answers, compare, require

Kind = Literal["merged", "gguf", "gguf-adapter", "ollama"]
KINDS: tuple[Kind, ...] = ("merged", "gguf", "gguf-adapter", "ollama")
GGUF = "model.gguf"


@dataclass(frozen=True, slots=True)
class Exported(Record):
    """Where it is, its bytes, and how it answered beside the adapter; `parity` is None for what can't be asked alone."""

    kind: Kind
    path: Path
    bytes: int
    parity: Parity | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Wishes(Record):
    """`weights`: those of GGUF. `dtype`: the merged model's, "auto" for its base's. `pre_tokenizer`: llama.cpp's name, None to find it.

    `context`: tokens that Ollama keeps room for, 0 for up to 8,192. `least`: the share of `prompts` that must be answered alike.
    """

    weights: Weights = "f16"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    pre_tokenizer: str | None = None
    context: int = 0
    device: str = "cpu"
    prompts: Sequence[str] = PROMPTS
    least: float = LEAST


def export(folder: str | Path, kind: Kind, out: str | Path, **wishes: Any) -> Exported:
    """Write the adapter (or model) directory `folder` as `kind` to `out`, a directory, or a file for the two GGUF kinds.

    `wishes` are the fields of `Wishes`. Raises AdapterError when the adapter is not what its manifest says, can't be written in that form,
    or answers otherwise afterwards; ConfigError for a wish that can't be; nothing is left behind then.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no export {kind!r}: choose one of {', '.join(KINDS)}")
    wished, folder, out = _checked(wishes), Path(folder), Path(out).expanduser()
    started = time.monotonic()
    _check_place(folder, kind, out)
    if (folder / MANIFEST).is_file():
        read_manifest(folder)
    with _whole(out) as part:
        parity = {"merged": _merged, "gguf": _gguf, "gguf-adapter": _gguf_adapter, "ollama": _ollama}[kind](folder, part, wished)
        size = sum(file.stat().st_size for file in (part.rglob("*") if part.is_dir() else [part]) if file.is_file())
    return Exported(kind, out, size, parity, round(time.monotonic() - started, 3))


def save_merged(folder: Path, out: Path, dtype: str = "auto", device: str = "cpu") -> None:
    """The adapter merged into its base, as safetensors, with tokenizer, chat template and generation settings."""
    import torch

    model, tokenizer = load(str(folder), device, "float32")
    stored = _stored(str(folder)) if dtype == "auto" else getattr(torch, dtype)
    model.to(stored).save_pretrained(str(out), safe_serialization=True)
    tokenizer.save_pretrained(str(out))


def load_gguf(path: Path, device: str = "cpu", config: Any = None) -> Any:
    """The model of a GGUF file in Transformers, in float32: its weights are read by other code than the one that wrote them.

    Without `config` that code finds the shapes in the file too, as far as it knows them.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = {} if config is None else {"config": config}
    try:
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise AdapterError(f"{path} can't be read back ({error}): export it again") from error
    return model.to(device).eval()


def _merged(folder: Path, part: Path, wished: Wishes) -> Parity:
    save_merged(folder, part, wished.dtype, wished.device)
    return _compared(folder, wished, lambda: load(str(part), wished.device, "float32")[0], "the merged model")


def _gguf(folder: Path, part: Path, wished: Wishes) -> Parity:
    model, tokenizer = load(str(folder), wished.device, "float32")
    write_model(model, tokenizer, part, weights=wished.weights, name=folder.name, pre=wished.pre_tokenizer)
    config = model.config
    del model
    return _compared(folder, wished, lambda: load_gguf(part, wished.device, config), f"the GGUF file in {wished.weights}")


def _gguf_adapter(folder: Path, part: Path, wished: Wishes) -> None:
    from transformers import AutoConfig

    if not is_adapter(str(folder)):
        raise AdapterError(f"{folder} is no adapter: export it with kind gguf")
    write_adapter(folder, AutoConfig.from_pretrained(base_of(str(folder))), part)


def _ollama(folder: Path, part: Path, wished: Wishes) -> Parity:
    part.mkdir()
    model, tokenizer = load(str(folder), wished.device, "float32")
    told = modelfile(GGUF, turnings(tokenizer).go(), stop_words(model, tokenizer), wished.context or context_of(model.config))
    write_model(model, tokenizer, part / GGUF, weights=wished.weights, name=folder.name, pre=wished.pre_tokenizer)
    (part / "Modelfile").write_text(told, encoding="utf-8")
    config = model.config
    del model
    return _compared(folder, wished, lambda: load_gguf(part / GGUF, wished.device, config), f"the GGUF file in {wished.weights}")


def _compared(folder: Path, wished: Wishes, written: Callable[[], Any], what: str) -> Parity:
    """The adapter's answers beside those of what was written; one of them in memory at a time."""
    tokenizer = load_tokenizer(str(folder))
    ours = _answers(load(str(folder), wished.device, "float32")[0], tokenizer, wished, folder)
    parity = compare(wished.prompts, ours, _answers(written(), tokenizer, wished))
    require(parity, wished.least, f"{what} does not answer as {folder} does")
    return parity


def _answers(weights: Any, tokenizer: Any, wished: Wishes, proved: Path | None = None) -> tuple[str, ...]:
    from core.providers.host import Host

    model = LocalModel(Host(weights, tokenizer, "export"), "export")
    try:
        if proved is not None and (proved / MANIFEST).is_file():
            prove(model, proved)
        return answers(model, wished.prompts)
    finally:
        asyncio.run(model.close())


def _stored(path: str) -> Any:
    """The precision in which the base was published."""
    import torch
    from transformers import AutoConfig

    found = getattr(AutoConfig.from_pretrained(base_of(path)), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _checked(wishes: dict[str, Any]) -> Wishes:
    if unknown := sorted(set(wishes) - set(Wishes.__dataclass_fields__)):
        raise ConfigError(f"an export has no option {unknown[0]!r}: choose from {', '.join(Wishes.__dataclass_fields__)}")
    wished = Wishes(**wishes)
    if wished.weights not in ("f16", "q8_0"):
        raise ConfigError(f"GGUF weights are f16 or q8_0 here, not {wished.weights!r}: llama-quantize makes others from f16")
    if wished.dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ConfigError(f"a merged model's dtype is auto, float32, bfloat16 or float16, not {wished.dtype!r}")
    if wished.context < 0:
        raise ConfigError(f"context is {wished.context}: choose a number of tokens, or 0")
    return wished


def _check_place(folder: Path, kind: Kind, out: Path) -> None:
    if not folder.is_dir():
        raise AdapterError(f"there is no directory {folder}: give an adapter directory, as `ratchet adapters list` shows them")
    if out.exists() or out.is_symlink():
        raise AdapterError(f"{out} is there already: choose another place, since servers keep what they have read under a name")
    if kind in ("gguf", "gguf-adapter") and out.suffix != ".gguf":
        raise ConfigError(f"{out} would be a GGUF file and must end in .gguf")
    if folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise AdapterError(f"{out} lies in {folder}, whose files never change: choose another place")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A place beside `out` that gets its name when all is written, and is gone when that fails or is interrupted."""
    part = out.with_name(f".{out.stem}.{uuid4().hex[:8]}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.rename(part, out)
    except Exception as error:
        if (told := _disk(error)) is None:
            raise
        raise AdapterError(f"can't write {out} ({told}): make room or choose another disk") from error
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def _disk(error: Exception) -> str | None:
    """What the disk said, where it was the disk. The writer of safetensors, which is Rust, tells it in its own words."""
    if isinstance(error, OSError):
        return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
    told = str(error)
    if type(error).__name__ != "SafetensorError":
        return None
    return "the disk is full" if "os error 28" in told or "StorageFull" in told else told
