"""From a model's name to a Model that answers: `ollama:qwen3:0.6b`, `litellm:openai/gpt-4o-mini`, a directory, a hub id."""

from __future__ import annotations

from pathlib import Path

from core.config import EMBEDDED, Settings
from core.errors import ConfigError
from core.registry import PROVIDERS, resolve
from core.types import Model


def connect(model: str, settings: Settings) -> Model:
    """The model of that name, ready to answer. Raises ConfigError for a wrong name, ProviderError when it can't be loaded."""
    provider, name = parse_model(model)
    connected: Model = resolve(PROVIDERS, provider)(name, settings)
    return connected


def parse_model(model: str) -> tuple[str, str]:
    """(provider, name). Without a known provider in front it is a directory or a hub id, both served in process."""
    model = model.strip()
    if model == EMBEDDED:
        return EMBEDDED, EMBEDDED
    provider, colon, name = model.partition(":")
    if colon and provider in PROVIDERS:
        return provider, _checked(provider, name)
    if colon and not Path(model).expanduser().exists():
        known = ", ".join(sorted(PROVIDERS))
        raise ConfigError(f"there is no provider {provider!r} in {model!r}: choose one of {known}; for an Ollama model, ollama:{model}")
    return "local", _checked("local", model)


def _checked(provider: str, name: str) -> str:
    if provider == EMBEDDED:
        raise ConfigError(f"the embedded model is one model and takes no name: write {EMBEDDED!r}, not '{EMBEDDED}:{name}'")
    if not name.strip():
        raise ConfigError("the model's name is empty: write embedded, a model directory, a hub id, or PROVIDER:NAME")
    if provider == "local" and _is_path(name) and not Path(name).expanduser().exists():
        raise ConfigError(f"there is no model directory {name!r}: give the folder that holds config.json or adapter_config.json")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def _is_path(name: str) -> bool:
    """A hub id has one slash at most, and starts with neither a dot, a tilde nor a slash."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1
