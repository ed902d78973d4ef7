"""Whether a value that came back is the value that was expected."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 200


def same(expected: Any, found: Any, tolerance: float = 0.0) -> bool:
    """As Python's ==, save that a bool equals no number, NaN equals nothing, and a list no subclass of list.

    `tolerance` is absolute and relative, and holds for floats outside of sets and keys.
    """
    return _same(expected, found, tolerance, 0)


def _same(expected: Any, found: Any, tolerance: float, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    kind = type(expected)
    if kind in (int, float, complex) and type(found) in (int, float, complex):
        if expected == found:
            return True
        numbers = type(found) is not complex and kind is not complex and float in (kind, type(found))
        return numbers and tolerance > 0 and _close(expected, found, tolerance)
    if kind in (set, frozenset) and type(found) in (set, frozenset):
        return len(expected) == len(found) and {_typed(item) for item in expected} == {_typed(item) for item in found}
    if kind is not type(found):
        return False
    if kind in (list, tuple):
        return len(expected) == len(found) and all(_same(a, b, tolerance, depth + 1) for a, b in zip(expected, found, strict=True))
    if kind is dict:
        others = {_typed(key): value for key, value in found.items()}
        return len(expected) == len(found) and all(
            _typed(key) in others and _same(value, others[_typed(key)], tolerance, depth + 1) for key, value in expected.items()
        )
    return kind in (bool, str, bytes, type(None)) and bool(expected == found)


def _close(one: float, other: float, tolerance: float) -> bool:
    try:
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:
        return False


def _typed(key: Any) -> Any:
    """A key that keeps True apart from 1, and NaN from itself."""
    kind = type(key)
    if kind is tuple:
        return tuple(_typed(item) for item in key)
    if kind is frozenset:
        return frozenset(_typed(item) for item in key)
    if kind is bool:
        return ("a bool", key)
    return object() if key != key else key
