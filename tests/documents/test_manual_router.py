"""The manual's response-router code, block by block as printed; only the names of modules are mapped.

manual_router.txt is that section as it came.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from finetune.model_ensembler import ResponseRouter, create_model_genome

MANUAL = (Path(__file__).parent / "manual_router.txt").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
pytestmark = pytest.mark.slow
TRIGGERS = re.findall(r"^# - (\w+): (\[.*\])$", MANUAL, re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What is defined after all blocks. System 2 is the Orchestrator with the embedded model, as it is by default."""
    found: dict[str, Any] = {"results": []}
    random.seed(7)
    for block in BLOCKS:
        exec(compile(block.replace("npcpy.ft.", "finetune."), "manual_router.txt", "exec"), found)
        if "result" in found:
            found["results"].append(found["result"])
    found["router"].close()
    return found


def test_the_section_has_three_blocks_and_three_lists_of_triggers():
    assert (len(BLOCKS), len(TRIGGERS)) == (3, 3)


@pytest.mark.parametrize(("name", "triggers"), TRIGGERS)
def test_a_gene_has_the_triggers_of_the_manual(name: str, triggers: str):
    (gene,) = create_model_genome([name])

    assert repr(gene.trigger_patterns) == triggers


def test_the_question_of_the_manual_is_answered_by_deliberation_as_no_gene_is_trained(names: dict[str, Any]):
    result = names["results"][0]

    assert (result["path"], result["used_fast_path"]) == ("reasoning", False)
    assert result["answer"] == "4"
    assert result["confidence"] == 1.0  # the verifier recomputed it


def test_the_custom_gene_is_made_as_printed(names: dict[str, Any]):
    gene = names["math_gene"]

    assert (gene.sft_path, gene.base_model, gene.specialization) == ("models/math_sft", "Qwen/Qwen3-0.6B", "math")
    assert gene.trigger_patterns == ["calculate", "solve", "equation", "sum", "multiply"]
    assert gene.confidence_threshold == 0.85


def test_the_evolution_of_the_manual_ends_with_a_genome(names: dict[str, Any]):
    assert names["best_genome"]
    assert 0 <= names["evolver"].best_fitness <= 1


def test_the_thresholds_have_the_defaults_of_the_manual():
    with ResponseRouter() as router:
        assert (router.fast_threshold, router.ensemble_threshold) == (0.8, 0.6)
