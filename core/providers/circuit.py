"""A circuit breaker: after repeated failures of a server nothing is sent to it for a while, then one call tries whether it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

from core.errors import ProviderError


class Circuit:
    """Closed while all is well; open after `failures` in a row; after `seconds` half open, for one trial, which closes or opens it again.

    A call asks `enter` first and tells afterwards how it went, with what `enter` gave it. Seconds are those of `clock`.
    """

    def __init__(self, where: str, failures: int = 5, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._failures, self._seconds, self._clock = where, failures, seconds, clock
        self._row, self._since, self._why = 0, 0.0, ""
        self._until: float | None = None
        self._trying = False

    def check(self) -> None:
        """Raises ProviderError while nothing may be sent."""
        if self._until is not None and (self._trying or self._clock() < self._until):
            raise self.error()

    def enter(self) -> bool:
        """`check`, and True when this call is the trial. Every call that entered ends in `succeeded`, `failed` or `left`."""
        self.check()
        self._trying = trial = self._until is not None
        return trial

    def succeeded(self) -> None:
        """The server answered: whatever was wrong is over."""
        self._row, self._until, self._trying = 0, None, False

    def failed(self, why: str, trial: bool) -> bool:
        """The server failed. True when that has opened the circuit."""
        now = self._clock()
        if self._row == 0:
            self._since = now
        self._row, self._why = self._row + 1, why
        self.left(trial)
        again = trial and self._until is not None
        if again or (self._until is None and self._row >= self._failures):
            self._until = now + self._seconds
            return True
        return False

    def left(self, trial: bool) -> None:
        """The call ended without telling anything about the server: it was cancelled."""
        if trial:
            self._trying = False

    def error(self) -> ProviderError:
        """Since when, why, and what to do."""
        now = self._clock()
        rest = max(0.0, (self._until or now) - now)
        next_try = f"in {rest:.0f} s" if rest else "under way"
        return ProviderError(
            f"{self._where} failed {self._row} times in a row over the last {now - self._since:.0f} s, so nothing is sent to it; "
            f"the next trial is {next_try}. Mend that, or raise CIRCUIT_FAILURES. The last failure: {self._why}"
        )
