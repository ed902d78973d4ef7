"""Swaps into vLLM and Ollama, through stand-ins that speak their APIs: what is proved is named by the slot, what isn't changes nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest
from ollama_maker import OllamaMaker
from small_models import adapter, bare_adapter, edited
from stand_in import closes, half, says, standing
from vllm_stand_in import VLLMStandIn

from core.config import Settings
from core.errors import AdapterError, ConfigError, ProviderError
from core.orchestrator import Orchestrator
from core.providers import connect
from core.providers.loading import load_tokenizer
from core.slots import read
from core.types import Message, Request, Sampling
from finetune.adapters import Registry, register
from finetune.backends.expected import Expected, in_process
from finetune.backends.ollama import Ollama
from finetune.backends.vllm import VLLM
from finetune.modelfile import turnings
from finetune.swap import roll_back, swap

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

PROMPTS = ("Solve 17*6+23", "Solve 9*9-12", "What is 48 / 4 - 5?")
ASK = Request((Message("user", PROMPTS[0]),), 1, Sampling(0.0, max_tokens=12))
ONE = {"prompts": PROMPTS, "max_tokens": 12}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("trained")
    return [adapter(root / name, seed=seed, spread=0.4) for seed, name in enumerate("abc", 1)]


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "adapters", who="tests")


@pytest.fixture(scope="module")
def expect():
    """What adapter and base answer, asked once."""
    known: dict[tuple, Expected] = {}

    def asked(folder: Path, prompts, max_tokens) -> Expected:
        key = json.loads((folder / "manifest.json").read_text())["fingerprint"], prompts, max_tokens
        if key not in known:
            known[key] = in_process(folder, prompts, max_tokens)
        return known[key]

    return asked


@pytest.fixture
def vllm(registry):
    with standing(VLLMStandIn(root=registry.folder.resolve())) as server:
        yield server
        server.shut()


@pytest.fixture
def ollama():
    with standing(OllamaMaker()) as server:
        yield server
        server.shut()


@pytest.fixture
def into_vllm(registry, vllm, expect):
    def swapped(reference: str, **options):
        with closing(VLLM(vllm.base, expect=expect, **ONE, **options)) as backend:
            return swap("math", reference, registry=registry, backend=backend, force=True, base="litellm:openai/toy/base")

    return swapped


@pytest.fixture
def into_ollama(registry, ollama, expect):
    def swapped(reference: str, **options):
        with closing(Ollama(ollama.host, expect=expect, **{**ONE, **options})) as backend:
            return swap("math", reference, registry=registry, backend=backend, force=True, base="ollama:toy")

    return swapped


def paths(server, *, without: str = "chat") -> list[str]:
    return [asked["path"] for asked in server.asked if without not in asked["path"]]


def test_a_version_is_loaded_into_vllm_under_its_own_name_and_proved_before_the_slot_names_it(trained, registry, vllm, into_vllm, expect):
    version = registry.add(trained[0], "math")

    done = into_vllm(version.reference)

    (asked,) = [asked for asked in vllm.asked if asked["path"] == "/v1/load_lora_adapter"]
    assert asked == {"path": "/v1/load_lora_adapter", "lora_name": "math@1", "lora_path": str(version.folder.resolve())}
    assert done.spec == "litellm:openai/math@1"
    assert done.backend == "vLLM"
    assert done.proof.from_base > 0.01
    assert done.proof.parity.share == 1.0
    assert read(registry.folder, "math").champion == "math@1"


@pytest.mark.slow
def test_what_vllm_serves_after_a_swap_answers_through_its_spec(trained, registry, vllm, into_vllm, expect):
    done = into_vllm(registry.add(trained[0], "math").reference)
    model = connect(done.spec, Settings(_env_file=None, API_BASE=vllm.base))

    async def asked() -> str:
        reply = await model.complete(ASK)
        await model.close()
        return reply.completions[0].text

    assert asyncio.run(asked()) == expect(trained[0], PROMPTS, 12).adapter[0]


def test_champion_and_previous_stay_in_vllm_and_the_one_before_goes(trained, registry, vllm, into_vllm):
    references = [registry.add(folder, "math").reference for folder in trained]

    for reference in references:
        into_vllm(reference)

    assert sorted(vllm.models) == ["math@2", "math@3", "toy/base"]


def test_going_back_in_vllm_loads_nothing_unless_the_server_has_lost_it(trained, registry, vllm, into_vllm, expect):
    for folder in trained[:2]:
        into_vllm(registry.add(folder, "math").reference)
    before = len(vllm.asked)

    with closing(VLLM(vllm.base, expect=expect, **ONE)) as backend:
        done = roll_back("math", registry=registry, backend=backend)
        assert (done.reference, done.spec, done.proof) == ("math@1", "litellm:openai/math@1", None)
        assert len(vllm.asked) == before

        swap("math", "math@2", registry=registry, backend=backend, force=True)
        del vllm.models["math@1"], vllm.places["math@1"]
        done = roll_back("math", registry=registry, backend=backend)
    assert done.proof.parity.share == 1.0
    assert "math@1" in vllm.models


def unchanged(registry: Registry) -> bool:
    return not (registry.folder / "slots" / "math.json").exists()


@pytest.mark.parametrize(
    ("set_up", "options", "said"),
    [
        (lambda server: setattr(server, "updating", False), {}, "runtime LoRA updating is off .* VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (lambda server: setattr(server, "max_rank", 1), {}, "LoRA rank 2 is greater than max_lora_rank 1.*--max-lora-rank 2 or more"),
        (lambda server: None, {"place": lambda folder: f"/srv/{folder.name}"}, "finds no adapter at /srv/.* on its own disk .* place="),
        (lambda server: server.trouble.append(says(401, b'{"error": "Unauthorized"}')), {}, "refused the key"),
        (lambda server: server.trouble.append(says(500, b"boom")), {}, "vLLM says 'boom': is its base the one that math@1"),
        (lambda server: setattr(server, "ignores", True), {}, "answers the probe as its base does: the adapter did not take effect"),
    ],
    ids=["updating off", "rank", "not on its disk", "key", "its own error", "no effect"],
)
def test_what_vllm_refuses_or_does_not_do_is_told_and_changes_nothing(trained, registry, vllm, into_vllm, set_up, options, said):
    reference = registry.add(trained[0], "math").reference
    set_up(vllm)

    with pytest.raises(AdapterError, match=said):
        into_vllm(reference, **options)

    assert unchanged(registry)
    assert list(vllm.models) == ["toy/base"]


def test_weights_of_an_older_version_under_a_new_name_are_found_out(trained, registry, vllm, into_vllm):
    vllm.stale = True
    into_vllm(registry.add(trained[0], "math").reference)

    with pytest.raises(AdapterError, match=r"^math@2 on vLLM: \d of 3 greedy answers are equal"):
        into_vllm(registry.add(trained[1], "math").reference)

    assert read(registry.folder, "math").champion == "math@1"
    assert sorted(vllm.models) == ["math@1", "toy/base"]


def test_another_base_on_the_server_is_told(trained, registry, tmp_path, expect):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from core.providers.loading import EMBEDDED_DIRECTORY

    other = tmp_path / "other"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(EMBEDDED_DIRECTORY), trained[2]).merge_and_unload().save_pretrained(
        other
    )
    load_tokenizer("embedded").save_pretrained(other)
    reference = registry.add(trained[0], "math").reference

    with standing(VLLMStandIn(str(other), root=registry.folder.resolve())) as server:
        server._open = lambda path: connect(str(in_the_place_of_its_base(Path(path), other)), Settings(_env_file=None, DEVICE="cpu"))
        with (
            closing(VLLM(server.base, expect=expect, **ONE)) as backend,
            pytest.raises(AdapterError, match="the server's base answers otherwise than the base of the training: serve that one"),
        ):
            swap("math", reference, registry=registry, backend=backend, force=True, base="litellm:openai/toy/base")
        server.shut()

    assert unchanged(registry)


def in_the_place_of_its_base(folder: Path, base: Path) -> Path:
    """The server doesn't look which base an adapter names."""
    import shutil

    return edited(Path(shutil.copytree(folder, base.parent / "served")), base_model_name_or_path=str(base))


def test_another_adapter_under_the_name_is_not_taken_for_ours(trained, registry, vllm, into_vllm):
    reference = registry.add(trained[0], "math").reference
    vllm.models["math@1"], vllm.places["math@1"] = vllm.models["toy/base"], "/srv/other"

    with pytest.raises(AdapterError, match="serves another adapter, from /srv/other, under the name math@1"):
        into_vllm(reference)

    assert "math@1" in vllm.models


def test_a_base_that_vllm_does_not_serve_and_a_base_that_is_no_server_are_told(trained, registry, vllm, expect):
    reference = registry.add(trained[0], "math").reference

    with closing(VLLM(vllm.base, expect=expect, **ONE)) as backend:
        with pytest.raises(ProviderError, match="serves toy/base, not toy/other"):
            swap("math", reference, registry=registry, backend=backend, force=True, base="litellm:openai/toy/other")
        with pytest.raises(ConfigError, match="for vLLM it must be litellm:openai/MODEL"):
            swap("math", reference, registry=registry, backend=backend, force=True)
    assert unchanged(registry)


@pytest.mark.parametrize("trouble", [closes, half], ids=["closes", "half"])
def test_a_connection_that_breaks_is_told(trained, registry, vllm, into_vllm, trouble):
    reference = registry.add(trained[0], "math").reference
    vllm.trouble.append(trouble)

    with pytest.raises(ProviderError, match=r"the connection to vLLM at .* broke at /v1/load_lora_adapter"):
        into_vllm(reference)

    assert unchanged(registry)


def test_servers_that_are_away_and_addresses_that_are_none_are_told(trained, registry, expect):
    reference = registry.add(trained[0], "math").reference
    away = "http://127.0.0.1:9"
    for backend, base in ((VLLM(away, expect=expect), "litellm:openai/toy/base"), (Ollama(away, expect=expect), "ollama:toy")):
        with closing(backend), pytest.raises(ProviderError, match=f"no {backend.name} at {away}"):
            swap("math", reference, registry=registry, backend=backend, force=True, base=base)
    with pytest.raises(ConfigError, match="is no address"):
        VLLM("http://[::")
    with pytest.raises(ConfigError, match="is no address"):
        Ollama("http://[::")
    with pytest.raises(ConfigError, match="choose auto, adapter or gguf"):
        Ollama(form="merged")


def test_prompts_that_do_not_tell_adapter_from_base_prove_nothing():
    with pytest.raises(AdapterError, match="which proves nothing: give others"):
        Expected(("a",), ("1",), ("1",)).proved(["1"], None, 0.5, "math@1 on vLLM")


def test_a_llama_adapter_becomes_a_tag_of_ollama_with_the_template_and_stop_words_of_its_training(trained, registry, ollama, into_ollama):
    done = into_ollama(registry.add(trained[0], "math").reference)

    _, made = ollama.made["math:v1"]
    assert made["from"] == "toy"
    assert sorted(made["adapters"]) == ["adapter_config.json", "adapter_model.safetensors"]
    assert made["template"] == turnings(load_tokenizer("embedded")).go()
    assert made["parameters"] == {"num_ctx": 512, "stop": ["<|end|>"]}
    assert (done.spec, done.proof.parity.share) == ("ollama:math:v1", 1.0)


def test_what_ollama_serves_after_a_swap_answers_through_its_spec(trained, registry, ollama, into_ollama, expect):
    done = into_ollama(registry.add(trained[0], "math").reference)
    model = connect(done.spec, Settings(_env_file=None, OLLAMA_HOST=ollama.host))

    async def asked() -> str:
        reply = await model.complete(ASK)
        await model.close()
        return reply.completions[0].text

    assert asyncio.run(asked()).strip() == expect(trained[0], PROMPTS, 12).adapter[0].strip()


def test_the_next_question_to_the_slot_goes_to_the_new_tag(trained, registry, ollama, into_ollama):
    into_ollama(registry.add(trained[0], "math").reference)
    settings = Settings(_env_file=None, MATH_WORKER_MODEL="slot:math", REGISTRY=registry.folder, OLLAMA_HOST=ollama.host, MAX_TOKENS=12)

    with Orchestrator(settings) as orchestrator:
        results = [orchestrator.infer(PROMPTS[0], domain="math", strategy="single")]
        into_ollama(registry.add(trained[1], "math").reference)
        results.append(orchestrator.infer(PROMPTS[0], domain="math", strategy="single"))

    assert [result.model for result in results] == ["ollama:math:v1", "ollama:math:v2"]
    assert results[0].text != results[1].text


def test_what_ollama_can_not_convert_is_merged_and_sent_as_gguf(trained, registry, ollama, into_ollama):
    done = into_ollama(registry.add(trained[0], "math").reference, form="gguf", weights="f16", pre_tokenizer="gpt-2", least=0.6)

    _, made = ollama.made["math:v1"]
    assert list(made["files"]) == ["model.gguf"]
    assert "adapters" not in made
    assert "from" not in made
    assert made["parameters"]["stop"] == ["<|end|>"]
    assert done.proof.parity.share >= 0.6


def test_an_adapter_that_ollama_would_scale_otherwise_goes_as_gguf(tmp_path, registry, ollama, into_ollama):
    folder = bare_adapter(tmp_path / "odd", seed=7, spread=0.4, use_rslora=True)
    register(folder, domain="math", trainer="sft", trace_ids=[], settings={}, metrics={}, device="cpu")

    with pytest.raises(AdapterError, match=r"can't be laid over its base by Ollama \(it knows no rank-stabilised LoRA\): use form gguf"):
        into_ollama(registry.add(folder, "math").reference, form="adapter")
    into_ollama("math@1", weights="f16", pre_tokenizer="gpt-2", least=0.6)

    assert list(ollama.made["math:v1"][1]["files"]) == ["model.gguf"]


def test_tags_that_no_slot_would_go_back_to_are_removed(trained, registry, ollama, into_ollama):
    for folder in trained:
        into_ollama(registry.add(folder, "math").reference)

    assert sorted(ollama.made) == ["math:v2", "math:v3", "toy:latest"]


def test_a_tag_that_answers_as_its_base_is_refused_and_removed(trained, registry, ollama, into_ollama):
    ollama.forgets = True

    with pytest.raises(AdapterError, match="math:v1 on Ollama answers as its base does: the adapter did not take effect"):
        into_ollama(registry.add(trained[0], "math").reference)

    assert list(ollama.made) == ["toy:latest"]
    assert unchanged(registry)


def test_what_ollama_refuses_is_told_and_changes_nothing(trained, registry, ollama, into_ollama):
    ollama.build = "qwen3"

    with pytest.raises(AdapterError, match=r"nothing has changed: Ollama at .* refused it: unsupported architecture \(use form gguf\)"):
        into_ollama(registry.add(trained[0], "math").reference)

    assert list(ollama.made) == ["toy:latest"]
    assert unchanged(registry)


def test_an_adapter_that_was_damaged_is_not_sent(trained, registry, vllm, into_vllm, into_ollama):
    version = registry.add(trained[0], "math")
    (version.folder / "adapter_model.safetensors").write_bytes(b"{}")

    for into in (into_vllm, into_ollama):
        with pytest.raises(AdapterError, match="is not the file that its manifest describes"):
            into(version.reference)

    assert paths(vllm) == []
