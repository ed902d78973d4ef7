"""The manual's genetic-evolution code, block by block as printed; only the names of modules are mapped.

manual_ge.txt is that section as it came.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from finetune.ge import GAConfig

MANUAL = (Path(__file__).parent / "manual_ge.txt").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
OPTIONS = re.findall(r"^\| `(\w+)` \| `([\d.]+)` \|", MANUAL, re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What is defined after all blocks."""
    found: dict[str, Any] = {}
    random.seed(7)
    for block in BLOCKS:
        exec(compile(block.replace("npcpy.ft.ge", "finetune.ge"), "manual_ge.txt", "exec"), found)
    return found


def test_the_section_has_two_blocks_and_six_options():
    assert (len(BLOCKS), len(OPTIONS)) == (2, 6)


def test_the_example_evolves(names: dict[str, Any]):
    evolver, best = names["evolver"], names["best"]

    assert len(evolver.history) == 50
    assert names["fitness"](best) == evolver.best_fitness > 3
    assert max(row["best_fitness"] for row in evolver.history) == evolver.best_fitness


def test_the_example_which_mutates_in_place_never_loses_its_best(names: dict[str, Any]):
    best = [row["best_fitness"] for row in names["evolver"].history]

    assert best == sorted(best)


def test_the_example_computes_a_quarter_of_its_fitnesses_and_knows_the_rest(names: dict[str, Any]):
    evolver = names["evolver"]

    assert evolver.evaluations == sum(row.evaluations for row in evolver.history)
    assert evolver.evaluations <= 20 * 50 / 3


@pytest.mark.parametrize(("option", "default"), OPTIONS)
def test_an_option_has_the_default_of_the_manual(option: str, default: str):
    assert getattr(GAConfig(), option) == float(default)
