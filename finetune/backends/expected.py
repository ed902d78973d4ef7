"""What an adapter and its base answer in process: what a server that says it serves them must answer too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config import Settings
from core.errors import AdapterError
from core.providers.loading import base_of
from core.providers.local import connect
from core.types import Record
from finetune.parity import Parity as Parity
from finetune.parity import answers, compare, require


@dataclass(frozen=True, slots=True)
class Expected(Record):
    """Greedy answers to the same prompts."""

    prompts: tuple[str, ...]
    adapter: tuple[str, ...]
    base: tuple[str, ...]

    def proved(self, served: Sequence[str], base: Sequence[str] | None, least: float, what: str) -> Parity:
        """How alike `served` is to the adapter. Raises AdapterError when it is not, with the likely reason.

        `base`: what the server's base answers, where it can be asked.
        """
        if self.adapter == self.base:
            raise AdapterError(f"{what}: adapter and base answer all {len(self.prompts)} prompts alike, which proves nothing: give others")
        parity = compare(self.prompts, self.adapter, served)
        if tuple(text.strip() for text in served) == tuple(text.strip() for text in (base or self.base)):
            raise AdapterError(f"{what} answers as its base does: the adapter did not take effect")
        if base is not None and parity.share < least and compare(self.prompts, self.base, base).share < least:
            raise AdapterError(
                f"{what}: the server's base answers otherwise than the base of the training: serve that one ({parity.told()})"
            )
        require(parity, least, what)
        return parity


Expect = Callable[[Path, Sequence[str], int], Expected]


def in_process(folder: Path, prompts: Sequence[str], max_tokens: int) -> Expected:
    """Asked of both, one after the other. Loads the base twice; takes as long as that and a few answers."""
    settings = Settings(ADAPTERS="merged", _env_file=None)

    def ask(path: str) -> tuple[str, ...]:
        model = connect(path, settings)
        try:
            return answers(model, prompts, max_tokens=max_tokens)
        finally:
            asyncio.run(model.close())

    return Expected(tuple(prompts), ask(str(folder)), ask(base_of(str(folder))))
