"""GGUF files in llama.cpp itself, where llama-cpp-python is installed: its logits and its tokens are those of Transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import KINDS, bare_adapter, saved, small, split_like

from core.providers.loading import load, load_base
from finetune.export import export
from finetune.gguf import write_model
from finetune.gguf_tokens import PRE, SAMPLES

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python has to be built: pip install llama-cpp-python")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]

IDS = [5, 9, 2, 7, 5, 3, 40, 41, 300, 17, 6, 8] * 3


def off(model, path: Path, **options) -> float:
    """The largest difference of logits, as a share of their range."""
    with torch.inference_mode():
        ours = model(torch.tensor([IDS]), use_cache=False).logits[0].float().numpy()
    theirs = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, logits_all=True, verbose=False, **options)
    theirs.eval(IDS)
    found = np.array(theirs.scores[: len(IDS)])
    theirs.close()
    return float(np.abs(found - ours).max() / (ours.max() - ours.min()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weights", "most"), [("f16", 0.01), ("q8_0", 0.1)])
def test_llama_cpp_computes_the_logits_of_the_model(kind, weights, most, tmp_path):
    model = small(kind)
    model.config.architectures = [type(model).__name__]
    write_model(model, split_like("llama-bpe"), tmp_path / "model.gguf", weights=weights)

    assert off(model, tmp_path / "model.gguf") < most


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_llama_cpp_lays_an_adapter_over_its_base_as_peft_does(kind, tmp_path):
    base = saved(tmp_path / "base", kind)
    folder = bare_adapter(tmp_path / "adapter", base, rank=4, lora_alpha=6, spread=0.3)
    write_model(load_base(str(base), "cpu"), split_like("qwen2"), tmp_path / "base.gguf")
    export(folder, "gguf-adapter", tmp_path / "adapter.gguf")
    merged = load(str(folder), "cpu")[0]

    assert off(merged, tmp_path / "base.gguf", lora_path=str(tmp_path / "adapter.gguf")) < 0.01 < off(merged, tmp_path / "base.gguf")


@pytest.mark.parametrize("name", PRE)
def test_llama_cpp_reads_text_as_the_tokenizer_does(name, tmp_path):
    model, tokenizer = small("qwen2"), split_like(name)
    model.config.architectures = ["Qwen2ForCausalLM"]
    write_model(model, tokenizer, tmp_path / "model.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)

    for text in (*SAMPLES, "<|user|>Solve 17*6<|end|>\n<|assistant|>"):
        assert theirs.tokenize(text.encode(), add_bos=False, special=True) == tokenizer(text, add_special_tokens=False)["input_ids"]
    theirs.close()
