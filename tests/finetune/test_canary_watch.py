"""The canary of a slot: what a store's traces say of it, what is done about it, and that a second look changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sample_adapters import make_registered
from sample_traces import failed, problems, run_of, solved

from core import slots
from core.errors import AdapterError
from core.types import Outcome, Trace, Verdict
from finetune.adapters import Registry
from finetune.canary_watch import began, watch
from logs.store import TraceStore

# peft asks transformers by a name that it is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
BEGAN, PROBLEMS = 2_000.0, problems(700)


@pytest.fixture(scope="module")
def with_canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """math@1 serves in the slot math, and math@2 is its canary since second 2000."""
    folder = tmp_path_factory.mktemp("canary")
    registry = Registry(folder / "adapters", who="test", now=lambda: BEGAN)
    for seed in (0, 1):
        registry.add(make_registered(folder / f"run {seed}", seed), "math")
    registry.promote("math@1", "math", force=True)
    registry.start_canary("math@2", "math", 0.3, force=True)
    return registry.folder


@pytest.fixture
def registry(with_canary: Path, tmp_path: Path) -> Registry:
    return Registry(shutil.copytree(with_canary, tmp_path / "adapters"), who="test", now=lambda: 3_000.0)


def answers(place: Path, registry: Registry, *, right: dict[str, float], n: int = 400, first: int = 0, **changes: object) -> None:
    """`n` answers after the canary began, every other one by each arm, of which that share is right, evenly spread."""
    fingerprints = {name: registry.get(name).manifest.fingerprint for name in ("math@1", "math@2")}  # type: ignore[union-attr]
    with TraceStore(place, redact=None) as store:
        for i in range(first, first + n):
            arm = ("math@1", "math@2")[i % 2]
            good = int((i // 2 + 1) * right[arm]) > int((i // 2) * right[arm])
            made = (solved if good else failed)(PROBLEMS[i], model=f"adapter:{arm}", fingerprint=fingerprints[arm], created=BEGAN + 1 + i)
            store.put(run_of(made.replace(**changes) if arm == "math@2" else made))


def test_a_harmful_canary_is_stopped_and_the_journal_says_on_what_statistics(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.7, "math@2": 0.3})

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert standing.verdict == "roll back"
    slot = slots.read(registry.folder, "math")
    assert (slot.champion, slot.canary, slot.share) == ("math@1", None, 0.0)
    assert registry.states()["math@2"] == "rejected"
    last = registry.history(slot="math")[-1]
    assert (last.what, last.why, last.statistics["harm"]) == ("stop canary", standing.reason, standing.harm)


def test_a_second_look_after_the_decision_finds_no_canary(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.7, "math@2": 0.3})
    watch(tmp_path, registry, "math")
    entries = registry.history()

    assert watch(tmp_path, registry, "math") is None
    assert registry.history() == entries


def test_a_look_that_was_broken_off_comes_to_the_same_when_more_was_seen_since(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.7, "math@2": 0.3})
    first = watch(tmp_path, registry, "math", act=False)
    answers(tmp_path, registry, right={"math@1": 0.0, "math@2": 1.0}, n=200, first=400)

    assert slots.read(registry.folder, "math").canary == "math@2"
    assert watch(tmp_path, registry, "math") == first


def test_a_good_canary_is_promoted(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.5, "math@2": 0.8})

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert standing.promoted
    slot = slots.read(registry.folder, "math")
    assert (slot.champion, slot.previous, slot.canary) == ("math@2", "math@1", None)
    assert registry.history(slot="math")[-1].statistics["harmless"] == standing.harmless


def test_nothing_is_done_before_it_is_clear(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.6, "math@2": 0.6}, n=60)
    before = slots.read(registry.folder, "math")

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert (standing.verdict, standing.champion.known, standing.canary.known) == ("continue", 30, 30)
    assert slots.read(registry.folder, "math") == before


def test_one_trace_with_a_wrong_fingerprint_stops_the_canary(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.6, "math@2": 0.6}, n=20)
    answers(tmp_path, registry, right={"math@1": 0.6, "math@2": 0.6}, n=2, first=20, fingerprint="another")

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert standing.reason.startswith("wrong fingerprint: ")
    assert slots.read(registry.folder, "math").canary is None


def test_a_verifier_that_breaks_on_the_canary_stops_it(registry: Registry, tmp_path: Path):
    answers(tmp_path, registry, right={"math@1": 0.6, "math@2": 0.6}, n=120, verdict=Verdict(Outcome.ERROR, None, "broke"), reward=None)

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert standing.reason.startswith("the verifier breaks on the canary")


def again(trace: Trace, times: int) -> list[Trace]:
    return [trace.replace(id=f"{trace.id} {i}", run_id=f"{trace.run_id} {i}", created=trace.created + i) for i in range(times)]


def test_a_session_that_asks_again_and_again_counts_once(registry: Registry, tmp_path: Path):
    first, second = PROBLEMS[:2]
    session = first.task.replace(metadata={"session": "the same"})
    with TraceStore(tmp_path, redact=None) as store:
        for number, trace in enumerate(again(failed(first, task=session, model="adapter:math@2", created=BEGAN + 5), 300)):
            other = second.task.replace(prompt=f"{second.task.prompt} {number}", key="")
            store.put(run_of(trace))
            answered = solved(second, model="adapter:math@1", created=BEGAN + 5 + number, run_id=f"run {number}", id=f"trace {number}")
            store.put(run_of(answered.replace(task=other)))

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert (standing.verdict, standing.canary.outcomes, standing.champion.outcomes) == ("continue", 1, 300)


def test_what_came_before_the_canary_or_from_other_models_is_not_counted(registry: Registry, tmp_path: Path):
    with TraceStore(tmp_path, redact=None) as store:
        store.put(run_of(failed(PROBLEMS[0], model="adapter:math@2", created=BEGAN - 1)))
        store.put(run_of(solved(PROBLEMS[1], model="embedded", created=BEGAN + 1)))
        store.put(run_of(solved(PROBLEMS[2], model="adapter:math@1", created=BEGAN + 1)))

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert (standing.champion.outcomes, standing.canary.outcomes) == (1, 0)


def test_of_a_run_the_answer_counts_and_a_check_that_broke_on_the_way(registry: Registry, tmp_path: Path):
    right = solved(PROBLEMS[0], model="adapter:math@2", created=BEGAN + 1)
    broken = failed(PROBLEMS[0], model="adapter:math@2", created=BEGAN + 1, verdict=Verdict(Outcome.ERROR, None, "broke"), reward=None)
    with TraceStore(tmp_path, redact=None) as store:
        store.put(run_of(broken, right))

    standing = watch(tmp_path, registry, "math")

    assert standing is not None
    assert (standing.canary.outcomes, standing.canary.mean, standing.canary.errors) == (1, 1.0, 1)


def test_a_canary_whose_beginning_nobody_wrote_down_is_not_judged(registry: Registry, tmp_path: Path):
    (registry.folder / "journal.jsonl").unlink()

    with pytest.raises(AdapterError, match="doesn't say when math@2 became the canary"):
        began(registry, slots.read(registry.folder, "math"))
