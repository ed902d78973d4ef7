import asyncio

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers import loading
from core.providers.adapters import Adapter
from core.providers.engine import Engine
from core.providers.fused import fuse
from core.providers.host import Host
from core.providers.loading import EMBEDDED_DIRECTORY, fingerprint, load, load_base, with_adapter
from core.providers.local import LocalModel, connect
from core.types import Message, Request, Sampling

pytestmark = [
    # PEFT asks a transformers model for a property under its old name
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # bitsandbytes tells of its casts
    pytest.mark.filterwarnings("ignore:MatMul8bitLt.*:UserWarning"),
]
ASK = Request((Message("user", "Solve 17*6+23"),), n=2, sampling=Sampling(max_tokens=12))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED_DIRECTORY, dtype=torch.float32)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_model_in_few_bits_answers_under_a_fingerprint_of_its_own(bits):
    weights, tokenizer = load("embedded", "cpu", "float32", bits)
    model = LocalModel(Host(weights, tokenizer, bits), bits)

    reply = asyncio.run(model.complete(ASK))
    asyncio.run(model.close())

    assert len(reply.completions) == 2
    assert model.fingerprint != fingerprint(load("embedded", "cpu")[0])


def test_an_adapter_is_laid_over_a_base_in_few_bits_and_not_rounded_away(adapter):
    weights, tokenizer = load(adapter, "cpu", "float32", "4bit")
    base = load_base(adapter, "cpu", "float32", "4bit")
    one, shared = Host(weights, tokenizer, "one"), Host(base, tokenizer, "shared")
    prompt = [5, 9, 40, 7]

    alone = one.call(lambda: one.engine.probe(prompt))
    plain = shared.call(lambda: shared.engine.probe(prompt))
    brought = Adapter.read(adapter)
    beside = shared.call(lambda: shared.adapters.bring(brought) and shared.engine.probe(prompt, brought.name))

    assert beside == pytest.approx(alone, abs=1e-3)
    assert beside != pytest.approx(plain, abs=5e-3)
    for host in (one, shared):
        host.leave(None, ProviderError("done"))


def test_few_bits_without_bitsandbytes_name_what_to_install(monkeypatch):
    find = loading.find_spec
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))

    with pytest.raises(ConfigError, match=r'4bit models need bitsandbytes: pip install "ratchet-agents\[train\]"'):
        load("embedded", "cpu", quantization="4bit")


def test_few_bits_that_the_library_can_not_do_are_told(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no kernel for this device")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)

    with pytest.raises(ProviderError, match="can't load the model embedded in 4bit: no kernel for this device"):
        load("embedded", "cpu", quantization="4bit")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_answers_in_the_precision_that_is_set(dtype):
    model = connect(str(EMBEDDED_DIRECTORY), Settings(_env_file=None, DEVICE="cpu", THREADS=1, DTYPE=dtype))

    assert model.host.engine.model.dtype == getattr(torch, dtype)
    assert len(asyncio.run(model.complete(ASK)).completions) == 2
    asyncio.run(model.close())


def test_a_search_reads_that_it_runs_in_process_and_who_never_reflects(adapter):
    model = connect(adapter, Settings(_env_file=None, DEVICE="cpu", THREADS=1))
    plain = LocalModel(model.host, "another")

    assert LocalModel.in_process is True
    assert (model.reflects, plain.reflects) == (False, True)
    asyncio.run(model.close())
    asyncio.run(plain.close())


def test_a_model_with_hooks_or_adapters_or_of_another_precision_is_not_fused(adapter):
    weights, tokenizer = load("embedded", "cpu")
    kinds = ["full_attention"] * 4
    assert fuse(weights, kinds)
    assert Engine(weights, tokenizer)._fused

    handle = weights.model.layers[0].register_forward_hook(lambda *_: None)
    assert fuse(weights, kinds) is None
    handle.remove()
    assert fuse(load("embedded", "cpu", "bfloat16")[0], kinds) is None
    merged = with_adapter(weights, adapter)
    assert fuse(merged, kinds)
    laid_over = get_peft_model(weights, LoraConfig(r=2, target_modules=["q_proj"]))
    assert fuse(laid_over.get_base_model(), kinds) is None


def test_the_fused_pass_gives_the_logits_of_the_model():
    weights, tokenizer = load("embedded", "cpu")
    ids = tokenizer("Solve 17*6+23 and 4+5, then 6", add_special_tokens=False)["input_ids"]
    engine = Engine(weights, tokenizer)

    with torch.inference_mode():
        got = engine._read([ids, ids[:5]], [None, None], [0, 1], [0, 0])
        further = engine._read([ids, ids[:5]], [None, None], [0, 1], [3, 2])
        expected = torch.stack([weights(torch.tensor([part])).logits[0, -1] for part in (ids, ids[:5])])

    assert torch.allclose(got, expected, atol=1e-4)
    assert torch.allclose(further, expected, atol=1e-4)
