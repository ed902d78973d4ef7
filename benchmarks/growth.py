"""S8: how the cost of a search grows with its simulations and with how many calls are under way at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

from benchmarks.record import Figure, figure
from core.search.drivers import Proposal, drive
from core.search.events import Event
from core.search.lats import Lats
from core.search.search import Search
from core.search.tree import Child, Plan
from core.types import Outcome

LATENCY = 0.002  # seconds a call; a simulation is two of them
SIMULATIONS = (16, 64, 256, 1024, 4096)
AT_ONCE = (1, 4, 16, 64)


def measure(asked: Iterable[str]) -> Iterable[Figure]:
    for simulations in SIMULATIONS if "S8" in asked else ():
        for concurrency in AT_ONCE:
            seconds, cpu = grown(simulations, concurrency)
            ideal = 2 * LATENCY * max(simulations / concurrency, 1)
            yield figure(
                "S8",
                f"{simulations} simulations, {concurrency} at once",
                [cpu / simulations * 1e6],
                "µs of CPU a simulation",
                "reported",
                None,
                {"seconds": round(seconds, 3), "seconds of latency alone": round(ideal, 3)},
            )


def grown(simulations: int, concurrency: int) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a search with budget, events and an ordered window; nothing that it tries is right."""
    rng = random.Random(0)

    async def propose(ticket):  # type: ignore[no-untyped-def]
        for _ in range(2):
            await asyncio.sleep(LATENCY)
        outcome = Outcome.FAIL if ticket.whole else None
        return Proposal([Child(f"{rng.random()}\n", ticket.whole, rng.random(), outcome) for _ in range(ticket.n)])

    events: list[Event] = []
    search = Search(Lats(Plan(width=4, calls=simulations, depth=99)), emit=events.append)
    started, used = time.perf_counter(), time.process_time()
    asyncio.run(drive(search, propose, concurrency=concurrency))
    return time.perf_counter() - started, time.process_time() - used
