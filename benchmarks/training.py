"""L1: supervised fine-tuning beside TRL's trainer. L5: how long the command line takes to answer.

L1 trains a LoRA adapter of rank 16 on 200 worked problems, two rows four times an update, with the learning rate, the schedule, the epochs
and the seeds in common. One thread; what is compared runs turn by turn. CPU time and not the clock's, so that other jobs on the machine
count little. Held out: the loss of an answer's token on 40 other problems, computed in one way for both adapters.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure, machine

RUNS, HELPS = 3, 7
ROWS, HELD, EPOCHS = 200, 40, 2
BATCH, STEPS, RATE, WARMUP, RANK = 2, 4, 2e-3, 3, 16
ROOT = Path(__file__).parent.parent


def measure(ids: Sequence[str]) -> list[Figure]:
    """The embedded model on a CPU."""
    return [*(_supervised() if "L1" in ids else []), *([_help()] if "L5" in ids else [])]


def _supervised() -> list[Figure]:
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = _rows()
    train, held = rows[:ROWS], rows[ROWS:]
    ways: dict[str, Callable[[Any, Path, int], tuple[float, Any]]] = {
        "ours": _ours,
        "TRL": lambda data, folder, seed: _trl(data, folder, seed),
        "TRL, 32 bits, nothing computed twice": lambda data, folder, seed: _trl(
            data, folder, seed, bf16=False, activation_checkpointing=False
        ),
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        _ours(train[:BATCH], Path(folder) / "warm", 0)
        for number in range(RUNS):
            for name, way in ways.items():
                seconds, model = way(train, Path(folder) / f"{number}-{len(name)}", number)
                runs[name].append((seconds, _loss(model, held)))
    tokens = EPOCHS * sum(len(_labelled(row)[0]) for row in train)
    speeds = {name: [tokens / seconds for seconds, _ in found] for name, found in runs.items()}
    losses = {name: median(loss for _, loss in found) for name, found in runs.items()}
    quotients = [a / b for a, b in zip(speeds["ours"], speeds["TRL"], strict=True)]
    lean = [a / b for a, b in zip(speeds["ours"], speeds["TRL, 32 bits, nothing computed twice"], strict=True)]
    equal = losses["ours"] <= losses["TRL"] * 1.02
    setup = f"{machine()}, 1 thread, CPU time; {ROWS} rows, {tokens // EPOCHS} tokens, {EPOCHS} epochs, {BATCH} x {STEPS}"
    versus = {name: round(median(values)) for name, values in speeds.items() if name != "ours"}
    return [
        figure(
            "L1",
            "SFT, tokens without padding",
            speeds["ours"],
            "tokens/s",
            "2.5 x TRL's defaults, an equal held-out loss",
            median(quotients) >= 2.5 and equal,
            {**versus, "times the first": round(median(quotients), 2), "times the second": round(median(lean), 2)},
            setup,
        ),
        figure(
            "L1",
            "held-out loss of a token after training",
            [loss for _, loss in runs["ours"]],
            "nats",
            "at most 2 % above TRL's",
            equal,
            {k: round(v, 4) for k, v in losses.items() if k != "ours"},
            setup,
        ),
    ]


def _rows() -> list[Any]:
    """Problems with the solution of a careful author, none twice."""
    from core.tasks.math import generate
    from finetune.rows import Row

    rng, found = random.Random(0), {}
    while len(found) < ROWS + HELD:
        problem = generate(rng, 1 + len(found) % 4)
        key = problem.task.key
        found.setdefault(key, Row("", problem.task.prompt, problem.solution("careful"), problem.task.id, problem.task.id))
    return list(found.values())


def _ours(train: Sequence[Any], folder: Path, seed: int) -> tuple[float, Any]:
    from finetune.options import TrainConfig
    from finetune.supervised import sft_trainer

    config = TrainConfig("embedded", folder, EPOCHS, BATCH, RATE, STEPS, RANK, 2 * RANK, warmup_steps=WARMUP, log_every=10, device="cpu")
    config = config.replace(seed=seed)
    return _timed(sft_trainer(train, [], config))


def _trl(train: Sequence[Any], folder: Path, seed: int, **more: Any) -> tuple[float, Any]:
    """As its documentation shows it, on the device and with the model that are asked for; all else as it comes."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from core.providers.loading import EMBEDDED_DIRECTORY
    from finetune.training import conversation, quiet

    quiet()
    disable_progress_bars()
    rows = [{"prompt": conversation(row), "completion": [{"role": "assistant", "content": row.completion}]} for row in train]
    args = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP,
        save_strategy="no",
        seed=seed,
        use_cpu=True,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"},
        **more,
    )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=str(EMBEDDED_DIRECTORY), args=args, train_dataset=Dataset.from_list(rows), peft_config=lora)
    trainer.remove_callback(PrinterCallback)
    return _timed(trainer)


def _timed(trainer: Any) -> tuple[float, Any]:
    """(CPU seconds of training, the model); making the trainer is not counted."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    started = time.process_time()
    trainer.train()
    return time.process_time() - started, trainer.model


def _labelled(row: Any) -> tuple[list[int], list[bool]]:
    from finetune.tokens import labels

    return labels(_tokenizer(), row.directive, row.prompt, row.completion)


@cache
def _tokenizer() -> Any:
    from core.providers.loading import load_tokenizer

    return load_tokenizer("embedded")


def _loss(model: Any, rows: Sequence[Any]) -> float:
    """The mean of all tokens of all answers, each row alone."""
    import torch

    model.eval()
    total, count = 0.0, 0
    for row in rows:
        ids, trained = _labelled(row)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        mask = torch.tensor(trained[1:])
        total, count = total + float(losses[mask].sum()), count + int(mask.sum())
    return total / count


def _help() -> Figure:
    _seconds([str(ROOT / "finetune_setup.py"), "--help"])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = [_seconds([str(ROOT / "finetune_setup.py"), "--help"]) for _ in range(HELPS)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / HELPS
    versus = {
        "of it CPU": round(cpu, 3),
        "bare interpreter": round(_seconds(["-c", "pass"]), 3),
        "import trl": round(_seconds(["-c", "import trl"]), 3),
    }
    return figure("L5", "python finetune_setup.py --help", seconds, "s", "under 0.5", median(seconds) < 0.5, versus)


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - started
