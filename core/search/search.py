"""One search: a policy that chooses, a ledger that bounds, and the events that tell of both. Pure: time and usage are told to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.errors import SearchError
from core.search.budget import NOTHING, Budget, Ledger, Spent
from core.search.events import Event, asked, children_of, told, usage_of
from core.search.tree import Child, Policy, Signal, Ticket
from core.types import NodeRecord, Usage


class Search:
    """Ask it for tickets, tell it what came of them, in any order. It is one search's own and shares nothing.

    `estimate` says what a ticket may use at most, `emit` takes each event, `elapsed` gives the seconds since the search began.
    """

    def __init__(
        self,
        policy: Policy,
        budget: Budget | None = None,
        *,
        estimate: Callable[[Ticket], Usage] = lambda ticket: Usage(calls=1),
        emit: Callable[[Event], None] = lambda event: None,
        elapsed: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.policy = policy
        self.ledger = Ledger(budget or Budget())
        self.stopped: str | None = None
        self._estimate, self._emit, self._elapsed = estimate, emit, elapsed
        self._under_way: dict[int, Ticket] = {}

    @property
    def solved(self) -> bool:
        """Whether a verified answer has ended it."""
        return self.policy.solved

    @property
    def spent(self) -> Spent:
        """What was used, wasted and answered from a cache so far."""
        return self.ledger.spent

    @property
    def under_way(self) -> tuple[Ticket, ...]:
        """Tickets that were asked and not yet told, in the order they were asked in."""
        return tuple(self._under_way.values())

    def nodes(self) -> tuple[NodeRecord, ...]:
        """The tree so far, parents before children."""
        return self.policy.nodes()

    def ask(self) -> Ticket | Signal:
        """The next ticket, WAIT, or DONE; DONE is for ever."""
        if self.stopped:
            return Signal.WAIT if self._under_way else Signal.DONE
        signal = self.policy.ask()
        if isinstance(signal, Ticket):
            return self._reserved(signal)
        if signal is Signal.DONE:
            self._stop("verified" if self.solved else "exhausted")
        elif not self._under_way:
            raise SearchError(f"{type(self.policy).__name__} waits although nothing is in flight: it lost count of its tickets")
        return signal

    def tell(self, ticket: Ticket, children: Sequence[Child], usage: Usage = NOTHING, *, cached: bool = False) -> None:
        """An answer. One that comes after the end is paid for and grows the tree no more."""
        self._land(ticket)
        late = self.solved
        self.ledger.settle(ticket.number, usage, wasted=late, cached=cached)
        self._emit(told(ticket, children, usage, cached=cached, late=late))
        if not late:
            self.policy.tell(ticket, children)
            self._verdicts(ticket, children)
            self._remarks()
            if self.solved:
                self._stop("verified")
        else:
            self.policy.tell(ticket, ())

    def fail(self, ticket: Ticket, reason: str, usage: Usage = NOTHING) -> None:
        """The call failed: its counts are rolled back, and its samples may be asked for again."""
        self._rolled_back(ticket, usage, Event("fail", ticket.number, ticket.path, {"reason": reason}))

    def cancel(self, ticket: Ticket, usage: Usage = NOTHING) -> None:
        """The call was broken off."""
        self._rolled_back(ticket, usage, Event("cancel", ticket.number, ticket.path, {}))

    def replay(self, events: Sequence[Event]) -> tuple[Ticket, ...]:
        """Do what a log says was done, without asking anybody. Returns the tickets that had no answer, to be asked now.

        Raises SearchError when the log is another search's. Nothing that is replayed is emitted again.
        """
        emit, self._emit = self._emit, lambda event: None
        elapsed, self._elapsed = self._elapsed, lambda: 0.0
        try:
            for event in events:
                self._do_again(event)
        finally:
            self._emit, self._elapsed = emit, elapsed
        return self.under_way

    def _do_again(self, event: Event) -> None:
        if event.kind == "ask":
            signal = self.ask()
            same = isinstance(signal, Ticket) and (signal.number, signal.path, signal.n) == (event.number, event.path, event.data["n"])
            if not same:
                raise SearchError(f"the log asks ticket {event.number} at {event.path!r}, this search {signal}: remove the log")
        elif event.kind in ("tell", "fail", "cancel"):
            ticket = self._under_way.get(event.number)
            if ticket is None:
                raise SearchError(f"the log tells ticket {event.number}, which nobody asked: remove the log")
            if event.kind == "tell":
                self.tell(ticket, children_of(event), usage_of(event), cached=event.data["cached"])
            else:
                self.fail(ticket, "")

    def _reserved(self, ticket: Ticket) -> Ticket | Signal:
        limit = self.ledger.reserve(ticket.number, self._estimate(ticket), self._elapsed())
        if limit is None:
            self._under_way[ticket.number] = ticket
            self._emit(asked(ticket))
            return ticket
        self.policy.tell(ticket, ())
        self._stop(f"budget: {limit}")
        return Signal.WAIT if self._under_way else Signal.DONE

    def _rolled_back(self, ticket: Ticket, usage: Usage, event: Event) -> None:
        self._land(ticket)
        self.ledger.settle(ticket.number, usage, wasted=True)
        self._emit(event)
        self.policy.tell(ticket, ())

    def _land(self, ticket: Ticket) -> None:
        if self._under_way.pop(ticket.number, None) is None:
            raise SearchError(f"ticket {ticket.number} is not under way: each is told once")

    def _verdicts(self, ticket: Ticket, children: Sequence[Child]) -> None:
        for index, child in enumerate(children, ticket.first):
            if child.outcome is not None:
                path = f"{ticket.path}.{index}" if ticket.path else str(index)
                self._emit(Event("verdict", ticket.number, path, {"outcome": child.outcome, "value": child.value}))

    def _remarks(self) -> None:
        for kind, what in self.policy.remarks:
            about = {"reason": what} if kind == "guard" else {}
            self._emit(Event(kind, path="" if kind == "guard" else what, data=about))  # type: ignore[arg-type]
        self.policy.remarks.clear()

    def _stop(self, reason: str) -> None:
        if self.stopped is None:
            self.stopped = reason
            self._emit(Event("stop", data={"reason": reason}))
