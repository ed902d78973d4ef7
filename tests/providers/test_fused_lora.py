"""Adapters on the fused pass of small models: the logits are those of PEFT, in every mixture, and what is not proved goes the other way."""

import asyncio
import threading

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from core.config import Settings
from core.providers import local
from core.providers.adapters import Adapter, Weights
from core.providers.engine import Engine, Job
from core.providers.fused_lora import Loras
from core.providers.host import Host
from core.providers.loading import EMBEDDED_DIRECTORY, load
from core.types import Message, Request, Sampling

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # of the head, which shares its weights with the embedding: here it is to have an adapter all the same
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

SHAPES = {
    "a": {"r": 2, "target_modules": ["q_proj", "v_proj"]},
    "b": {"r": 5, "target_modules": "all-linear", "lora_alpha": 20, "use_rslora": True},
    "c": {"r": 3, "target_modules": ["down_proj", "lm_head"], "rank_pattern": {"layers.0.mlp.down_proj": 7}},
}
PROMPTS = [[5, 9, 40, 7, 11], [8, 30, 6], [5, 9, 41, 3], [7, 7, 20, 9, 12, 31, 4]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, options) in enumerate(SHAPES.items()):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(EMBEDDED_DIRECTORY, dtype=torch.float32)
        get_peft_model(base, LoraConfig(init_lora_weights=False, **options)).save_pretrained(root / name, save_embedding_layers=False)
    return {name: str(root / name) for name in SHAPES}


@pytest.fixture(scope="module")
def host(folders):
    weights, tokenizer = load("embedded", "cpu")
    host = Host(weights, tokenizer, "shared", threads=1)
    for folder in folders.values():
        assert host.call(lambda folder=folder: host.adapters.bring(Adapter.read(folder)))
    yield host
    host.leave(None, RuntimeError("done"))


def answered(engine, jobs):
    for job in jobs:
        engine.add(job)
    while engine.busy:
        engine.step()
    return [(job.texts[0].text, pytest.approx(job.texts[0].mean_logprob, abs=1e-3)) for job in jobs]


def jobs(folders, names):
    adapters = [Adapter.read(folders[name]).name if name else None for name in names]
    return [Job(list(prompt), 1, Sampling(max_tokens=12), adapter=name) for prompt, name in zip(PROMPTS, adapters, strict=True)]


@pytest.mark.parametrize("names", [["a"] * 4, ["b"] * 4, ["c"] * 4, [None] * 4, ["a", "b", "c", None], ["c", None, "a", "c"]])
def test_a_batch_of_any_mixture_says_what_peft_says(names, host, folders, monkeypatch):
    def both():
        host.engine.prefixes.clear()
        fused = answered(host.engine, jobs(folders, names))
        host.engine.prefixes.clear()
        monkeypatch.setattr(Loras, "of", lambda *_: None)
        plain = answered(host.engine, jobs(folders, names))
        return fused, plain

    fused, plain = host.call(both)
    assert fused == plain


def test_no_pass_goes_through_peft_once_an_adapter_is_proved(host, folders, monkeypatch):
    def counted():
        answered(host.engine, jobs(folders, ["a", "b", "c", None]))
        asked = []
        monkeypatch.setattr(PeftModel, "forward", lambda *_, **__: asked.append(1))
        answered(host.engine, jobs(folders, ["a", None, "c", "b"]))
        return asked

    assert host.call(counted) == []


def test_an_adapter_whose_tables_say_something_else_is_answered_by_peft(folders, monkeypatch):
    from core.providers import fused_lora

    halves = fused_lora._stacked
    weights, tokenizer = load("embedded", "cpu")
    own = Host(weights, tokenizer, "own", threads=1)
    assert own.call(lambda: own.adapters.bring(Adapter.read(folders["a"])))
    right = own.call(lambda: answered(own.engine, jobs(folders, ["a"] * 4)))

    def doubled(given, parts):
        half = halves(given, parts)
        return half and (half[0], 2 * half[1])

    monkeypatch.setattr(fused_lora, "_stacked", doubled)
    own.engine.loras = Loras(own.engine._fused, {"full_attention": None}, own.engine._base, own.engine.probe, 0.05)

    def again():
        name = Adapter.read(folders["a"]).name
        return own.engine.loras.of([name]), answered(own.engine, jobs(folders, ["a"] * 4))

    mixed, found = own.call(again)
    own.leave(None, RuntimeError("done"))
    assert mixed is None
    assert found == right


def test_what_an_adapter_will_answer_is_told_ahead_on_any_thread_as_peft_tells_it_later(folders):
    weights, tokenizer = load("embedded", "cpu")
    own = Host(weights, tokenizer, "own", threads=1)
    assert own.call(lambda: own.adapters.bring(Adapter.read(folders["b"])))
    second, prompt = Adapter.read(folders["a"]), PROMPTS[0]

    told, names = own.adapters.ahead(second, Weights.read(second), prompt), own.adapters.names
    later = own.call(lambda: own.adapters.bring(second) and own.engine.probe(prompt, second.name))
    own.engine.loras._reach = {"sliding_attention": len(prompt) - 1}
    narrow = own.adapters.ahead(second, Weights.read(second), prompt)
    own.leave(None, RuntimeError("done"))

    assert second.name not in names
    assert told == pytest.approx(later, abs=1e-4)
    assert narrow is None


def test_a_second_adapter_is_proved_while_the_engine_is_in_the_middle_of_a_step(folders):
    settings = Settings(_env_file=None, DEVICE="cpu", THREADS=1, ADAPTERS="shared")
    first = local.connect(folders["b"], settings)
    engine, begun, go_on = first.host.engine, threading.Event(), threading.Event()
    step = engine.step

    def held():
        begun.set()
        assert go_on.wait(60)
        return step()

    def ask(model):
        return asyncio.run(model.complete(Request((Message("user", "Solve 1+1"),), 1, Sampling(max_tokens=4)))).completions[0].text

    engine.step = held
    asking = threading.Thread(target=ask, args=(first,))
    asking.start()
    assert begun.wait(60)
    second = local.connect(folders["a"], settings)
    told, loaded = second.probe(), len(first.host.adapters.names)
    go_on.set()
    asking.join()

    alone = local.connect(folders["a"], settings.model_copy(update={"ADAPTERS": "merged"}))
    assert loaded == 1
    assert told == pytest.approx(alone.probe(), abs=1e-4)
    assert second.fingerprint == alone.fingerprint
    assert ask(second) == ask(alone)
    for model in (first, second, alone):
        asyncio.run(model.close())


def test_a_model_that_is_not_fused_has_no_tables():
    weights, tokenizer = load("embedded", "cpu", "bfloat16")

    assert not Engine(weights, tokenizer).loras
