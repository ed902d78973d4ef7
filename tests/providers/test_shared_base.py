"""Adapters that share one base: who answers is right in every batch, at every swap."""

import asyncio
import random
import shutil
import threading

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from core.config import Settings
from core.errors import ProviderError
from core.providers import local
from core.providers.adapters import why_not_mixed
from core.providers.host import Host
from core.providers.loading import EMBEDDED_DIRECTORY, load
from core.providers.local import LocalModel
from core.types import Message, Request, Sampling

pytestmark = [
    # PEFT asks a transformers model for a property under its old name
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


SETTINGS = Settings(_env_file=None, DEVICE="cpu", THREADS=1)
HOT = Sampling(temperature=1.0, max_tokens=24, seed=3)


def connect(path, **changes):
    return local.connect(str(path), SETTINGS.changed(ADAPTERS="shared", **changes))


def make(folder, seed, rank=2, modules=("q_proj", "v_proj"), **options):
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED_DIRECTORY, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(r=rank, target_modules=list(modules), init_lora_weights=False, **options))
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Adapters of different ranks, strengths and places."""
    root = tmp_path_factory.mktemp("adapters")
    return [
        make(root / "a", 1),
        make(root / "b", 2, rank=4, lora_alpha=16),
        make(root / "c", 3, rank=3, modules=("q_proj", "up_proj", "down_proj")),
    ]


@pytest.fixture(autouse=True)
def _bases_of_its_own(monkeypatch):
    """Other files' models, served by the same worker, may share the embedded model's base."""
    monkeypatch.setattr(local, "_shared", {})


@pytest.fixture
def opened():
    """What a test connects is closed after it."""
    models = []
    yield lambda path, **changes: models.append(connect(path, **changes)) or models[-1]
    for model in models:
        asyncio.run(model.close())


def question(number, **changes):
    return Request((Message("user", f"Solve {number}*6+{number}"),), sampling=Sampling(max_tokens=16)).replace(**changes)


def texts(reply):
    return [completion.text for completion in reply.completions]


def ask(model, request):
    return texts(asyncio.run(model.complete(request)))


def merged(path):
    """The adapter merged into a base of its own: what it says alone."""
    return local.connect(str(path), SETTINGS)


def alone(path, requests):
    model = merged(path)
    try:
        return [ask(model, request) for request in requests]
    finally:
        asyncio.run(model.close())


def together(models, requests):
    async def all_of_them():
        return await asyncio.gather(*(model.complete(request) for model in models for request in requests))

    found = [texts(reply) for reply in asyncio.run(all_of_them())]
    return [found[i : i + len(requests)] for i in range(0, len(found), len(requests))]


def test_adapters_and_their_base_answer_in_one_batch_as_each_does_alone(folders, opened):
    requests = [question(n, n=3, sampling=HOT.replace(seed=n)) for n in (17, 18)] + [question(17)]
    expected = [alone(path, requests) for path in (EMBEDDED_DIRECTORY, *folders)]
    models = [opened(path) for path in (EMBEDDED_DIRECTORY, *folders)]
    widest, step = [], models[0].host.engine._decode

    def watched():
        widest.append(len({row.job.adapter for row in models[0].host.engine._rows}))
        return step()

    models[0].host.engine._decode = watched
    got = together(models, requests)

    assert got == expected
    assert max(widest) == 4
    assert len({str(answers) for answers in got}) == 4


def test_a_second_adapter_does_not_load_the_base_again(folders, opened, monkeypatch):
    first = opened(folders[0])
    monkeypatch.setattr(local, "load_base", lambda *_: pytest.fail("the base was loaded again"))

    second, base = opened(folders[1]), opened(EMBEDDED_DIRECTORY)

    assert first.host is second.host is base.host


def test_the_fingerprint_is_that_of_the_merged_weights(folders, opened):
    for path in (EMBEDDED_DIRECTORY, *folders):
        model = merged(path)
        assert opened(path).fingerprint == model.fingerprint
        assert opened(path).probe() == pytest.approx(model.probe(), abs=1e-4)
        asyncio.run(model.close())


def test_prefixes_of_one_adapter_are_never_served_to_another(folders, opened):
    request = question(17, messages=(Message("user", "Solve " + "17*6+" * 12 + "3"),), sampling=Sampling(max_tokens=24))
    expected = [alone(path, [request]) for path in folders]
    models = [opened(path) for path in folders]

    for _ in range(2):
        assert [[ask(model, request)] for model in models] == expected
    assert models[0].host.engine.prefixes.match(None, [1, 2], 2)[1] == 0


def test_more_adapters_than_have_room_take_turns(folders, opened):
    requests = [question(n) for n in (17, 18)]
    expected = [alone(path, requests) for path in folders]
    models = [opened(path, ADAPTERS_LOADED=1) for path in folders]

    for _ in range(2):
        assert together(models, requests) == expected
    assert len(models[0].host.adapters.names) == 1


def test_requests_under_way_finish_on_the_weights_they_began_with_while_adapters_come_and_go(folders, opened):
    """Clients ask all the time while versions are deployed and closed; every answer must be that of the weights it names."""
    asked = [question(n, sampling=Sampling(max_tokens=12)) for n in range(12, 18)]
    right = {}
    for path in (EMBEDDED_DIRECTORY, *folders):
        model = merged(path)
        right[model.fingerprint] = [ask(model, request) for request in asked]
        asyncio.run(model.close())
    base = opened(EMBEDDED_DIRECTORY, ADAPTERS_LOADED=2)
    serving, stop, wrong, answered = [base], threading.Event(), [], []

    def client(seed):
        rng = random.Random(seed)
        while not stop.is_set():
            model, i = serving[0], rng.randrange(len(asked))
            try:
                found = ask(model, asked[i])
            except ProviderError as error:
                if "was closed" not in str(error):
                    wrong.append(str(error))
                continue
            answered.append(model.fingerprint)
            if found != right[model.fingerprint][i]:
                wrong.append((model.fingerprint, i, found))

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in clients:
        thread.start()
    for version in range(9):
        fresh = connect(folders[version % 3], ADAPTERS_LOADED=2)
        before, serving[0] = serving[0], fresh
        while answered[-1:] != [fresh.fingerprint]:
            stop.wait(0.01)
        if before is not base:
            asyncio.run(before.close())
    stop.set()
    for thread in clients:
        thread.join()
    asyncio.run(serving[0].close())

    assert not wrong
    assert len(set(answered)) >= 3
    assert len(base.host.adapters.names) <= 2


def test_an_adapter_that_is_overwritten_is_another_one(folders, opened, tmp_path):
    place = tmp_path / "slot"
    shutil.copytree(folders[0], place)
    first = opened(place, ADAPTERS_LOADED=1)
    before = ask(first, question(17))
    shutil.copytree(folders[1], place, dirs_exist_ok=True)

    second = opened(place, ADAPTERS_LOADED=1)

    assert first.fingerprint != second.fingerprint
    assert [ask(second, question(17))] == alone(folders[1], [question(17)])
    with pytest.raises(ProviderError, match="has changed on disk since it was connected: connect it again"):
        ask(first, question(17))
    shutil.copytree(folders[0], place, dirs_exist_ok=True)
    assert ask(first, question(17)) == before


def test_closing_one_model_leaves_the_others_their_answers(folders, opened):
    one, other = opened(folders[0]), opened(folders[1])
    expected = alone(folders[1], [question(17, n=4, sampling=HOT)])

    async def close_one():
        doomed = asyncio.create_task(one.complete(question(18, n=8, sampling=HOT.replace(max_tokens=300))))
        kept = asyncio.create_task(other.complete(question(17, n=4, sampling=HOT)))
        await asyncio.sleep(0.05)
        await one.close()
        return await asyncio.gather(doomed, kept, return_exceptions=True)

    failed, answer = asyncio.run(close_one())

    assert str(failed) == f"{folders[0]} was closed"
    assert [texts(answer)] == expected
    with pytest.raises(ProviderError, match="was closed"):
        ask(one, question(17))


def test_the_base_is_let_go_with_the_last_model_on_it(folders):
    one, other = connect(folders[0]), connect(folders[1])
    asyncio.run(one.close())
    assert not other.host.ended
    asyncio.run(other.close())

    assert other.host.ended
    assert not local._shared


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_dora": True}, "it has use_dora"),
        ({"modules_to_save": ["lm_head"]}, "it has modules_to_save"),
        ({"bias": "lora_only"}, "it has biases"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
def test_an_adapter_that_is_more_than_a_and_b_is_merged_into_a_base_of_its_own(folders, opened, tmp_path, options, reason):
    odd = make(tmp_path / "odd", 5, **options)
    neighbour = opened(folders[0])

    model = opened(odd)

    assert why_not_mixed(str(odd), neighbour.host.engine.model.get_base_model()) == reason
    assert model.host is not neighbour.host
    assert [ask(model, question(17))] == alone(odd, [question(17)])


def test_an_adapter_of_another_base_or_with_damaged_files_never_touches_the_one_that_is_loaded(folders, opened, tmp_path):
    base = opened(EMBEDDED_DIRECTORY)
    before = ask(base, question(17, n=2, sampling=HOT))
    foreign = tmp_path / "foreign"
    shutil.copytree(folders[0], foreign)
    weights = load_file(foreign / "adapter_model.safetensors")
    save_file(
        {key: torch.cat([value, value], dim=-1).contiguous() for key, value in weights.items()}, foreign / "adapter_model.safetensors"
    )
    damaged = tmp_path / "damaged"
    shutil.copytree(folders[0], damaged)
    (damaged / "adapter_model.safetensors").write_bytes(b"{}")

    for path in (foreign, damaged):
        with pytest.raises(ProviderError, match="can't load the model"):
            connect(path)

    assert ask(base, question(17, n=2, sampling=HOT)) == before
    assert base.host.adapters.names == []


def test_only_large_bases_are_shared_unless_told_otherwise(folders, monkeypatch):
    small = [local.connect(str(path), SETTINGS) for path in folders[:2]]
    monkeypatch.setattr(local, "LARGE", 1_000)
    large = [local.connect(str(path), SETTINGS) for path in folders[:2]]

    assert small[0].host is not small[1].host
    assert large[0].host is large[1].host
    for model in small + large:
        asyncio.run(model.close())


def test_a_cancelled_request_frees_its_rows():
    model = LocalModel(Host(*load("embedded", "cpu"), "own"), "own")

    async def cancel():
        task = asyncio.create_task(model.complete(question(17, n=8, sampling=HOT.replace(max_tokens=400, stop=()))))
        while not model.host.engine.busy:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while model.host.engine.busy:
            await asyncio.sleep(0.001)
        return await model.complete(question(17))

    assert len(asyncio.run(cancel()).completions) == 1
    assert not model.host._running
    asyncio.run(model.close())


def test_a_thread_that_dies_in_any_place_is_told_to_all(monkeypatch):
    for place in ("_drop", "_admit", "_tell"):
        model = LocalModel(Host(*load("embedded", "cpu"), "own"), "own")

        def broken(*_):
            raise SystemExit("gone")

        monkeypatch.setattr(model.host, place, broken)

        async def asked(model=model):
            return await asyncio.gather(*(model.complete(question(n)) for n in range(3)), return_exceptions=True)

        assert {str(outcome) for outcome in asyncio.run(asked())} == {"own failed while decoding: gone"}
        with pytest.raises(ProviderError, match="gone"):
            model.probe()
