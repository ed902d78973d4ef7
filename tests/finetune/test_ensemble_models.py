"""Models load once, leave when there are too many, and share a base and a batch where they are adapters."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from sample_specialists import Shelf, sure

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers.engine import Engine
from core.providers.local import EMBEDDED_DIRECTORY
from core.types import Domain
from finetune.ensemble.models import ModelPool
from finetune.model_ensembler import ModelGene, ResponseRouter, load_router, save_router
from tests.sample_adapters import make_adapter


def pool_of(shelf: Shelf, **options: int) -> ModelPool:
    return ModelPool(Settings(), connect=shelf.connect, **options)


def test_all_who_want_a_model_while_it_loads_wait_for_one_load():
    shelf = Shelf({"a": sure("1")})

    async def main() -> int:
        pool = pool_of(shelf)

        async def want() -> object:
            async with pool.use("a") as model:
                return model

        found = await asyncio.gather(*(want() for _ in range(5)))
        await pool.close()
        return len({id(model) for model in found})

    assert asyncio.run(main()) == 1
    assert shelf.loads == ["a"]
    assert shelf.models["a"].closed


def test_the_one_unused_for_longest_leaves():
    shelf = Shelf({name: sure(name) for name in "abc"})

    async def main() -> list[str]:
        pool = pool_of(shelf, limit=2)
        for name in "abac":
            async with pool.use(name):
                pass
        return pool.names

    assert asyncio.run(main()) == ["a", "c"]
    assert [shelf.models[name].closed for name in "abc"] == [False, True, False]


def test_one_that_is_in_use_stays():
    shelf = Shelf({name: sure(name) for name in "abc"})

    async def main() -> tuple[bool, list[str]]:
        pool = pool_of(shelf, limit=1)
        async with pool.use("a"), pool.use("b"):
            open_ = shelf.models["a"].closed
        async with pool.use("c"):
            pass
        return open_, pool.names

    assert asyncio.run(main()) == (False, ["c"])


def test_a_load_that_fails_is_tried_again():
    shelf = Shelf({})

    async def main() -> list[str]:
        pool = pool_of(shelf)
        with pytest.raises(ProviderError):
            async with pool.use("a"):
                pass
        shelf.scripts["a"] = sure("1")
        async with pool.use("a"):
            return pool.names

    assert asyncio.run(main()) == ["a"]


def test_limits_that_can_not_work_are_refused():
    for options in ({"limit": 0}, {"megabytes": 0}):
        with pytest.raises(ConfigError):
            ModelPool(Settings(), **options)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("specialists")
    return [make_adapter(folder / str(seed), seed, spread=0.002) for seed in range(3)]


@pytest.fixture(scope="module")
def genome(adapters: list[Path]) -> list[ModelGene]:
    names = (Domain.MATH, Domain.LOGIC, Domain.FACTUAL)
    return [ModelGene(str(path), "embedded", name, ["solve"], 0.0) for name, path in zip(names, adapters, strict=True)]


@pytest.fixture(scope="module")
def router(genome: list[ModelGene]) -> ResponseRouter:
    with ResponseRouter(0.99, 0.0, system2=lambda _: "", cache_size=0, max_tokens=16, genome=genome) as made:
        made.route_query("Solve 2+2")
        yield made


@pytest.mark.slow
def test_three_adapters_share_one_base_and_answer_as_one_batch(router: ResponseRouter, monkeypatch: pytest.MonkeyPatch):
    batches: list[int] = []
    decode = Engine._decode

    def counted(engine: Engine) -> object:
        batches.append(len(engine._rows))
        return decode(engine)

    monkeypatch.setattr(Engine, "_decode", counted)
    result = router.route_query("Solve 3+4")

    assert (result["path"], router.pool.loads) == ("ensemble", 3)
    assert batches[0] == 3
    assert len({answer.weights for answer in result["answers"]}) == 3


@pytest.mark.slow
def test_a_shared_base_counts_once(router: ResponseRouter):
    assert router.pool.bytes < 2 * 4 * 920_000


@pytest.mark.slow
def test_a_bound_on_memory_lets_other_bases_leave_and_keeps_those_who_share_one(adapters: list[Path], tmp_path: Path):
    other = shutil.copytree(EMBEDDED_DIRECTORY, tmp_path / "other")

    async def main() -> list[list[str]]:
        pool, there = ModelPool(Settings(), megabytes=5), []
        for name in (adapters[0], adapters[1], other, adapters[2]):
            async with pool.use(str(name)):
                there.append([Path(each).name for each in pool.names])
        await pool.close()
        return there

    assert asyncio.run(main()) == [["0"], ["0", "1"], ["other"], ["2"]]


@pytest.mark.slow
def test_a_saved_router_answers_as_before(router: ResponseRouter, tmp_path: Path):
    save_router(tmp_path / "router.json", router)

    with load_router(tmp_path / "router.json", system2=lambda _: "", max_tokens=16, cache_size=0) as again:
        one, other = router.route_query("Solve 5+4"), again.route_query("Solve 5+4")

    assert (one["response"], one["path"]) == (other["response"], other["path"])
    assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)


@pytest.mark.slow
def test_an_adapter_that_is_not_there_is_told_with_its_name(router: ResponseRouter):
    with pytest.raises((ProviderError, ConfigError), match="no/such/adapter"):
        router.route_query("Solve 2+2", [ModelGene("./no/such/adapter", trigger_patterns=["solve"])])
