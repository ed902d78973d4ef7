"""S5: the embedded model on held-out problems of every domain it covers, by search and by what else the same tokens could buy."""

from __future__ import annotations

import random
from collections.abc import Iterable
from statistics import mean

from benchmarks.record import Figure, figure
from core.config import Settings
from core.orchestrator import Orchestrator
from core.tasks.draw import draw
from core.types import Split, Task
from core.verifiers import verify
from finetune.gate import wilson

DOMAINS = ("math", "logic", "factual", "code")
TASKS = 100
SEARCHES = {"lats": 48, "levels": 24}  # requests, of four samples each


def measure(asked: Iterable[str]) -> Iterable[Figure]:
    for domain in DOMAINS if "S5" in asked else ():
        yield from compare(domain)


def compare(domain: str) -> Iterable[Figure]:
    """Every way to spend about as many tokens as the longest of the searches. References judge the answers and never end a search."""
    tasks = draw(domain, TASKS, Split.REPORT, random.Random(5))
    one, tokens = answered(tasks, "single")
    results = {"single": (one, tokens)}
    for strategy, calls in SEARCHES.items():
        results[strategy] = answered(tasks, strategy, SEARCH_CALLS=calls)
    most = max(spent for _, spent in results.values())
    answers = max(round(most / max(tokens, 1)), 1)
    for strategy in ("best_of_n", "self_consistency"):
        # best-of-n stops early where it can verify, so it may make many more attempts for the same tokens
        times = 3 if strategy == "best_of_n" else 1
        results[strategy] = answered(tasks, strategy, SEARCH_WIDTH=4, SEARCH_CALLS=max(round(times * answers / 4), 1))
    for strategy, (right, spent) in results.items():
        share = wilson(sum(right), len(right))
        name = f"{domain}, {strategy}: right, at {spent:.0f} tokens a problem"
        yield figure("S5", name, [share.accuracy * 100, share.low * 100, share.high * 100], "%", "reported", None)


def answered(tasks: list[Task], strategy: str, **options: int) -> tuple[list[bool], float]:
    """Which tasks were answered rightly, and the completion tokens that one took on average."""
    asked = [task.replace(reference=None) for task in tasks]
    settings = Settings(SEED=0, THREADS=1, MAX_TOKENS=160, CONCURRENCY=48, BATCH_ROWS=160, **options)  # type: ignore[arg-type]
    with Orchestrator(settings) as orchestrator:
        results = orchestrator.infer_many(asked, strategy=strategy)
    right = [verify(task, result.text).passed for task, result in zip(tasks, results, strict=True)]
    return right, mean(result.usage.completion_tokens for result in results)
