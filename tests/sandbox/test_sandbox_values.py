"""Values that cross the border."""

from __future__ import annotations

import contextlib
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.sandbox import same
from core.sandbox.inside.values import MAX_DEPTH, MAX_FRAME, MAX_INT_BITS, ValueProtocolError, from_payload, pack, to_frame, unpack

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
keys = st.recursive(scalars, lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4) | st.sets(keys, max_size=4)
    ),
    max_leaves=20,
)


def there(value: object) -> object:
    return unpack(from_payload(to_frame([pack(value)])[4:])[0])


@given(values)
@settings(max_examples=120)
def test_every_value_arrives_as_it_was_sent(value: object) -> None:
    assert repr_sorted(there(value)) == repr_sorted(value)


def repr_sorted(value: object) -> str:
    if type(value) in (set, frozenset):
        return type(value).__name__ + str(sorted(repr_sorted(v) for v in value))
    if type(value) in (list, tuple):
        return type(value).__name__ + str([repr_sorted(v) for v in value])
    if type(value) is dict:
        return "dict" + str([(repr_sorted(k), repr_sorted(v)) for k, v in value.items()])
    return repr(value)


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "value", [Liar(1), object(), [Liar(1)], {"a": Liar(1)}, range(3), bytearray(b"x"), 1 << MAX_INT_BITS, -(1 << MAX_INT_BITS), print, int]
)
def test_only_exact_builtin_types_of_a_bounded_size_can_be_sent(value: object) -> None:
    with pytest.raises(ValueProtocolError):
        pack(value)


def test_depth_and_items_are_bounded_even_when_shared() -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    wide = [0] * 100
    for _ in range(5):
        wide = [wide] * 100
    for value in (deep, wide):
        with pytest.raises(ValueProtocolError):
            pack(value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"1",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b"[123456789012345678901]",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'["' + b"\\" * 200_001,
        b'["' + b'\\"' * 200_000,
        b'[{"a":1,"a":2}]',
        b"\xff\xfe",
        b'["\xc3\xa9"]',
        b"[0." + b"1" * 900_000 + b"]",
    ],
)
def test_bytes_that_are_no_message_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueProtocolError):
        from_payload(payload)


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"t": 1},
        {"t": [], "s": []},
        {"x": []},
        {"i": "5"},
        {"i": "0x" + "f" * 4000},
        {"i": 5},
        {"f": "1.0"},
        {"f": "NAN"},
        {"b": "0"},
        {"b": "zz"},
        {"c": [1, 2]},
        {"c": [1.0]},
        {"d": [1]},
        {"d": [[1, 2, 3]]},
        {"d": [[[], 1]]},
        {"s": [[]]},
        {"s": [1, 1]},
        {"s": [1, True]},
        {"s": [1, 1.0]},
        {"d": [[1, 1], [1, 2]]},
        {"p": "candidate"},
        {"s": [{"s": []}]},
    ],
)
def test_tags_are_read_strictly(packed: object) -> None:
    with pytest.raises(ValueProtocolError):
        unpack(packed)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["0x1f", "nan", "-inf", "ff"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("tszdcibfpx"), inner, max_size=2),
    max_leaves=25,
)


@given(json_like)
@settings(max_examples=150)
def test_any_json_decodes_or_is_refused(packed: object) -> None:
    with contextlib.suppress(ValueProtocolError):
        unpack(from_payload(json.dumps([packed]).encode())[0])


@given(st.binary(max_size=300) | st.text(alphabet='[]{}",:\\tsdi0x1e-.', max_size=300).map(str.encode))
@settings(max_examples=150)
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    with contextlib.suppress(ValueProtocolError):
        unpack(from_payload(payload))


def test_keys_that_collide_end_in_bounded_time() -> None:
    colliding = [{"i": hex(n * (2**61 - 1))} for n in range(1, 40_000)]
    with pytest.raises(ValueProtocolError, match="collide"):
        unpack({"s": colliding})


def test_a_frame_is_at_most_one_mebibyte() -> None:
    with pytest.raises(ValueProtocolError, match="too many"):
        to_frame(["x" * MAX_FRAME])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (2**70, 2**70),
        (0.0, -0.0),
        (math.inf, math.inf),
        ([1, (2,)], [1, (2,)]),
        ({1, 2}, frozenset({2, 1})),
        ({"a": {1: None}}, {"a": {1: None}}),
        (b"x", b"x"),
        (1, 1 + 0j),
        ({True: 1}, {True: 1}),
    ],
)
def test_the_same_is_the_same_both_ways(one: object, other: object) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (0, None),
        (math.nan, math.nan),
        ([math.nan], [math.nan]),
        ({math.nan}, {math.nan}),
        ([1], (1,)),
        ({1: 2}, {True: 2}),
        ({1}, {True}),
        ({(1, 2)}, {(True, 2)}),
        ("1", 1),
        (b"x", "x"),
        ([1, 2], [1, 2, 3]),
        ({}, set()),
        (1, Liar(1)),
        ("a", object()),
        ([[1]], [[True]]),
        (1.0, 1.0000001),
    ],
)
def test_what_differs_differs_both_ways(one: object, other: object) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_a_tolerance_holds_for_floats_only() -> None:
    assert same([1.0, 2], [1.0000000001, 2], tolerance=1e-6)
    assert not same(10**12, 10**12 + 1, tolerance=1e-6)
    assert not same(10**400, 1.5, tolerance=1e-6)


@given(values, values)
@settings(max_examples=80)
def test_comparing_is_symmetric_and_never_raises(one: object, other: object) -> None:
    assert same(one, other) == same(other, one)


def test_comparing_survives_any_depth() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert not same(deep, [random.random()])
    assert not same(deep, deep)
    while deep:  # taken apart by hand: the interpreter would do it by recursion
        deep = deep.pop()
