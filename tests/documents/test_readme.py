"""The README's Python blocks run as printed; what needs a server is compiled only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_a_block_runs_as_printed(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    code = compile(block, "README.md", "exec")
    if "litellm:" not in block:
        exec(code, {"__name__": "readme"})


def test_every_picture_and_page_it_names_is_there():
    named = re.findall(r"\]\(((?!https?:)[^)#]+)\)", README.read_text(encoding="utf-8"))
    assert [name for name in named if not (README.parent / name).exists()] == []
