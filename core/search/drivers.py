"""Between a search and the world: asks, has tickets answered side by side, tells.

In an ordered window answers are told in the order of their tickets, so that the same seed gives the same tree whatever the latencies;
running free they are told as they come, which is a little faster and never twice the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from core.errors import RatchetError, SearchError
from core.search.budget import NOTHING
from core.search.search import Search
from core.search.tree import Child, Ticket
from core.types import Record, Usage

WINDOW = 1.5  # outstanding tickets for each that may run: what this gains in speed costs nothing in solve-rate, more of it does
FAILURES = 2  # calls in a row that fail, after which the search gives up


@dataclass(frozen=True, slots=True)
class Proposal(Record):
    """The answer to a ticket, what it used, and whether a cache gave it."""

    children: Sequence[Child]
    usage: Usage = field(default_factory=Usage)
    cached: bool = False


Propose = Callable[[Ticket], Awaitable[Proposal]]


async def drive(search: Search, propose: Propose, *, concurrency: int = 1, ordered: bool = True, begun: Sequence[Ticket] = ()) -> None:
    """Run a search to its end. `begun` are tickets that a replay left without an answer.

    A call that raises a RatchetError is rolled back and asked again; the second in a row that fails, or that
    brings no child, ends the search with its error.
    Anything else that `propose` raises, and cancellation, comes out at once. The tree so far stays readable in the search.
    """
    flights = _Flights(search, propose, concurrency, round(WINDOW * concurrency) if ordered and concurrency > 1 else concurrency, ordered)
    try:
        await flights.run(begun)
    finally:
        await flights.cancel()


class _Flights:
    def __init__(self, search: Search, propose: Propose, concurrency: int, window: int, ordered: bool) -> None:
        self.search, self.propose = search, propose
        self.concurrency, self.window, self.ordered = concurrency, window, ordered
        self.running: dict[asyncio.Task[Proposal], Ticket] = {}
        self.landed: dict[int, asyncio.Task[Proposal]] = {}
        self.order: deque[Ticket] = deque()
        self.waiting: deque[Ticket] = deque()
        self.failed = 0

    async def run(self, begun: Sequence[Ticket]) -> None:
        self.waiting.extend(begun)
        self.order.extend(begun)
        self._ask()
        while self.order:
            self._start()
            done, _ = await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self.landed[self.running.pop(task).number] = task
            self._tell()
            if self.search.solved:
                return

    async def cancel(self) -> None:
        """Break off what is under way; what had come already was paid for."""
        for task in self.running:
            task.cancel()
        if self.running:
            await asyncio.gather(*self.running, return_exceptions=True)
        for ticket in self.search.under_way:
            task_or_none = self.landed.get(ticket.number)
            self.search.cancel(ticket, _usage(task_or_none))

    def _ask(self) -> None:
        """Fill the window. This happens at the start and after each answer, and so never depends on which one was quicker."""
        while len(self.order) < self.window:
            signal = self.search.ask()
            if not isinstance(signal, Ticket):
                return
            self.order.append(signal)
            self.waiting.append(signal)

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.concurrency:
            ticket = self.waiting.popleft()
            self.running[asyncio.ensure_future(self.propose(ticket))] = ticket

    def _tell(self) -> None:
        while ticket := self._due():
            self.order.remove(ticket)
            self._land(ticket)
            if self.search.solved:
                return
            self._ask()

    def _due(self) -> Ticket | None:
        """The next ticket whose answer may be told: the first that was asked, or running free any that has come."""
        due = list(self.order)[:1] if self.ordered else self.order
        return next((ticket for ticket in due if ticket.number in self.landed), None)

    def _land(self, ticket: Ticket) -> None:
        task = self.landed.pop(ticket.number)
        error = task.exception() if not task.cancelled() else asyncio.CancelledError()
        if error is None:
            proposal = task.result()
            self.search.tell(ticket, proposal.children, proposal.usage, cached=proposal.cached)
            self.failed = 0 if proposal.children or ticket.reflect else self.failed + 1
            if self.failed >= FAILURES:
                raise SearchError(f"the model answered {FAILURES} calls in a row with no completion at all: look at its server's log")
            return
        self.failed += 1
        self.search.fail(ticket, str(error) or type(error).__name__)
        if not isinstance(error, RatchetError) or self.failed >= FAILURES:
            raise error


def _usage(task: asyncio.Task[Proposal] | None) -> Usage:
    if task is None or task.cancelled() or task.exception() is not None:
        return NOTHING
    return task.result().usage
