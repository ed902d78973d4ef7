"""SIGTERM closes the open stores first. Only where nobody else has claimed the signal, and the process still ends by it."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import Protocol

SECONDS = 10.0


class Closable(Protocol):
    """What can be closed within a time."""

    def close(self, timeout: float) -> None:
        """Write what is queued and stop."""
        ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
_closing = threading.Event()


def close_on_sigterm(store: Closable) -> None:
    """From now on, as long as it is there. The handler is set by the first store that the main thread opens."""
    _open.add(store)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _: object) -> None:
    """Called in the main thread, which may hold a lock of the very store: another thread closes, and sends the signal again."""
    if _closing.is_set():
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _closing.set()
    threading.Thread(target=_close_all, args=(number,), name="ratchet-close-stores", daemon=True).start()


def _close_all(number: int) -> None:
    try:
        for store in list(_open):
            store.close(SECONDS)
    finally:
        os.kill(os.getpid(), number)
