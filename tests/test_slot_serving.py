"""An orchestrator behind a slot: the next question gets the new model, what is under way keeps its own, memory stays bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from core.errors import AdapterError
from core.orchestrator import Orchestrator
from core.slots import Slot, read, write
from core.types import Completion, Domain, Reply, Request, Task, Usage

QUESTION = Task("Solve 17*6+23", Domain.MATH)


class Named:
    """A model that answers by its name, and waits before that where it is told to."""

    def __init__(self, spec: str) -> None:
        self.name, self.fingerprint, self.closed = spec, f"weights of {spec}", False
        self.waits: threading.Event | None = None
        self.asked = threading.Event()

    async def complete(self, request: Request) -> Reply:
        self.asked.set()
        if self.waits:
            await asyncio.to_thread(self.waits.wait)
        assert not self.closed, f"{self.name} was closed while it answered"
        return Reply((Completion("Answer: 125"),) * request.n, Usage(1, 1, 1))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Named]:
    """All that were connected, by their specs; the last of each."""
    there: dict[str, Named] = {}

    def connect(spec: str, settings: Settings) -> Named:
        there[spec] = Named(spec)
        return there[spec]

    monkeypatch.setattr("core.orchestrator.connect", connect)
    return there


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    write(tmp_path / "adapters", Slot("math", "embedded"), 0)
    return tmp_path / "adapters"


@pytest.fixture
def house(models: dict[str, Named], registry: Path) -> Iterator[Orchestrator]:
    with Orchestrator(Settings(_env_file=None, MATH_WORKER_MODEL="slot:math", REGISTRY=registry, SEARCH_STRATEGY="single")) as orchestrator:
        yield orchestrator


def change(registry: Path, **changes: Any) -> Slot:
    there = read(registry, "math")
    return write(registry, there.replace(**changes), there.epoch)


def test_a_promotion_holds_from_the_next_question_on_and_the_result_says_who_answered(house: Orchestrator, registry: Path):
    served = [house.infer(QUESTION)]
    for number in (1, 2):
        change(registry, champion=f"math@{number}", previous=None if number == 1 else "math@1")
        served.append(house.infer(QUESTION))

    assert [result.model for result in served] == ["embedded", "adapter:math@1", "adapter:math@2"]
    assert [result.fingerprint for result in served] == [f"weights of {result.model}" for result in served]


def test_a_question_under_way_ends_with_the_model_it_began_with(house: Orchestrator, models: dict[str, Named], registry: Path):
    change(registry, champion="math@1")
    house.infer(QUESTION)
    old = models["adapter:math@1"]
    old.waits = threading.Event()
    old.asked.clear()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(house.infer(QUESTION)))
    asking.start()
    old.asked.wait()

    change(registry, champion="math@2", previous=None)
    assert house.infer(QUESTION).model == "adapter:math@2"
    assert not old.closed
    old.waits.set()
    asking.join()

    assert answers[0].model == "adapter:math@1"
    assert answers[0].error is None


def test_only_what_a_slot_names_stays_loaded_through_many_promotions(house: Orchestrator, models: dict[str, Named], registry: Path):
    for number in range(1, 12):
        change(registry, champion=f"math@{number}", previous=f"math@{number - 1}" if number > 1 else None)
        house.infer(QUESTION)
    house.infer(QUESTION)

    assert {spec for spec, model in models.items() if not model.closed} == {"adapter:math@10", "adapter:math@11"}


def test_a_rollback_needs_no_loading(house: Orchestrator, models: dict[str, Named], registry: Path):
    for number in (1, 2):
        change(registry, champion=f"math@{number}", previous=None if number == 1 else "math@1")
        house.infer(QUESTION)
    before = models["adapter:math@1"]

    change(registry, champion="math@1", previous=None)

    assert house.infer(QUESTION).model == "adapter:math@1"
    assert models["adapter:math@1"] is before


def test_a_model_that_another_worker_names_is_never_closed(models: dict[str, Named], registry: Path):
    settings = Settings(
        _env_file=None, MATH_WORKER_MODEL="slot:math", CODE_WORKER_MODEL="adapter:math@1", REGISTRY=registry, SEARCH_STRATEGY="single"
    )
    with Orchestrator(settings) as house:
        house.infer(Task("Write it", Domain.CODE))
        for number in (1, 2, 3):
            change(registry, champion=f"math@{number}", previous=None)
            house.infer(QUESTION)

        assert not models["adapter:math@1"].closed
        assert models["adapter:math@2"].closed
    assert all(model.closed for model in models.values())


def test_a_session_keeps_its_arm_and_a_share_of_sessions_meets_the_canary(house: Orchestrator, registry: Path):
    change(registry, champion="math@1", canary="math@2", share=0.5)
    asked = [QUESTION.replace(metadata={"session": f"user {number % 20}"}) for number in range(60)]

    served = [result.model for result in house.infer_many(asked)]

    assert served[:20] == served[20:40] == served[40:]
    assert set(served) == {"adapter:math@1", "adapter:math@2"}


def test_without_a_session_the_task_decides(house: Orchestrator, registry: Path):
    change(registry, champion="math@1", canary="math@2", share=0.5)
    asked = [Task(f"Solve {number}+1", Domain.MATH) for number in range(30)] * 2

    served = [result.model for result in house.infer_many(asked)]

    assert served[:30] == served[30:]
    assert set(served) == {"adapter:math@1", "adapter:math@2"}


def test_what_was_preloaded_waits_for_its_promotion_and_goes_when_it_is_released(
    house: Orchestrator, models: dict[str, Named], registry: Path
):
    ahead = house.preload("adapter:math@1")
    house.preload("adapter:math@2")
    house.infer(QUESTION)
    assert not ahead.closed  # type: ignore[attr-defined]

    change(registry, champion="math@1")
    house.release("adapter:math@2")
    house.infer(QUESTION)
    house.infer(QUESTION)

    assert models["adapter:math@1"] is ahead
    assert models["adapter:math@2"].closed


def test_a_model_that_is_on_its_way_out_when_all_is_closed_is_closed_to_the_end(
    models: dict[str, Named], registry: Path, monkeypatch: pytest.MonkeyPatch
):
    begun, ended = threading.Event(), []

    async def slow(model: Named) -> None:
        begun.set()
        for _ in range(50):
            await asyncio.sleep(0)
        ended.append(model.name)

    monkeypatch.setattr(Named, "close", slow)
    change(registry, champion="math@1")
    with Orchestrator(Settings(_env_file=None, MATH_WORKER_MODEL="slot:math", REGISTRY=registry, SEARCH_STRATEGY="single")) as house:
        house.infer(QUESTION)
        change(registry, champion="math@2")
        house.infer(QUESTION)
        begun.wait()

    assert sorted(ended) == ["adapter:math@1", "adapter:math@2"]


def test_a_damaged_slot_fails_the_question_and_serves_no_base(house: Orchestrator, models: dict[str, Named], registry: Path):
    (registry / "slots" / "math.json").write_text("{}", encoding="utf-8")

    with pytest.raises(AdapterError, match="is damaged"):
        house.infer(QUESTION)
    assert [result.error is not None for result in house.infer_many([QUESTION] * 2)] == [True, True]
    assert models == {}


def test_a_missing_slot_is_told(models: dict[str, Named], tmp_path: Path):
    settings = Settings(_env_file=None, MATH_WORKER_MODEL="slot:math", REGISTRY=tmp_path / "none")

    with Orchestrator(settings) as house, pytest.raises(AdapterError, match="there is no registry"):
        house.infer(QUESTION)


def test_the_model_of_a_domain_is_that_of_its_slot_and_never_the_canary(house: Orchestrator, registry: Path):
    assert house.model_for(Domain.MATH).name == "embedded"

    change(registry, champion="math@1", canary="math@2", share=1.0)

    assert house.model_for(Domain.MATH).name == "adapter:math@1"
