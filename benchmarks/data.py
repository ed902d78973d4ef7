"""M5, M6: a dataset from a store of a million traces, streamed; and prompts compared with each other for near-duplicates.

The prompts are of one template with words of real questions in it, which is harder than prompts that share nothing.
"""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.record import Figure, figure
from core.types import Domain, Evidence, Outcome, Run, Task, Trace, Usage, Verdict
from finetune.build import build_dataset
from finetune.likeness import Near, characters_of, loosened
from logs.store import TraceStore

TRACES = int(os.environ.get("RATCHET_BENCH_TRACES", "1000000"))
PROMPTS = int(os.environ.get("RATCHET_BENCH_PROMPTS", "100000"))
OF_A_TASK = 10
QUESTIONS = Path(__file__).parent.parent / "core" / "routing" / "examples.jsonl"
WORDS = sorted(set(re.findall(r"[a-z]{3,}", QUESTIONS.read_text(encoding="utf-8"))))


def measure(ids: Sequence[str]) -> list[Figure]:
    """M5 builds in a process of its own, so that its memory is its own."""
    return [figure for name, made in (("M5", _stream), ("M6", _near)) if name in ids for figure in made()]


def _stream() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), TRACES)
        code = (
            "import sys, time, resource; from benchmarks.data import built\n"
            "print(*built(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)"
        )
        done = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
        seconds, rows, peak = map(float, done.stdout.split())
        naive = _as_list(folder)
    rate = TRACES / seconds
    return [
        figure(
            "M5",
            f"SFT set of {TRACES:,} traces: through the filters",
            [rate],
            "traces/s",
            "at least 20,000",
            rate >= 20_000,
            {"records in a list, rows/s": round(naive), "rows written": rows},
        ),
        figure("M5", f"SFT set of {TRACES:,} traces: greatest memory", [peak], "GB", "at most 2", peak <= 2),
    ]


def built(folder: str) -> tuple[float, int]:
    """Seconds and rows."""
    started = time.perf_counter()
    dataset = build_dataset(folder, f"{folder}/dataset")
    return time.perf_counter() - started, dataset.rows


def _as_list(folder: str) -> float:
    """What one would do first: every trace a record, all in memory, no more than an eighth of a million of them."""
    from finetune.data import sieve
    from logs.reading import read_traces

    started = time.perf_counter()
    traces = list(read_traces(folder, limit=TRACES // 8))
    sieve(traces)
    return len(traces) / (time.perf_counter() - started)


def _near() -> list[Figure]:
    rng = random.Random(0)
    prompts = [_prompt(rng) for _ in range(PROMPTS)]
    copies = rng.sample(range(PROMPTS // 2), PROMPTS // 100)
    for number, place in enumerate(copies):
        prompts[PROMPTS - 1 - number] = f"Please: {prompts[place].upper()}"
    runs = []
    for _ in range(3):
        started = time.perf_counter()
        texts = [loosened(prompt) for prompt in prompts]
        index = Near(texts)
        found = 0
        for place, text in enumerate(texts):
            match = index.near(text, but=place)
            found += match is not None
        runs.append(time.perf_counter() - started)
    assert found >= 2 * len(copies), f"{found} of {2 * len(copies)} near-duplicates were found"
    few = texts[:1_500]
    started = time.perf_counter()
    shingles = [characters_of(text) for text in few]
    for one in shingles:
        for other in shingles:
            len(one & other)
    all_pairs = (time.perf_counter() - started) * (PROMPTS / len(few)) ** 2
    versus = {"all pairs, s (extrapolated)": round(all_pairs)} | _datasketch(texts)
    return [figure("M6", f"near-duplicates among {PROMPTS:,} prompts", runs, "s", "under 60", max(runs) < 60, versus)]


def _datasketch(texts: Sequence[str]) -> dict[str, float]:
    """MinHash of the same shingles by the library, where it is installed: a tenth of the prompts, times ten."""
    try:
        from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found]
    except ImportError:
        return {}
    few = texts[::10]
    started = time.perf_counter()
    lsh = MinHashLSH(threshold=0.8, num_perm=128)
    hashes = MinHash.bulk([[s.encode() for s in characters_of(text)] for text in few], num_perm=128)
    for place, each in enumerate(hashes):
        lsh.insert(place, each)
    for each in hashes:
        lsh.query(each)
    return {"datasketch MinHash, s (x10)": round(10 * (time.perf_counter() - started), 1)}


def _prompt(rng: random.Random) -> str:
    asked = " ".join(rng.choice(WORDS) for _ in range(rng.randint(8, 24)))
    return f"A {asked} costs {rng.randint(2, 99)} and {rng.randint(2, 99)}. What is the total price?"


def _fill(folder: Path, traces: int) -> None:
    with TraceStore(folder, queue_size=20_000, redact=None) as store:
        for number, run in enumerate(_runs(traces // OF_A_TASK)):
            store.put(run)
            if number % 5_000 == 4_999:
                store.flush(600)
        store.flush(600)


def _runs(count: int) -> Iterator[Run]:
    rng = random.Random(1)
    for number in range(count):
        task = Task(_prompt(rng), Domain.MATH, reference=str(number), level=1)
        attempts = tuple(_attempt(number, rank, task, rng) for rank in range(OF_A_TASK))
        yield Run(f"run-{number:07d}", task, "math", "m", "f", "lats", 0, 1.0, (), attempts, Usage(1, 2, 3), 0.1, float(number))


def _attempt(number: int, rank: int, task: Task, rng: random.Random) -> Trace:
    right = rank < 4
    text = (
        "\n".join(f"{rng.randint(2, 99)} + {rng.randint(2, 99)} = {rng.randint(2, 199)}" for _ in range(6)) + f"\nAnswer: {number + rank}"
    )
    verdict = Verdict(Outcome.PASS if right else Outcome.FAIL, float(right), "equal", Evidence.REFERENCE, "math")
    return Trace(
        f"trace-{number:07d}-{rank}",
        f"run-{number:07d}",
        task,
        "math",
        "Solve it step by step.",
        "m",
        "f",
        text,
        str(number),
        tuple(text.split("\n")),
        verdict,
        1.0 if right else 0.1,
        created=float(number),
    )


def main() -> int:
    """`python -m benchmarks.data`: both, by themselves."""
    for each in measure(("M5", "M6")):
        print(each)
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
