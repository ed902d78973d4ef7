"""GGUF files for llama.cpp and what stands on it: a Llama, Qwen2 or Qwen3 model in F16 or Q8_0, or a LoRA adapter of one.

After llama.cpp's convert_hf_to_gguf.py and convert_lora_to_gguf.py. llama.cpp turns neighbouring values of a Llama head together where
Transformers turns its halves, so rows of its query and key projections change places; Qwen's don't. Left out: mixtures of experts,
sliding windows, SentencePiece tokenizers, other quantisations (llama-quantize makes them from F16).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from core.errors import AdapterError, ConfigError
from finetune.gguf_tokens import add_tokens

Weights = Literal["f16", "q8_0"]
ARCHITECTURES = {"LlamaForCausalLM": "LLAMA", "MistralForCausalLM": "LLAMA", "Qwen2ForCausalLM": "QWEN2", "Qwen3ForCausalLM": "QWEN3"}
BLOCK = 32  # values that share a scale in Q8_0
F16_MOST = 65504.0


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor on its way into the file: its name there, and in which form it is kept. `turned`: heads whose rows change places."""

    name: str
    values: Any
    form: str
    turned: int = 0


def write_model(model: Any, tokenizer: Any, out: Path, *, weights: Weights = "f16", name: str = "model", pre: str | None = None) -> None:
    """The model, its tokenizer and its chat template as one file. `pre` names llama.cpp's way to split text; None finds it out.

    Raises AdapterError for a model or a tokenizer that llama.cpp would run otherwise, OSError when it can't be written.
    """
    gguf = _package()
    config = model.config
    arch = _architecture(config)
    if len(tokenizer) > config.vocab_size:
        raise AdapterError(f"the tokenizer has {len(tokenizer)} tokens and the model {config.vocab_size}: they don't belong together")
    tensors = list(_tensors(gguf, model, arch, weights))
    writer = gguf.GGUFWriter(str(out), gguf.MODEL_ARCH_NAMES[arch])
    try:
        _add_config(gguf, writer, config, weights, name)
        add_tokens(gguf, writer, tokenizer, config.vocab_size, model, pre)
        _write(gguf, writer, tensors)
    finally:
        writer.close()


def write_adapter(folder: Path, config: Any, out: Path) -> None:
    """A plain LoRA adapter as a file that llama.cpp lays over the GGUF of its base (`--lora`, `ADAPTER`). `config`: that of the base."""
    from safetensors.torch import load_file

    gguf = _package()
    arch = _architecture(config)
    lora = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if reason := why_no_adapter(lora):
        raise AdapterError(f"{folder} can't be a GGUF adapter ({reason}): export it with kind gguf, merged into its base")
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tensors = []
    for key, values in sorted(load_file(str(folder / "adapter_model.safetensors")).items()):
        path, _, which = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        target = names.get_name(f"{path}.weight", try_suffixes=(".weight",))
        if target is None or which not in ("lora_A", "lora_B"):
            raise AdapterError(f"{folder} adapts {path}, which a GGUF adapter can't: export it with kind gguf, merged into its base")
        turned = _turned(arch, config, path) if which == "lora_B" else 0
        tensors.append(_Tensor(f"{target}.{which.lower()}", values, "F32", turned))
    writer = gguf.GGUFWriter(str(out), gguf.MODEL_ARCH_NAMES[arch])
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp divides by the rank; rank-stabilised LoRA divides by its root
        alpha = float(lora["lora_alpha"]) * (math.sqrt(lora["r"]) if lora.get("use_rslora") else 1.0)
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        _write(gguf, writer, tensors)
    finally:
        writer.close()


def why_no_adapter(lora: dict[str, Any]) -> str | None:
    """Why an adapter of that configuration is more than A and B with one alpha; None when it isn't."""
    more = (
        "use_dora",
        "modules_to_save",
        "alpha_pattern",
        "rank_pattern",
        "trainable_token_indices",
        "target_parameters",
        "layer_replication",
    )
    if lora.get("peft_type") != "LORA":
        return f"it is {lora.get('peft_type')}, not LoRA"
    if lora.get("bias", "none") != "none":
        return "it has biases"
    return next((f"it has {name}" for name in more if lora.get(name)), None)


def _package() -> Any:
    if find_spec("gguf") is None:
        raise ConfigError('GGUF files need the package gguf: pip install "ratchet-agents[train]"')
    import gguf

    return gguf


def _architecture(config: Any) -> Any:
    """llama.cpp's name of the build. Raises AdapterError for one that it would run otherwise than Transformers does."""
    import gguf

    kind = (getattr(config, "architectures", None) or ["none"])[0]
    if kind not in ARCHITECTURES:
        raise AdapterError(f"{kind} can't be written as GGUF here, only {', '.join(ARCHITECTURES)}: use llama.cpp's convert_hf_to_gguf.py")
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"} or (kind == "MistralForCausalLM" and getattr(config, "sliding_window", None)):
        raise AdapterError(f"this {kind} has sliding windows, which llama.cpp would ignore: use another server")
    if config.hidden_act != "silu":
        raise AdapterError(f"this {kind} has the activation {config.hidden_act}, llama.cpp takes silu: use another server")
    return gguf.MODEL_ARCH[ARCHITECTURES[kind]]


def _turned(arch: Any, config: Any, path: str) -> int:
    """How many heads of that projection have their rows in another order in llama.cpp."""
    if arch.name != "LLAMA":
        return 0
    last = path.rpartition(".")[2]
    return int({"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(last, 0))


def _tensors(gguf: Any, model: Any, arch: Any, weights: Weights) -> Iterator[_Tensor]:
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    for key, values in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise AdapterError(f"GGUF has no name for {key}: use llama.cpp's convert_hf_to_gguf.py")
        form = "F32" if values.dim() < 2 else "Q8_0" if weights == "q8_0" and values.shape[-1] % BLOCK == 0 else "F16"
        path = key.removesuffix(".weight").removesuffix(".bias")
        yield _Tensor(name, values, form, _turned(arch, model.config, path))
    if (factors := _rotation_factors(model.config)) is not None:
        yield _Tensor("rope_freqs.weight", factors, "F32")


def _rotation(config: Any) -> tuple[str, dict[str, Any]]:
    found = dict(getattr(config, "rope_parameters", None) or {})
    return str(found.get("rope_type", "default")), found


def _rotation_factors(config: Any) -> Any:
    """By what Llama 3 slows down each rotation (half a head)."""
    kind, rotation = _rotation(config)
    if kind != "llama3":
        return None
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    slowed, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    size = _head(config)
    return 1.0 / (rotation["rope_theta"] ** (torch.arange(0, size, 2).float() / size)) / slowed.float()


def _head(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _add_config(gguf: Any, writer: Any, config: Any, weights: Weights, name: str) -> None:
    kind, rotation = _rotation(config)
    head = _head(config)
    if kind not in ("default", "linear", "llama3", "yarn") or float(rotation.get("partial_rotary_factor") or 1.0) != 1.0:
        raise AdapterError(f"rotary positions of kind {kind} can't be written as GGUF here: use llama.cpp's convert_hf_to_gguf.py")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if weights == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rotation.get("rope_theta", 10_000.0)))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rotation["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(rotation["original_max_position_embeddings"]))


def _write(gguf: Any, writer: Any, tensors: list[_Tensor]) -> None:
    """Sizes first, then one tensor after the other, so that no second copy of the model is in memory."""
    import numpy as np

    forms = {"F32": np.float32, "F16": np.float16, "Q8_0": np.uint8}
    for tensor in tensors:
        kind, shape = gguf.GGMLQuantizationType[tensor.form], tuple(tensor.values.shape)
        if tensor.form == "Q8_0":
            shape = gguf.quant_shape_to_byte_shape(shape, kind)
        dtype = np.dtype(forms[tensor.form])
        writer.add_tensor_info(tensor.name, shape, dtype, math.prod(shape) * dtype.itemsize, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(_array(gguf, tensor))


def _array(gguf: Any, tensor: _Tensor) -> Any:
    values = tensor.values.detach().float().cpu()
    if not values.isfinite().all():
        raise AdapterError(f"{tensor.name} holds values that are no numbers: the training has diverged")
    if tensor.form == "F16" and float(values.abs().max()) > F16_MOST:
        raise AdapterError(f"{tensor.name} holds values beyond {F16_MOST:g}, the most that F16 holds: export a merged model instead")
    if tensor.turned:
        values = permuted(values, tensor.turned)
    array = values.contiguous().numpy()
    return gguf.quants.quantize(array, gguf.GGMLQuantizationType[tensor.form])


def permuted(values: Any, heads: int) -> Any:
    """Rows of each head from (first half, second half) to pairs of one from each: shape (heads * size, ...) stays."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
