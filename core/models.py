"""The models of an orchestrator: which of them answers a question, loaded at first use, closed when no slot names it any more.

A slot is read for each question, so that a promotion or a rollback holds from the next question on. What is under way ends with the
model it began with. Champion, canary and previous stay loaded, so that going back costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agents.npc import NPC
from core.config import EMBEDDED
from core.served import spec_of
from core.slots import Slot, choose, read, slot_of
from core.types import Model, Task

log = logging.getLogger(__name__)


class Models:
    """`lent`, `connected` and `close` belong to one event loop, the rest to any thread. What a worker names itself stays until `close`."""

    def __init__(self, registry: Path, connect: Callable[[str], Model]) -> None:
        self._registry, self._connect = registry, connect
        self._models: dict[str, Model] = {}
        self._loading = threading.Lock()
        self._named: set[str] = set()
        self._ahead: set[str] = set()
        self._slots: dict[str, Slot] = {}
        self._uses: Counter[str] = Counter()
        self._leaving: set[asyncio.Task[None]] = set()

    def placed(self, npc: NPC, key: str) -> NPC:
        """The worker with the model that its slot names for that key; any other worker as it is. Raises AdapterError for a bad slot."""
        name = slot_of(npc.model_spec)
        if name is None:
            self._named.add(npc.model_spec)
            return npc
        slot = self._slots[name] = read(self._registry, name)
        self._ahead -= _kept(slot)
        return npc.replace(model=choose(slot, key).spec, provider=None)

    def get(self, npc: NPC, key: str = "") -> Model:
        """Its model, loaded if it is not there yet. One that a slot named is closed some time after it has left the slot."""
        return self._get(self.placed(npc, key).model_spec)

    def preload(self, spec: str) -> Model:
        """A model that a slot is about to name. It stays until a slot has named it and does no more, or until `release`."""
        self._ahead.add(spec)
        return self._get(spec)

    def release(self, spec: str) -> None:
        """No slot will name it after all: it is closed at the end of a question, if none does."""
        self._ahead.discard(spec)

    def there(self, npc: NPC, key: str) -> Model | None:
        """The same, if it is loaded."""
        return self._models.get(self.placed(npc, key).model_spec)

    @asynccontextmanager
    async def lent(self, npc: NPC, key: str) -> AsyncIterator[tuple[NPC, Model]]:
        """The worker as it was placed and its model, which is not closed before it was given back."""
        placed = self.placed(npc, key)
        spec = placed.model_spec
        self._uses[spec] += 1
        try:
            yield placed, await self.connected(placed)
        finally:
            self._uses[spec] -= 1
            if not self._uses[spec]:
                del self._uses[spec]
                self._sweep()

    async def connected(self, placed: NPC) -> Model:
        """At once if it is there, so that clients which start together ask together."""
        there = self._models.get(placed.model_spec)
        return await asyncio.to_thread(self._get, placed.model_spec) if there is None else there

    @property
    def leaving(self) -> frozenset[asyncio.Task[None]]:
        """What closes models at this moment; it is not to be cancelled."""
        return frozenset(self._leaving)

    async def close(self) -> None:
        """All of them. Idempotent."""
        await asyncio.gather(*self._leaving, return_exceptions=True)
        while self._models:
            await self._models.popitem()[1].close()

    def _get(self, spec: str) -> Model:
        with self._loading:
            if spec not in self._models:
                if spec == EMBEDDED:
                    _say_once()
                self._models[spec] = self._connect(spec)
            return self._models[spec]

    def _sweep(self) -> None:
        """Close what came by a slot, is in none any more and is not in use."""
        kept = self._named.union(self._ahead, *map(_kept, list(self._slots.values())))
        for spec in [spec for spec in list(self._models) if spec not in kept and spec not in self._uses]:
            closing = asyncio.get_running_loop().create_task(self._models.pop(spec).close(), name=f"close {spec}")
            self._leaving.add(closing)
            closing.add_done_callback(self._left)

    def _left(self, closing: asyncio.Task[None]) -> None:
        self._leaving.discard(closing)
        if not closing.cancelled() and (error := closing.exception()):
            log.warning("could not %s: %s", closing.get_name(), error)


def sticky_key(task: Task) -> str:
    """What decides between champion and canary: the session that the task's metadata names, else the task itself."""
    return str(task.metadata.get("session") or task.id)


def _kept(slot: Slot) -> set[str]:
    """What serves, and what would serve after a rollback."""
    named = (slot.champion, slot.canary, slot.previous)
    base = {slot.base} if None in (slot.champion, slot.previous) else set()
    return base | {spec_of(slot.base, reference) for reference in named if reference}


_said = threading.Event()


def _say_once() -> None:
    if not _said.is_set():
        _said.set()
        log.warning(
            "ratchet: answering with the embedded model, a toy of a million parameters; "
            'name a real one with Settings(MATH_WORKER_MODEL="ollama:qwen3:0.6b") or RATCHET_MATH_WORKER_MODEL'
        )
