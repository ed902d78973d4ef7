"""The manual's reinforcement-learning code, block by block as printed; only the names of modules are mapped.

manual_rl.txt is that section as it came. The model that would be downloaded lies where its name leads, as the embedded one, and a
stand-in for Ollama answers, right or wrong as the seed of the request decides.
"""

from __future__ import annotations

import contextlib
import csv
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.providers.local import EMBEDDED_DIRECTORY
from finetune.adapters import read_manifest
from finetune.rl import RLConfig
from tests.providers.stand_in import Handler, StandIn, standing

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
MANUAL = (Path(__file__).parent / "manual_rl.txt").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
MODULES = {"npcpy.ft.rl": "finetune.rl", "npcpy.npc_compiler": "agents.npc"}
RIGHT = {"Solve 2+2": "4", "Solve 10*5": "50", "Solve 100/4": "25"}


class Ollama(StandIn):
    """Answers /api/chat in lines, as the client reads them."""

    def reply(self, handler: Handler, body: dict) -> None:
        rng = random.Random(body["options"]["seed"])
        said = RIGHT[body["messages"][-1]["content"]] if rng.random() < 0.5 else str(rng.randint(60, 99))
        handler.begin_lines()
        end = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 1}
        for part in (
            {"done": False, "message": {"role": "assistant", "content": said}},
            {**end, "message": {"role": "assistant", "content": ""}},
        ):
            handler.line({"model": body["model"], "created_at": "2025-11-22T08:00:00Z", **part})
        handler.end_lines()


@dataclass
class Walk:
    folder: Path
    names: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict] = field(default_factory=list)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """All blocks from the first to the last, with what is defined after each."""
    done = Walk(tmp_path_factory.mktemp("manual"))
    shutil.copytree(EMBEDDED_DIRECTORY, done.folder / "Qwen" / "Qwen3-0.6B")
    names: dict[str, Any] = {}
    with contextlib.chdir(done.folder), standing(Ollama()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATCHET_OLLAMA_HOST", server.host)
        for block in BLOCKS:
            for theirs, ours in MODULES.items():
                block = block.replace(theirs, ours)
            exec(compile(block, "manual_rl.txt", "exec"), names)
            done.names.append(dict(names))
        done.asked = server.asked
        yield done


def test_the_section_has_three_blocks():
    assert len(BLOCKS) == 3


def test_the_whole_pipeline_leaves_an_adapter_and_the_traces(walk: Walk):
    adapter = walk.names[0]["adapter_path"]

    manifest = read_manifest(walk.folder / adapter)
    assert manifest.trainer == "dpo"
    assert manifest.settings["base_model_name"] == "Qwen/Qwen3-0.6B"
    assert len(manifest.trace_ids) >= 4
    assert len(list((walk.folder / "logs").glob("rl_traces_*.csv"))) == 2


def test_each_task_was_answered_eight_times_in_the_words_of_the_agent(walk: Walk):
    asked = [[m["content"] for m in body["messages"]] for body in walk.asked]

    assert len(asked) == 2 * 3 * 8
    assert {system for system, _ in asked} == {"Be concise. Provide only the numeric answer."}
    assert {body["model"] for body in walk.asked} == {"qwen3:0.6b"}


def test_the_stages_can_be_run_one_by_one(walk: Walk):
    names = walk.names[1]

    assert names["adapter_path"] == "math_adapter"
    assert {trace["reward"] for trace in names["traces"]} == {0.0, 1.0}
    with next((walk.folder / "logs").glob("rl_traces_*.csv")).open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(names["traces"]) == 24


def test_the_trained_model_answers(walk: Walk):
    model, tokenizer = walk.names[2]["model"], walk.names[2]["tokenizer"]

    assert not hasattr(model, "peft_config")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Solve 2+2"}], add_generation_prompt=True, return_tensors="pt")
    assert model(**ids).logits.isfinite().all()


@pytest.mark.parametrize(
    ("option", "default"),
    [("base_model_name", "Qwen/Qwen3-0.6B"), ("min_reward_gap", 0.4), ("max_iterations", 8), ("num_train_epochs", 20)],
)
def test_an_option_has_the_default_of_the_manual(option: str, default: Any):
    assert getattr(RLConfig(), option) == default
