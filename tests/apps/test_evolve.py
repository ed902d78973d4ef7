"""`ratchet evolve` and `ratchet route`, from adapters to answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.apps.cli import main
from finetune.adapters import Registry
from tests.sample_adapters import make_adapter, make_registered

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_registered(tmp_path_factory.mktemp("adapters") / "math")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt a question."""
    monkeypatch.setenv("RATCHET_SEARCH_STRATEGY", "single")
    monkeypatch.setenv("RATCHET_MAX_TOKENS", "24")


SMALL = ["-n", "3", "--population", "4", "--generations", "2"]


def test_it_evolves_a_router_which_then_answers(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, env = tmp_path / "router.json", tmp_path / ".env"
    env.write_text("RATCHET_SEED=1\nRATCHET_RESPONSE_ROUTER=old\n")

    assert main(["evolve", str(adapter), *SMALL, "--out", str(out), "--env", str(env)]) == 0
    said = capsys.readouterr().out
    assert main(["route", "What is 2+2?", "--router", str(out)]) == 0

    assert "on 3 held-out tasks" in said
    assert "winner" in said
    assert json.loads(out.read_text())["genes"][0]["sft_path"] == str(adapter)
    assert env.read_text().splitlines() == ["RATCHET_SEED=1", f"RATCHET_RESPONSE_ROUTER={out}"]
    assert "confidence" in capsys.readouterr().err


def test_it_takes_the_champions_of_the_registry(adapter: Path, tmp_path: Path):
    registry = Registry(tmp_path / "registry")
    registry.add(adapter, "sums")
    out = tmp_path / "router.json"

    assert main(["evolve", "--registry", str(registry.folder), *SMALL, "--out", str(out)]) == 1
    registry.promote("sums@1", "sums", force=True)
    assert main(["evolve", "--registry", str(registry.folder), *SMALL, "--out", str(out)]) == 0

    (path,) = {gene["sft_path"] for gene in json.loads(out.read_text())["genes"]}
    assert Path(path).parent == registry.folder / "sums"


def test_a_file_of_tasks_and_a_specialization_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bare = make_adapter(tmp_path / "bare")
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"prompt": f"Solve {i}+2", "reference": str(i + 2)}) + "\n" for i in range(12)))
    options = [*SMALL, "--tasks", str(tasks), "--out", str(tmp_path / "router.json")]

    assert main(["evolve", str(bare), *options]) == 1
    assert "SPECIALIZATION=" in capsys.readouterr().err
    assert main(["evolve", f"sums={bare}", *options]) == 0
    assert main(["evolve", f"sums={bare}", *SMALL]) == 1
    assert "--tasks FILE" in capsys.readouterr().err


def test_a_place_that_can_not_be_written_is_told_before_the_work(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evolve", str(adapter), *SMALL, "--out", str(tmp_path)]) == 1
    assert "can't write" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["nowhere"], ["--registry", "nowhere"], ["-n", "0"]])
def test_what_is_not_there_is_told(wrong: list[str], adapter: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evolve", *(wrong if wrong[0] != "-n" else [str(adapter), *wrong])]) == 1
    assert capsys.readouterr().err.startswith("error: ")
