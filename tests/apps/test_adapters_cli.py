"""`ratchet adapters`, as typed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import get_args

import pytest
from sample_adapters import make_registered
from sample_traces import failed, problems, run_of, solved

from core import slots
from core.apps.adapters import KINDS
from core.apps.cli import main
from finetune.adapters import WEIGHTS, Registry
from finetune.export import Exported, Kind
from finetune.parity import Parity
from logs.reading import read_traces
from logs.store import TraceStore


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    registry = Registry(folder / "adapters", who="test")
    for seed in (1, 2):
        registry.add(make_registered(folder / f"run {seed}", seed), "math")
    return registry.folder


@pytest.fixture
def registry(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("RATCHET_REGISTRY", str(tmp_path / "adapters"))
    return Registry(shutil.copytree(filled, tmp_path / "adapters"), who="test")


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["adapters", *words]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_the_list_shows_versions_states_and_slots(registry: Registry, capsys):
    registry.promote("math@1", "math", force=True)
    registry.start_canary("math@2", "math", 0.1, force=True)

    told = typed(capsys, "list")

    assert "math@1" in told
    assert "champion" in told
    assert "slot math: math@1 serves; before it embedded; 10% to the canary math@2 (epoch 2)" in told
    values = json.loads(typed(capsys, "list", "--json"))
    assert [each["state"] for each in values["adapters"]] == ["champion", "canary"]
    assert values["slots"][0]["champion"] == "math@1"
    assert json.loads(typed(capsys, "list", "code", "--json"))["adapters"] == []


def test_a_version_is_shown_with_its_history_and_its_check(registry: Registry, capsys):
    registry.promote("math@1", "math", force=True, why="to see it")

    told = typed(capsys, "show", "math@1")
    assert "math@1, champion" in told
    assert "promote math@1 in math by force by test: to see it" in told
    assert "those of the manifest" in told
    assert [entry["what"] for entry in json.loads(typed(capsys, "show", "math@1", "--json"))["history"]] == ["add", "promote"]

    (registry.get("math@2").folder / WEIGHTS).write_bytes(b"")
    assert main(["adapters", "show", "math@2"]) == 1
    assert "no whole safetensors file" in capsys.readouterr().out


def test_two_versions_are_compared(registry: Registry, capsys):
    told = typed(capsys, "diff", "math@1", "math@2", "-n", "2")
    assert "train_loss" in told
    assert told.count("proj") == 2
    values = json.loads(typed(capsys, "diff", "math@1", "math@2", "--json"))
    assert values["settings"]["seed"] == [1, 2]
    assert 1 < values["distance"] < 2


def test_a_promotion_without_the_gate_has_to_be_forced_and_is_logged_so(registry: Registry, capsys):
    assert "no gate has decided on math@1 in math" in typed(capsys, "promote", "math@1", code=1)

    assert typed(capsys, "promote", "math@1", "--force") == "slot math: math@1 serves; before it embedded (epoch 1)\n"
    assert registry.history("math@1")[-1].forced
    assert json.loads(typed(capsys, "promote", "math@2", "--slot", "other", "--force", "--json"))["champion"] == "math@2"


def test_a_rollback_says_what_serves_now(registry: Registry, capsys):
    for number in (1, 2):
        registry.promote(f"math@{number}", "math", force=True)

    assert "has no canary" in typed(capsys, "rollback", "math", "--canary", code=1)
    assert typed(capsys, "rollback", "math", "--why", "harm") == "slot math: math@1 serves; before it embedded (epoch 3)\n"
    assert typed(capsys, "rollback", "math") == "slot math: embedded, its base, serves (epoch 4)\n"
    assert registry.history()[-2].why == "harm"
    assert "there is nothing to go back to" in typed(capsys, "rollback", "math", code=1)


def test_an_export_is_of_a_checked_version(registry: Registry, capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[tuple[Path, str, Path]] = []

    def export(folder: Path, kind: Kind, out: Path) -> Exported:
        asked.append((folder, kind, out))
        return Exported(kind, out, 3_500_000, Parity(8, 8), 0.0)

    monkeypatch.setattr("finetune.export.export", export)

    told = typed(capsys, "export", "math@1", "gguf", str(tmp_path / "out"))
    assert told == f"{tmp_path / 'out'}: gguf, 3.5 MB; 8 of 8 greedy answers are equal\n"
    assert asked == [(registry.get("math@1").folder, "gguf", tmp_path / "out")]

    (registry.get("math@2").folder / WEIGHTS).write_bytes(b"")
    assert "no whole safetensors file" in typed(capsys, "export", "math@2", "gguf", str(tmp_path / "out"), code=1)
    with pytest.raises(SystemExit):
        main(["adapters", "export", "math@1", "onnx", str(tmp_path / "out")])
    assert "choose from" in capsys.readouterr().err
    assert len(asked) == 1
    assert get_args(Kind) == KINDS


@pytest.mark.parametrize("words", [("list",), ("show", "math@1"), ("promote", "math@1"), ("rollback", "math")])
def test_without_a_registry_every_command_says_so(words: tuple[str, ...], capsys, tmp_path: Path):
    assert "there is no registry" in typed(capsys, *words, "--registry", str(tmp_path / "none"), code=1)


def test_what_is_not_there_is_told(registry: Registry, capsys):
    assert "there is no math@9" in typed(capsys, "show", "math@9", code=1)
    assert "is no adapter reference" in typed(capsys, "promote", "math", "--force", code=1)
    assert "there is no slot code" in typed(capsys, "rollback", "code", code=1)


def test_a_canary_is_started_watched_and_stopped_by_its_traces(registry: Registry, tmp_path: Path, capsys):
    registry.promote("math@1", "math", force=True)
    assert "slot math: no canary" in typed(capsys, "watch", "math", "--log-dir", str(tmp_path / "logs"))
    assert "no gate has decided on math@2 in math" in typed(capsys, "canary", "math@2", code=1)
    assert "25% to the canary math@2" in typed(capsys, "canary", "math@2", "--share", "0.25", "--force")
    log(tmp_path / "logs", registry, 6)

    assert "slot math: continue; nothing is decided" in typed(capsys, "watch", "math", "--log-dir", str(tmp_path / "logs"))
    log(tmp_path / "logs", registry, 400)
    looked = json.loads(typed(capsys, "watch", "math", "--log-dir", str(tmp_path / "logs"), "--look", "--json"))
    assert looked["verdict"] == "roll back"
    assert slots.read(registry.folder, "math").canary == "math@2"
    told = typed(capsys, "watch", "math", "--log-dir", str(tmp_path / "logs"), "--every", "1h")
    assert "slot math: roll back; the canary does harm" in told
    assert slots.read(registry.folder, "math").canary is None


def test_a_watch_that_cannot_look_says_why(registry: Registry, tmp_path: Path, capsys):
    registry.promote("math@1", "math", force=True)
    registry.start_canary("math@2", "math", 0.1, force=True)
    assert "no traces in" in typed(capsys, "watch", "math", "--log-dir", str(tmp_path / "none"), code=1)
    assert "'soon' is no time" in typed(capsys, "watch", "math", "--every", "soon", code=1)
    assert "margin of the canary is 2.0" in typed(capsys, "watch", "math", "--margin", "2", code=1)
    assert "the share of the slot math is 7.0" in typed(capsys, "canary", "math@2", "--share", "7", "--force", code=1)


def test_a_watch_goes_on_when_the_store_is_gone_for_a_while(registry: Registry, tmp_path: Path, capsys, monkeypatch):
    registry.promote("math@1", "math", force=True)
    registry.start_canary("math@2", "math", 0.5, force=True)
    place, away = tmp_path / "logs", tmp_path / "away"
    log(place, registry, 6)

    def wait(seconds: float) -> None:
        assert seconds == 3600
        if place.exists():
            place.rename(away)
        else:
            away.rename(place)
            log(place, registry, 400)

    monkeypatch.setattr("core.apps.adapters.time.sleep", wait)
    assert main(["adapters", "watch", "math", "--log-dir", str(place), "--every", "1h"]) == 0

    out, err = capsys.readouterr()
    assert "continue;" in out.split("\n")[0]
    assert "roll back;" in out.split("\n")[1]
    assert "no traces in" in err
    assert "looking again in 3600 s" in err
    assert slots.read(registry.folder, "math").canary is None


def log(place: Path, registry: Registry, n: int) -> None:
    """`n` more answers, every other one by each arm: the champion is always right and the canary never."""
    begun, first = time.time(), len(list(read_traces(place))) if place.exists() else 0
    prints = {name: registry.get(name).manifest.fingerprint for name in ("math@1", "math@2")}  # type: ignore[union-attr]
    with TraceStore(place, redact=None) as store:
        for i, problem in enumerate(problems(first + n)[first:]):
            make, arm = ((solved, "math@1"), (failed, "math@2"))[i % 2]
            store.put(run_of(make(problem, model=f"adapter:{arm}", fingerprint=prints[arm], created=begun + i / n)))
