"""How an update is cut is ours, what comes of it is not: parts, out of memory, an interruption leave the weights as they would be."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sample_traces import problems, solved

from core.errors import TrainingError
from finetune.checkpoints import SEAL
from finetune.data import sft_rows
from finetune.supervised import sft_trainer, train_sft
from finetune.training import TrainConfig

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
ROWS, _ = sft_rows([solved(problem) for problem in problems(30)], random.Random(0))
KILLED = """
import os, random, signal, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(int(sys.argv[2]))
from tests.finetune.test_training_parts import ROWS, config
from finetune.supervised import train_sft
from pathlib import Path
train_sft(ROWS, config(Path(sys.argv[1])), on_step=lambda step, *_: step == 7 and os.kill(os.getpid(), signal.SIGKILL))
"""


def config(folder: Path, **changes: Any) -> TrainConfig:
    found = TrainConfig("embedded", folder, 2, 4, 2e-3, lora_dropout=0.1, save_steps=2, evaluations=1, warmup_steps=1, device="cpu")
    return found.replace(**changes)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def distance(a: Path, b: Path) -> float:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    train_sft(ROWS, config(folder))
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a SIGKILL after the seventh of fourteen steps left."""
    import torch

    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder), str(torch.get_num_threads())]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=_environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[1]}:{Path(__file__).parent}"}


def test_what_a_kill_leaves_is_no_adapter_and_two_whole_checkpoints(killed: Path):
    assert not (killed / "adapter_config.json").exists()
    assert sorted(path.name for path in killed.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert all((path / SEAL).is_file() for path in killed.glob("checkpoint-*"))
    assert not list(killed.rglob("training_args.bin"))


@pytest.mark.parametrize("damage", ["none", "half-written", "not sealed"])
def test_a_killed_run_that_is_resumed_reaches_the_weights_of_one_that_was_not(damage: str, whole: Path, killed: Path, tmp_path: Path):
    folder = tmp_path / "resumed"
    shutil.copytree(killed, folder)
    if damage == "half-written":
        state = folder / "checkpoint-6" / "optimizer.pt"
        state.write_bytes(state.read_bytes()[:100])
    elif damage == "not sealed":
        (folder / "checkpoint-6" / SEAL).unlink()
    steps: list[int] = []

    train_sft(ROWS, config(folder, resume=True), on_step=lambda step, *_: steps.append(step))

    assert steps == list(range(7 if damage == "none" else 5, 15))
    assert distance(folder, whole) < 1e-6
    assert not list(folder.glob("checkpoint-*"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 15))


def test_resuming_without_a_checkpoint_begins_anew_and_says_so(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    train_sft(ROWS, config(tmp_path, resume=True))

    assert f"no whole checkpoint in {tmp_path}: beginning anew" in caplog.text
    assert distance(tmp_path, whole) == 0


@pytest.mark.parametrize("change", ["rows", "learning_rate"])
def test_a_checkpoint_of_another_run_is_refused(change: str, killed: Path, tmp_path: Path):
    folder = tmp_path / "other"
    shutil.copytree(killed, folder)
    rows = ROWS[:-1] if change == "rows" else ROWS

    with pytest.raises(TrainingError, match="other options or other data"):
        train_sft(rows, config(folder, resume=True, **({"learning_rate": 1e-3} if change == "learning_rate" else {})))


def test_small_parts_make_the_same_weights_as_the_whole_update(tmp_path: Path):
    for name, tokens in (("small", 150), ("large", 0)):
        train_sft(ROWS, config(tmp_path / name, lora_dropout=0.0, micro_tokens=tokens, epochs=1))

    assert distance(tmp_path / "small", tmp_path / "large") < 1e-5


def test_accumulated_batches_make_the_same_weights_as_one_large_batch(tmp_path: Path):
    for name, size, steps in (("many", 1, 4), ("one", 4, 1)):
        train_sft(ROWS, config(tmp_path / name, batch_size=size, gradient_accumulation_steps=steps, epochs=1))

    assert distance(tmp_path / "many", tmp_path / "one") == 0


def test_out_of_memory_halves_the_parts_and_changes_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    options = {"lora_dropout": 0.0, "epochs": 1}
    train_sft(ROWS, config(tmp_path / "roomy", **options))
    trainer = sft_trainer(*_sides(), config(tmp_path / "tight", **options))
    forget = _out_of_memory_above(trainer.model, rows=2)

    from finetune.training import keep, run

    run(trainer, config(tmp_path / "tight", **options), len(trainer.train_dataset), None)
    forget.remove()
    keep(trainer, tmp_path / "tight")

    assert distance(tmp_path / "tight", tmp_path / "roomy") < 1e-5
    assert caplog.text.count("out of memory") >= 1


def test_out_of_memory_with_a_single_row_is_told_with_numbers(tmp_path: Path):
    from finetune.training import run

    options = config(tmp_path, epochs=1)
    trainer = sft_trainer(*_sides(), options)
    _out_of_memory_above(trainer.model, rows=0)

    with pytest.raises(TrainingError, match="out of memory: --batch-size 2 --gradient-accumulation-steps 2 keeps the update the same"):
        run(trainer, options, len(trainer.train_dataset), None)


def test_training_makes_no_network_call_and_leaves_a_picture_of_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    called: list[Any] = []

    def refuse(_: Any, address: Any) -> None:
        called.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: refuse(None, args))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.delenv("CI", raising=False)

    train_sft(ROWS[:4], config(tmp_path, epochs=1))

    assert called == []
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_in_few_bits_is_trained_and_the_adapter_reloads(bits: int, tmp_path: Path):
    from core.providers.local import load

    train_sft(ROWS[:6], config(tmp_path, epochs=1, **{f"load_in_{bits}bit": True}))

    model, _ = load(str(tmp_path), "cpu")
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_only_the_layers_that_were_named_get_an_adapter(tmp_path: Path):
    train_sft(ROWS[:4], config(tmp_path, epochs=1, target_modules=("q_proj", "v_proj"), gradient_checkpointing=True))

    assert {name.split(".")[-3] for name in weights(tmp_path)} == {"q_proj", "v_proj"}


def test_layers_that_are_not_there_are_told_with_those_that_are(tmp_path: Path):
    with pytest.raises(TrainingError, match="choose among down_proj, gate_proj, k_proj"):
        train_sft(ROWS[:4], config(tmp_path, target_modules=("query",)))


def _sides() -> tuple[Any, Any]:
    from finetune.data import split_rows

    return split_rows(ROWS, 0.9, random.Random(0))


def _out_of_memory_above(model: Any, rows: int) -> Any:
    import torch

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        if model.training and kwargs["input_ids"].shape[0] > rows:
            raise torch.OutOfMemoryError("no more")

    return model.register_forward_pre_hook(refuse, with_kwargs=True)


def test_a_full_disk_is_told(tmp_path: Path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")

    with pytest.raises(TrainingError, match=f"the disk of {tmp_path} is full: make room and go on with --resume"):
        train_sft(ROWS[:4], config(tmp_path, epochs=1))


def test_a_run_that_diverged_leaves_no_adapter(tmp_path: Path):
    from finetune.training import keep

    trainer = sft_trainer(*_sides(), config(tmp_path))
    next(p for p in trainer.model.parameters() if p.requires_grad).data.fill_(float("nan"))

    with pytest.raises(TrainingError, match="training has diverged"):
        keep(trainer, tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
