"""What a thread does that waits for a coroutine on the loop of another."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def waited_for(future: Future[T]) -> T:
    """Its result. An interrupt of who waits cancels it."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
