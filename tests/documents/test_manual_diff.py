"""The manual's diffusion code, block by block as printed; names of modules are mapped, sizes and epochs are small.

manual_diff.txt is that section as it came.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from finetune.diff import DiffusionConfig

MANUAL = (Path(__file__).parent / "manual_diff.txt").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
OPTIONS = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", MANUAL, re.MULTILINE)
SMALLER = {
    "npcpy.ft.diff": "finetune.diff",
    "image_size=128": "image_size=16",
    "channels=256": "channels=16",
    "num_epochs=100": "num_epochs=20",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder that the blocks ran in, what is defined after them)."""
    folder = tmp_path_factory.mktemp("manual")
    (folder / "data").mkdir()
    for number, colour in enumerate(("red", "blue", "green"), 1):
        Image.new("RGB", (40, 30), colour).save(folder / "data" / f"img{number}.png")
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            for printed, small in SMALLER.items():
                block = block.replace(printed, small)
            exec(compile(block, "manual_diff.txt", "exec"), found)
    return folder, found


def test_the_section_has_two_blocks_and_eight_options():
    assert (len(BLOCKS), len(OPTIONS)) == (2, 8)


def test_the_example_draws_a_picture(ran: tuple[Path, dict[str, Any]]):
    folder, found = ran

    assert found["model_path"] == "diffusion_model"
    with Image.open(folder / "output.png") as picture:
        assert picture.size == (16, 16)


def test_checkpoints_and_the_final_model_are_left_behind(ran: tuple[Path, dict[str, Any]]):
    names = {path.name for path in (ran[0] / "diffusion_model").iterdir()}

    assert names == {"checkpoint-00000010", "checkpoint-00000020", "model_final.pt"}


@pytest.mark.parametrize(("option", "default"), OPTIONS)
def test_an_option_has_the_default_of_the_manual(option: str, default: str):
    assert getattr(DiffusionConfig(), option) == ast.literal_eval(default)
