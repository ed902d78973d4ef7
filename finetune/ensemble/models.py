"""Models that stay: each is loaded once, however many ask, and the one unused for longest leaves when there are too many.

All of it happens on one event loop, so that there are no locks: a load is a task that all who want the model wait for. Adapters of one
base share it, and answer rows of one batch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.config import Settings
from core.errors import ConfigError
from core.providers import connect
from core.types import Model


@dataclass(slots=True, eq=False)
class _Entry:
    loading: asyncio.Task[Model]
    users: int = 0


class ModelPool:
    """At most `limit` models, and at most `megabytes` of weights in this process (None: no bound). One that answers stays.

    `connect` makes a model of its name and the settings. Use it from one event loop.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limit: int = 8,
        megabytes: int | None = None,
        connect: Callable[[str, Settings], Model] = connect,
    ) -> None:
        if limit < 1 or (megabytes is not None and megabytes < 1):
            raise ConfigError(f"{limit} models of {megabytes} MB can't be kept: give 1 or more")
        self.limit, self.megabytes = limit, megabytes
        self.loads = 0
        """models that were loaded so far"""
        self._settings = settings.changed(ADAPTERS="shared", ADAPTERS_LOADED=max(limit, settings.ADAPTERS_LOADED))
        self._connect = connect
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Those that are there, the one unused for longest first."""
        return list(self._entries)

    @property
    def bytes(self) -> int:
        """What the weights of all that is loaded take in this process; a base that several share counts once."""
        models = [entry.loading.result() for entry in self._entries.values() if entry.loading.done() and not _broken(entry)]
        hosts = {id(host): host for model in models if (host := _host(model)) is not None}
        return sum(_weights(host) for host in hosts.values())

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Model]:
        """The model, which stays at least until the end of the block. Raises ProviderError or ConfigError when it can't be loaded."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(asyncio.ensure_future(asyncio.to_thread(self._load, name)))
        self._entries.move_to_end(name)
        entry.users += 1
        try:
            model = await asyncio.shield(entry.loading)
        except BaseException:
            entry.users -= 1
            if _broken(entry) and self._entries.get(name) is entry:
                del self._entries[name]  # the next one who asks tries again
            raise
        try:
            await self._make_room(model)
            yield model
        finally:
            entry.users -= 1

    async def close(self) -> None:
        """All models leave."""
        while self._entries:
            _, entry = self._entries.popitem()
            await _close(entry)

    def _load(self, name: str) -> Model:
        model = self._connect(name, self._settings)
        self.loads += 1
        return model

    async def _make_room(self, wanted: Model) -> None:
        """Those that nobody uses leave, as far as it takes. To leave a base that is wanted would free nothing."""
        while len(self._entries) > self.limit:
            if not await self._leave(lambda _: True):
                return
        while self.megabytes is not None and self.bytes > self.megabytes << 20:
            if not await self._leave(lambda model: _host(model) is None or _host(model) is not _host(wanted)):
                return

    async def _leave(self, may: Callable[[Model], bool]) -> bool:
        """The one unused for longest, of those that may. False when there is none."""
        for name, entry in self._entries.items():
            if not entry.users and entry.loading.done() and not _broken(entry) and may(entry.loading.result()):
                await _close(self._entries.pop(name))
                return True
        return False


async def _close(entry: _Entry) -> None:
    await asyncio.wait([entry.loading])
    if not _broken(entry):
        await entry.loading.result().close()


def _broken(entry: _Entry) -> bool:
    return entry.loading.done() and (entry.loading.cancelled() or entry.loading.exception() is not None)


def _host(model: Model) -> Any:
    """What holds its weights in this process, None for a model on a server."""
    return getattr(model, "host", None)


def _weights(host: Any) -> int:
    """Bytes of a model in this process."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in host.engine.model.state_dict().values()}
    return sum(tensors.values())
