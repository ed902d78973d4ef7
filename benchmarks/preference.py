"""L2: preference pairs learnt a second, against TRL's defaults at batch 1 x 2; and traces collected from a server that takes its time.

Both learn the same 200 pairs of short answers in the same order at an effective batch of 2, twice over, from the same first LoRA weights,
and their losses are compared step by step. What a run takes is measured from the pairs to the trained adapter. TRL's defaults train in
bfloat16 also on a CPU, which most emulate: what counts is the comparison in 32 bits, the others are measured on a few pairs.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from agents.npc import NPC
from benchmarks.record import Figure, figure
from core.config import Settings
from core.providers.scripted import ScriptedModel
from core.registry import SOURCES, resolve
from core.types import Model, Reply, Request
from finetune.rlconfig import RLConfig
from finetune.rows import Pair

PAIRS, EPOCHS, RUNS = 200, 2, 3
FEW = 20  # pairs for what takes a second each
TASKS, SECONDS_A_CALL, AT_ONCE = 32, 0.05, 16
RATE = 3e-4


def measure(ids: Sequence[str]) -> list[Figure]:
    """About three minutes."""
    del ids
    return [*_learning(), _collecting()]


def _learning() -> list[Figure]:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    pairs = _pairs()
    _ours(pairs[:4]), _theirs(pairs[:4], bf16=False)  # what is done once in a process
    ours: list[float] = []
    theirs: list[float] = []
    apart = 0.0
    for _ in range(RUNS):
        seconds, losses = _ours(pairs)
        ours.append(EPOCHS * PAIRS / seconds)
        seconds, compared = _theirs(pairs, bf16=False)
        theirs.append(EPOCHS * PAIRS / seconds)
        apart = max(apart, max(abs(a - b) for a, b in zip(losses, compared, strict=True)))
    seconds, _ = _theirs(pairs[:: PAIRS // FEW], bf16=None)
    times = [a / b for a, b in zip(ours, theirs, strict=True)]
    versus = {
        "TRL's defaults in 32 bits, pairs/s": round(median(theirs), 1),
        "TRL's defaults (bfloat16), pairs/s": round(EPOCHS * FEW / seconds, 1),
    }
    return [
        figure("L2", "DPO, embedded model, effective batch 2", ours, "pairs/s", "reported", None, versus),
        figure("L2", "DPO, times TRL's defaults in 32 bits", times, "x", "at least 2", median(times) >= 2, versus),
        figure("L2", "DPO, greatest difference in a step's loss", [apart], "nats", "at most 0.001", apart <= 1e-3),
    ]


def _pairs() -> list[Pair]:
    """Solved arithmetic over the same with a wrong last line."""
    rng, source = random.Random(0), resolve(SOURCES, "math")
    found: dict[str, Pair] = {}
    while len(found) < PAIRS:
        problem = source(rng, 1 + len(found) % 4)
        good = problem.solution("careful")
        bad = f"{good.rpartition('Answer: ')[0]}Answer: {problem.answer}0"
        task = problem.task
        found.setdefault(task.key, Pair("Solve it step by step.", task.prompt, good, bad, task.id, f"{task.id}+", f"{task.id}-"))
    return sorted(found.values(), key=lambda pair: len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)))


def _ours(pairs: list[Pair]) -> tuple[float, list[float]]:
    from transformers import PrinterCallback

    from finetune.preference import dpo_trainer
    from finetune.training import TrainConfig

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig("embedded", Path(folder), EPOCHS, 2, RATE, device="cpu", warmup_steps=0)
        started = time.perf_counter()
        trainer = dpo_trainer(pairs, [], config)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return time.perf_counter() - started, _losses(trainer)


def _theirs(pairs: list[Pair], bf16: bool | None) -> tuple[float, list[float]]:
    """As their documentation starts; what differs from the defaults is the batch, what is learnt (so that it is the same), and the disk."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    from core.providers.local import load
    from finetune.preference import no_bars
    from finetune.training import conversation

    with tempfile.TemporaryDirectory() as folder, no_bars():
        args = DPOConfig(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            logging_steps=1,
            save_strategy="no",
            seed=0,
            use_cpu=True,
            bf16=bf16,
            disable_tqdm=True,
        )
        started = time.perf_counter()
        model, tokenizer = load("embedded", "cpu")
        rows = [
            {
                "prompt": conversation(pair),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in pairs
        ]
        lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = DPOTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return time.perf_counter() - started, _losses(trainer)


def _losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class Slow(ScriptedModel):
    """A server that takes its time for every call."""

    async def complete(self, request: Request) -> Reply:
        await asyncio.sleep(SECONDS_A_CALL)
        return await super().complete(request)


def _collecting() -> Figure:
    from finetune import rollouts

    tasks = [{"prompt": f"Solve {i}+{i}", "expected": str(2 * i)} for i in range(TASKS)]
    agent = NPC("mathbot", "Be concise.", "slow", "scripted")
    config = RLConfig(max_iterations=1, concurrency=AT_ONCE)

    def connect(spec: str, settings: Settings) -> Model:
        return Slow(lambda request, index: "4")

    runs = []
    real, rollouts.connect = rollouts.connect, connect
    try:
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                traces = rollouts.collect_traces(tasks, [agent], lambda trace: 1.0, config.replace(log_dir=folder))
                runs.append(1000 * (time.perf_counter() - started) / len(traces))
    finally:
        rollouts.connect = real
    one_by_one = {"one after the other": 1000 * SECONDS_A_CALL}
    name = f"traces of {TASKS} tasks, {1000 * SECONDS_A_CALL:g} ms a call, {AT_ONCE} at once, CSV included"
    return figure("L2", name, runs, "ms/trace", "under 10", median(runs) < 10, one_by_one)


def main() -> int:
    """`python -m benchmarks.preference`: all, by themselves."""
    for each in measure(("L2",)):
        print(each)
    return 0


if __name__ == "__main__":
    sys.exit(main())
