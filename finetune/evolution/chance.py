"""Randomness that a seed decides, for functions that ask for an `rng` and for those that use Python's own `random`.

Every phase of every generation has a stream of its own, named by the seed and its place: a resumed run needs no saved state.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def stream(seed: int, *place: object) -> random.Random:
    """The generator of that place; on every machine the same."""
    return random.Random(stream_name(seed, *place))


def stream_name(seed: int, *place: object) -> str:
    """What `stream` is seeded with: a text, which can be sent to another process."""
    return "/".join(map(str, (seed, *place)))


@contextmanager
def borrowed(seed: int, *place: object) -> Iterator[None]:
    """Python's and numpy's global generators follow the seed inside, and are as they were before after it."""
    before = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_before = numpy.random.get_state() if numpy else None
    name = stream_name(seed, *place)
    random.seed(name)
    if numpy:
        numpy.random.seed(random.Random(name).getrandbits(32))
    try:
        yield
    finally:
        random.setstate(before)
        if numpy:
            numpy.random.set_state(numpy_before)


def wants_rng(function: Callable[..., Any]) -> bool:
    """Does it have a parameter named `rng`?"""
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
