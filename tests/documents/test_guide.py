"""The fine-tuning guide, block by block: what it prints is what runs.

guide.txt is the document as it came. Two things are replaced in its blocks, as text: the model that needs a licence and a GPU by the
embedded one, and the number of epochs by one. Bash finds the script by its path and `tail -f` ends after a second.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sample_traces import problems, run_of, solved

from core.config import Settings
from core.orchestrator import Orchestrator
from core.types import Domain
from finetune.adapters import read_manifest
from logs.store import TraceStore

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
REPOSITORY = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (Path(__file__).parent / "guide.txt").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
COMMANDS = [i for i, (language, text) in enumerate(BLOCKS) if language == "bash" and "pip install" not in text]
PYTHON = [i for i, (language, _) in enumerate(BLOCKS) if language == "python"]
INSTALL = [i for i, (_, text) in enumerate(BLOCKS) if "pip install" in text]


@dataclass
class Walk:
    """What came of each block, in a folder of its own."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    errors: dict[int, str | None] = field(default_factory=dict)
    said: dict[int, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """All blocks from the first to the last, the way a reader goes; what the guide's user would have collected is there before training."""
    done = Walk(tmp_path_factory.mktemp("guide"))
    with contextlib.chdir(done.folder):
        for i, (language, text) in enumerate(BLOCKS):
            if language == "python":
                done.errors[i] = run_python(text, done.names)
            elif i in COMMANDS:
                done.errors[i], done.said[i] = run_bash(text)
            if i == PYTHON[0]:
                collect(done.names["orchestrator"])
        yield done


def collect(orchestrator: Orchestrator) -> None:
    """One question asked for real, and more verified work than the embedded model would bring."""
    with orchestrator:
        orchestrator.infer("Solve 17*6+23", strategy="single")
        orchestrator.flush()
    for folder in ("./logs", "./production_logs"):
        with TraceStore(folder) as store:
            for problem in [*problems(24), *problems(8, "code")]:
                store.put(run_of(solved(problem)))
            store.flush()


def substituted(text: str) -> str:
    text = text.replace("meta-llama/Llama-3.2-3B-Instruct", "embedded")
    return re.sub(r"(--epochs |epochs=)\d+", r"\g<1>1", text)


def run_python(text: str, names: dict[str, Any]) -> str | None:
    try:
        exec(compile(substituted(text), "guide.txt", "exec"), names)
    except Exception as error:  # noqa: BLE001  whatever a block raises is what its test tells
        return repr(error)
    return None


def run_bash(text: str) -> tuple[str | None, str]:
    """(what went wrong, all that it said). `set -e`, so that every line of the block counts."""
    text = substituted(text).replace("python finetune_setup.py", shlex.join([sys.executable, str(REPOSITORY / "finetune_setup.py")]))
    text = re.sub(r"^tail -f (.*)$", r"timeout 1 tail -f \1 || test $? = 124", text, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", text], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return (f"exit code {done.returncode}: {done.stdout}" if done.returncode else None), done.stdout


def named(index: int) -> str:
    language, text = BLOCKS[index]
    return f"{index} {language} {text.strip().splitlines()[0][:40]}"


def test_every_block_of_the_guide_is_accounted_for():
    assert sorted([*COMMANDS, *PYTHON, *INSTALL]) == list(range(len(BLOCKS)))
    assert (len(COMMANDS), len(PYTHON), len(INSTALL)) == (4, 3, 1)


@pytest.mark.parametrize("index", [*PYTHON, *COMMANDS], ids=named)
def test_a_block_runs_as_printed(index: int, walk: Walk):
    assert walk.errors[index] is None


def test_every_package_that_the_guide_installs_is_in_the_extra_that_we_name():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    (block,) = (BLOCKS[i][1] for i in INSTALL)
    wanted = set(block.split()) - {"pip", "install"}
    assert wanted == {"transformers", "datasets", "accelerate", "peft", "bitsandbytes"}
    assert wanted <= packages_of("train", extras)


def packages_of(extra: str, extras: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    for requirement in extras[extra]:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        inner = re.search(r"ratchet-agents\[(.*)\]", requirement)
        found |= {name[0]} if inner is None else {p for e in inner[1].split(",") for p in packages_of(e, extras)}
    return found


@pytest.mark.parametrize(
    ("folder", "domain"),
    [("finetuned_models", None), ("finetuned_math", "math"), ("finetuned_code", "code"), ("specialized_math_model", "math")],
)
def test_each_training_command_leaves_an_adapter_where_the_guide_says(folder: str, domain: str | None, walk: Walk):
    assert read_manifest(walk.folder / folder).domain == domain


def test_too_few_traces_are_warned_about_in_each_domain(walk: Walk):
    first = walk.said[COMMANDS[0]]

    assert "high-quality traces in math: 100 or more are recommended" in first
    assert "only 8 high-quality traces in code" in first


def test_the_monitoring_commands_show_the_evaluation_loss(walk: Walk):
    assert walk.said[COMMANDS[-1]].count('"eval_loss"') >= 2


def test_the_settings_of_the_guide_serve_the_fine_tuned_worker(walk: Walk):
    settings = walk.names["settings"]
    assert isinstance(settings, Settings)
    assert settings.MATH_WORKER_MODEL == settings.CODE_WORKER_MODEL == "./finetuned_models"

    with Orchestrator(settings) as orchestrator:
        result = orchestrator.infer("Solve 2+2", domain="math", strategy="single")
        served = orchestrator.model_for(Domain.CODE).fingerprint

    assert result.fingerprint == served == read_manifest(walk.folder / "finetuned_models").fingerprint


def test_the_custom_criteria_of_the_guide_select_traces(walk: Walk):
    high_quality, math_traces = walk.names["high_quality"], walk.names["math_traces"]

    assert 24 <= len(math_traces) < len(high_quality)
    assert all(t.domain == "math" and t.verified and t.reward > 0.9 for t in math_traces)


def test_the_question_that_was_asked_is_among_the_traces(walk: Walk):
    assert "Solve 17*6+23" in {trace.query for trace in walk.names["traces"]}
