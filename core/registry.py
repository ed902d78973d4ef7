"""Tables of names: each row is `name -> "module:attribute"`, imported when it is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from core.errors import ConfigError

SOURCES: dict[str, str] = {
    "math": "core.tasks.math:generate",
    "logic": "core.tasks.logic:generate",
    "code": "core.tasks.code:generate",
    "factual": "core.tasks.factual:generate",
    "analysis": "core.tasks.analysis:generate",
    "programming": "core.tasks.programming:generate",
    "deduction": "core.tasks.deduction:generate",
    "reading": "core.tasks.reading:generate",
    "tables": "core.tasks.tables:generate",
    "writing": "core.tasks.writing:generate",
}

STRATEGIES: dict[str, str] = {
    "lats": "core.search.lats:Lats",
    "levels": "core.search.levels:Levels",
    "beam": "core.search.levels:Beam",
    "best_of_n": "core.search.best_of_n:BestOfN",
    "self_consistency": "core.search.best_of_n:SelfConsistency",
    "single": "core.search.best_of_n:single",
}

PROVIDERS: dict[str, str] = {
    "embedded": "core.providers.local:connect_embedded",
    "local": "core.providers.local:connect",
    "adapter": "core.providers.registered:connect_adapter",
    "slot": "core.providers.registered:connect_slot",
    "ollama": "core.providers.ollama:connect",
    "litellm": "core.providers.litellm:connect",
    "scripted": "core.providers.scripted:connect",
}

STEP_CHECKS: dict[str, str] = {
    "math": "core.verifiers.math.steps:check_steps",
    "logic": "core.verifiers.logic.steps:check_steps",
    "factual": "core.verifiers.factual.quotes:check_steps",
    "analysis": "core.verifiers.analysis.verifier:check_steps",
}

STEP_VALUES: dict[str, str] = {
    "math": "core.verifiers.math.steps:step_value",
    "logic": "core.verifiers.logic.steps:step_value",
    "factual": "core.verifiers.factual.quotes:step_value",
    "analysis": "core.verifiers.analysis.verifier:step_value",
}

STORES: dict[str, str] = {
    "sqlite": "logs.store:TraceStore",
    "postgresql": "logs.store:TraceStore",
}

TRAINERS: dict[str, str] = {
    "sft": "finetune.trainers:sft",
    "dpo": "finetune.trainers:dpo",
    "kto": "finetune.trainers:kto",
    "grpo": "finetune.trainers:grpo",
}

REASONERS: dict[str, str] = {
    "orchestrator": "core.orchestrator:Orchestrator",
}

SPECIALISTS: dict[str, str] = {
    "router": "finetune.ensemble.front:Front",
}

TOOLS: dict[str, str] = {
    "calculator": "agents.tools:calculator",
    "python": "agents.tools:python",
}

VERIFIERS: dict[str, str] = {
    "math": "core.verifiers.math.verifier:verify",
    "code": "core.verifiers.code.verifier:verify",
    "logic": "core.verifiers.logic.verifier:verify",
    "factual": "core.verifiers.factual.verifier:verify",
    "creative": "core.verifiers.creative.verifier:verify",
    "analysis": "core.verifiers.analysis.verifier:verify",
    "gym": "core.verifiers.gym:verify",
}


def resolve(table: Mapping[str, str], name: str) -> Any:
    """The object behind a name. A row may name a file instead of a module, `checks/chemistry.py:verify`.

    Raises ConfigError with the names there are, or with what is wrong with the row.
    """
    if name not in table:
        raise ConfigError(f"there is no {name!r}: choose one of {', '.join(sorted(table))}")
    module, _, attribute = table[name].rpartition(":")
    try:
        return getattr(_from_file(Path(module)) if module.endswith(".py") else import_module(module), attribute)
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise ConfigError(
            f"{name!r} stands for {table[name]!r}, which is not there ({error}): write module:name or file.py:name"
        ) from error


def _from_file(path: Path) -> ModuleType:
    """A module of the user's own, run once: the same file gives the same module."""
    name = f"ratchet_file_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ImportError(f"there is no Python file {path}")
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
