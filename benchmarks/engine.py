"""S6: leaves that share a prefix, together and one by one. S7: tokens a second of the engine beside `model.generate`.

One thread, wall time. What is compared runs turn by turn, so that other jobs on the machine slow down both; targets are met by the
median of the quotients of neighbours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure, machine

RUNS = 7
BATCHES = (1, 16, 64)
NEW = 128  # most tokens a row in S7: answers in steps, that end when they end
LEAVES, PREFIX, OWN = 16, 512, 8  # tokens of the prefix, and of each leaf's last line in S6
LINE = 16  # tokens that a leaf goes on with: a step of a search


def measure(ids: Sequence[str]) -> list[Figure]:
    """The embedded model, greedy."""
    import torch

    from core.providers.local import EMBEDDED_DIRECTORY, load

    torch.set_num_threads(1)
    model, tokenizer = load(str(EMBEDDED_DIRECTORY), device="cpu")
    found: list[Figure] = []
    if "S7" in ids:
        found += [_beside_generate(model, tokenizer, batch) for batch in BATCHES]
    if "S6" in ids:
        found += _leaves(model, tokenizer)
    return found


def _beside_generate(model: Any, tokenizer: Any, batch: int) -> Figure:
    from core.tasks.math import generate

    rng = random.Random(0)
    rows = [_ids(tokenizer, generate(rng, 4).task.prompt) for _ in range(batch)]
    blurted = tokenizer("Answer", add_special_tokens=False)["input_ids"][0]  # not as the first token: then the model works in steps
    runs = [(_engine(model, tokenizer, rows, NEW, blurted), _generate(model, tokenizer, rows, NEW, blurted)) for _ in range(RUNS + 1)][1:]
    assert all(ours[1] == theirs[1] for ours, theirs in runs), "the engine and model.generate wrote different tokens"
    ours, theirs = ([run[side][0] for run in runs] for side in (0, 1))
    times = median(a / b for a, b in zip(ours, theirs, strict=True))
    asked = 1.5 if batch == 64 else 2.0
    return figure(
        "S7",
        f"engine, batch {batch}, same greedy tokens",
        ours,
        "tokens/s",
        f"{asked:g} x generate",
        times >= asked,
        {"model.generate": round(median(theirs)), "times": round(times, 2)},
        _setup(),
    )


def _leaves(model: Any, tokenizer: Any) -> list[Figure]:
    """The embedded weights with a longer context, which they read badly and at the usual speed. Each leaf writes a line of its own."""
    rng = random.Random(1)
    ids = range(10, len(tokenizer))
    before = model.config.max_position_embeddings
    model.config.max_position_embeddings = 2 * PREFIX
    # an end token would make the leaves' lengths, and so the work, depend on luck
    try:
        return [_leaf_figure(model, tokenizer, [rng.choice(ids) for _ in range(PREFIX)], ids, rng, new) for new in (1, LINE)]
    finally:
        model.config.max_position_embeddings = before


def _leaf_figure(model: Any, tokenizer: Any, prefix: list[int], ids: range, rng: random.Random, new: int) -> Figure:
    rows = [prefix + [rng.choice(ids) for _ in range(OWN)] for _ in range(LEAVES)]

    def together() -> tuple[float, list[Any]]:
        _, texts, seconds = _engine(model, tokenizer, rows, new)
        return seconds, texts

    def one_by_one() -> tuple[float, list[Any]]:
        parts = [_engine(model, tokenizer, [row], new, prefix_bytes=0) for row in rows]
        return sum(part[2] for part in parts), [part[1][0] for part in parts]

    def generated() -> float:
        started = time.perf_counter()
        for row in rows:
            _generate(model, tokenizer, [row], new)
        return time.perf_counter() - started

    runs = [(together(), one_by_one(), generated()) for _ in range(RUNS + 1)][1:]
    assert all(ours[1] == alone[1] for ours, alone, _ in runs), "leaves together wrote other tokens than one by one"
    seconds = [run[0][0] for run in runs]
    times = median(run[2] / run[0][0] for run in runs)
    what = "one token, for a value," if new == 1 else f"a line of {new} tokens"
    return figure(
        "S6",
        f"{LEAVES} leaves, shared prefix of {PREFIX} tokens, {what} each",
        seconds,
        "s",
        "5 x model.generate leaf by leaf",
        times >= 5,
        {
            "model.generate leaf by leaf": round(median(run[2] for run in runs), 3),
            "times": round(times, 1),
            "engine leaf by leaf": round(median(run[1][0] for run in runs), 3),
            "times its own": round(median(run[1][0] / run[0][0] for run in runs), 1),
        },
        _setup(),
    )


def _engine(
    model: Any, tokenizer: Any, rows: Sequence[list[int]], new: int, banned: int | None = None, **options: int
) -> tuple[float, list[Any], float]:
    """(tokens a second, texts, seconds), prefill included, from a cold memory."""
    from core.providers.engine import Engine, Job
    from core.types import Sampling

    engine = Engine(model, tokenizer, len(rows), **options)
    jobs = [Job(row, 1, Sampling(max_tokens=new), banned) for row in rows]
    started = time.perf_counter()
    for job in jobs:
        engine.add(job)
    while engine.busy:
        engine.step()
    seconds = time.perf_counter() - started
    return sum(job.completion_tokens for job in jobs) / seconds, [job.texts[0].text for job in jobs if job.texts[0]], seconds


def _generate(model: Any, tokenizer: Any, rows: Sequence[list[int]], new: int, banned: int | None = None) -> tuple[float, list[str]]:
    """(tokens a second, texts) of Transformers' own loop."""
    import torch

    inputs = tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt")
    options = {} if banned is None else {"begin_suppress_tokens": [banned]}
    started = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=new, do_sample=False, **options)
    seconds = time.perf_counter() - started
    written = out[:, inputs["input_ids"].shape[1] :]
    return float((written != tokenizer.pad_token_id).sum()) / seconds, tokenizer.batch_decode(written, skip_special_tokens=True)


def _ids(tokenizer: Any, prompt: str) -> list[int]:
    turns = [{"role": "user", "content": prompt}]
    found: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    return found


def _setup() -> str:
    return f"{machine()}, one thread, other jobs beside it"
