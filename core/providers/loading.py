"""From a directory, an adapter directory or a hub id to weights and tokenizer in memory. Code from a model's repository is never run."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from core.config import EMBEDDED
from core.errors import ConfigError, ProviderError
from core.providers.remote import first_line

EMBEDDED_DIRECTORY = Path(__file__).parent.parent / "embedded"
Quantization = Literal["none", "4bit", "8bit"]


def load(path: str, device: str = "auto", dtype: str = "auto", quantization: Quantization = "none") -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode; an adapter is merged into its base. Raises ProviderError when that can't be done."""
    model = load_base(path, device, dtype, quantization)
    return (with_adapter(model, path) if is_adapter(path) else model), load_tokenizer(path)


def load_base(path: str, device: str = "auto", dtype: str = "auto", quantization: Quantization = "none") -> Any:
    """The model of that name, of an adapter its base, on its device. 4 bit is NF4 (Dettmers et al., 2023), 8 bit is LLM.int8()."""
    _require_local_extra()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    chosen = usable_device(device)
    kind = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if chosen == "cpu" else torch.bfloat16)
    base = base_of(path)
    _check_directory(path, base)
    few_bits = {} if quantization == "none" else {"quantization_config": _few_bits(quantization, kind), "device_map": {"": chosen}}
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=kind, trust_remote_code=False, **few_bits)
        return (model if few_bits else model.to(chosen)).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as error:
        how = f" in {quantization}" if few_bits else ""
        raise ProviderError(f"can't load the model {path}{how}: {first_line(error)}") from error


def with_adapter(model: Any, path: str) -> Any:
    """The adapter merged into the model, or laid over it where merging would round it away in few bits."""
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads a name that transformers is about to rename
            model = PeftModel.from_pretrained(model, path)
            return (model if in_few_bits(model) else model.merge_and_unload()).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ProviderError(f"can't load the model {path}: {first_line(error)}") from error


def load_tokenizer(path: str) -> Any:
    """Of a model, or of an adapter that brings its own, else of its base."""
    from transformers import AutoTokenizer

    place = path if (Path(path) / "tokenizer_config.json").is_file() else base_of(path)
    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if Path(place).is_dir():
            raise ProviderError(f"no tokenizer in {place}: save one there with tokenizer.save_pretrained({place!r})") from error
        raise ProviderError(f"can't fetch {place} from the Hub: {first_line(error)}") from error


def is_adapter(path: str) -> bool:
    """True for a directory that holds a PEFT adapter."""
    return (Path(path) / "adapter_config.json").is_file()


def base_of(path: str) -> str:
    """The base model of an adapter directory; any other name is its own base, "embedded" the directory that ships."""
    import json

    if path == EMBEDDED:
        return str(EMBEDDED_DIRECTORY)
    if not is_adapter(path):
        return path
    config = Path(path) / "adapter_config.json"
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ProviderError(f"can't read {config} ({error}): fetch or train the adapter again") from error
    if not base:
        raise ProviderError(f"{config} does not name its base model: write it there as base_model_name_or_path")
    here = Path(path) / base
    return str(here.resolve()) if base.startswith(".") and here.exists() else str(base)


def in_few_bits(model: Any) -> bool:
    """True when its weights are quantised."""
    return bool(getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None))


def fingerprint(model: Any) -> str:
    """16 hex digits from up to 4,096 evenly spaced values of every tensor: other weights, other fingerprint."""
    return fingerprint_of(model.state_dict().items())


def fingerprint_of(tensors: Iterable[tuple[str, Any]]) -> str:
    """The same of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda named: named[0]):
        flat = tensor.detach().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(flat[:: max(1, flat.numel() // 4096)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def usable_device(name: str) -> str:
    """The device of that name, or the best there is. Raises ConfigError for one that is not there."""
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"DEVICE {name!r} is not usable here ({first_line(error)}): choose auto or cpu") from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _few_bits(quantization: Quantization, dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise ConfigError(f'{quantization} models need bitsandbytes: pip install "ratchet-agents[train]"')
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)


def _check_directory(path: str, base: str) -> None:
    """What the libraries would say of a wrong directory helps nobody."""
    if Path(path).is_dir() and base == path and not (Path(path) / "config.json").is_file():
        raise ProviderError(f"{path} holds no model: give a directory with config.json and weights, or with adapter_config.json")
    looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if base != path and looks_local and not Path(base).is_dir():
        raise ProviderError(f"the adapter {path} was made for the base model {base}, which is not there: put it back or train again")


def _require_local_extra() -> None:
    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing:
        raise ConfigError(f'in-process models need {", ".join(missing)}: pip install "ratchet-agents[local]"')
