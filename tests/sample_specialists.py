"""Models that say what a test wants, with the log-probability that it wants, and count what they were asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from core.config import Settings
from core.errors import ProviderError
from core.types import Completion, Model, Reply, Request, Usage
from finetune.model_ensembler import ModelGene

Script = Callable[[str], Completion]


def sure(text: str, probability: float | None = 0.95, finish: str = "end") -> Script:
    """Always this, as sure as that."""
    return lambda _: Completion(text, finish, None if probability is None else math.log(probability))  # type: ignore[arg-type]


@dataclass
class Specialist:
    """A `core.types.Model`."""

    name: str
    script: Script
    fingerprint: str | None
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    closed: bool = False
    seconds: float = 0.0

    async def complete(self, request: Request) -> Reply:
        self.at_once += 1
        self.asked.append(request.messages[-1].content)
        await asyncio.sleep(self.seconds)
        return Reply((self.script(request.messages[-1].content),), Usage(1, 5, 5, 0.001))

    async def close(self) -> None:
        self.closed = True


@dataclass
class Shelf:
    """Connects the specialists that it was given, by name; `loads` says which, in order."""

    scripts: dict[str, Script]
    tells_weights: bool = True
    loads: list[str] = field(default_factory=list)
    models: dict[str, Specialist] = field(default_factory=dict)

    def connect(self, name: str, settings: Settings) -> Model:
        assert settings.ADAPTERS == "shared"
        if name not in self.scripts:
            raise ProviderError(f"there is no {name}: train it")
        self.loads.append(name)
        self.models[name] = Specialist(name, self.scripts[name], f"weights of {name}" if self.tells_weights else None)
        return self.models[name]


def gene(name: str, *triggers: str, threshold: float = 0.5, path: str | None = "") -> ModelGene:
    """A specialist whose model has its name; with path None it has none."""
    return ModelGene(name if path == "" else path, None, name, list(triggers), threshold)
