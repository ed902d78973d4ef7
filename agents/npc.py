"""An NPC: a name, a directive, and the model behind it; kept in `.npc` files, which are YAML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.types import Message, Record

REQUIRED: dict[str, tuple[type, ...]] = {"name": (str,), "primary_directive": (str,), "model": (str,)}
OPTIONAL: dict[str, tuple[type, ...]] = {"provider": (str,), "temperature": (int, float), "max_tokens": (int,), "tools": (list,)}


@dataclass(frozen=True, slots=True)
class NPC(Record):
    """A worker. `temperature` and `max_tokens` override the settings where they are set; provider None reads it off the model.

    `tools` are typed functions, or names from the table of tools; only names can be kept in a file.
    """

    name: str
    primary_directive: str
    model: str
    provider: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[Callable[..., Any] | str, ...] = ()

    def __post_init__(self) -> None:
        for key in REQUIRED:
            if not getattr(self, key).strip():
                raise ConfigError(f"an NPC's {key} is empty: every NPC has a name, a primary_directive and a model")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(f"the temperature of {self.name} is {self.temperature}: choose one from 0 to 2")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens of {self.name} is {self.max_tokens}: choose 1 or more")

    @property
    def model_spec(self) -> str:
        """The model as `core.providers.connect` takes it, for example `ollama:qwen3:0.6b`."""
        if self.provider in (None, "", "auto", self.model) or self.model.startswith(f"{self.provider}:"):
            return self.model
        return f"{self.provider}:{self.model}"

    def messages(self, prompt: str) -> tuple[Message, ...]:
        """The conversation that puts the prompt to this worker."""
        return Message("system", self.primary_directive), Message("user", prompt)

    @classmethod
    def load(cls, path: str | Path) -> NPC:
        """The NPC in a `.npc` file. Raises ConfigError that names the file, and the key that is wrong in it."""
        fields = _read(Path(path))
        _check(fields, path)
        try:
            return cls(**{**fields, "tools": tuple(fields.get("tools") or ())})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a `.npc` file that `load` reads back the same; what is not set is left out."""
        import yaml

        if functions := [t for t in self.tools if not isinstance(t, str)]:
            raise ConfigError(f"{functions[0]!r} can't be kept in a file: add it to the table of tools and give its name")
        fields = {key: value for key, value in self.as_dict().items() if value not in (None, ())}
        if self.tools:
            fields["tools"] = list(self.tools)
        Path(path).write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path} holds no keys: write at least {', '.join(REQUIRED)}, one a line")
    return fields


def _check(fields: dict[str, Any], path: str | Path) -> None:
    known = REQUIRED | OPTIONAL
    for key in REQUIRED:
        if key not in fields:
            raise ConfigError(f"{path} has no {key}: every NPC has {', '.join(REQUIRED)}")
    for key, value in fields.items():
        if key not in known:
            raise ConfigError(f"{path}: there is no key {key!r}; the keys are {', '.join(known)}")
        if value is None and key in OPTIONAL:
            continue
        # True is an int to Python, but nobody means it as a temperature
        if not isinstance(value, known[key]) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in known[key])
            raise ConfigError(f"{path}: {key} is {value!r} ({type(value).__name__}); write {wanted}")
