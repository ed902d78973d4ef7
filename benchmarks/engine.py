"""S7 (first look): tokens a second of the engine beside `model.generate`, same model, same prompts, greedy."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.record import Figure, figure

RUNS = 3
BATCHES = (1, 16, 64)


def measure(ids: Sequence[str]) -> list[Figure]:
    """48 tokens a row, each row asked to write steps so that none ends early in one and late in the other."""
    import torch

    from core.providers.local import EMBEDDED_DIRECTORY, load
    from core.tasks.math import generate

    torch.set_num_threads(1)
    model, tokenizer = load(str(EMBEDDED_DIRECTORY), device="cpu")
    rng = random.Random(0)
    prompts = [generate(rng, 4).task.prompt for _ in range(max(BATCHES))]
    rows = [_ids(tokenizer, prompt) for prompt in prompts]
    found = []
    for batch in BATCHES:
        ours = [_engine(model, tokenizer, rows[:batch]) for _ in range(RUNS)]
        theirs = [_generate(model, tokenizer, rows[:batch]) for _ in range(RUNS)]
        target = "1.5 x generate" if batch == 64 else "2 x generate"
        met = min(ours) >= (1.5 if batch == 64 else 2) * sorted(theirs)[RUNS // 2]
        name = f"engine, batch {batch}"
        found.append(figure(ids[0], name, ours, "tokens/s", target, met, {"model.generate": round(sorted(theirs)[RUNS // 2])}))
    return found


def _ids(tokenizer: Any, prompt: str) -> list[int]:
    turns = [{"role": "user", "content": prompt}]
    found: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    return found


def _engine(model: Any, tokenizer: Any, rows: Sequence[list[int]]) -> float:
    from core.providers.engine import Engine, Job
    from core.types import Sampling

    engine = Engine(model, tokenizer, len(rows))
    jobs = [Job(row, 1, Sampling(max_tokens=48)) for row in rows]
    started = time.perf_counter()
    for job in jobs:
        engine.add(job)
    while engine.busy:
        engine.step()
    return sum(job.completion_tokens for job in jobs) / (time.perf_counter() - started)


def _generate(model: Any, tokenizer: Any, rows: Sequence[list[int]]) -> float:
    import torch

    inputs = tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt")
    started = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    seconds = time.perf_counter() - started
    written = out[:, inputs["input_ids"].shape[1] :]
    return float((written != tokenizer.pad_token_id).sum()) / seconds
