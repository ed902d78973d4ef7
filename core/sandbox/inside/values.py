"""The values that may cross the border, as JSON with type tags. Both sides use it; the parent decodes as if an enemy had written.

Exact built-in types only: None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset. A frame is four bytes of length
and that many bytes of ASCII JSON. Everything is bounded: the frame, the depth, the number of items, the digits of an int, and the time
that hashing may take, since keys can be made to collide.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

MAX_FRAME = 1 << 20
MAX_DEPTH = 64
MAX_ITEMS = 250_000
MAX_INT_BITS = 14_284  # below 4,300 decimal digits: the parent can always print it
MAX_JSON_DEPTH = 3 * MAX_DEPTH + 8
MAX_HASHING = 0.5
PLAIN_INT = 1 << 53
STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class ValueProtocolError(ValueError):
    """A value that can't be sent, or bytes that are no value."""


class Reference:
    """The name of a stand-in, on its way to the child."""

    def __init__(self, name: str) -> None:
        self.name = name


def to_frame(message: list[Any]) -> bytes:
    """Bytes ready to be sent."""
    payload = ENCODER.encode(message).encode("ascii")
    if len(payload) > MAX_FRAME:
        raise ValueProtocolError(f"{len(payload)} bytes are too many: at most {MAX_FRAME} go in one message")
    return len(payload).to_bytes(4, "big") + payload


def from_payload(payload: bytes) -> list[Any]:
    """The message in a frame. Raises ValueProtocolError for everything that is none."""
    _check_depth(payload)
    try:
        message = DECODER.decode(payload.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ValueProtocolError(f"no message: {str(error)[:200]}") from None
    if type(message) is not list:
        raise ValueProtocolError("a message is a list")
    return message


def pack(value: Any) -> Any:
    """A value as tagged JSON. Raises ValueProtocolError naming the type that can't cross."""
    return _pack(value, 0, [MAX_ITEMS])


def unpack(packed: Any, stand_in: Callable[[str], Any] | None = None) -> Any:
    """The value of tagged JSON, built afresh from built-in types. Stand-ins are accepted only by a side that can make them."""
    return _Unpacking(stand_in).value(packed, 0)


def _pack(value: Any, depth: int, room: list[int]) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if -PLAIN_INT < value < PLAIN_INT:
            return value
        if value.bit_length() > MAX_INT_BITS:
            raise ValueProtocolError(f"an int of {value.bit_length()} bits is too large: at most {MAX_INT_BITS}")
        return {"i": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if kind is complex:
        return {"c": [_pack(value.real, depth, room), _pack(value.imag, depth, room)]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is Reference:
        return {"p": value.name}
    if kind not in (list, tuple, dict, set, frozenset):
        raise ValueProtocolError(f"a {str(kind.__name__)[:80]} is no plain value")
    if depth >= MAX_DEPTH:
        raise ValueProtocolError(f"nested deeper than {MAX_DEPTH}")
    room[0] -= len(value)
    if room[0] < 0:
        raise ValueProtocolError(f"more than {MAX_ITEMS} items")
    if kind is dict:
        return {"d": [[_pack(k, depth + 1, room), _pack(v, depth + 1, room)] for k, v in value.items()]}
    items = [_pack(item, depth + 1, room) for item in value]
    return items if kind is list else {"t" if kind is tuple else "s" if kind is set else "z": items}


class _Unpacking:
    """One decoding, with what it may still use up."""

    def __init__(self, stand_in: Callable[[str], Any] | None) -> None:
        self.stand_in = stand_in
        self.room = MAX_ITEMS
        self.hashing = MAX_HASHING

    def value(self, packed: Any, depth: int) -> Any:
        kind = type(packed)
        if packed is None or kind in (bool, int, float, str):
            return packed
        if depth > MAX_DEPTH:
            raise ValueProtocolError(f"nested deeper than {MAX_DEPTH}")
        if kind is list:
            return self._items(packed, depth)
        if kind is not dict or len(packed) != 1:
            raise ValueProtocolError("an object has exactly one tag")
        ((tag, content),) = packed.items()
        if tag in ("t", "s", "z", "d"):
            if type(content) is not list:
                raise ValueProtocolError(f"the content of {tag} is a list")
            return self._container(tag, content, depth)
        if tag == "c" and type(content) is list and len(content) == 2:
            real, imag = (self.value(part, depth + 1) for part in content)
            if type(real) is float and type(imag) is float:
                return complex(real, imag)
        if type(content) is str:
            return self._leaf(tag, content)
        raise ValueProtocolError("an unknown tag")

    def _leaf(self, tag: str, content: str) -> Any:
        if tag == "i" and re.fullmatch(r"-?0x[0-9a-f]{1,3572}", content):
            number = int(content, 16)
            if number.bit_length() <= MAX_INT_BITS:
                return number
        if tag == "f" and content in ("nan", "inf", "-inf"):
            return float(content)
        if tag == "b" and re.fullmatch(r"(?:[0-9a-f]{2})*", content):
            return bytes.fromhex(content)
        if tag == "p" and self.stand_in is not None:
            return self.stand_in(content)
        raise ValueProtocolError("a tag whose content does not fit")

    def _container(self, tag: str, content: list[Any], depth: int) -> Any:
        if tag == "d":
            if any(type(pair) is not list or len(pair) != 2 for pair in content):
                raise ValueProtocolError("a dict is a list of pairs")
            keys = self._items([key for key, _ in content], depth)
            values = self._items([value for _, value in content], depth)
            return self._hashed(keys, {}, values)
        items = self._items(content, depth)
        if tag == "t":
            return tuple(items)
        unique = self._hashed(items, {}, items)
        return set(unique) if tag == "s" else frozenset(unique)

    def _items(self, content: list[Any], depth: int) -> list[Any]:
        self.room -= len(content)
        if self.room < 0:
            raise ValueProtocolError(f"more than {MAX_ITEMS} items")
        return [self.value(item, depth + 1) for item in content]

    def _hashed(self, keys: Iterable[Any], table: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
        """A dict of keys that all differ; ends when their hashes collide so much that it takes too long."""
        start = time.thread_time()
        for place, key in enumerate(keys):
            try:
                table[key] = values[place]
            except TypeError:
                raise ValueProtocolError("a key that can't be hashed") from None
            if place % 64 == 63 and time.thread_time() - start > self.hashing:
                raise ValueProtocolError("keys that collide")
        self.hashing -= time.thread_time() - start
        if len(table) != len(values):
            raise ValueProtocolError("a key twice")
        return table


def _check_depth(payload: bytes) -> None:
    """Before the JSON parser recurses."""
    if payload.count(b"[") + payload.count(b"{") <= MAX_JSON_DEPTH:
        return
    brackets = STRINGS.sub(b"", payload).translate(None, NOT_BRACKETS)
    if max(accumulate(map(STEP.__getitem__, brackets)), default=0) > MAX_JSON_DEPTH:
        raise ValueProtocolError(f"nested deeper than {MAX_DEPTH}")


def _plain_int(text: str) -> int:
    if len(text) > 17:
        raise ValueProtocolError("a plain int beyond 2**53")
    return int(text)


def _finite(text: str) -> float:
    number = float(text) if len(text) <= 40 else math.inf
    if not math.isfinite(number):
        raise ValueProtocolError("a number out of range")
    return number


def _no_constant(text: str) -> Any:
    raise ValueProtocolError(f"{text} is no JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueProtocolError("a name twice")
    return table


ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
DECODER = json.JSONDecoder(parse_int=_plain_int, parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
