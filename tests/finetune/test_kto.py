"""KTO with the embedded model: weights and batches that the estimate can stand on, and the folder that is left."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, run_of, solved

from core.errors import TrainingError
from finetune.adapters import read_manifest
from finetune.data import Opinion, kto_rows
from finetune.kto import kto_trainer, mixed, train_kto, weights, whole_batches
from finetune.training import TrainConfig
from finetune_setup import finetune_worker
from logs.store import TraceStore

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
slow = pytest.mark.slow
PROBLEMS = problems(12)
ROWS = kto_rows([attempt for p in PROBLEMS for attempt in (solved(p), failed(p))])


def config(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig("embedded", folder, epochs=2, batch_size=4, learning_rate=3e-4, device="cpu").replace(**changes)


def row(task: str, label: bool, text: str = "a") -> Opinion:
    return Opinion("d", "q", text, task, f"{task}{label}{text}", label)


@pytest.mark.parametrize(("kind", "told"), [(True, "12 answers are wanted and 0 are not"), (False, "0 answers are wanted and 12 are not")])
def test_both_kinds_are_needed(kind: bool, told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        train_kto([r for r in ROWS if r.label is kind], config(tmp_path))


def test_a_batch_of_one_row_is_refused(tmp_path: Path):
    with pytest.raises(TrainingError, match="batch_size is 1: KTO compares the rows of a batch"):
        train_kto(ROWS, config(tmp_path, batch_size=1))


@pytest.mark.parametrize(("wanted", "unwanted", "expected"), [(10, 10, (1, 1)), (30, 10, (1, 3)), (5, 10, (2, 1))])
def test_the_rarer_kind_weighs_as_much_as_the_commoner_one(wanted: int, unwanted: int, expected: tuple[float, float]):
    assert weights(wanted, unwanted) == expected


def test_neighbours_belong_to_different_tasks_and_nothing_is_lost():
    rows = [row(task, label, str(i)) for task in "abcd" for i in range(3) for label in (True, False)]

    order = mixed(rows, random.Random(0))

    assert sorted(order, key=lambda r: r.trace_id) == sorted(rows, key=lambda r: r.trace_id)
    assert all(a.task_id != b.task_id for a, b in pairwise(order))
    assert order != mixed(rows, random.Random(1))


def test_a_row_that_would_be_alone_in_its_batch_is_left_out_and_is_of_the_commoner_kind():
    rows = [row("a", True), row("b", False), row("c", True)]

    assert whole_batches(rows, 2) == ([rows[0], rows[1]], 1)
    assert whole_batches(rows, 4) == (rows, 0)


@slow
def test_the_answer_beside_a_prompt_is_that_of_the_row_before_it(tmp_path: Path):
    trainer = kto_trainer(ROWS[:8], [], config(tmp_path))

    data = trainer.train_dataset
    for start in (0, 4):
        own = [data[i]["completion_ids"] for i in range(start, start + 4)]
        beside = [data[i]["KL_completion_ids"] for i in range(start, start + 4)]
        assert beside == [own[-1], *own[:-1]]


@slow
def test_logged_traces_train_an_adapter_which_says_what_it_was_made_of(tmp_path: Path):
    with TraceStore(tmp_path / "logs") as store:
        for problem in PROBLEMS:
            store.put(run_of(solved(problem), failed(problem)))
        store.flush()

    folder = Path(
        finetune_worker("embedded", "math", tmp_path / "adapter", tmp_path / "logs", 0.7, 3, 4, 3e-4, trainer="kto", device="cpu")
    )

    manifest = read_manifest(folder)
    assert manifest.trainer == "kto"
    assert set(manifest.trace_ids) == {r.trace_id for r in ROWS}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first = lines[0]
    assert first["loss"] == pytest.approx(0.5, abs=1e-3)
    assert (first["rewards/chosen"], first["rewards/rejected"]) == pytest.approx((0, 0), abs=1e-3)
    margins = [line["rewards/margins"] for line in lines if "rewards/margins" in line]
    assert margins[-1] > margins[0]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert "trainer_state.json" in names
    assert not [name for name in names if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl") or name.startswith("ref")]


@slow
def test_an_answer_that_would_be_cut_short_is_refused(tmp_path: Path):
    long = ROWS[0].replace(completion="1 + 1 = 2\n" * 40)

    with pytest.raises(TrainingError, match="longer than 100 tokens"):
        train_kto([long, *ROWS[1:]], config(tmp_path, max_length=100))
