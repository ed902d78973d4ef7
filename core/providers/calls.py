"""All calls to one model of one server: so many at once, tried again when that may help, none while its circuit is open."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from core.config import Settings
from core.errors import ProviderError
from core.providers.circuit import Circuit
from core.providers.remote import Transient, Unreachable
from core.types import Record, Reply, Usage

LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Limits(Record):
    """How a server is treated. `timeout` of one try, `pause` before the first retry and `cool_down` of the circuit are in seconds."""

    timeout: float = 120.0
    retries: int = 2
    concurrency: int = 16
    failures: int = 5
    cool_down: float = 30.0
    pause: float = 0.5

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(
            timeout=settings.REQUEST_TIMEOUT,
            retries=settings.REQUEST_RETRIES,
            concurrency=settings.REQUEST_CONCURRENCY,
            failures=settings.CIRCUIT_FAILURES,
            cool_down=settings.CIRCUIT_SECONDS,
        )


class Calls:
    """Makes calls to `where`. `rng` spreads the pauses; `clock` and `sleep` are replaced in tests."""

    def __init__(
        self,
        where: str,
        limits: Limits,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._where, self._limits, self._rng = where, limits, rng or random.Random()
        self._clock, self._sleep = clock, sleep
        self._circuit = Circuit(where, limits.failures, limits.cool_down, clock)
        self._places = Places(limits.concurrency)
        self._under_way: dict[asyncio.Timeout, asyncio.Future[None]] = {}
        self._closed = False

    async def make(self, call: Callable[[], Awaitable[Reply]]) -> Reply:
        """What `call` returns, called again after a Transient; any other error passes at once. The usage has the failures that were paid.

        The pause between tries doubles and is spread over +-50 %, so that many searches don't come back at the same moment; what the
        server asks for comes on top. Tries and pauses together take at most the timeout times the number of tries; to wait for a free
        place does not count. Raises ProviderError, at once where the circuit is open or opens while this waits for its place.
        """
        tries, wasted = self._limits.retries + 1, Usage()
        left = self._limits.timeout * tries
        for tried in range(1, tries + 1):
            self._check()
            async with self._places:
                began = self._clock()
                try:
                    reply = await self._once(call, min(self._limits.timeout, left))
                    return reply.replace(usage=wasted + reply.usage)
                except Transient as error:
                    failure = error
                left -= self._clock() - began
            wasted += failure.usage
            pause = self._pause(tried, failure.after)
            if tried == tries or pause >= left:
                raise ProviderError(_told(failure, tried, tries, pause)) from failure
            self._check()
            await self._sleep(pause)
            left -= pause
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """End what is under way and what waits, with a ProviderError; returns when it has ended."""
        self._closed = True
        self._places.refuse(self._gone)
        ends = list(self._under_way.values())
        for limit in self._under_way:
            if not limit.expired():
                limit.reschedule(0.0)
        if ends:
            await asyncio.wait(ends)

    async def _once(self, call: Callable[[], Awaitable[Reply]], seconds: float) -> Reply:
        self._check_open()
        trial = self._circuit.enter()
        try:
            reply = await self._in_time(call, seconds)
        except ProviderError as error:
            if not isinstance(error, Unreachable | Transient) or error.alive:
                self._circuit.succeeded()
            elif self._circuit.failed(str(error), trial):
                self._places.refuse(self._circuit.error)
            raise
        except BaseException:
            self._circuit.left(trial)
            raise
        self._circuit.succeeded()
        return reply

    async def _in_time(self, call: Callable[[], Awaitable[Reply]], seconds: float) -> Reply:
        limit = asyncio.timeout(seconds)
        self._under_way[limit] = ended = asyncio.get_running_loop().create_future()
        try:
            async with limit:
                return await call()
        except TimeoutError as error:
            self._check_open()
            raise Transient(
                f"{self._where} gave no answer in {self._limits.timeout:g} s: raise REQUEST_TIMEOUT or take a faster model"
            ) from error
        finally:
            del self._under_way[limit]
            ended.set_result(None)

    def _check(self) -> None:
        self._check_open()
        self._circuit.check()

    def _check_open(self) -> None:
        if self._closed:
            raise self._gone()

    def _gone(self) -> ProviderError:
        return ProviderError(f"{self._where} was closed before it answered: connect it again to ask it more")

    def _pause(self, tried: int, asked: float | None) -> float:
        own = self._limits.pause * 2.0 ** (tried - 1) * self._rng.uniform(0.5, 1.5)
        return min(LONGEST_PAUSE, own + (asked or 0.0))


class Places:
    """So many may be in it at once; the others wait their turn, first come, first served, and may be cancelled or refused."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # its turn came in the moment in which it was cancelled
            raise

    async def __aexit__(self, *problem: object) -> None:
        self._pass_on()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Everyone who waits gets that error."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(error())

    def _pass_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _told(failure: Transient, tried: int, tries: int, pause: float) -> str:
    if tries == 1:
        return str(failure)
    if tried == tries:
        return f"{failure} ({tries} tries)"
    return f"{failure} ({tried} of {tries} tries: another {pause:.0f} s of waiting would be longer than REQUEST_TIMEOUT allows)"
