"""Randomness that a seed decides, for functions that ask for an `rng` and for those that use Python's own `random`.

Every phase of every generation has a stream of its own, named by the seed and its place: a resumed run needs no saved state.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable
from typing import Any


def stream(seed: int, *place: object) -> random.Random:
    """The generator of that place; on every machine the same."""
    return random.Random(stream_name(seed, *place))


def stream_name(seed: int, *place: object) -> str:
    """What `stream` is seeded with: a text, which can be sent to another process."""
    return "/".join(map(str, (seed, *place)))


class Borrowed:
    """Python's and numpy's global generators, which follow the seed from `follow` until `give_back` makes them what they were.

    They stay borrowed from one place to the next: to keep and set numpy's state takes as long as twenty quick individuals.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._python: tuple[Any, ...] | None = None
        self._numpy: Any = None

    def follow(self, *place: object) -> None:
        """From here on they give what belongs to that place."""
        name = stream_name(self.seed, *place)
        if self._python is None:
            self._python = random.getstate()
        random.seed(name)
        if numpy := sys.modules.get("numpy"):
            if self._numpy is None:
                self._numpy = numpy.random.get_state()
            numpy.random.seed(random.Random(name).getrandbits(32))

    def give_back(self) -> None:
        """For whoever else draws from them; harmless when they are not borrowed."""
        if self._python is not None:
            random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        self._python = self._numpy = None


def wants_rng(function: Callable[..., Any]) -> bool:
    """Does it have a parameter named `rng`?"""
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
