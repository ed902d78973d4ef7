"""The registry: versions that appear whole and never change, states that are read back from the journal, and slots that follow the gate."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sample_adapters import make_adapter, make_registered

from core.config import EMBEDDED
from core.errors import AdapterError, ConfigError
from core.providers.local import EMBEDDED_DIRECTORY
from core.slots import read
from core.types import Record
from finetune.adapter_diff import diff
from finetune.adapters import CONFIG, MANIFEST, WEIGHTS, Registry, read_manifest
from finetune.gate import decide


@dataclass(frozen=True, slots=True)
class Says(Record):
    promoted: bool
    reason: str = "so it is"
    p_value: float = 0.01


BETTER, WORSE = Says(True, "better by more than chance"), Says(False, "not better", 0.7)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters as training leaves them, with what must not come along."""
    folder = tmp_path_factory.mktemp("runs")
    made = [make_registered(folder / f"run {seed}", seed) for seed in range(3)]
    for run in made:
        for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "ref/adapter_model.safetensors", "checkpoint-7/rng.pth"):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_bytes(b"\x80\x04.")
    return made


@pytest.fixture(scope="module")
def three(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("three") / "adapters", who="test", now=lambda: 1000.0)
    for number, run in enumerate(runs):
        registry.add(run, "math", run=f"round {number}", dataset={"id": "d", "sha256": f"{number}" * 64})
    return registry.folder


@pytest.fixture
def registry(three: Path, tmp_path: Path) -> Registry:
    """A copy with math@1, math@2 and math@3, all candidates."""
    return Registry(shutil.copytree(three, tmp_path / "adapters"), who="test", now=lambda: 2000.0)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_version_holds_what_serves_and_no_pickle(registry: Registry, runs: list[Path]):
    version = registry.get("math@1")

    assert files(version.folder) == {WEIGHTS, CONFIG, MANIFEST, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert version.folder.name == f"1-{read_manifest(runs[0]).weights_sha256[:8]}"
    assert (version.folder / WEIGHTS).read_bytes() == (runs[0] / WEIGHTS).read_bytes()


def test_its_manifest_says_what_it_was_made_of(registry: Registry, runs: list[Path]):
    found, trained = registry.check("math@2").manifest, read_manifest(runs[1])

    assert found is not None
    assert (found.reference, found.run, found.created, found.dataset) == ("math@2", "round 1", 1000.0, {"id": "d", "sha256": "1" * 64})
    assert (found.base, found.domain, found.trainer, found.trace_ids) == (str(EMBEDDED_DIRECTORY), "math", "sft", ("a", "b"))
    assert (found.fingerprint, found.weights_sha256, found.probe) == (trained.fingerprint, trained.weights_sha256, trained.probe)
    assert all((found.base_sha256, found.config_sha256, found.template_sha256, found.dtype == "float32"))
    assert set(found.versions) == {"torch", "transformers", "trl", "peft"}


def test_the_base_is_named_by_its_absolute_path(registry: Registry, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moved = Path(shutil.copytree(runs[0], tmp_path / "moved"))
    config = json.loads((moved / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = os.path.relpath(EMBEDDED_DIRECTORY, moved)
    (moved / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    manifest = json.loads((moved / MANIFEST).read_text(encoding="utf-8"))
    (moved / MANIFEST).write_text(json.dumps({**manifest, "config_sha256": ""}), encoding="utf-8")

    version = registry.add(moved, "math")

    assert json.loads((version.folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"] == str(EMBEDDED_DIRECTORY)
    assert registry.check(version.reference).manifest == version.manifest


def test_the_same_run_is_added_once(registry: Registry, runs: list[Path]):
    assert registry.add(runs[1], "math", run="round 1").reference == "math@2"
    assert registry.add(runs[1], "math", run="again").reference == "math@4"
    assert [version.reference for version in registry.list()] == ["math@1", "math@2", "math@3", "math@4"]


def test_a_number_is_given_once_also_when_its_version_is_gone(registry: Registry, runs: list[Path]):
    shutil.rmtree(registry.get("math@3").folder)

    assert registry.add(runs[2], "math").reference == "math@4"


@pytest.mark.parametrize("name", ["Math", "slots", "a/b", ""])
def test_a_name_that_cannot_be_one_is_refused(name: str, registry: Registry, runs: list[Path]):
    with pytest.raises(ConfigError, match="can't be a name"):
        registry.add(runs[0], name)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda run: flip(run / WEIGHTS), "not the file that its manifest describes"),
        (lambda run: (run / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes()[:-9]), "no whole safetensors file"),
        (lambda run: (run / WEIGHTS).write_bytes(b""), "no whole safetensors file"),
        (lambda run: (run / WEIGHTS).rename(run / "adapter_model.bin"), "is a pickle"),
        (lambda run: (run / WEIGHTS).unlink(), "has no adapter_model.safetensors"),
        (lambda run: (run / MANIFEST).unlink(), "no readable manifest"),
        (lambda run: (run / CONFIG).write_text("{"), "can't read .*adapter_config.json"),
        (lambda run: edited(run / CONFIG, r=8), "says r=8, and the weights have rank 4"),
        (lambda run: edited(run / CONFIG, lora_alpha=64), "not the file that its manifest describes"),
        (lambda run: edited(run / MANIFEST, base_sha256="0" * 64), "was trained on other weights"),
        (lambda run: edited(run / MANIFEST, template_sha256="0" * 64), "another chat template"),
        (
            lambda run: edited(run / CONFIG, base_model_name_or_path="/no/such/base") or edited(run / MANIFEST, config_sha256=""),
            "not there",
        ),
    ],
)
def test_what_is_damaged_foreign_or_of_another_base_is_refused_and_leaves_nothing(
    spoil, told: str, registry: Registry, runs: list[Path], tmp_path: Path
):
    spoilt = Path(shutil.copytree(runs[0], tmp_path / "spoilt"))
    spoil(spoilt)

    with pytest.raises(AdapterError, match=told):
        registry.add(spoilt, "math")
    assert [version.reference for version in registry.list()] == ["math@1", "math@2", "math@3"]
    assert not list(registry.folder.rglob(".part-*"))


@pytest.mark.parametrize("function", ["shutil.copyfile", "finetune.history.append_line"])
def test_a_full_disk_adds_nothing(function: str, registry: Registry, runs: list[Path], monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(function, full)
        with pytest.raises(AdapterError, match="No space left on device"):
            registry.add(runs[0], "math")

    there = {path.name for path in (registry.folder / "math").iterdir()} - {".lock"}
    assert there == {version.folder.name for version in registry.list()}
    assert len(there) == 3
    assert registry.add(runs[0], "math").reference == "math@4"


def test_an_adapter_without_manifest_is_foreign(registry: Registry, tmp_path: Path):
    with pytest.raises(AdapterError, match="no readable manifest"):
        registry.add(make_adapter(tmp_path / "foreign"), "math")


def test_a_version_that_was_replaced_by_another_is_found_out(registry: Registry):
    first, second = (registry.get(f"math@{number}").folder for number in (1, 2))
    shutil.rmtree(first)
    shutil.copytree(second, first)

    with pytest.raises(AdapterError, match="was replaced by another one"):
        registry.check("math@1")


def test_a_promotion_takes_a_decision_and_makes_the_slot(registry: Registry):
    slot = registry.promote("math@1", "math", BETTER, why="round 0")

    assert slot == read(registry.folder, "math")
    assert (slot.base, slot.champion, slot.previous, slot.epoch) == (EMBEDDED, "math@1", None, 1)
    assert registry.get("math@1").state == "champion"
    entry = registry.history(slot="math")[-1]
    assert (entry.what, entry.reference, entry.against, entry.epoch) == ("promote", "math@1", EMBEDDED, 1)
    assert (entry.who, entry.why, entry.time, entry.forced) == ("test", "round 0", 2000.0, False)
    assert entry.statistics == BETTER.as_dict()


def test_the_gates_own_decision_is_kept_whole(registry: Registry):
    decision = decide([False] * 60, [True] * 60)

    registry.promote("math@1", "math", decision)

    assert registry.history("math@1")[-1].statistics["gained"] == decision.gained == 60


def test_without_a_decision_nothing_is_promoted(registry: Registry):
    with pytest.raises(AdapterError, match="no gate has decided on math@1 in math: evaluate it against embedded, or force it"):
        registry.promote("math@1", "math")
    with pytest.raises(AdapterError, match="does not let math@1 through: not better"):
        registry.promote("math@1", "math", WORSE)
    assert registry.slots() == ()


def test_a_kept_decision_counts_until_another_champion_serves(registry: Registry):
    registry.decided("math@1", BETTER, "math")
    registry.promote("math@1", "math")
    for number in (2, 3):
        registry.decided(f"math@{number}", BETTER, "math")
    registry.promote("math@2", "math")

    with pytest.raises(AdapterError, match="the gate compared math@3 with math@1, and now math@2 serves"):
        registry.promote("math@3", "math")


def test_who_fails_the_gate_is_rejected_and_can_only_be_forced(registry: Registry):
    registry.decided("math@1", WORSE, "math")
    assert registry.get("math@1").state == "rejected"
    with pytest.raises(AdapterError, match="does not let math@1 through"):
        registry.promote("math@1", "math")

    registry.promote("math@1", "math", force=True, why="I know better")

    entry = registry.history("math@1")[-1]
    assert (entry.what, entry.forced, entry.why) == ("promote", True, "I know better")
    assert registry.get("math@1").state == "champion"


def test_rollbacks_go_back_to_the_previous_one_then_to_the_base_then_no_further(registry: Registry):
    for number in (1, 2):
        registry.promote(f"math@{number}", "math", BETTER)

    lines = len(registry.history())
    first = registry.rollback("math", why="harm", statistics={"p": 0.001})
    assert len(registry.history()) == lines + 1
    assert (first.champion, first.previous, first.epoch) == ("math@1", None, 3)
    assert [registry.get(f"math@{number}").state for number in (1, 2)] == ["champion", "retired"]
    assert (registry.history()[-1].why, registry.history()[-1].statistics) == ("harm", {"p": 0.001})

    second = registry.rollback("math")
    assert (second.champion, second.base) == (None, EMBEDDED)
    assert registry.get("math@1").state == "retired"
    with pytest.raises(AdapterError, match="there is nothing to go back to"):
        registry.rollback("math")


def test_a_rollback_to_damaged_weights_is_refused(registry: Registry):
    for number in (1, 2):
        registry.promote(f"math@{number}", "math", BETTER)
    flip(registry.get("math@1").folder / WEIGHTS)

    with pytest.raises(AdapterError, match="not the file that its manifest describes"):
        registry.rollback("math")
    assert read(registry.folder, "math").champion == "math@2"


def test_a_canary_is_started_shared_out_and_stopped(registry: Registry):
    registry.promote("math@1", "math", BETTER)

    slot = registry.start_canary("math@2", "math", 0.2, BETTER)
    assert (slot.champion, slot.canary, slot.share) == ("math@1", "math@2", 0.2)
    assert [version.state for version in registry.list("math")] == ["champion", "canary", "candidate"]
    assert registry.start_canary("math@2", "math", 0.5).share == 0.5
    with pytest.raises(AdapterError, match="math@2 is the canary of math: promote it or stop it first"):
        registry.start_canary("math@3", "math", 0.1, BETTER)

    slot = registry.stop_canary("math", why="harm", statistics={"bound": float("inf")})
    assert (slot.champion, slot.canary, slot.share) == ("math@1", None, 0.0)
    assert registry.get("math@2").state == "rejected"
    assert registry.history("math@2")[-1].statistics == {"bound": "inf"}
    with pytest.raises(AdapterError, match="has no canary"):
        registry.stop_canary("math")


def test_a_canary_that_is_promoted_is_the_champion_and_no_canary(registry: Registry):
    registry.promote("math@1", "math", BETTER)
    registry.start_canary("math@2", "math", 0.2, BETTER)

    slot = registry.promote("math@2", "math", BETTER)

    assert (slot.champion, slot.canary, slot.previous, slot.share) == ("math@2", None, "math@1", 0.0)
    assert [version.state for version in registry.list("math")] == ["retired", "champion", "candidate"]


def test_what_a_slot_names_is_neither_retired_nor_rejected(registry: Registry):
    for number in (1, 2):
        registry.promote(f"math@{number}", "math", BETTER)

    for reference in ("math@1", "math@2"):
        with pytest.raises(AdapterError, match="is in the slot math"):
            registry.retire(reference)
    registry.retire("math@3", "too old")
    assert registry.get("math@3").state == "retired"


def test_an_adapter_of_another_base_does_not_get_into_a_slot(registry: Registry, tmp_path: Path):
    from core.providers.local import load

    model, tokenizer = load(EMBEDDED, "cpu")
    next(iter(model.parameters())).data.mul_(1.5)
    model.save_pretrained(str(tmp_path / "other"))
    tokenizer.save_pretrained(str(tmp_path / "other"))
    other = registry.add(make_registered(tmp_path / "run", 5, base=str(tmp_path / "other")), "math")
    registry.promote("math@1", "math", BETTER)

    with pytest.raises(AdapterError, match=r"is an adapter of .*other, and the base of the slot math is embedded"):
        registry.promote(other.reference, "math", BETTER)
    slot = registry.promote(other.reference, "math", BETTER, base=str(tmp_path / "other"))
    assert (slot.champion, slot.base, slot.previous) == (other.reference, str(tmp_path / "other"), None)


def test_a_change_that_was_killed_between_journal_and_slot_did_not_come_to_be(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    registry.promote("math@1", "math", BETTER)

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("core.slots.replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.promote("math@2", "math", BETTER)

    assert [version.state for version in registry.list("math")] == ["champion", "candidate", "candidate"]
    registry.promote("math@3", "math", BETTER)
    assert [version.state for version in registry.list("math")] == ["retired", "candidate", "champion"]


def test_a_line_of_the_journal_that_was_cut_off_is_not_counted_and_a_damaged_one_is_told(registry: Registry):
    registry.promote("math@1", "math", BETTER)
    journal = registry.folder / "journal.jsonl"
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"what": "promote", "refer')

    assert registry.get("math@1").state == "champion"
    registry.promote("math@2", "math", BETTER)
    assert [entry.what for entry in registry.history()] == ["add", "add", "add", "promote", "promote"]

    journal.write_text(journal.read_text(encoding="utf-8").replace('"what": "add"', '"what: "add"', 1), encoding="utf-8")
    with pytest.raises(AdapterError, match=r"journal.jsonl is damaged"):
        registry.list()


def test_a_version_that_cannot_be_read_is_listed_with_what_is_wrong(registry: Registry):
    (registry.get("math@2").folder / MANIFEST).write_text("{", encoding="utf-8")

    found = registry.list()

    assert [version.manifest is None for version in found] == [False, True, False]
    assert "can't be read" in found[1].problem


def test_the_same_adapter_is_no_distance_away_and_another_seed_is(registry: Registry, runs: list[Path]):
    again = registry.add(runs[0], "math")

    same, other = diff(registry.get("math@1"), again), diff(registry.get("math@1"), registry.get("math@2"))

    assert (same.distance, same.settings, same.shared_traces) == (0, {}, 2)
    assert 1.2 < other.distance < 1.6  # two directions that have nothing to do with each other: the root of 2
    assert len(other.layers) == len(same.layers) > 3
    assert other.settings == {"seed": (0, 1)}
    assert other.metrics == {"train_loss": (0.5, 1.5)}
    assert other.data["sha256"] == ("0" * 64, "1" * 64)


def test_distances_are_those_of_the_whole_matrices(registry: Registry, tmp_path: Path):
    from core.providers.local import load

    other = registry.add(make_registered(tmp_path / "run", 7, r=2, alpha=16), "math")
    found = {layer.name: layer for layer in diff(registry.get("math@1"), other).layers}

    base, first, second = (load(str(path), "cpu")[0].state_dict() for path in (EMBEDDED, registry.get("math@1").folder, other.folder))
    for name, layer in found.items():
        a, b = (each[f"{name}.weight"] - base[f"{name}.weight"] for each in (first, second))
        assert layer.a == pytest.approx(float(a.norm()), rel=1e-3)
        assert layer.distance == pytest.approx(float((a - b).norm() / max(a.norm(), b.norm())), rel=1e-3)


ADD = """
import os, sys, time
from finetune import adapters
adapters.{name} = {do}
print(adapters.Registry(sys.argv[1], who=sys.argv[3]).add(sys.argv[2], "math").reference)
"""


def adding(registry: Registry, run: Path, who: str, name: str = "unused", do: str = "None") -> subprocess.Popen[str]:
    code = ADD.format(name=name, do=do)
    return subprocess.Popen([sys.executable, "-c", code, str(registry.folder), str(run), who], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_that_add_at_once_get_versions_of_their_own_and_a_killed_one_leaves_none(registry: Registry, runs: list[Path]):
    children = [
        adding(registry, runs[0], "first"),
        adding(registry, runs[1], "second"),
        adding(registry, runs[2], "killed", "sync_files", f"lambda part: os.kill(os.getpid(), {int(signal.SIGKILL)})"),
    ]
    told = [child.communicate()[0].strip() for child in children]

    assert children[2].returncode == -signal.SIGKILL
    assert {told[0], told[1]} == {"math@4", "math@5"}
    assert [version.reference for version in registry.list()] == [f"math@{number}" for number in range(1, 6)]
    assert {entry.who for entry in registry.history("math@4") + registry.history("math@5")} == {"first", "second"}
    for number in (4, 5):
        registry.check(f"math@{number}")

    assert registry.add(runs[2], "math").reference == "math@6"
    assert not list(registry.folder.rglob(".part-*"))
