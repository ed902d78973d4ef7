"""How much memory training takes, part by part, from a model's configuration alone: no weights are loaded.

Weights, adapter, gradients and optimiser are counted on a model without storage (torch's meta device). Activations follow from the
layers of a decoder of the Llama kind: what autograd keeps for the backward pass of a LoRA model, a token at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ProviderError, TrainingError
from core.providers.loading import base_of
from core.providers.remote import first_line
from core.types import Record
from finetune.options import TrainConfig

log = logging.getLogger(__name__)

GB = 1e9
BATCHES = (1, 2, 4)
FOUR_BIT, EIGHT_BIT = 0.516, 1.01  # bytes a weight: NF4 with its constants quantised again; LLM.int8() with one scale a row
FEW_TOKENS = 4096  # a forward pass over fewer leaves a large processor idle, so that computing activations again is the lesser evil
LLAMA: Mapping[str, Mapping[str, Any]] = {
    "meta-llama/Llama-3.2-3B-Instruct": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "meta-llama/Llama-2-7b-chat-hf": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-2-13b-chat-hf": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
}
GUIDE = (*zip(("3B", "7B", "13B"), LLAMA, (16, 24, 40), (4, 2, 1), strict=True),)  # the guide's table: GB and batch size


@dataclass(frozen=True, slots=True)
class Estimate(Record):
    """Bytes by part. `row` is what the activations of one row of `length` tokens take."""

    parameters: int
    trained: int
    weights: int
    adapter: int
    gradients: int
    optimiser: int
    row: int
    length: int

    @property
    def resting(self) -> int:
        """What does not depend on the batch."""
        return self.weights + self.adapter + self.gradients + self.optimiser

    def total(self, batch: int) -> int:
        """With so many rows forward and back at a time."""
        return self.resting + batch * self.row


def estimate(config: TrainConfig, *, recompute: bool | None = None, on_gpu: bool = True) -> Estimate:
    """For the model and the options of a run. `on_gpu`: in 16 bits, and with a loss that never holds all logits."""
    return estimate_of(model_config(config.model), config, recompute=recompute, on_gpu=on_gpu)


def estimate_of(shape: Any, config: TrainConfig, *, recompute: bool | None = None, on_gpu: bool = True) -> Estimate:
    """For a model's configuration."""
    parameters, linear, trained = _counted(shape, config)
    wide = {"float32": 4, "bfloat16": 2, "float16": 2}.get(config.dtype, 2 if on_gpu else 4)
    narrow = FOUR_BIT if config.load_in_4bit else EIGHT_BIT if config.load_in_8bit else wide
    adapter = trained * (2 if config.load_in_4bit or config.load_in_8bit else 4)
    length = min(config.max_length, getattr(shape.get_text_config(), "max_position_embeddings", None) or config.max_length)
    again = (on_gpu if config.gradient_checkpointing is None else config.gradient_checkpointing) if recompute is None else recompute
    row = length * token_bytes(shape, recompute=again, on_gpu=on_gpu)
    weights = int(linear * narrow + (parameters - linear) * wide)
    return Estimate(parameters, trained, weights, adapter, adapter, 2 * adapter, int(row), length)


def token_bytes(shape: Any, *, recompute: bool, on_gpu: bool) -> float:
    """Bytes that autograd keeps for one token of a LoRA model, its peak in the backward pass included.

    In mixed precision every layer that has an adapter keeps a copy of its input in 16 bits and the norms keep theirs in 32; in 32 bits
    layers with the same input share it.
    """
    text = shape.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    heads = text.num_attention_heads
    width = (getattr(text, "head_dim", None) or hidden // heads) * heads
    layer = 18 * hidden + 14 * width + 8 * inner if on_gpu else 4 * (4 * hidden + 6 * width + 4 * inner)
    kept = (2 * layers * hidden if on_gpu else 4 * layers * hidden) + layer if recompute else layers * layer
    logits = 0 if on_gpu else 16 * text.vocab_size
    return float(1.1 * (kept + logits + 4 * max(inner, hidden)))


def fitting_tokens(model: Any, config: TrainConfig, longest: int, rows: int) -> tuple[int, bool]:
    """(tokens with padding to take forward and back at a time, whether to compute activations again), for the memory that is free now.

    `rows` of `longest` tokens make an update. The weights are loaded already; gradients and optimiser are still to come.
    """
    on_gpu = model.device.type != "cpu"
    free = free_memory(model.device) * (0.85 if on_gpu else 0.6)
    rest = 12 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    room = {again: int((free - rest) / token_bytes(model.config, recompute=again, on_gpu=on_gpu)) for again in (False, True)}
    asked = config.gradient_checkpointing
    again = asked if asked is not None else room[False] < min(rows * longest, max(FEW_TOKENS, longest))
    tokens = config.micro_tokens or room[again]
    if tokens < longest:
        needed = rest + longest * token_bytes(model.config, recompute=again, on_gpu=on_gpu)
        log.warning("%s", f"a row of {longest} tokens may need {needed / GB:.2g} GB and {free / GB:.2g} GB are free: {advice(config)}")
    return max(tokens, longest), again


def free_memory(device: Any) -> int:
    """Bytes that are free on that device; on a CPU within what this process's control group allows."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(available, int(limit) - int(used)) if limit != "max" else available
    except (OSError, ValueError):
        return available


def advice(config: TrainConfig) -> str:
    """What to do about too little memory, with numbers."""
    half = max(1, config.batch_size // 2)
    steps = config.effective_batch // half
    smaller = f"--batch-size {half} --gradient-accumulation-steps {steps} keeps the update the same"
    shorter = f"--max-length below {config.max_length}"
    ways = [shorter] if config.batch_size == 1 else [smaller, shorter]
    if not (config.load_in_4bit or config.load_in_8bit):
        ways.append("--load-in-4bit")
    return "; or ".join(ways)


def table(config: TrainConfig) -> str:
    """The estimate as text, beside the guide's table of memory requirements."""
    found = estimate(config)
    parts = {
        "weights": found.weights,
        "adapter": found.adapter,
        "gradients": found.gradients,
        "optimiser": found.optimiser,
        f"activations, a row of {found.length} tokens": found.row,
        **{f"total at batch size {batch}": found.total(batch) for batch in BATCHES},
    }
    few = ", 4 bit" if config.load_in_4bit else ", 8 bit" if config.load_in_8bit else ""
    lines = [
        f"{config.model}: {found.parameters / 1e6:,.4g} M parameters, {found.trained / 1e6:.3g} M trained (LoRA r={config.lora_r}){few}"
    ]
    lines += [f"  {name:40} {_gb(value):>10}" for name, value in parts.items()]
    lines += ["", "  the guide's table      GPU memory   batch size   by this estimate"]
    for size, name, memory, batch in GUIDE:
        there = estimate_of(_known(name), config).total(batch)
        lines.append(f"  {size:22} {memory:>7} GB {batch:>12} {_gb(there):>18}")
    return "\n".join(lines)


def model_config(name: str) -> Any:
    """The configuration of a model directory, an adapter's base or a hub id; of the guide's models also where the Hub can't be reached."""
    from transformers import AutoConfig

    base = base_of(name)
    try:
        return AutoConfig.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if base in LLAMA:
            log.warning("can't fetch the configuration of %s: its published sizes are used", base)
            return _known(base)
        raise ProviderError(f"can't read the configuration of {name}: {first_line(error)}") from error


def _known(name: str) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**LLAMA[name], max_position_embeddings=4096)


def _counted(shape: Any, config: TrainConfig) -> tuple[int, int, int]:
    """(parameters, those in linear layers but for the head, those of the adapter)."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape)
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{config.model} is no model that writes text: {first_line(error)}") from error
    head = model.get_output_embeddings()
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    targets = config.target_modules
    adapted = layers if targets == "all-linear" else [(name, m) for name, m in layers if _named(name, targets)]
    return (
        sum(p.numel() for p in model.parameters()),
        sum(m.weight.numel() for _, m in layers),
        config.lora_r * sum(m.in_features + m.out_features for _, m in adapted),
    )


def _named(name: str, targets: str | tuple[str, ...]) -> bool:
    wanted = (targets,) if isinstance(targets, str) else targets
    return any(name == target or name.endswith(f".{target}") for target in wanted)


def _gb(value: int) -> str:
    return f"{value / GB:.2f} GB" if value >= GB / 100 else f"{value / 1e6:.2f} MB"
