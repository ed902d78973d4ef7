"""Small models of several builds with random weights, tokenizers of several kinds, and adapters, for the tests of exports and swaps."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.providers.loading import EMBEDDED_DIRECTORY, load_tokenizer
from finetune.adapters import register
from finetune.gguf_tokens import PRE

CHATML = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|system|>You help.<|end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|' + message['role'] + '|>' + message['content'] }}{% generation %}{{- '' }}{% endgeneration %}"
    "{{- '<|end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}
KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama3": (
        LlamaConfig,
        LlamaForCausalLM,
        {
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10_000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True, "head_dim": 16}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": False}),
}


def split_like(name: str, template: str = CHATML) -> PreTrainedTokenizerFast:
    """The embedded model's tokens and merges, with text split as llama.cpp's `name` splits it."""
    from tokenizers import Regex, pre_tokenizers

    backend = Tokenizer.from_file(str(EMBEDDED_DIRECTORY / "tokenizer.json"))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PRE[name]]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = template
    return tokenizer


def small(kind: str, seed: int = 0):
    """A model of that build. Its norms and biases are random too, so that a lost one shows."""
    config_class, model_class, more = KINDS[kind]
    torch.manual_seed(seed)
    model = model_class(config_class(**{**SHAPE, **more, "vocab_size": len(load_tokenizer("embedded"))}))
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            torch.nn.init.normal_(weight, mean=0.0 if "bias" in name else 1.0, std=0.3)
    return model.eval()


def saved(folder: Path, kind: str, pre: str = "qwen2", seed: int = 0) -> Path:
    """A model directory."""
    model = small(kind, seed)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    split_like(pre).save_pretrained(folder)
    return folder


def adapter(folder: Path, base: str | Path = "embedded", seed: int = 0, *, spread: float = 0.1, rank: int = 2, **options) -> Path:
    """An adapter with random weights, as training leaves it, with its manifest."""
    bare_adapter(folder, base, seed, spread=spread, rank=rank, **options)
    register(folder, domain="math", trainer="sft", trace_ids=[], settings={}, metrics={}, device="cpu")
    return folder


def bare_adapter(folder: Path, base: str | Path = "embedded", seed: int = 0, *, spread: float = 0.1, rank: int = 2, **options) -> Path:
    """The same without a manifest."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    place = EMBEDDED_DIRECTORY if base == "embedded" else base
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    torch.manual_seed(seed)
    config = {"target_modules": ["q_proj", "k_proj", "up_proj"], "lora_alpha": 2 * rank, **options}
    tuned = get_peft_model(model, LoraConfig(r=rank, **config))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread) if spread else torch.nn.init.zeros_(weight)
    tuned.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def edited(folder: Path, **changes) -> Path:
    """Its adapter_config.json with other values."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
