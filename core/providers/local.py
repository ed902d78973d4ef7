"""Models in this process: the embedded one, model directories, adapter directories, hub ids, through the engine on its own thread.

An adapter of a small base is merged into a base of its own and decodes as fast as it. Adapters of a large base, or of one in few bits,
share the base that is loaded, and answer rows of the same batch. Code from a model's repository is never run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from core.config import Settings
from core.errors import ProviderError
from core.providers.loading import (
    EMBEDDED_DIRECTORY,
    Quantization,
    base_of,
    fingerprint,
    in_few_bits,
    is_adapter,
    load,
    load_base,
    load_tokenizer,
    with_adapter,
)
from core.providers.texts import longest_token
from core.types import Message, Reply, Request, Usage

if TYPE_CHECKING:
    from core.providers.adapters import Adapter
    from core.providers.engine import Job
    from core.providers.host import Host, Pieces

__all__ = ["EMBEDDED_DIRECTORY", "PROBE", "LocalModel", "base_of", "connect", "connect_embedded", "fingerprint", "is_adapter", "load"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE = 2.0
PROBE = "Solve 17*6+23"
CHAT_TEMPLATE = "chat_template.jinja"
LARGE = 100_000_000  # parameters, from which on a copy of the base for every adapter costs more than mixing them

_shared: dict[_Kind, tuple[Host, str]] = {}
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What two models must have in common to be served by one base. `stamp` tells the files of a directory that was written anew."""

    base: str
    stamp: tuple[tuple[str, int, int], ...]
    device: str
    dtype: str
    quantization: Quantization
    rows: int
    threads: int
    prefix_bytes: int
    adapters: int

    @classmethod
    def of(cls, path: str, settings: Settings) -> _Kind:
        base = base_of(path)
        files = sorted(Path(base).glob("*")) if Path(base).is_dir() else []
        return cls(
            base,
            tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()),
            settings.DEVICE,
            settings.DTYPE,
            settings.QUANTIZATION,
            settings.BATCH_ROWS,
            settings.THREADS,
            settings.PREFIX_CACHE_MB << 20,
            settings.ADAPTERS_LOADED,
        )


def connect_embedded(name: str, settings: Settings) -> LocalModel:
    """The model that ships with Ratchet."""
    return connect(str(EMBEDDED_DIRECTORY), settings, name=name)


def connect(path: str, settings: Settings, name: str | None = None) -> LocalModel:
    """Load a model directory, an adapter directory or a hub id. Raises ProviderError when that can't be done."""
    mode: Literal["auto", "merged", "shared"] = settings.ADAPTERS
    kind = _Kind.of(path, settings)
    with _loading:
        if mode != "merged" and (model := _join(kind, path, name or path)):
            return model
        weights = load_base(path, kind.device, kind.dtype, kind.quantization)
        shares = mode == "shared" or (mode == "auto" and (in_few_bits(weights) or _size(weights) >= LARGE))
        if shares and kind not in _shared and (not is_adapter(path) or _mixes(path, weights)):
            host = _host(weights, load_tokenizer(kind.base), kind.base, kind)
            _shared[kind] = host, fingerprint(weights)
            if model := _join(kind, path, name or path):
                return model
            host.leave(None, ProviderError(f"{kind.base} was closed"))
            weights = load_base(path, kind.device, kind.dtype, kind.quantization)
        if is_adapter(path):
            weights = with_adapter(weights, path)
        return LocalModel(_host(weights, load_tokenizer(path), name or path, kind), name or path, reflects=_reflects(path))


class LocalModel:
    """A model in this process, as a `core.types.Model`. Safe to use from any thread and any event loop. Its weights never change."""

    in_process = True

    def __init__(
        self,
        host: Host,
        name: str,
        *,
        adapter: Adapter | None = None,
        weights: str | None = None,
        tokenizer: Any = None,
        reflects: bool = True,
        probed: list[float] | None = None,
    ) -> None:
        """`weights` is the fingerprint of what answers, where it is known; `probed` what `probe` found a moment ago."""
        self.name = name
        self.host = host
        self.reflects = reflects
        self.tokenizer = tokenizer or host.tokenizer
        self.fingerprint: str | None = weights or fingerprint(host.engine.model)
        self.probed = probed
        self._adapter = adapter
        self._fresh = probed is not None
        self._closed = False
        self._encode("")  # switches off the padding that a tokenizer file may ask for
        self._longest_token = host.longest_token if self.tokenizer is host.tokenizer else longest_token(self.tokenizer)
        self._render = lru_cache(maxsize=4096)(partial(_rendered, self.tokenizer))
        host.join(self)

    async def complete(self, request: Request) -> Reply:
        """n samples; a row's draws depend on its seed alone. Raises ProviderError when the prompt does not fit the context."""
        self._check_open()
        jobs = self._jobs(request)
        await self.host.run(jobs, self, self._adapter)
        texts = tuple(text for job in jobs for text in job.texts if text is not None)
        written = sum(job.completion_tokens for job in jobs)
        return Reply(texts, Usage(1, len(jobs[0].prompt), written, 0.0))

    async def close(self) -> None:
        """Requests under way fail. The engine's thread stops with the last model that it serves."""
        self._closed = True
        self.host.leave(self, ProviderError(f"{self.name} was closed"))
        await asyncio.to_thread(self.host.wait_until_ended)
        for kind in [kind for kind, (host, _) in list(_shared.items()) if host.ended]:
            _shared.pop(kind, None)

    def session(self) -> AbstractContextManager[None]:
        """While it is open, the engine waits for this client's next request before it decodes on, for up to PATIENCE seconds."""
        return self.host.session()

    def probe(self) -> list[float]:
        """The logits of this model on a fixed prompt: what it does, as opposed to what it is called.

        The first call after its adapter was loaded gives what was found then; `probed` is what was found last.
        """
        self._check_open()
        if self.probed is None or not self._fresh:
            self.probed = self._probe()
        self._fresh = False
        return self.probed

    def _probe(self) -> list[float]:
        prompt = list(self._render((Message("user", PROBE),)))
        if self._adapter is None:
            found: list[float] = self.host.call(lambda: self.host.engine.probe(prompt))
            return found
        return _with_room(self.host, self._adapter, lambda adapter: self.host.engine.probe(prompt, adapter.name))

    def _check_open(self) -> None:
        if self._closed:
            raise ProviderError(f"{self.name} was closed")

    def _jobs(self, request: Request) -> list[Job]:
        from core.providers.engine import Job

        least = (len(request.messages[-1].content) + len(request.prefix)) // self._longest_token
        self._check_length(least, f"at least {least}")  # a megabyte need not be read to be refused
        prompt = list(self._render(request.messages))
        if request.prefix:
            prompt += self._encode(request.prefix)
        self._check_length(len(prompt), str(len(prompt)))
        banned = self._encode(request.banned_start)[0] if request.banned_start else None
        rows = self.host.engine.slots
        adapter = self._adapter.name if self._adapter else None
        return [Job(prompt, min(rows, request.n - first), request.sampling, banned, first, adapter) for first in range(0, request.n, rows)]

    def _check_length(self, tokens: int, told: str) -> None:
        if tokens >= self.host.engine.context:
            raise ProviderError(
                f"the question and the work so far are {told} tokens, {self.name} takes {self.host.engine.context}: shorten them"
            )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _join(kind: _Kind, path: str, name: str) -> LocalModel | None:
    """A client of the base that is loaded already. None when there is none, or when the adapter can't be mixed with others."""
    from core.providers.adapters import Adapter

    host, base = _shared.get(kind, (None, ""))
    if host is None or host.ended:
        _shared.pop(kind, None)
        return None
    if not is_adapter(path):
        return LocalModel(host, name, weights=base, reflects=_reflects(path))
    if not _mixes(path, host.engine.model):
        return None
    adapter = Adapter.read(path)
    tokenizer = host.tokenizer if _has_no_tokenizer(path, kind.base) else load_tokenizer(path)
    try:
        weights, probed = _brought(host, adapter, base, list(_rendered(tokenizer, (Message("user", PROBE),))))
    except ProviderError as error:
        log.warning("%s: it is merged into a base of its own", error)
        return None
    return LocalModel(host, name, adapter=adapter, weights=weights, tokenizer=tokenizer, reflects=_reflects(path), probed=probed)


def _brought(host: Host, adapter: Adapter, base: str, prompt: list[int]) -> tuple[str, list[float]]:
    """The fingerprint of the base with that adapter, and what it answers to `prompt`. Rows of others go on meanwhile.

    Where both can be found beside the engine, it is not waited for: the adapter is hung in before its first row begins.
    """
    from core.providers.adapters import Weights

    weights = Weights.read(adapter)
    merged = None if weights is None or host.adapters.few_bits else weights.fingerprint(_base_of(host))

    def pieces(asked: list[int]) -> Pieces[tuple[str, list[float]] | None]:
        probed = yield from host.adapters.bringing(adapter, weights, asked)
        if probed is None:
            return None
        yield merged or host.adapters.fingerprint(adapter, base), probed
        yield from host.adapters.leaving()
        return None

    if weights and merged and (ahead := host.adapters.ahead(adapter, weights, prompt)):
        host.begin(pieces([]))
        return merged, ahead
    while (found := host.work(pieces(prompt))) is None:
        time.sleep(0.02)
    return found


def _base_of(host: Host) -> dict[str, Any]:
    """The tensors of the base, listed once, on the thread that may change its layers."""
    tensors: dict[str, Any] = host.adapters.listed or host.call(host.adapters.base)
    return tensors


def _with_room(host: Host, adapter: Adapter, use: Callable[[Adapter], _T]) -> _T:
    """What `use` returns while the adapter is loaded, as soon as one that is in use leaves room for it."""
    while True:
        found: list[_T] = host.call(lambda: [use(adapter)] if host.adapters.bring(adapter) else [])
        if found:
            return found[0]
        time.sleep(0.02)


def _rendered(tokenizer: Any, messages: tuple[Message, ...]) -> tuple[int, ...]:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    if not getattr(tokenizer, "chat_template", None):
        text = "\n\n".join(m.content for m in messages) + "\n\n"
        return tuple(tokenizer(text)["input_ids"])
    return tuple(tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"])


def _mixes(path: str, base: Any) -> bool:
    """True when the adapter can share that base: plain LoRA, and the tokenizer of the base."""
    from core.providers.adapters import why_not_mixed

    model = base.get_base_model() if hasattr(base, "get_base_model") else base
    reason = why_not_mixed(path, model)
    if not reason and not _has_no_tokenizer(path, base_of(path)):
        own, ours = load_tokenizer(path), load_tokenizer(base_of(path))
        reason = None if (own.get_vocab(), own.eos_token_id) == (ours.get_vocab(), ours.eos_token_id) else "it has a tokenizer of its own"
    if reason:
        log.info("%s can't share its base (%s): it is merged into a base of its own", path, reason)
    return reason is None


def _has_no_tokenizer(path: str, base: str) -> bool:
    """True when the adapter brings none, or the files of its base's: reading one takes longer than all the rest of an adapter."""
    if not (Path(path) / "tokenizer_config.json").is_file():
        return True
    names = {file.name for place in (path, base) for file in Path(place).glob("*token*")} | {CHAT_TEMPLATE}
    return all(_bytes(Path(path) / name) == _bytes(Path(base) / name) for name in names)


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _host(weights: Any, tokenizer: Any, name: str, kind: _Kind) -> Host:
    from core.providers.host import Host

    return Host(
        weights,
        tokenizer,
        name,
        rows=kind.rows,
        threads=kind.threads,
        prefix_bytes=kind.prefix_bytes,
        adapters=kind.adapters,
        patience=lambda: PATIENCE,
    )


def _size(weights: Any) -> int:
    return sum(parameter.numel() for parameter in weights.parameters())


def _reflects(path: str) -> bool:
    """The embedded model has never learnt to look back at a failure."""
    return Path(base_of(path)) != EMBEDDED_DIRECTORY
