"""Tables of names: each row is `name -> "module:attribute"`, imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from core.errors import ConfigError

SOURCES: dict[str, str] = {
    "math": "core.tasks.math:generate",
    "logic": "core.tasks.logic:generate",
    "code": "core.tasks.code:generate",
    "factual": "core.tasks.factual:generate",
    "analysis": "core.tasks.analysis:generate",
}


def resolve(table: Mapping[str, str], name: str) -> Any:
    """The object behind a name. Raises ConfigError with the names there are."""
    try:
        module, attribute = table[name].split(":")
    except KeyError:
        raise ConfigError(f"there is no {name!r}: choose one of {', '.join(sorted(table))}") from None
    return getattr(import_module(module), attribute)
