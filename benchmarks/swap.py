"""L3: adapters are swapped in the running engine, under load, through the slot, the registry and the proof.

The embedded model with rank 8 on all layers, random weights, so that each version answers recognisably otherwise; one thread for torch.
Beside it plain PEFT, where two threads choose their adapter and ask one model.

A pause is the time between two steps of the engine. It is looked for from the start of a swap to the first answer of the new version,
which is later than the swap's end: the adapter is hung in between two steps that may come after it. What a step itself takes longer, such
as the new version's first one, is no pause and yet felt: the longest time from one token to the next stands beside it. Both are compared
with stretches as long without swaps, at the end of the same run, since steps that admit requests take several times as long as others.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure, machine

VERSIONS = 9
REQUESTS = 1_000
AT_ONCE = 64
TOKENS = 12
NAIVE = 300
SLOT = "math"
Span = tuple[float, float]


@dataclass
class Seen:
    """What happened, and when, in seconds: steps and swaps from start to end, the first answer of each version, the time after all."""

    steps: list[Span] = field(default_factory=list)
    answered: int = 0
    wrong: int = 0
    late: int = 0
    swaps: list[Span] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    after: Span = (0.0, 0.0)


def measure(ids: Sequence[str]) -> list[Figure]:
    import torch

    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="ratchet-swap-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folders = [_adapter(root / f"trained{i}", i) for i in range(VERSIONS)]
            seen, naive = _live(root / "adapters", folders), _naive(folders[:2])
    finally:
        shutil.rmtree(root)
    return _figures(seen, naive)


def _figures(seen: Seen, naive: int) -> list[Figure]:
    seconds, step = seen.seconds, median(end - start for start, end in seen.steps)
    during = [(started, max(ended, seen.first.get(version, 0.0))) for version, (started, ended) in enumerate(seen.swaps, 1)]
    length = median(ended - started for started, ended in during)
    without = [(at, at + length) for at in _every(length, *seen.after)]
    between = [(one[1], next_[0]) for one, next_ in pairwise(seen.steps)]
    tokens = [(one[1], next_[1]) for one, next_ in pairwise(seen.steps)]
    pauses = [_longest(between, *span) for span in during]
    beside = {
        "a decode step, ms": step,
        "longest of all swaps, ms": max(pauses),
        "without a swap, ms": median(_longest(between, *span) for span in without),
        "token to token, ms": median(_longest(tokens, *span) for span in during),
        "token to token without a swap, ms": median(_longest(tokens, *span) for span in without),
    }
    setup = f"{machine()}, one thread, {AT_ONCE} requests at once, other jobs beside it"
    wrong = seen.wrong + seen.late
    return [
        figure("L3", "swap: load, prove, journal, flip", [s * 1e3 for s in seconds], "ms", "50", median(seconds) < 0.05, setup=setup),
        figure(
            "L3",
            "longest pause of running rows during a swap",
            [pause * 1e3 for pause in pauses],
            "ms",
            "one decode step",
            median(pauses) <= step,
            {name: round(value * 1e3, 2) for name, value in beside.items()} | {"steps": round(median(pauses) / step, 2)},
            setup,
        ),
        figure(
            "L3",
            f"wrong of {seen.answered} requests across {len(seen.swaps)} swaps",
            [wrong],
            "requests",
            "0",
            wrong == 0 and seen.answered >= REQUESTS,
            {f"plain PEFT, two threads, of {NAIVE}": naive},
            setup,
        ),
    ]


def _longest(spans: Sequence[Span], started: float, ended: float) -> float:
    """Of those that have a part in that time."""
    return max((end - start for start, end in spans if end >= started and start <= ended), default=0.0)


def _every(length: float, started: float, ended: float) -> list[float]:
    """Where the stretches of that length begin, one after the other; the last one may reach beyond."""
    return [started + number * length for number in range(max(1, int((ended - started) / length)))]


def _live(registry: Path, folders: Sequence[Path]) -> Seen:
    """Requests go on all the time, as fast as they are answered, while one version after the other is promoted."""
    from agents.npc import NPC
    from core.config import Settings
    from core.models import Models
    from core.providers import connect
    from finetune.adapters import Registry
    from finetune.backends.inprocess import InProcess
    from finetune.swap import swap

    settings = Settings(_env_file=None, DEVICE="cpu", THREADS=1, ADAPTERS="shared", REGISTRY=registry, ADAPTERS_LOADED=4)
    book = Registry(registry)
    references = [book.add(folder, SLOT).reference for folder in folders]
    right = {reference: _alone(str(folder)) for reference, folder in zip(references, folders, strict=True)}
    assert len({answers for answers in right.values()}) == len(folders), "two versions answer alike: nothing would be seen"
    models = Models(registry, lambda spec: connect(spec, settings))
    backend, npc, seen = InProcess(models.preload, models.release), NPC("math", "You solve mathematics problems.", f"slot:{SLOT}"), Seen()
    swap(SLOT, references[0], registry=book, backend=backend, force=True)
    engine = models.get(npc).host.engine  # type: ignore[attr-defined]
    _watch(engine, seen)
    serving, done = [0], threading.Event()

    async def client(turn: int) -> None:
        while not (done.is_set() and seen.answered >= REQUESTS):
            at_least, turn = serving[0], turn + 1
            async with models.lent(npc, str(turn)) as (placed, model):
                reply = await model.complete(_request(turn))
            reference = placed.model_spec.removeprefix("adapter:")
            seen.answered += 1
            seen.wrong += reply.completions[0].text != right[reference][turn % len(QUESTIONS)]
            version = references.index(reference)
            seen.late += version < at_least
            seen.first.setdefault(version, time.perf_counter())

    async def clients() -> None:
        await asyncio.gather(*(client(turn) for turn in range(AT_ONCE)))
        await models.close()

    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()
    try:
        for version, reference in enumerate(references[1:], 1):
            before = seen.answered
            _wait(lambda before=before: seen.answered >= before + REQUESTS // VERSIONS)  # type: ignore[misc]
            started = time.perf_counter()
            swapped = swap(SLOT, reference, registry=book, backend=backend, force=True)
            serving[0] = version
            seen.swaps.append((started, time.perf_counter()))
            seen.seconds.append(swapped.seconds)
        _wait(lambda: len(references) - 1 in seen.first)
        started, before = time.perf_counter(), seen.answered
        _wait(lambda: seen.answered >= before + REQUESTS)
        seen.after = started, time.perf_counter()
    finally:
        done.set()
        thread.join()
    return seen


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.005)


QUESTIONS = tuple(f"Solve {n}*6+{n}" for n in range(12, 20))


def _request(turn: int) -> Any:
    from core.types import Message, Request, Sampling

    return Request((Message("user", QUESTIONS[turn % len(QUESTIONS)]),), 1, Sampling(max_tokens=TOKENS))


def _watch(engine: Any, seen: Seen) -> None:
    step = engine.step

    def watched() -> Any:
        busy, started = engine.busy, time.perf_counter()
        finished = step()
        if busy:
            seen.steps.append((started, time.perf_counter()))
        return finished

    engine.step = watched


def _alone(path: str) -> tuple[str, ...]:
    """What a version answers merged into a base of its own."""
    from core.config import Settings
    from core.providers.local import connect

    model = connect(path, Settings(_env_file=None, DEVICE="cpu", THREADS=1, ADAPTERS="merged"))

    async def ask() -> tuple[str, ...]:
        replies = [await model.complete(_request(turn)) for turn in range(len(QUESTIONS))]
        await model.close()
        return tuple(reply.completions[0].text for reply in replies)

    return asyncio.run(ask())


def _naive(folders: Sequence[Path]) -> int:
    """Two threads, one model: each sets its adapter and asks. How many of their answers are another adapter's."""
    import torch
    from peft import PeftModel

    from core.providers.loading import load_base

    model = PeftModel.from_pretrained(load_base("embedded", "cpu"), str(folders[0]), adapter_name="0").eval()
    model.load_adapter(str(folders[1]), adapter_name="1")
    ids = torch.tensor([[5, 9, 2, 7, 5, 3]])

    def ask(name: str) -> Any:
        model.set_adapter(name)
        with torch.inference_mode():
            return model(ids, use_cache=False).logits[0, -1]

    right, wrong = {name: ask(name) for name in "01"}, [0, 0]

    def client(name: str) -> None:
        wrong[int(name)] = sum(not torch.allclose(ask(name), right[name], atol=1e-3) for _ in range(NAIVE // 2))

    threads = [threading.Thread(target=client, args=(name,)) for name in "01"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(wrong)


def _adapter(folder: Path, seed: int) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    from core.providers.loading import EMBEDDED_DIRECTORY, load_base
    from finetune.adapters import register

    torch.manual_seed(seed)
    tuned = get_peft_model(load_base("embedded", "cpu"), LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(EMBEDDED_DIRECTORY)
    tuned.save_pretrained(folder)
    register(folder, domain="math", trainer="random", trace_ids=[], settings={}, metrics={}, device="cpu")
    return folder
