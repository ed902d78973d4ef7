"""Serving from the registry: by reference and by slot, and never what is damaged, or stands on another base."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from sample_adapters import make_registered

from core.config import Settings
from core.errors import AdapterError
from core.orchestrator import Orchestrator
from core.providers import connect
from core.providers.local import EMBEDDED_DIRECTORY
from core.providers.registered import base_sha256, distance, moved
from core.slots import Slot, write
from core.types import Domain
from finetune.adapters import Registry


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model elsewhere, where a test may spoil it."""
    return Path(shutil.copytree(EMBEDDED_DIRECTORY, tmp_path_factory.mktemp("base") / "model"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    registry = Registry(folder / "adapters", who="test")
    for seed in (1, 2):
        registry.add(make_registered(folder / f"run {seed}", seed, base=str(base)), "math")
    return registry.folder


@pytest.fixture
def registry(filled: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(filled, tmp_path / "adapters"))


def settings(registry: Path, model: str = "adapter:math@1", **changes: str) -> Settings:
    return Settings(
        _env_file=None, DEVICE="cpu", THREADS=1, MATH_WORKER_MODEL=model, REGISTRY=registry, SEARCH_STRATEGY="single", **changes
    )


def only(registry: Path, number: int = 1) -> Path:
    return next((registry / "math").glob(f"{number}-*"))


@pytest.mark.parametrize("adapters", ["merged", "shared"])
def test_an_adapter_is_served_by_its_reference_and_traces_carry_both(adapters: str, registry: Path):
    with Orchestrator(settings(registry, ADAPTERS=adapters)) as house:
        result = house.infer("Solve 17*6+23", "math")

    manifest = Registry(registry).get("math@1").manifest
    assert manifest is not None
    assert (result.model, result.fingerprint) == ("adapter:math@1", manifest.fingerprint)


def test_a_slot_is_served_and_followed(registry: Path):
    slot = write(registry, Slot("math", "embedded", champion="math@1"), 0)
    with Orchestrator(settings(registry, "slot:math")) as house:
        first = house.infer("Solve 17*6+23", "math")
        write(registry, slot.replace(champion="math@2", previous="math@1"), 1)
        second = house.infer("Solve 17*6+23", "math")

    manifests = [Registry(registry).get(f"math@{number}").manifest for number in (1, 2)]
    assert [r.model for r in (first, second)] == ["adapter:math@1", "adapter:math@2"]
    assert [r.fingerprint for r in (first, second)] == [m.fingerprint for m in manifests if m]


def test_a_slot_can_be_connected_alone(registry: Path):
    write(registry, Slot("math", "embedded", champion="math@2", canary="math@1", share=1.0), 0)

    model = connect("slot:math", settings(registry))

    assert model.name == "adapter:math@2"
    asyncio.run(model.close())


def spoil_weights(folder: Path) -> None:
    data = bytearray((folder / "adapter_model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(data)


def spoil_scaling(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"lora_alpha": 8', '"lora_alpha": 64'), encoding="utf-8")


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{", encoding="utf-8")


def spoil_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8") + "!", encoding="utf-8")


def spoil_probe(folder: Path) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "probe": [x + 5 for x in values["probe"]]}), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_weights, "is not the file that its manifest describes"),
        (spoil_scaling, "is not the file that its manifest describes"),
        (spoil_manifest, "no readable manifest"),
        (spoil_template, "another chat template"),
        (spoil_probe, "the swap did not take effect"),
    ],
)
def test_a_damaged_adapter_is_not_served_nor_is_the_base_in_its_place(spoil, told: str, registry: Path):
    spoil(only(registry))
    write(registry, Slot("math", "embedded", champion="math@1"), 0)

    with Orchestrator(settings(registry, "slot:math")) as house:
        with pytest.raises(AdapterError, match=told):
            house.infer("Solve 17*6+23", "math")
        with pytest.raises(AdapterError, match=told):
            house.model_for(Domain.MATH)


def test_a_version_in_the_place_of_another_is_not_served(registry: Path):
    shutil.rmtree(only(registry, 1))
    shutil.copytree(only(registry, 2), registry / "math" / "1-00000000")

    with pytest.raises(AdapterError, match="holds math@2: math@1 was replaced by another one"):
        connect("adapter:math@1", settings(registry))


def test_in_another_precision_an_adapter_is_still_told_from_its_base_and_from_others(registry: Path):
    model = connect("adapter:math@1", settings(registry, DTYPE="bfloat16"))
    asyncio.run(model.close())

    spoil_probe(only(registry))
    with pytest.raises(AdapterError, match="the swap did not take effect"):
        connect("adapter:math@1", settings(registry, DTYPE="bfloat16"))


def test_how_far_an_adapter_moves_the_logits_shows_through_noise():
    base, probe = [0.0] * 64, [0.1 if i % 2 else -0.1 for i in range(64)]
    noise = [0.2 * ((i * 37 % 64) / 32 - 1) for i in range(64)]
    with_noise = [p + n for p, n in zip(probe, noise, strict=True)]

    assert distance(with_noise, probe) > distance(probe, base) / 2
    assert 0.5 < moved(with_noise, probe, base) < 1.5
    assert abs(moved(noise, probe, base)) < 0.5
    assert moved([4 * p for p in probe], probe, base) == pytest.approx(4)


def test_an_adapter_whose_base_has_other_weights_now_is_not_served(registry: Path, base: Path, tmp_path: Path):
    kept = shutil.copyfile(base / "model.safetensors", tmp_path / "kept")
    tensors = load_file(base / "model.safetensors")
    name = max(tensors, key=lambda key: tensors[key].numel())
    save_file({**tensors, name: tensors[name] * 1.01}, base / "model.safetensors", metadata={"format": "pt"})
    try:
        with pytest.raises(AdapterError, match="was trained on other weights than those in"):
            connect("adapter:math@1", settings(registry))
    finally:
        shutil.copyfile(kept, base / "model.safetensors")


def test_an_adapter_whose_base_is_gone_is_not_served(registry: Path, base: Path):
    base.rename(base.with_name("away"))
    try:
        with pytest.raises(AdapterError, match="which is not there"):
            connect("adapter:math@1", settings(registry))
    finally:
        base.with_name("away").rename(base)


def test_a_version_that_is_not_there_is_told(registry: Path):
    with pytest.raises(AdapterError, match=r"there is no math@9 in .*: math has 1, 2"):
        connect("adapter:math@9", settings(registry))


def test_the_hash_of_a_base_is_of_its_weights_and_not_of_its_place_or_age(base: Path, tmp_path: Path):
    assert base_sha256(str(base)) == base_sha256(str(EMBEDDED_DIRECTORY))
    assert base_sha256(str(tmp_path)) == ""

    small = {"a": load_file(base / "model.safetensors")["model.norm.weight"]}
    hashes = set()
    for changed in (small, {"b": small["a"]}, {"a": small["a"] + 1}, {"a": small["a"].half()}):
        save_file(changed, tmp_path / "model.safetensors")
        hashes.add(base_sha256(str(tmp_path)))
    assert len(hashes) == 4


def test_a_file_that_is_no_safetensors_is_told(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 4)

    with pytest.raises(AdapterError, match="can't read the weights of the base model"):
        base_sha256(str(tmp_path))
