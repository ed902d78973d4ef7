"""What is open when the interpreter ends, or SIGTERM comes, is closed first, and what nobody refers to any more is closed too.

The signal only where nobody else has claimed it, and the process still ends by it. The exit is not left to weakref.finalize: its hook
walks through the finalizers of all libraries and gives up, with all of them, when another thread makes or drops one meanwhile.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

SECONDS = 10.0


class Closable(Protocol):
    """What can be closed within a time."""

    def close(self, timeout: float) -> None:
        """Write what is queued and stop."""
        ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
_opening = threading.Lock()
_closing = threading.Event()


def close_behind(owner: object, closable: Closable, seconds: float) -> Callable[[], None]:
    """Close it when its owner, to whom it must not refer, is forgotten, and at exit. Gives a function that takes this back."""
    atexit.register(closable.close, seconds)
    forgotten = weakref.finalize(owner, _close_forgotten, closable, seconds)
    forgotten.atexit = False

    def take_back() -> None:
        forgotten.detach()
        atexit.unregister(closable.close)

    return take_back


def _close_forgotten(closable: Closable, seconds: float) -> None:
    atexit.unregister(closable.close)
    closable.close(seconds)


def close_on_sigterm(store: Closable) -> None:
    """From now on, as long as it is there. The handler is set by the first store that the main thread opens."""
    with _opening:
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
        with _opening:
            stores = list(_open)
        for store in stores:
            store.close(SECONDS)
    finally:
        os.kill(os.getpid(), number)
