"""V2: what a check costs in each tier of the sandbox, how many it does in a second, and that the attack suite is stopped.

One check loads a solution and makes three calls, in a fresh child. A bare `python -I -S` that runs the same solution stands beside it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.record import Figure, figure
from core.sandbox import Call, Limits, Report, Returned, available, run, same

SOLUTION = "def f(x):\n    return x * x + 3 * x + 1\n"
ROUNDS, CHECKS, SLOW_CHECKS, CLIENTS = 5, 200, 40, 2
ATTACKS = Path(__file__).parents[1] / "tests" / "sandbox"
LIMITS = Limits(wall=1, cpu=1)


def measure(ids: Sequence[str]) -> list[Figure]:
    """Latency of one client, throughput of two, and forgeries judged right at each tier."""
    name = ids[0]
    strongest = str(available())
    _checks(strongest, 20)
    rounds = [sorted(_checks(strongest, CHECKS)) for _ in range(ROUNDS)]
    process = sorted(_checks("process", SLOW_CHECKS))
    bare = sorted(_bare() for _ in range(SLOW_CHECKS))
    versus = {"process tier": round(_at(process, 0.5), 2), "python -I -S": round(_at(bare, 0.5), 2)}
    middle, high = [_at(r, 0.5) for r in rounds], [_at(r, 0.95) for r in rounds]
    each_second = [_throughput(strongest) for _ in range(ROUNDS)]
    found = [
        figure(name, f"{strongest} tier, one check, p50", middle, "ms", "at most 5", sorted(middle)[ROUNDS // 2] <= 5, versus),
        figure(name, f"{strongest} tier, one check, p95", high, "ms", "at most 15", sorted(high)[ROUNDS // 2] <= 15, versus),
        figure(
            name,
            f"{strongest} tier, {CLIENTS} clients",
            each_second,
            "checks/s",
            "at least 200",
            sorted(each_second)[ROUNDS // 2] >= 200,
            {"process tier": round(1000 / _at(process, 0.5), 1), "python -I -S": round(1000 / _at(bare, 0.5), 1)},
        ),
    ]
    for tier in dict.fromkeys((strongest, "process")):
        forged = _forgeries(tier)
        found.append(figure(name, f"{tier} tier, forgeries judged right", [forged], "programs", "0", forged == 0))
    return found


def _checks(tier: str, count: int) -> list[float]:
    """Milliseconds of each of so many checks, one after the other."""
    return [_milliseconds(lambda: _right(run(SOLUTION, _calls(), tier=tier))) for _ in range(count)]


def _throughput(tier: str) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda _: _right(run(SOLUTION, _calls(), tier=tier)), range(CHECKS)))
    return CHECKS / (time.perf_counter() - started)


def _bare() -> float:
    command = [sys.executable, "-I", "-S", "-c", SOLUTION + "print(f(1), f(2), f(3))"]
    return _milliseconds(lambda: subprocess.run(command, check=True, capture_output=True))


def _forgeries(tier: str) -> int:
    sys.path.insert(0, str(ATTACKS))
    try:
        from attack_suite import programs  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return sum(_judged_right(source, tier) for source in programs("forge").values())


def _judged_right(source: str, tier: str) -> bool:
    calls = _calls()
    report = run(source, calls, LIMITS, tier)
    wanted = [x * x + 3 * x + 1 for call in calls for x in call.args]
    return all(isinstance(r, Returned) and same(w, r.value) for w, r in zip(wanted, report.values, strict=True))


def _calls() -> list[Call]:
    return [Call("f", (random.randrange(10**6),)) for _ in range(3)]


def _right(report: Report) -> None:
    if not all(isinstance(result, Returned) for result in report.values):
        raise RuntimeError(f"the benchmark's own solution was not run: {report.stopped}")


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
