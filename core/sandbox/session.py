"""A session: one solution in one sandbox, called one value at a time. Nothing the child can say means "pass": the caller compares."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from core.errors import SandboxError
from core.sandbox.child import Child, Plan
from core.sandbox.inside.values import MAX_FRAME, Reference, ValueProtocolError, pack, to_frame, unpack
from core.sandbox.probe import available
from core.sandbox.records import DEFAULT, Call, CallResult, Limits, Proxy, Raised, Report, Returned, Stopped, Usage
from core.sandbox.tiers import start
from core.sandbox.waiting import ChildStopped, Line

SHOWN = 500
Stand_ins = Mapping[str, Callable[..., CallResult]]


class UnsendableError(SandboxError):
    """An argument that is no plain value of a bounded size."""


def run(
    source: str,
    calls: Sequence[Call],
    limits: Limits = DEFAULT,
    tier: str = "strongest",
    container: Sequence[str] = (),
    probed: bool = True,
) -> Report:
    """Load a solution and make the calls in order, one at a time. A solution that fails is a report; a missing sandbox a SandboxError.

    `probed=False` leaves the canaries out; they run once in a process, and are themselves run so.
    """
    with open_session(source, limits, tier, container=container, probed=probed) as session:
        for call in calls:
            session.call(call.function, *call.args, **call.kwargs)
        return session.report()


def open_session(
    source: str,
    limits: Limits = DEFAULT,
    tier: str = "strongest",
    proxies: Stand_ins | None = None,
    container: Sequence[str] = (),
    probed: bool = True,
    ours: str = "",
    wait: bool = True,
) -> Session:
    """Start a sandbox around a solution. `proxies` are names in the solution that call back to the parent.

    `ours` is run after the source, in the same names. It is a text of the caller's own and never one of a model or a task: it is compiled
    outside of the confinement, once for all sessions. Without `wait` the source is still being loaded, up to `loaded` or the first call.
    """
    if not isinstance(source, str):
        raise SandboxError(f"a solution is a text, not {type(source).__name__}")
    _check_ours(ours)
    if probed:
        available(tier, container)
    session = Session(source, Plan(limits, container=tuple(container), ours=ours), tier, proxies or {})
    if wait:
        session.loaded()
    return session


@lru_cache(64)
def _check_ours(ours: str) -> None:
    """A mistake in a text of the caller's own is told to the caller. Raises SyntaxError."""
    compile(ours, "ours.py", "exec", dont_inherit=True)


class Session:
    """Made by `open_session`. One call at a time; any thread may make it."""

    def __init__(self, source: str, plan: Plan, tier: str, proxies: Stand_ins) -> None:
        self._started = time.monotonic()
        self._owner = os.getpid()
        self._proxies = dict(proxies)
        self._results: list[CallResult] = []
        self._stopped: str | None = None
        self._report: Report | None = None
        self._usage: Usage | None = None
        self._busy = threading.Lock()
        self._mechanisms: tuple[str, ...] = ()
        self._child: Child = start(plan, tier)
        self._line = Line(self._child, plan.limits)
        self._limits = plan.limits
        self._loading = secrets.token_hex(8)
        try:
            self._load(source)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_limits"):
            self._end()

    def loaded(self) -> None:
        """Wait until the source is loaded. Raises SandboxError when the isolation was refused."""
        if self._loading and self._stopped is None:
            try:
                self._hear()
            except BaseException:
                self._end()
                raise

    def call(self, function: str, /, *args: Any, **kwargs: Any) -> CallResult:
        """What a function of the solution returns or raises. Raises SandboxError when an argument is no plain value."""
        request = secrets.token_hex(8)
        try:
            frame = to_frame(["call", request, function, [_packed(a) for a in args], {k: _packed(a) for k, a in kwargs.items()}])
        except ValueProtocolError as error:
            raise UnsendableError(f"an argument of {function} can't be sent: {error}; use plain built-in values") from error
        if not self._busy.acquire(blocking=False):
            raise SandboxError("this session is in the middle of a call: open one session for each thread")
        try:
            self.loaded()
            result = self._stopped_result() or self._ask(request, frame)
            self._results.append(result)
            return result
        finally:
            self._busy.release()

    def report(self) -> Report:
        """End the session, if it is still open, and tell all about it."""
        self.close()
        assert self._report is not None
        return self._report

    def close(self) -> None:
        """Kill the child and all it started. Calls after that are Stopped("closed")."""
        if self._report is not None:
            return
        usage = self._end()
        stopped, self._stopped = self._stopped, self._stopped or "closed"
        text = self._line.printed.decode("utf-8", "replace")
        seconds = time.monotonic() - self._started
        self._report = Report(
            tuple(self._results), self._child.tier, self._mechanisms, seconds, usage.cpu, usage.peak_memory, stopped, text
        )

    def _load(self, source: str) -> None:
        try:
            frame = to_frame(["load", self._loading, source, list(self._proxies)])
        except ValueProtocolError:
            self._mechanisms = ("never started",)
            self._stop(f"source: {len(source)} characters are too long, at most {MAX_FRAME} bytes are sent")
            return
        try:
            self._line.begin(frame)
        except ChildStopped as error:
            raise self._never_began(error) from None

    def _hear(self) -> None:
        """The greeting, and what came of the source."""
        request, self._loading = self._loading, ""
        try:
            self._mechanisms = self._line.greeting()
        except ChildStopped as error:
            raise self._never_began(error) from None
        result = self._await(request)
        if isinstance(result, Raised):
            self._stop(f"source: {result.kind}: {result.message}")

    def _never_began(self, error: ChildStopped) -> SandboxError:
        why = self._stop(str(error))
        return SandboxError(f"the sandbox ended before it began: {why}; {self._line.printed.decode('utf-8', 'replace')[-SHOWN:]}")

    def _ask(self, request: str, frame: bytes) -> CallResult:
        try:
            self._line.expect_silence()
            self._line.send(frame)
        except ChildStopped as error:
            return Stopped(self._stop(str(error)))
        return self._await(request)

    def _await(self, request: str) -> CallResult:
        """The reply to a request, after any calls of stand-ins."""
        try:
            while True:
                message = self._line.receive()
                result = self._understood(message, request)
                if result is not None:
                    if self._line.has_more():
                        raise ChildStopped("protocol: more than one reply")
                    return result
        except ChildStopped as error:
            return Stopped(self._stop(str(error)))
        except BaseException:
            self._stop("closed")
            raise

    def _understood(self, message: list[Any], request: str) -> CallResult | None:
        """A reply, or None after a stand-in was called."""
        match message:
            case [str(kind), str(given), *rest] if secrets.compare_digest(given.encode("utf-8", "replace"), request.encode()):
                try:
                    return self._reply(kind, rest)
                except ValueProtocolError as error:
                    raise ChildStopped(f"protocol: {error}") from None
            case _:
                raise ChildStopped("protocol: not the reply to this request")

    def _reply(self, kind: str, rest: list[Any]) -> CallResult | None:
        match kind, rest:
            case "returned", [packed]:
                return Returned(unpack(packed))
            case "raised", [str(name), str(text)]:
                return Raised(_shown(name), _shown(text))
            case "proxy", [str(name), list(args), dict(kwargs)] if name in self._proxies:
                started = time.monotonic()
                values = [unpack(arg) for arg in args], {key: unpack(value) for key, value in kwargs.items()}
                self._line.charge(started)
                self._call_back(name, *values)
                return None
        raise ValueProtocolError("no such reply")

    def _call_back(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """The child waits while the parent asks whoever the stand-in stands for; the child's clock stands still."""
        self._line.expect_silence()
        try:
            result = self._proxies[name](*args, **kwargs)
        except UnsendableError as error:
            raise ChildStopped(f"proxy: {name}: {error}") from None
        match result:
            case Returned(value):
                answer = ["returned", _packed(value)]
            case Raised(kind, message):
                answer = ["raised", kind, message]
            case _:
                raise ChildStopped(f"proxy: {name}: {result.why}")
        self._line.expect_silence()
        self._line.send(to_frame(answer))

    def _stopped_result(self) -> Stopped | None:
        return Stopped(self._stopped) if self._stopped is not None else None

    def _stop(self, why: str) -> str:
        """The session is over; find out what lies behind an exit."""
        usage = self._end()
        self._stopped = cause(why, usage, self._limits, self._child)
        return self._stopped

    def _end(self) -> Usage:
        if self._usage is None and os.getpid() != self._owner:
            self._usage = Usage()  # a fork of the host: the child belongs to its parent
            self._child.ends.close()
        elif self._usage is None:
            self._usage = self._child.finish()
            self._line.drain()
            self._child.release()
        return self._usage


def cause(why: str, usage: Usage, limits: Limits, child: Child) -> str:
    """Why a child that left has left, as far as the kernel tells."""
    if why != "exit":
        return _shown(why)
    if child.out_of_memory():
        return "memory"
    if usage.status is not None and usage.status < 0:
        number = -usage.status
        if number in (signal.SIGXCPU, signal.SIGKILL) and (usage.cpu or 0) >= limits.cpu - 0.1:
            return "cpu"
        names = {int(s): s.name for s in signal.Signals}
        return f"signal {names.get(number, number)}"
    return "exit" if usage.status is None else f"exit {usage.status}"


def _packed(value: Any) -> Any:
    if type(value) is Proxy:
        return pack(Reference(value.name))
    return pack(value)


def _shown(text: str) -> str:
    return text[:SHOWN].encode("utf-8", "replace").decode("utf-8")
