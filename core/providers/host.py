"""The thread that owns an engine, and with it the model: two threads that use adapters of one model get each other's.

Requests that an event loop makes together arrive together. Searches that run side by side open a session each: the engine waits for all
of them to bring their next request before it goes on, so that batches, and with them the last digits of float sums, are the same in
every run.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from core.errors import ProviderError, RatchetError
from core.providers.adapters import Adapter, Adapters
from core.providers.engine import PREFIX_BYTES, Engine, Job
from core.providers.texts import longest_token

_T = TypeVar("_T")
Pieces = Generator[_T | None, None, _T]


@dataclass(eq=False, slots=True)
class Session:
    """What a client has asked and not got yet; late: it was waited for in vain. `owner` is the task that opened it."""

    owner: object
    asked: int = 0
    late: bool = False


@dataclass(eq=False, slots=True)
class Ticket:
    """A job on its way. `client` is who asked."""

    job: Job
    client: object
    adapter: Adapter | None
    session: Session | None
    future: Future[None]
    dropped: bool = False


_sessions: ContextVar[dict[Host, Session] | None] = ContextVar("sessions", default=None)


class Host:
    """Takes jobs from any thread and any event loop. `patience` is how many seconds it waits for a session."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        rows: int = 96,
        threads: int = 0,
        prefix_bytes: int = PREFIX_BYTES,
        adapters: int = 8,
        patience: Callable[[], float] = lambda: 2.0,
    ) -> None:
        self.name, self.tokenizer, self.longest_token = name, tokenizer, longest_token(tokenizer)
        tokenizer("", add_special_tokens=False)  # switches off the padding that its file may ask for: later it would clash with decoding
        self.engine = Engine(model, tokenizer, rows, prefix_bytes)
        self.adapters = Adapters(self.engine, adapters)
        self.turn = threading.Condition(threading.RLock())
        self.sessions: set[Session] = set()
        self.ended: ProviderError | None = None
        self._threads, self._patience = threads, patience
        self._clients: set[object] = set()
        self._waiting: list[Ticket] = []
        self._running: dict[int, Ticket] = {}
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._works: deque[tuple[Pieces[Any], Future[Any]]] = deque()
        self._steps: deque[float] = deque(maxlen=8)  # seconds
        self._held: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
        self._thread = threading.Thread(target=self._serve, name=f"engine {name}", daemon=True)
        self._thread.start()

    def join(self, client: object) -> None:
        """One more who asks. The host ends when the last has left. Raises ProviderError when it has."""
        with self.turn:
            if self.ended:
                raise self.ended
            self._clients.add(client)

    def leave(self, client: object, reason: ProviderError) -> None:
        """What that client still waits for fails."""
        with self.turn:
            self._clients.discard(client)
            if not self._clients:
                return self._end(reason)
            for ticket in [*self._waiting, *self._running.values()]:
                if ticket.client is client:
                    self._fail(ticket, reason)
                    ticket.dropped = True
            self.turn.notify_all()
            return None

    def wait_until_ended(self) -> None:
        """Return when the thread is gone, at once when others still use it."""
        if self.ended:
            self._thread.join()

    def call(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises on the engine's thread, between two steps."""
        future: Future[Any] = Future()
        with self.turn:
            if self.ended:
                raise self.ended
            self._calls.append((function, future))
            self.turn.notify_all()
        return future.result()

    def work(self, pieces: Pieces[_T]) -> _T:
        """What the generator returns or raises. It goes on between two steps, for about as long as a step takes: rows wait no longer.

        What it yields first that is not None counts as returned; the rest is done afterwards.
        """
        return self.begin(pieces).result()

    def begin(self, pieces: Pieces[_T]) -> Future[_T]:
        """The same without waiting for it."""
        future: Future[_T] = Future()
        with self.turn:
            if self.ended:
                raise self.ended
            self._works.append((pieces, future))
            self.turn.notify_all()
        return future

    async def run(self, jobs: list[Job], client: object, adapter: Adapter | None) -> None:
        """Return when all jobs are done. A caller who is cancelled leaves no rows behind."""
        session = (_sessions.get() or {}).get(self)
        tickets = [Ticket(job, client, adapter, session, Future()) for job in jobs]
        try:
            await asyncio.gather(*(asyncio.wrap_future(self._enqueue(ticket)) for ticket in tickets))
        except BaseException:
            with self.turn:
                for ticket in tickets:
                    ticket.dropped = True
                self.turn.notify_all()
            raise

    @contextmanager
    def session(self) -> Iterator[None]:
        """While it is open, the engine waits for this task's next request before it decodes on; one inside another is the same."""
        before, owner = _sessions.get() or {}, _current_task()
        if self in before and before[self].owner is owner:
            yield
            return
        session = Session(owner)
        with self.turn:
            self.sessions.add(session)
        _sessions.set({**before, self: session})
        try:
            yield
        finally:
            _sessions.set({host: open_ for host, open_ in (_sessions.get() or {}).items() if open_ is not session})
            with self.turn:
                self.sessions.discard(session)
                self.turn.notify_all()

    def _enqueue(self, ticket: Ticket) -> Future[None]:
        """Held back until the event loop has run all that is ready, so that what is asked together arrives together."""
        loop = asyncio.get_running_loop()
        held = self._held.setdefault(loop, [])
        if not held:
            loop.call_soon(self._submit, loop)
        held.append(ticket)
        return ticket.future

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        tickets = self._held.pop(loop)
        with self.turn:
            self._waiting += tickets
            for ticket in tickets:
                if ticket.session:
                    ticket.session.asked += 1
                    ticket.session.late = False
            if self.ended:
                self._refuse_all(self.ended)
            self.turn.notify_all()

    def _serve(self) -> None:
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            while self._wait():
                self._answer_calls()
                self._go_on()
                self._drop()
                self._admit()
                started, busy = time.perf_counter(), self.engine.busy
                finished = self.engine.step()
                if busy:
                    self._steps.append(time.perf_counter() - started)
                self._tell([self._running.pop(id(job)) for job in finished])
        except BaseException as error:  # noqa: BLE001  every waiting client must hear of it, whatever it was
            self._end(ProviderError(f"{self.name} failed while decoding: {error}"))
        with self.turn:
            assert self.ended is not None
            self._refuse_all(self.ended)
            self.engine.prefixes.clear()

    def _wait(self) -> bool:
        """Until there is work and every session has asked for its share of it. False when the host has ended."""

        def is_due() -> bool:
            waiting = any(ticket.dropped for ticket in self._running.values())
            return bool(self.ended or self._calls or self._works or self._waiting or waiting or self.engine.busy)

        with self.turn:
            self.turn.wait_for(is_due)
            if not self.turn.wait_for(
                lambda: self.ended or self._calls or self._works or all(s.asked or s.late for s in self.sessions), timeout=self._patience()
            ):
                for session in self.sessions:
                    session.late = not session.asked  # not waited for again until it comes back
            return self.ended is None

    def _answer_calls(self) -> None:
        with self.turn:
            calls, self._calls = self._calls, []
        for function, future in calls:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  it belongs to the caller
                future.set_exception(error)

    def _go_on(self) -> None:
        """With what is done in pieces: to its end when nobody waits, else until about a step's time has passed."""
        until = time.perf_counter() + min(self._steps, default=0.0)
        while self._works:
            self._do_piece()
            if (self.engine.busy or self._waiting) and time.perf_counter() >= until:
                break

    def _do_piece(self) -> None:
        pieces, future = self._works[0]
        try:
            told = next(pieces)
            if told is not None and not future.done():
                future.set_result(told)
            return
        except StopIteration as end:
            if not future.done():
                future.set_result(end.value)
        except Exception as error:
            if future.done():
                raise
            future.set_exception(error)
        with self.turn:
            self._works.popleft()

    def _has(self, adapter: Adapter) -> bool:
        """It is loaded, now if it was not. False without room. What is being loaded in pieces comes first."""
        while self._works and adapter.name not in self.adapters.names:
            self._do_piece()
        return self.adapters.bring(adapter)

    def _drop(self) -> None:
        """Take out the rows of those who have gone."""
        with self.turn:
            gone = [ticket for ticket in self._running.values() if ticket.dropped]
            for ticket in gone:
                del self._running[id(ticket.job)]
                self.engine.drop(ticket.job)
                self._fail(ticket, ProviderError("nobody waits for this any more"))
        self._answered(gone)

    def _admit(self) -> None:
        """Hand what is waiting to the engine, in an order that does not depend on who was quicker."""
        with self.turn:
            arrived = sorted(self._waiting, key=lambda t: (t.job.sampling.seed or 0, t.job.prompt, t.job.first, t.job.adapter or ""))
            self._waiting = []
        done: list[Ticket] = []
        for place, ticket in enumerate(arrived):
            try:
                if ticket.dropped:
                    done.append(ticket)
                elif ticket.adapter and not self._has(ticket.adapter):
                    with self.turn:  # those behind wait too, or it might wait for ever
                        self._waiting += arrived[place:]
                    break
                elif ticket.future.set_running_or_notify_cancel():
                    self._running[id(ticket.job)] = ticket
                    self.engine.add(ticket.job)
                else:
                    done.append(ticket)
            except RatchetError as error:
                done.append(ticket)
                self._fail(ticket, error)
            except BaseException:
                with self.turn:
                    self._waiting += [other for other in arrived[place:] if id(other.job) not in self._running]
                raise
        self._answered(done)

    def _tell(self, finished: list[Ticket]) -> None:
        with self.turn:
            self._answered(finished)
            for ticket in finished:
                if not ticket.future.done():
                    ticket.future.set_result(None)

    def _answered(self, tickets: list[Ticket]) -> None:
        with self.turn:
            for ticket in tickets:
                if ticket.session:
                    ticket.session.asked -= 1

    def _end(self, reason: ProviderError) -> None:
        with self.turn:
            self.ended = self.ended or reason
            self.turn.notify_all()

    def _refuse_all(self, reason: ProviderError) -> None:
        for ticket in [*self._waiting, *self._running.values()]:
            self._fail(ticket, reason)
        for _, future in [*self._calls, *self._works]:
            if not future.done():
                future.set_exception(reason)
        self._waiting, self._running, self._calls = [], {}, []
        self._works.clear()

    def _fail(self, ticket: Ticket, reason: RatchetError) -> None:
        future = ticket.future
        if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
            future.set_exception(reason)


def _current_task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:  # outside of an event loop it is the thread
        return threading.current_thread()
