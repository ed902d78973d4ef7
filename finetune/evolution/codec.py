"""Individuals as plain JSON and back.

Checkpoints are JSON because reading one must never run code: a pickle can. Only dataclasses that the caller names are ever built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigError

TAG = "$"
SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


@dataclass(frozen=True, slots=True)
class Codec:
    """How individuals are kept in a checkpoint: `encode` to what JSON can hold, `decode` back to an equal individual."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def codec(*classes: type) -> Codec:
    """For numbers, texts, lists, tuples, sets, dictionaries, and these dataclasses, nested in any way."""
    known = {cls.__qualname__: cls for cls in classes}
    for cls in classes:
        if not dataclasses.is_dataclass(cls):
            raise ConfigError(f"{cls.__qualname__} is no dataclass: write a Codec with an encode and a decode of your own")
    if len(known) < len(classes) or known.keys() & {*SEQUENCES, "dict"}:
        raise ConfigError("two classes of one name can't be told apart in a checkpoint: rename one, or write a Codec of your own")
    return Codec(lambda value: _encoded(value, known), lambda value: _decoded(value, known))


def _encoded(value: Any, known: dict[str, type]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_encoded(part, known) for part in value]
    if kind.__name__ in SEQUENCES and kind is SEQUENCES[kind.__name__]:
        parts = value if kind is tuple else sorted(value, key=repr)
        return {TAG: kind.__name__, "of": [_encoded(part, known) for part in parts]}
    if kind is dict:
        if TAG not in value and all(type(key) is str for key in value):
            return {key: _encoded(part, known) for key, part in value.items()}
        return {TAG: "dict", "of": [[_encoded(key, known), _encoded(part, known)] for key, part in value.items()]}
    name = kind.__qualname__
    if known.get(name) is kind:
        return {TAG: name, "of": {f.name: _encoded(getattr(value, f.name), known) for f in dataclasses.fields(value) if f.init}}
    how = f"codec=codec({name})" if dataclasses.is_dataclass(kind) else "codec=Codec(encode, decode)"
    raise ConfigError(f"a checkpoint can't hold {kind.__module__}.{name}: give GeneticEvolver {how}")


def _decoded(value: Any, known: dict[str, type]) -> Any:
    if isinstance(value, list):
        return [_decoded(part, known) for part in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: _decoded(part, known) for key, part in value.items()}
    name, parts = value[TAG], value["of"]
    if name in SEQUENCES:
        return SEQUENCES[name](_decoded(part, known) for part in parts)
    if name == "dict":
        return {_decoded(key, known): _decoded(part, known) for key, part in parts}
    if name not in known:
        raise ConfigError(f"the checkpoint holds a {name}: give GeneticEvolver codec=codec({name})")
    return known[name](**{key: _decoded(part, known) for key, part in parts.items()})
