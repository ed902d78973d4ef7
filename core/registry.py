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

STRATEGIES: dict[str, str] = {
    "lats": "core.search.lats:Lats",
    "best_of_n": "core.search.best_of_n:BestOfN",
    "single": "core.search.best_of_n:single",
}

PROVIDERS: dict[str, str] = {
    "embedded": "core.providers.local:connect_embedded",
    "local": "core.providers.local:connect",
    "ollama": "core.providers.ollama:connect",
    "litellm": "core.providers.litellm:connect",
    "scripted": "core.providers.scripted:connect",
}

STEP_CHECKS: dict[str, str] = {"math": "core.verifiers.steps:check_steps"}

STEP_VALUES: dict[str, str] = {"math": "core.verifiers.steps:step_value"}

STORES: dict[str, str] = {"sqlite": "logs.store:TraceStore"}

TRAINERS: dict[str, str] = {
    "sft": "finetune.trainers:sft",
    "dpo": "finetune.trainers:dpo",
}

VERIFIERS: dict[str, str] = {
    "math": "core.verifiers.math:verify",
    "code": "core.verifiers.abstain:verify",
    "logic": "core.verifiers.abstain:verify",
    "factual": "core.verifiers.abstain:verify",
    "creative": "core.verifiers.abstain:verify",
    "analysis": "core.verifiers.abstain:verify",
}


def resolve(table: Mapping[str, str], name: str) -> Any:
    """The object behind a name. Raises ConfigError with the names there are."""
    try:
        module, attribute = table[name].split(":")
    except KeyError:
        raise ConfigError(f"there is no {name!r}: choose one of {', '.join(sorted(table))}") from None
    return getattr(import_module(module), attribute)
