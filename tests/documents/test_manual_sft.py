"""The manual's code for supervised and unsupervised fine-tuning, block by block as printed; only the names of modules are mapped.

manual_sft.txt is these sections as they came. The models that would be downloaded lie where their names lead, as the embedded one, and the
corpus as a directory of that name.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.providers.loading import EMBEDDED_DIRECTORY, is_adapter
from finetune.sft import SFTConfig
from finetune.usft import USFTConfig

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
MANUAL = (Path(__file__).parent / "manual_sft.txt").read_text(encoding="utf-8")
SUPERVISED, UNSUPERVISED = MANUAL.split("## Unsupervised Fine-Tuning (USFT)")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| `\"?([^`\"]+)\"?` \|", re.MULTILINE)
OPTIONS = [(SFTConfig, *row) for row in ROW.findall(SUPERVISED)] + [(USFTConfig, *row) for row in ROW.findall(UNSUPERVISED)]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What is defined after each block."""
    folder = tmp_path_factory.mktemp("manual")
    found: dict[str, Any] = {}
    after: list[dict[str, Any]] = []
    with contextlib.chdir(folder):
        for name in ("google/gemma-3-270m-it", "Qwen/Qwen3-0.6B"):
            shutil.copytree(EMBEDDED_DIRECTORY, folder / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        (folder / "tiny_shakespeare").mkdir()
        (folder / "tiny_shakespeare" / "input.txt").write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n" * 9)
        for block in BLOCKS:
            exec(compile(block.replace("npcpy.ft", "finetune"), "manual_sft.txt", "exec"), found)
            after.append({**found})
        yield after


def test_the_sections_have_two_blocks_and_fourteen_options():
    assert (len(BLOCKS), len(OPTIONS)) == (2, 14)


def test_the_translator_is_trained_loaded_and_asked(names: list[dict[str, Any]]):
    assert names[0]["model_path"] == "models/translator"
    assert is_adapter("models/sft_model")
    assert is_adapter("models/translator")
    assert isinstance(names[0]["response"], str)
    assert names[0]["response"]


def test_the_corpus_is_trained_on(names: list[dict[str, Any]]):
    assert names[1]["model_path"] == "models/shakespeare"
    assert is_adapter("models/shakespeare")
    assert len(names[1]["texts"]) == 1


@pytest.mark.parametrize(("kind", "option", "default"), OPTIONS)
def test_an_option_has_the_default_of_the_manual(kind: type[Any], option: str, default: str):
    found = getattr(kind(), option)

    assert found == type(found)(default)
