"""Adapter directories: what the manifest says is so, and what serves an adapter can be proved to do so."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from core.errors import AdapterError
from core.providers.local import EMBEDDED_DIRECTORY, LocalModel, connect, load
from core.providers.local import fingerprint as fingerprint_of
from finetune.adapters import MANIFEST, WEIGHTS, Manifest, prove, read_manifest, register
from finetune.training import TrainConfig, peft_model, save_adapter

# peft asks transformers by a name that it is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def make_adapter(folder: Path, spread: float, seed: int = 0) -> Path:
    """An adapter as training leaves it; `spread` 0 is one that was never trained, since its second half starts at zero."""
    import torch

    model, tokenizer = peft_model(TrainConfig("embedded", folder, device="cpu", seed=seed))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread) if spread else torch.nn.init.zeros_(weight)
    save_adapter(model, tokenizer, folder)
    return folder


def registered(folder: Path) -> Manifest:
    return register(
        folder,
        domain="math",
        trainer="sft",
        trace_ids=["b", "a", "b"],
        settings={"epochs": 1.0},
        metrics={"train_loss": 0.5},
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_adapter(tmp_path_factory.mktemp("adapters") / "trained", 0.1)
    registered(folder)
    return folder


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_adapter(tmp_path_factory.mktemp("adapters") / "another", 0.1, seed=1)
    registered(folder)
    return folder


@pytest.fixture
def damaged(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "damaged"))


def with_model(path: str, look: Callable[[LocalModel], Any]) -> Any:
    model = connect(path, Settings(DEVICE="cpu", _env_file=None))
    try:
        return look(model)
    finally:
        asyncio.run(model.close())


def test_a_manifest_reads_back_as_it_was_written(trained: Path):
    assert read_manifest(trained) == registered(trained)


def test_a_manifest_says_where_the_weights_come_from(trained: Path):
    manifest = read_manifest(trained)

    assert manifest.base == str(EMBEDDED_DIRECTORY)
    assert manifest.trace_ids == ("b", "a")
    assert (manifest.domain, manifest.trainer, manifest.settings, manifest.metrics) == ("math", "sft", {"epochs": 1.0}, {"train_loss": 0.5})
    assert set(manifest.versions) == {"torch", "transformers", "trl", "peft"}


def test_the_fingerprints_are_those_that_traces_carry(trained: Path):
    manifest = read_manifest(trained)

    assert manifest.fingerprint == with_model(str(trained), lambda model: model.fingerprint)
    assert manifest.base_fingerprint == fingerprint_of(load("embedded", "cpu")[0])
    assert manifest.fingerprint != manifest.base_fingerprint


def test_an_adapter_that_changes_nothing_is_refused(tmp_path: Path):
    with pytest.raises(AdapterError, match="changes nothing"):
        registered(make_adapter(tmp_path, 0.0))

    assert not (tmp_path / MANIFEST).exists()


def test_an_adapter_that_diverged_is_refused(tmp_path: Path):
    with pytest.raises(AdapterError, match="diverged"):
        registered(make_adapter(tmp_path, float("inf")))


def test_damaged_weights_are_refused(damaged: Path):
    weights = damaged / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")

    with pytest.raises(AdapterError, match="not the file that its manifest describes"):
        read_manifest(damaged)


def test_missing_weights_are_refused(damaged: Path):
    (damaged / WEIGHTS).unlink()

    with pytest.raises(AdapterError, match="not the file that its manifest describes"):
        read_manifest(damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"probe": 1, "base_probe": [], "trace_ids": []}'])
def test_a_manifest_that_cannot_be_read_is_refused(text: str, damaged: Path):
    (damaged / MANIFEST).write_text(text, encoding="utf-8")

    with pytest.raises(AdapterError, match="no readable manifest"):
        read_manifest(damaged)


def test_a_manifest_with_a_field_too_many_is_refused(damaged: Path):
    values = json.loads((damaged / MANIFEST).read_text(encoding="utf-8"))
    (damaged / MANIFEST).write_text(json.dumps({**values, "colour": "red"}), encoding="utf-8")

    with pytest.raises(AdapterError, match="no readable manifest"):
        read_manifest(damaged)


def test_a_directory_without_manifest_is_refused(tmp_path: Path):
    with pytest.raises(AdapterError, match="no readable manifest"):
        read_manifest(tmp_path)


def test_the_model_that_serves_an_adapter_proves_it(trained: Path, another: Path):
    with_model(str(trained), lambda model: prove(model, trained))
    with_model(str(another), lambda model: prove(model, another))


def test_the_base_is_not_taken_for_the_adapter(trained: Path):
    with pytest.raises(AdapterError, match="the swap did not take effect"):
        with_model("embedded", lambda model: prove(model, trained))


def test_another_adapter_is_not_taken_for_it(trained: Path, another: Path):
    with pytest.raises(AdapterError, match="the swap did not take effect"):
        with_model(str(another), lambda model: prove(model, trained))
