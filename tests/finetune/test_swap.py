"""A swap under load answers every question with the weights it names; what can't be proved never serves."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections import deque
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_models import adapter, bare_adapter

from core.config import Settings
from core.errors import AdapterError, ConfigError
from core.orchestrator import Orchestrator
from core.providers import fused_lora, local
from core.providers.adapters import Adapter, Weights
from core.providers.loading import load
from core.providers.registered import sha256_of
from core.slots import read
from core.types import Domain, Evidence, Message, Outcome, Request, Sampling, Verdict
from finetune.adapters import Registry, register
from finetune.backends.inprocess import InProcess
from finetune.swap import roll_back, swap

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

SETTINGS = Settings(_env_file=None, DEVICE="cpu", THREADS=1, SEARCH_STRATEGY="single", MAX_TOKENS=8, ADAPTERS="shared")
QUESTIONS = [f"Solve {n}*6+{n}" for n in range(12, 16)]


def verify(task, text):
    return Verdict(Outcome.FAIL, 0.0, Evidence.NONE, "not looked at")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list[Path]:
    """Four adapters of other ranks, strengths and places, with random weights that show in every answer."""
    root = tmp_path_factory.mktemp("trained")
    return [
        adapter(root / "a", seed=1, spread=0.5),
        adapter(root / "b", seed=2, spread=0.5, rank=4, lora_alpha=16),
        adapter(root / "c", seed=3, spread=0.5, target_modules=["q_proj", "down_proj"]),
        adapter(root / "d", seed=4, spread=0.5, rank=3),
    ]


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "adapters", who="tests")


@pytest.fixture
def house(registry):
    made = []

    def make(**changes) -> Orchestrator:
        settings = SETTINGS.changed(MATH_WORKER_MODEL="slot:math", REGISTRY=registry.folder, **changes)
        made.append(Orchestrator(settings, verify=verify))
        return made[-1]

    yield make
    for orchestrator in made:
        orchestrator.close()


def beside(orchestrator: Orchestrator, **options) -> InProcess:
    return InProcess(orchestrator.preload, orchestrator.release, **options)


@pytest.fixture(scope="module")
def right(trained) -> dict[str, dict[str, str]]:
    """What each adapter answers alone, by its fingerprint."""
    found = {}
    for path in trained:
        with Orchestrator(SETTINGS.changed(MATH_WORKER_MODEL=str(path), ADAPTERS="merged"), verify=verify) as alone:
            results = [alone.infer(question, domain="math") for question in QUESTIONS]
        found[results[0].fingerprint] = {question: result.text for question, result in zip(QUESTIONS, results, strict=True)}
    assert len({str(texts) for texts in found.values()}) == len(trained)
    return found


@pytest.mark.parametrize("mode", ["shared", "merged"])
def test_under_six_threads_no_question_is_answered_by_another_version_than_the_slot_names(trained, right, registry, house, mode):
    references = [registry.add(path, "math").reference for path in trained]
    fingerprints = [registry.get(reference).manifest.fingerprint for reference in references]
    orchestrator = house(ADAPTERS=mode, ADAPTERS_LOADED=3)
    backend = beside(orchestrator)
    swap("math", references[0], registry=registry, backend=backend, force=True)
    newest, stop, answered, wrong = [0], threading.Event(), [], []

    def client(turn: int) -> None:
        while not stop.is_set():
            turn, begun = turn + 1, newest[0]
            question = QUESTIONS[turn % len(QUESTIONS)]
            result = orchestrator.infer(question, domain="math")
            answered.append(fingerprints.index(result.fingerprint))
            named = references.index(result.model.removeprefix("adapter:"))
            if result.text != right[result.fingerprint][question] or named != answered[-1] or named < begun:
                wrong.append((question, result, begun))

    clients = [threading.Thread(target=client, args=(turn,)) for turn in range(6)]
    for thread in clients:
        thread.start()
    for version, reference in enumerate(references[1:], 1):
        done = swap("math", reference, registry=registry, backend=backend, force=True)
        newest[0] = version
        assert (done.fingerprint, done.before, done.spec) == (fingerprints[version], references[version - 1], f"adapter:{reference}")
        while answered.count(version) < 6:
            stop.wait(0.005)
    stop.set()
    for thread in clients:
        thread.join()

    assert not wrong
    assert sorted(set(answered)) in ([0, 1, 2, 3], [1, 2, 3])


def test_what_was_asked_before_a_swap_ends_with_the_weights_it_began_with(trained, right, registry, house):
    references = [registry.add(path, "math").reference for path in trained[:2]]
    orchestrator = house(MAX_TOKENS=200)
    swap("math", references[0], registry=registry, backend=beside(orchestrator), force=True)
    engine = orchestrator.model_for(Domain.MATH).host.engine
    begun = []
    thread = threading.Thread(target=lambda: begun.append(orchestrator.infer(QUESTIONS[0], domain="math")))
    thread.start()
    while not engine.busy:
        thread.join(0.001)

    swap("math", references[1], registry=registry, backend=beside(orchestrator), force=True)
    after = orchestrator.infer(QUESTIONS[0], domain="math")
    thread.join()

    assert [begun[0].model, after.model] == [f"adapter:{reference}" for reference in references]
    assert begun[0].text.startswith(right[begun[0].fingerprint][QUESTIONS[0]])
    assert after.text.startswith(right[after.fingerprint][QUESTIONS[0]])


def test_a_swap_says_what_it_did_and_on_what_proof(trained, registry, house):
    reference = registry.add(trained[0], "math").reference
    manifest = registry.get(reference).manifest

    done = swap("math", reference, registry=registry, backend=beside(house()), force=True, why="a test")

    assert (done.slot, done.reference, done.before, done.backend) == ("math", "math@1", None, "in process")
    assert (done.epoch_before, done.epoch) == (0, 1)
    assert done.fingerprint == manifest.fingerprint
    assert done.proof.off < 0.01 < done.proof.from_base
    assert 0 < done.flip_seconds < done.seconds
    assert registry.history(reference)[-1].why == "a test"


def test_going_back_loads_nothing(trained, registry, house, monkeypatch):
    references = [registry.add(path, "math").reference for path in trained[:2]]
    orchestrator = house()
    for reference in references:
        swap("math", reference, registry=registry, backend=beside(orchestrator), force=True)
        orchestrator.infer(QUESTIONS[0], domain="math")
    for name in ("load_base", "_brought"):
        monkeypatch.setattr(local, name, lambda *_: pytest.fail("something was loaded"))

    done = roll_back("math", registry=registry, backend=beside(orchestrator))

    assert (done.reference, done.before, done.epoch, done.proof) == (references[0], references[1], 3, None)
    assert orchestrator.infer(QUESTIONS[1], domain="math").model == f"adapter:{references[0]}"


def test_the_first_adapter_of_a_slot_is_rolled_back_to_the_base(trained, registry, house):
    reference = registry.add(trained[0], "math").reference
    orchestrator = house()
    swap("math", reference, registry=registry, backend=beside(orchestrator), force=True)

    done = roll_back("math", registry=registry, backend=beside(orchestrator))

    assert (done.reference, done.spec) == (None, "embedded")
    assert orchestrator.infer(QUESTIONS[0], domain="math").model == "embedded"


def test_a_canary_is_swapped_in_beside_the_champion(trained, registry, house):
    one, other = (registry.add(path, "math").reference for path in trained[:2])
    orchestrator = house()
    swap("math", one, registry=registry, backend=beside(orchestrator), force=True)

    swap("math", other, registry=registry, backend=beside(orchestrator), force=True, share=1.0)

    slot = read(registry.folder, "math")
    assert (slot.champion, slot.canary, slot.share) == (one, other, 1.0)
    assert orchestrator.infer(QUESTIONS[0], domain="math").model == f"adapter:{other}"


def test_a_swap_from_alpha_8_to_32_is_a_fresh_load_of_it(tmp_path, registry, house):
    """transformers' own hot swap keeps the old strength."""
    weak = bare_adapter(tmp_path / "weak", seed=5, rank=4, lora_alpha=8)
    strong = Path(shutil.copytree(weak, tmp_path / "strong"))
    config = json.loads((strong / "adapter_config.json").read_text())
    (strong / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 32}))
    for folder in (weak, strong):
        register(folder, domain="math", trainer="sft", trace_ids=[], settings={}, metrics={}, device="cpu")
    orchestrator = house()
    for folder in (weak, strong):
        swap("math", registry.add(folder, "math").reference, registry=registry, backend=beside(orchestrator), force=True)

    served, (fresh, tokenizer) = orchestrator.model_for(Domain.MATH), load(str(strong), "cpu")

    assert served.fingerprint == local.fingerprint(fresh) == register_of(strong)
    alone = local.LocalModel(local_host(fresh, tokenizer), "fresh")
    assert served._probe() == pytest.approx(alone.probe(), abs=1e-4)
    asyncio.run(alone.close())


def register_of(folder: Path) -> str:
    return json.loads((folder / "manifest.json").read_text())["fingerprint"]


def local_host(weights, tokenizer):
    from core.providers.host import Host

    return Host(weights, tokenizer, "fresh")


def doctored(folder: Path, change, *, honest: bool = False) -> Path:
    """A registered version whose weights were changed, with a manifest that says so only if it is honest about its files."""
    weights = folder / "adapter_model.safetensors"
    save_file({name: change(name, value) for name, value in load_file(weights).items()}, weights)
    if honest:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "weights_sha256": sha256_of(weights)}))
    return folder


def silenced(name, value):
    return value * 0 if "lora_B" in name else value


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: doctored(folder, lambda _, value: value * 2), "is not the file that its manifest describes"),
        (lambda folder: doctored(folder, silenced, honest=True), "does not answer as the adapter in"),
        (lambda folder: doctored(folder, lambda _, value: value * float("nan"), honest=True), "does not answer as the adapter in"),
        (lambda folder: edit(folder, base_sha256="0" * 64), "was trained on other weights than those in"),
        (lambda folder: edit(folder, template_sha256="0" * 64), "was trained with another chat template"),
        (lambda folder: edit(folder, fingerprint="0" * 16), r"is served with the weights \w{16}, its manifest says 0000000000000000"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "can't serve: its manifest.json can't be read"),
    ],
    ids=["damaged", "no effect", "diverged", "another base", "another template", "another fingerprint", "no manifest"],
)
def test_what_can_not_be_proved_leaves_the_champion_serving(trained, registry, house, spoil, said):
    champion, bad = (registry.add(path, "math") for path in trained[:2])
    orchestrator = house()
    swap("math", champion.reference, registry=registry, backend=beside(orchestrator), force=True)
    before, slot = orchestrator.infer(QUESTIONS[0], domain="math"), read(registry.folder, "math")
    spoil(bad.folder)

    with pytest.raises(AdapterError, match=said):
        swap("math", bad.reference, registry=registry, backend=beside(orchestrator), force=True)

    assert read(registry.folder, "math") == slot
    assert orchestrator.infer(QUESTIONS[0], domain="math").text == before.text
    assert list(orchestrator._models._models) == [f"adapter:{champion.reference}"]


def edit(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_adapter_whose_rows_would_be_answered_by_other_matrices_is_refused(trained, registry, house, monkeypatch):
    """The fingerprint is right, and the tables that the engine would answer with are not."""
    champion, good = (registry.add(path, "math") for path in (trained[0], trained[3]))
    orchestrator = house()
    swap("math", champion.reference, registry=registry, backend=beside(orchestrator), force=True)
    stacked = fused_lora._stacked
    monkeypatch.setattr(fused_lora, "_stacked", lambda *args: (half := stacked(*args)) and (half[0], -half[1]))

    with pytest.raises(AdapterError, match="does not answer as the adapter in"):
        swap("math", good.reference, registry=registry, backend=beside(orchestrator), force=True)
    assert read(registry.folder, "math").champion == champion.reference


def test_an_adapter_that_claims_to_do_nothing_is_refused_too(trained, registry, house):
    """A forged manifest: what it should answer is what the base answers."""
    bad = registry.add(trained[0], "math")
    manifest = json.loads((bad.folder / "manifest.json").read_text())
    edit(doctored(bad.folder, silenced, honest=True), probe=manifest["base_probe"], fingerprint=manifest["base_fingerprint"])

    with pytest.raises(AdapterError, match="the swap did not take effect"):
        swap("math", bad.reference, registry=registry, backend=beside(house()), force=True)

    assert not (registry.folder / "slots" / "math.json").exists()


def test_in_another_precision_the_answers_alone_are_the_proof(trained, registry, house):
    version = registry.add(trained[0], "math")
    edit(version.folder, fingerprint="0" * 16)

    done = swap("math", version.reference, registry=registry, backend=beside(house(), exact=False), force=True)

    assert done.fingerprint != "0" * 16


def test_what_the_gate_has_not_let_through_is_loaded_for_nothing(trained, registry, house):
    reference = registry.add(trained[0], "math").reference
    orchestrator = house()

    with pytest.raises(AdapterError, match="no gate has decided"):
        swap("math", reference, registry=registry, backend=beside(orchestrator))

    assert not (registry.folder / "slots" / "math.json").exists()
    assert f"adapter:{reference}" not in orchestrator._models._ahead


def test_two_swaps_at_once_are_one_swap_and_one_refusal(trained, registry, house, monkeypatch):
    references = [registry.add(path, "math").reference for path in trained[:3]]
    orchestrator = house()
    swap("math", references[0], registry=registry, backend=beside(orchestrator), force=True)
    allowed = registry._allowed

    def overtaken(*args):
        monkeypatch.setattr(registry, "_allowed", allowed)
        registry.promote(references[2], "math", force=True)
        return allowed(*args)

    monkeypatch.setattr(registry, "_allowed", overtaken)
    with pytest.raises(AdapterError, match=r"has changed \(epoch 2, not 1\)"):
        swap("math", references[1], registry=registry, backend=beside(orchestrator), force=True)

    assert read(registry.folder, "math").champion == references[2]
    assert orchestrator.infer(QUESTIONS[0], domain="math").model == f"adapter:{references[2]}"


def test_a_slot_of_a_server_is_not_swapped_in_process(trained, registry, house):
    reference = registry.add(trained[0], "math").reference

    with pytest.raises(AdapterError, match=r"would serve ollama:math:v1, and adapter:math@1 was proved"):
        swap("math", reference, registry=registry, backend=beside(house()), force=True, base="ollama:toy")


@pytest.mark.parametrize(("slot", "reference"), [("Math!", "math@1"), ("math", "math"), ("math", "math@9")])
def test_names_that_can_not_be_are_told(registry, house, slot, reference):
    with pytest.raises((ConfigError, AdapterError)):
        swap(slot, reference, registry=registry, backend=beside(house()), force=True)


def test_rows_go_on_between_the_pieces_of_a_load(trained):
    """An adapter comes in pieces, with steps of those who are being answered in between."""
    first = local.connect(str(trained[0]), SETTINGS)
    engine, order = first.host.engine, []
    engine._ends = frozenset()  # answers end at their limit alone
    step = engine.step

    def watched():
        order.append("step")
        return step()

    async def load_while_answering():
        asking = asyncio.create_task(first.complete(Request((Message("user", QUESTIONS[0]),), 4, Sampling(1.0, max_tokens=400, seed=1))))
        while not engine.busy:
            await asyncio.sleep(0.001)
        engine.step = watched
        first.host._steps = deque([0.0], maxlen=99)  # as if a step took no time: then every piece waits for one

        def pieces():
            for _ in range(5):
                order.append("piece")
                yield
            return "done"

        found = await asyncio.to_thread(first.host.work, pieces())
        asking.cancel()
        return found

    assert asyncio.run(load_while_answering()) == "done"
    places = [place for place, what in enumerate(order) if what == "piece"]
    assert len(places) == 5
    assert all("step" in order[a:b] for a, b in pairwise(places))
    asyncio.run(first.close())


def test_a_load_that_fails_in_pieces_is_told_to_who_asked_for_it(trained):
    model = local.connect(str(trained[0]), SETTINGS)

    def pieces():
        yield
        raise AdapterError("spoilt")

    with pytest.raises(AdapterError, match="spoilt"):
        model.host.work(pieces())
    assert asyncio.run(model.complete(Request((Message("user", QUESTIONS[0]),)))).completions
    asyncio.run(model.close())


def test_an_adapter_that_had_to_make_room_while_it_was_loaded_is_not_called_loaded(trained):
    first = local.connect(str(trained[0]), SETTINGS)
    adapters, second = first.host.adapters, Adapter.read(str(trained[3]))

    def interrupted():
        pieces = adapters.bringing(second, Weights.read(second))
        while second.name not in adapters.names:
            next(pieces)
        adapters._delete(second.name)
        return list(pieces), second.name in adapters.names, adapters.bring(second)

    assert first.host.call(interrupted) == ([], False, True)
    asyncio.run(first.close())
