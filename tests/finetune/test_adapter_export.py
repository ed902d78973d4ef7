"""Exports answer as the adapter does, in a form that the other program reads, or are not there."""

from __future__ import annotations

import asyncio
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import gguf
import jinja2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import CHATML, SHAPE, adapter, bare_adapter, edited, saved, small, split_like

from core.config import Settings
from core.errors import AdapterError, ConfigError
from core.providers.loading import EMBEDDED_DIRECTORY, load, load_base, load_tokenizer
from core.providers.local import connect
from core.types import Message, Request
from finetune.export import export, load_gguf
from finetune.gguf import permuted, write_adapter, write_model
from finetune.gguf_tokens import plain_template, pre_tokenizer
from finetune.modelfile import Turnings, turnings

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

IDS = torch.tensor([[5, 9, 2, 7, 5, 3, 40, 41, 300, 17, 6, 8] * 3])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return adapter(tmp_path_factory.mktemp("adapters") / "math")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """An adapter of a small Qwen3."""
    root = tmp_path_factory.mktemp("qwen")
    return adapter(root / "adapter", saved(root / "base", "qwen3"))


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits[0].float()


def fields(path: Path) -> dict:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@contextmanager
def no_room(size: int):
    """No file may grow beyond that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_merged_model_is_served_as_the_adapter_is_and_keeps_the_precision_of_its_base(trained, tmp_path):
    out = tmp_path / "merged"

    done = export(trained, "merged", out)

    assert done.parity.share >= 0.75
    assert done.bytes == sum(file.stat().st_size for file in out.iterdir())
    assert next(iter(load_file(out / "model.safetensors").values())).dtype is torch.bfloat16
    assert load_tokenizer(str(out)).chat_template == load_tokenizer(str(trained)).chat_template
    model = connect(str(out), Settings(_env_file=None, DEVICE="cpu", THREADS=1))
    assert asyncio.run(model.complete(Request((Message("user", "Solve 17*6"),)))).completions[0].text
    asyncio.run(model.close())
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_merged_model_in_full_precision_has_the_adapters_logits(trained, tmp_path):
    export(trained, "merged", tmp_path / "merged", dtype="float32", least=1.0)

    assert logits(load_base(str(tmp_path / "merged"), "cpu")) == pytest.approx(logits(load(str(trained), "cpu")[0]), abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "llama3", "qwen2", "qwen3"])
def test_a_gguf_file_read_by_other_code_has_the_logits_of_the_model(kind, tmp_path):
    model, path = small(kind), tmp_path / "model.gguf"
    model.config.architectures = [type(model).__name__]

    write_model(model, split_like("qwen2"), path, name=kind)

    expected = logits(model)
    # Transformers looks for neither Llama 3's slowed rotations nor the size of Qwen3's heads in the file: that is done below
    read = load_gguf(path, config=model.config if kind in ("llama3", "qwen3") else None)
    assert float((logits(read) - expected).abs().max()) < 0.01 * float(expected.max() - expected.min())


def test_eight_bits_differ_from_sixteen_by_what_rounding_makes(tmp_path):
    model = small("qwen3")
    model.config.architectures = ["Qwen3ForCausalLM"]
    for weights in ("f16", "q8_0"):
        write_model(model, split_like("qwen2"), tmp_path / f"{weights}.gguf", weights=weights)
    expected, spread = logits(model), float(logits(model).max() - logits(model).min())

    read = {weights: load_gguf(tmp_path / f"{weights}.gguf", config=model.config) for weights in ("f16", "q8_0")}
    off = {weights: float((logits(model) - expected).abs().max()) / spread for weights, model in read.items()}

    assert off["f16"] < off["q8_0"] < 0.1
    assert (tmp_path / "q8_0.gguf").stat().st_size < 0.65 * (tmp_path / "f16.gguf").stat().st_size


def test_rows_of_a_llama_head_become_pairs_of_both_halves():
    rows = torch.arange(16.0).reshape(8, 2)

    found = permuted(rows, 2)

    assert [int(row[0]) // 2 for row in found] == [0, 2, 1, 3, 4, 6, 5, 7]


def test_llama_three_slows_its_rotations_as_the_file_says(tmp_path):
    model = small("llama3")
    model.config.architectures = ["LlamaForCausalLM"]
    write_model(model, split_like("llama-bpe"), tmp_path / "model.gguf")

    (factors,) = [tensor.data for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors if tensor.name == "rope_freqs.weight"]

    plain = 10_000.0 ** -(torch.arange(0, 32, 2) / 32)
    assert plain / torch.from_numpy(np.array(factors)) == pytest.approx(model.model.rotary_emb.inv_freq, rel=1e-5)
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(8.0)


def test_tokens_merges_and_template_go_with_the_weights(tmp_path):
    model, tokenizer = small("qwen2"), split_like("qwen2")
    model.config.architectures = ["Qwen2ForCausalLM"]
    write_model(model, tokenizer, tmp_path / "model.gguf", name="math")

    found = fields(tmp_path / "model.gguf")

    assert found["general.architecture"] == "qwen2"
    assert found["general.name"] == "math"
    assert found["tokenizer.ggml.pre"] == "qwen2"
    assert found["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert found["tokenizer.ggml.token_type"][:6] == [3, 3, 3, 3, 3, 1]
    assert found["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert found["tokenizer.ggml.merges"] == [" ".join(pair) for pair in _merges(tokenizer)]
    assert found["qwen2.attention.head_count_kv"] == SHAPE["num_key_value_heads"]
    assert found["qwen2.attention.key_length"] == 16
    assert found["qwen2.rope.freq_base"] == 10_000.0
    turns = [{"role": "user", "content": "hi"}]
    rendered = jinja2.Template(found["tokenizer.chat_template"]).render(messages=turns, add_generation_prompt=True)
    assert rendered == tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def _merges(tokenizer) -> list:
    import json

    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2", "smollm", "gpt-2"])
def test_how_text_is_split_is_found_out(name):
    assert pre_tokenizer(split_like(name)) == name


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused_with_the_nearest():
    with pytest.raises(AdapterError, match=r"the nearest, \S+, reads \d of 7 sample texts alike: export a merged model"):
        pre_tokenizer(load_tokenizer("embedded"))


def test_marks_of_what_is_trained_leave_a_template_and_its_spaces():
    marked = "a {%- generation %} b {% endgeneration -%} c"

    assert jinja2.Template(plain_template(marked)).render() == "a b c"


def test_an_adapter_as_gguf_is_the_same_change_of_the_same_weights(tmp_path):
    base = saved(tmp_path / "base", "llama")
    folder = bare_adapter(tmp_path / "adapter", base, rank=4, lora_alpha=6)
    model = load_base(str(base), "cpu")

    export(folder, "gguf-adapter", tmp_path / "adapter.gguf")

    found = fields(tmp_path / "adapter.gguf")
    tensors = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in gguf.GGUFReader(tmp_path / "adapter.gguf").tensors}
    assert (found["general.type"], found["adapter.type"], found["adapter.lora.alpha"]) == ("adapter", "lora", 6.0)
    ours = load(str(folder), "cpu")[0].state_dict()
    for path, name, heads in (("self_attn.q_proj", "attn_q", 4), ("self_attn.k_proj", "attn_k", 2), ("mlp.up_proj", "ffn_up", 0)):
        key = f"model.layers.1.{path}.weight"
        change = ours[key] - model.state_dict()[key]
        theirs = 6 / 4 * tensors[f"blk.1.{name}.weight.lora_b"] @ tensors[f"blk.1.{name}.weight.lora_a"]
        assert theirs == pytest.approx(permuted(change, heads) if heads else change, abs=1e-5)
    assert len(tensors) == 2 * 2 * 3


def test_rank_stabilised_adapters_keep_their_strength(tmp_path):
    base = saved(tmp_path / "base", "qwen3")
    folder = bare_adapter(tmp_path / "adapter", base, rank=4, lora_alpha=6, use_rslora=True)

    export(folder, "gguf-adapter", tmp_path / "adapter.gguf")

    assert fields(tmp_path / "adapter.gguf")["adapter.lora.alpha"] / 4 == pytest.approx(6 / 4**0.5)


def test_for_ollama_the_modelfile_says_what_the_training_rendered(qwen, tmp_path):
    done = export(qwen, "ollama", tmp_path / "out", weights="q8_0", least=0.0)  # answers of random weights are all near ties

    told = (tmp_path / "out" / "Modelfile").read_text()
    assert told.startswith("FROM ./model.gguf\nTEMPLATE ")
    assert 'PARAMETER stop "<|end|>"\nPARAMETER num_ctx 256\n' in told
    assert turnings(load_tokenizer(str(qwen))).go() in told
    assert done.parity.prompts == 8
    assert fields(tmp_path / "out" / "model.gguf")["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_a_template_is_taken_apart_into_what_stands_around_each_role():
    found = turnings(split_like("qwen2"))

    assert found == Turnings(
        "<|system|>You help.<|end|>\n",
        ("<|system|>", "<|end|>\n"),
        ("<|user|>", "<|end|>\n"),
        ("<|assistant|>", "<|end|>\n"),
        "<|assistant|>",
    )
    assert "{{ if not .System }}<|system|>You help.<|end|>\n{{ end }}" in found.go()


def test_the_embedded_models_template_leaves_system_messages_out():
    found = turnings(load_tokenizer("embedded"))

    assert found.system is None
    assert '"system"' not in found.go()
    assert found.render([{"role": "user", "content": "q"}]) == "<|user|>q\n<|assistant|>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template"),
        ("{{ messages[0]['content'] }}", "doesn't open an answer"),
        (CHATML.replace("message['content']", "message['content'] | trim | upper"), "it leaves a message out"),
        (CHATML.replace("{{- '<|end|>\n' }}", "{{- loop.index ~ '<|end|>\n' }}"), "Ollama"),
    ],
)
def test_a_template_that_does_more_than_write_turns_is_refused(template, reason):
    with pytest.raises(AdapterError, match=reason):
        turnings(split_like("qwen2", template))


def test_an_export_that_answers_otherwise_is_none(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.gguf.permuted", lambda values, heads: values)

    with pytest.raises(AdapterError, match=r"does not answer as .* does: \d of 8 greedy answers are equal; the first difference"):
        export(trained, "gguf", tmp_path / "model.gguf", pre_tokenizer="gpt-2", least=1.0)

    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_is_not_what_its_manifest_says_is_not_exported(trained, tmp_path):
    damaged = Path(shutil.copytree(trained, tmp_path / "damaged"))
    weights = load_file(damaged / "adapter_model.safetensors")
    save_file({name: value * 2 for name, value in weights.items()}, damaged / "adapter_model.safetensors")

    with pytest.raises(AdapterError, match="is not the file that its manifest describes"):
        export(damaged, "merged", tmp_path / "out")


@pytest.mark.parametrize("kind", ["merged", "gguf", "ollama"])
def test_a_disk_without_room_is_told_and_nothing_is_left(trained, tmp_path, kind):
    out = tmp_path / ("model.gguf" if kind == "gguf" else "out")

    with no_room(100_000), pytest.raises(AdapterError, match=r"can't write .*: make room or choose another disk"):
        export(trained, kind, out, **({} if kind == "merged" else {"pre_tokenizer": "gpt-2"}))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "out", "wishes", "error", "said"),
    [
        ("onnx", "out", {}, ConfigError, "there is no export 'onnx': choose one of merged, gguf"),
        ("gguf", "out.bin", {}, ConfigError, "must end in .gguf"),
        ("gguf", "out.gguf", {"weights": "q4"}, ConfigError, "llama-quantize makes others from f16"),
        ("merged", "out", {"dtype": "int8"}, ConfigError, "dtype is auto, float32"),
        ("merged", "out", {"quant": 1}, ConfigError, "an export has no option 'quant'"),
        ("merged", "there", {}, AdapterError, "is there already: choose another place"),
        ("merged", "math/inside", {}, AdapterError, "whose files never change"),
        ("gguf", "out.gguf", {}, AdapterError, "llama.cpp knows no way to split text"),
    ],
)
def test_a_wish_that_can_not_be_is_told(trained, tmp_path, kind, out, wishes, error, said):
    (tmp_path / "there").mkdir()
    shutil.copytree(trained, tmp_path / "math")

    with pytest.raises(error, match=said):
        export(tmp_path / "math", kind, tmp_path / out, **wishes)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["math", "there"]


def test_what_is_no_directory_and_what_is_no_adapter_are_told(tmp_path):
    with pytest.raises(AdapterError, match="there is no directory"):
        export(tmp_path / "none", "merged", tmp_path / "out")
    with pytest.raises(AdapterError, match="is no adapter: export it with kind gguf"):
        export(EMBEDDED_DIRECTORY, "gguf-adapter", tmp_path / "out.gguf")


def test_builds_and_adapters_that_gguf_has_no_form_for_are_refused(tmp_path):
    model = small("qwen2")
    model.config.architectures = ["GPT2LMHeadModel"]
    with pytest.raises(AdapterError, match="GPT2LMHeadModel can't be written as GGUF here, only LlamaForCausalLM"):
        write_model(model, split_like("qwen2"), tmp_path / "model.gguf")
    model = small("llama")
    model.config.architectures = ["MistralForCausalLM"]
    model.config.sliding_window = 64
    with pytest.raises(AdapterError, match="has sliding windows"):
        write_model(model, split_like("qwen2"), tmp_path / "model.gguf")
    base = saved(tmp_path / "base", "qwen2")
    folder = edited(bare_adapter(tmp_path / "adapter", base), use_dora=True)
    with pytest.raises(AdapterError, match=r"can't be a GGUF adapter \(it has use_dora\)"):
        write_adapter(folder, model.config.__class__.from_pretrained(base), tmp_path / "adapter.gguf")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = small("qwen2")
    model.config.architectures = ["Qwen2ForCausalLM"]
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan

    with pytest.raises(AdapterError, match="holds values that are no numbers"):
        write_model(model, split_like("qwen2"), tmp_path / "model.gguf")
