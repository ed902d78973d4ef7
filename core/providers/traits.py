"""What an engine has to know of a model before it decodes it."""

from __future__ import annotations

import os
from typing import Any

import torch

from core.errors import ProviderError

FULL, SLIDING = "full_attention", "sliding_attention"


def reach_of(config: Any) -> dict[str, int | None]:
    """How many positions back each kind of attention layer sees, None for all. Raises ProviderError for layers of another kind."""
    window, kinds = getattr(config, "sliding_window", None), set(kinds_of(config))
    if other := sorted(kinds - {FULL, SLIDING}):
        raise ProviderError(f"{config.model_type} models can't be decoded in process ({other[0]}): serve it with Ollama or another server")
    return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}


def kinds_of(config: Any) -> list[str]:
    """Of each layer."""
    window = getattr(config, "sliding_window", None)
    return list(getattr(config, "layer_types", None) or [SLIDING if window else FULL] * config.num_hidden_layers)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Those that end a turn."""
    told = getattr(model.generation_config, "eos_token_id", None)
    ends = told if isinstance(told, list) else [told]
    return frozenset(i for i in [*ends, tokenizer.eos_token_id] if i is not None)


def free_memory(device: torch.device) -> int:
    """Bytes that may be had there."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 8 << 30
