import asyncio
import json
import random
import shutil
import threading

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers import connect
from core.providers.host import Host
from core.providers.local import EMBEDDED_DIRECTORY, LocalModel, base_of, fingerprint, load
from core.types import Message, Model, Request, Sampling

# PEFT asks a transformers model for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

SETTINGS = Settings(_env_file=None, DEVICE="cpu", THREADS=1)
ASK = Request((Message("user", "Solve 17*6+23"),), sampling=Sampling(max_tokens=12))
HOT = Sampling(temperature=1.0, max_tokens=20, seed=3)


@pytest.fixture(scope="module")
def model():
    connected = connect("embedded", SETTINGS)
    yield connected
    asyncio.run(connected.close())


@pytest.fixture
def own_model():
    """One that a test may close or break."""
    connected = connect("embedded", SETTINGS)
    yield connected
    asyncio.run(connected.close())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter of the embedded model that changes what it says."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED_DIRECTORY, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(folder)
    return folder


def ask(model, request=ASK):
    return asyncio.run(model.complete(request))


def texts(reply):
    return [completion.text for completion in reply.completions]


def question(number, **changes):
    return ASK.replace(messages=(Message("user", f"Solve {number}+{number}"),), **changes)


def test_the_embedded_model_answers_with_counts(model):
    reply = ask(model, ASK.replace(n=3, sampling=HOT))

    assert isinstance(model, Model)
    assert model.name == "embedded"
    assert len(reply.completions) == 3
    assert (reply.usage.calls, reply.usage.cost) == (1, 0.0)
    assert reply.usage.prompt_tokens > 5
    assert 3 <= reply.usage.completion_tokens <= 60


def test_a_prefix_is_continued_as_if_the_model_had_written_it(model):
    tokenizer = model.tokenizer
    whole = ask(model, ASK.replace(sampling=Sampling(max_tokens=8))).completions[0].text
    begun = tokenizer.decode(tokenizer(whole, add_special_tokens=False)["input_ids"][:4])

    rest = ask(model, ASK.replace(prefix=begun, sampling=Sampling(max_tokens=4))).completions[0].text

    assert begun + rest == whole


def test_more_samples_than_rows_are_decoded_in_turns():
    small = connect("embedded", SETTINGS.changed(BATCH_ROWS=3))
    large = connect("embedded", SETTINGS)
    request = ASK.replace(n=8, sampling=HOT)

    in_turns, at_once = texts(ask(small, request)), texts(ask(large, request))

    assert in_turns == at_once
    for connected in (small, large):
        asyncio.run(connected.close())


def test_event_loops_in_several_threads_ask_at_once_and_get_what_they_would_get_alone(model):
    requests = [question(number, n=3, sampling=HOT.replace(seed=number)) for number in range(2, 14)]
    alone = [texts(ask(model, request)) for request in requests]
    got = [None] * len(requests)

    def client(i):
        got[i] = texts(ask(model, requests[i]))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == alone


def test_closing_fails_the_requests_under_way_and_those_to_come(own_model):
    async def close_while_asking():
        long = ASK.replace(n=64, sampling=HOT.replace(max_tokens=400))
        asked = [asyncio.create_task(own_model.complete(long)) for _ in range(6)]
        await asyncio.sleep(0.05)
        await own_model.close()
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = asyncio.run(close_while_asking())

    assert {type(outcome) for outcome in outcomes} == {ProviderError}
    assert {str(outcome) for outcome in outcomes} == {"embedded was closed"}
    with pytest.raises(ProviderError, match="embedded was closed"):
        ask(own_model)


def test_a_failure_while_decoding_is_told_to_all_who_wait_and_to_all_who_come(own_model, monkeypatch):
    def broken():
        raise RuntimeError("out of memory")

    monkeypatch.setattr(own_model.host.engine, "step", broken)

    async def together():
        return await asyncio.gather(*(own_model.complete(question(n)) for n in range(3)), return_exceptions=True)

    assert {str(outcome) for outcome in asyncio.run(together())} == {"embedded failed while decoding: out of memory"}
    with pytest.raises(ProviderError, match="out of memory"):
        ask(own_model)


def test_a_job_that_the_engine_refuses_leaves_nobody_waiting(own_model, monkeypatch):
    def refuse(job):
        raise ValueError("no")

    monkeypatch.setattr(own_model.host.engine, "add", refuse)

    async def together():
        return await asyncio.gather(*(own_model.complete(question(n)) for n in range(3)), return_exceptions=True)

    assert {str(outcome) for outcome in asyncio.run(together())} == {"embedded failed while decoding: no"}


def test_a_cancelled_request_does_not_hold_up_the_others(own_model):
    async def cancel_some():
        long = ASK.replace(sampling=HOT.replace(max_tokens=300))
        with own_model.session():
            for begun in (False, True):
                doomed = asyncio.create_task(own_model.complete(long))
                await asyncio.sleep(0)
                while begun and not own_model.host.engine.busy:
                    await asyncio.sleep(0)
                doomed.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await doomed
            return await own_model.complete(ASK)

    assert asyncio.run(cancel_some()).completions[0].text == ask(own_model).completions[0].text


def test_batches_do_not_depend_on_how_long_clients_think(own_model, monkeypatch):
    """What a step decodes together is the same however long each client takes to come back."""
    steps = []
    decode = own_model.host.engine._decode

    def recorded():
        steps.append([(row.job.sampling.seed, row.sample, len(row.written)) for row in own_model.host.engine._rows])
        return decode()

    monkeypatch.setattr(own_model.host.engine, "_decode", recorded)

    async def client(number, rng):
        with own_model.session():
            for turn in range(3):
                await own_model.complete(question(number + turn, n=2, sampling=HOT.replace(seed=number * 10 + turn)))
                await asyncio.sleep(rng.random() / 20)

    async def clients(seed):
        steps.clear()
        await asyncio.gather(*(client(number, random.Random(seed + number)) for number in range(4)))
        return list(steps)

    assert asyncio.run(clients(0)) == asyncio.run(clients(100))


def test_a_client_that_does_not_come_back_is_waited_for_once_and_not_at_every_token(own_model, monkeypatch):
    monkeypatch.setattr("core.providers.local.PATIENCE", 0.1)
    waits, wait_for = [], own_model.host.turn.wait_for

    def recorded(predicate, timeout=None):
        waits.append(bool(wait_for(predicate, timeout)))
        return waits[-1]

    monkeypatch.setattr(own_model.host.turn, "wait_for", recorded)

    async def idle_next_to_busy():
        with own_model.session():
            await asyncio.create_task(busy())

    async def busy():
        with own_model.session():
            await own_model.complete(ASK.replace(sampling=HOT))

    asyncio.run(idle_next_to_busy())

    assert waits.count(False) == 1
    assert len(waits) > 3


def test_sessions_with_two_models_are_kept_apart(own_model, model):
    async def both():
        with own_model.session(), model.session():
            await own_model.complete(ASK)
            return await asyncio.gather(own_model.complete(ASK), model.complete(ASK))

    one, other = asyncio.run(both())

    assert texts(one) == texts(other)
    assert not own_model.host.sessions
    assert not model.host.sessions


@pytest.mark.parametrize(("times", "told"), [(400, r"are \d+ tokens"), (100_000, r"are at least \d+ tokens")])
def test_a_prompt_longer_than_the_context_is_told_with_both_numbers(model, times, told):
    with pytest.raises(ProviderError, match=rf"{told}, embedded takes \d+: shorten them"):
        ask(model, ASK.replace(messages=(Message("user", "Solve 1" + "+1" * times),)))


def test_a_prefix_counts_towards_the_context(model):
    with pytest.raises(ProviderError, match="the question and the work so far"):
        ask(model, ASK.replace(prefix="1 + 1 = 2\n" * 400))


def test_a_banned_start_is_not_written(model):
    favourite = ask(model).completions[0].text

    other = ask(model, ASK.replace(banned_start=favourite)).completions[0].text

    assert other[:1] != favourite[:1]


def test_an_adapter_is_served_merged_under_a_fingerprint_of_its_own(model, adapter):
    tuned = connect(str(adapter), SETTINGS)

    assert base_of(str(adapter)) == str(EMBEDDED_DIRECTORY)
    assert tuned.name == str(adapter)
    assert tuned.fingerprint != model.fingerprint
    assert tuned.probe() != pytest.approx(model.probe(), abs=1e-3)
    assert not any("lora" in name for name in tuned.host.engine.model.state_dict())
    assert len(ask(tuned).completions) == 1
    asyncio.run(tuned.close())


def test_a_fingerprint_names_the_weights(model, adapter):
    one, again = load("embedded", "cpu")[0], load("embedded", "cpu")[0]

    assert fingerprint(one) == fingerprint(again) == model.fingerprint
    with torch.no_grad():
        one.model.layers[2].mlp.up_proj.weight.mul_(1.001)
    assert fingerprint(one) != model.fingerprint


def test_weights_can_be_loaded_in_half_precision():
    assert load("embedded", "cpu", "bfloat16")[0].dtype == torch.bfloat16


@pytest.fixture
def broken(tmp_path):
    """A copy of the embedded model to break."""
    folder = tmp_path / "broken"
    shutil.copytree(EMBEDDED_DIRECTORY, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return folder


def test_a_directory_without_a_tokenizer_is_told(broken):
    for file in broken.glob("tokenizer*"):
        file.unlink()

    with pytest.raises(ProviderError, match=r"no tokenizer in .*broken: save one there with tokenizer.save_pretrained"):
        connect(str(broken), SETTINGS)


def test_a_directory_that_is_no_model_is_told(tmp_path):
    with pytest.raises(ProviderError, match="holds no model: give a directory with config"):
        connect(str(tmp_path), SETTINGS)


@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(f.read_bytes()[:1000]), lambda f: f.write_bytes(b"{}"), lambda f: f.unlink()])
def test_damaged_or_missing_weights_are_told(broken, damage):
    damage(broken / "model.safetensors")

    with pytest.raises(ProviderError, match=r"can't load the model .*broken: "):
        connect(str(broken), SETTINGS)


def test_a_damaged_config_is_told(broken):
    (broken / "config.json").write_text("{")

    with pytest.raises(ProviderError, match="broken"):
        connect(str(broken), SETTINGS)


def test_an_adapter_whose_base_is_gone_is_told(adapter, tmp_path):
    folder = tmp_path / "orphan"
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/base"}))

    with pytest.raises(ProviderError, match=r"orphan was made for the base model /gone/base, which is not there"):
        connect(str(folder), SETTINGS)


@pytest.mark.parametrize(("written", "message"), [("{}", "does not name its base"), ("{", "can't read"), ("[]", "can't read")])
def test_an_adapter_with_a_damaged_config_is_told(tmp_path, written, message):
    (tmp_path / "adapter_config.json").write_text(written)

    with pytest.raises(ProviderError, match=message):
        connect(str(tmp_path), SETTINGS)


def test_code_from_a_model_directory_is_never_run(broken, monkeypatch):
    config = json.loads((broken / "config.json").read_text())
    own = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": own}))
    (broken / "evil.py").write_text(f"open({str(broken / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda _: "y")

    with pytest.raises(ProviderError):
        connect(str(broken), SETTINGS)
    assert not (broken / "ran").exists()


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match="DEVICE 'tpu' is not usable here"):
        connect("embedded", SETTINGS.changed(DEVICE="tpu"))


def test_a_tokenizer_without_a_chat_template_reads_the_plain_texts():
    weights, tokenizer = load("embedded", "cpu")
    tokenizer.chat_template = None
    plain = LocalModel(Host(weights, tokenizer, "plain"), "plain")

    assert plain._render((Message("system", "Be brief."), Message("user", "Solve 2+2"))) == tuple(
        tokenizer("Be brief.\n\nSolve 2+2\n\n")["input_ids"]
    )
    asyncio.run(plain.close())
