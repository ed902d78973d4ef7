"""When two individuals are the same, and copies that share nothing with the original."""

from __future__ import annotations

import copy
import dataclasses
import marshal
import sys
from collections.abc import Hashable
from hashlib import blake2b
from typing import Any, TypeVar

T = TypeVar("T")

PLAIN = 2  # the version of marshal that writes values and nothing of how Python holds them
LONG = 128  # bytes from which on a key is its digest
ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None)})


def key_of(individual: object) -> Hashable | None:
    """Equal for individuals that can't be told apart: 1, 1.0 and True differ, and so do 0.0 and -0.0. None: it has no key.

    Numbers, texts and flat lists of them go through marshal, which is only ever written here and never read back. Nothing else does:
    it would take an array for its bytes.
    """
    if type(individual) in ATOMS:
        return _short(marshal.dumps(individual, PLAIN))  # type: ignore[arg-type]
    return flat_key(individual) or _key_of_object(individual)


def flat_key(individual: object) -> bytes | None:
    """The key of a flat list; None for anything else. A quick generation spends much of its time here, so that it calls no helpers."""
    if type(individual) is not list or not ATOMS.issuperset(map(type, individual)):
        return None
    key = marshal.dumps(individual, PLAIN)
    return key if len(key) < LONG else _short(key)


def _short(key: bytes) -> bytes:
    return key if len(key) < LONG else blake2b(key, digest_size=24).digest()


def _key_of_object(individual: Any) -> Hashable | None:
    kind = type(individual)
    if dataclasses.is_dataclass(kind):
        return _joined(kind, [getattr(individual, field.name) for field in dataclasses.fields(individual)])
    if kind in (list, tuple):
        return _joined(kind, individual)
    if kind is dict:
        return _joined(kind, [part for pair in individual.items() for part in pair])
    if kind in (set, frozenset):
        keys = frozenset(map(key_of, individual))
        return None if None in keys else (kind, keys)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(individual, numpy.ndarray) and not individual.dtype.hasobject:
        return kind, str(individual.dtype), individual.shape, individual.tobytes()
    try:
        hash(individual)
    except TypeError:
        return None
    return kind, individual


def _joined(kind: type, parts: Any) -> Hashable | None:
    keys = [key_of(part) for part in parts]
    return None if None in keys else (kind, *keys)


def copy_of(individual: T) -> T:
    """A deep copy; quick for flat lists, which most genomes are."""
    if is_flat(individual):
        return individual.copy()  # type: ignore[attr-defined, no-any-return]
    return individual if type(individual) in ATOMS else copy.deepcopy(individual)


def is_flat(individual: object) -> bool:
    """A list of numbers and texts: its shallow copy shares nothing that can change."""
    return type(individual) is list and ATOMS.issuperset(map(type, individual))
