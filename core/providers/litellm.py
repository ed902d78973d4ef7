"""Any hosted or OpenAI-compatible model, through LiteLLM.

Stop strings are cut off by most servers, and few say whether one of them ended a completion: `remote.finish_of` says how that is read.
Options that a server doesn't know are dropped. A server that gives fewer samples than asked for, or refuses to give several, is asked
again for the rest, with seeds that count up; from then on it is asked for no more at once than it gave.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from core.config import Settings
from core.errors import ProviderError
from core.providers.calls import Calls, Limits
from core.providers.remote import (
    ALIVE,
    NOTHING,
    Transient,
    chat_messages,
    counted,
    finish_of,
    first_line,
    is_worth_retrying,
    load,
    require,
    retry_after,
    together,
    without_prefix,
)
from core.types import Completion, Reply, Request, Usage

ABOUT_N = re.compile(r"(?<![\\\w])n\b|\bchoices?\b|candidate", re.IGNORECASE)


def connect(name: str, settings: Settings) -> LiteLLMModel:
    """The model that LiteLLM calls `name`, for example `openai/gpt-4o-mini`; at API_BASE where that is set."""
    return LiteLLMModel(name, settings.API_BASE, Limits.of(settings))


class TooMany(ProviderError):
    """The server refused to give several samples at once."""


class LiteLLMModel:
    """One model of one endpoint, for one event loop at a time. LiteLLM itself is imported by the first request: that takes seconds."""

    fingerprint: str | None = None

    def __init__(
        self,
        name: str,
        api_base: str | None = None,
        limits: Limits | None = None,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require("litellm")
        self.name = f"litellm:{name}"
        self._model, self._api_base, self._limits = name, api_base, limits or Limits()
        self._calls = Calls(self._where, self._limits, rng, clock)
        self._most: int | None = None

    async def complete(self, request: Request) -> Reply:
        """`request.n` completions. Each answered request counts as one call; `cost` is LiteLLM's estimate, None if it has no price."""
        # The import takes seconds, which would hold up the loop; and what LiteLLM opens while importing must not belong to our loop.
        litellm = await asyncio.to_thread(_load_litellm)
        _users.setdefault(asyncio.get_running_loop(), WeakSet()).add(self)
        replies = await self._samples(litellm, chat_messages(request), request, 0, request.n)
        completions = [completion for reply in replies for completion in reply.completions]
        return Reply(tuple(completions), sum((reply.usage for reply in replies), Usage()))

    async def close(self) -> None:
        """Break off what is under way, and close the connections once no other LiteLLM model uses them."""
        await self._calls.close()
        await _leave(self)

    async def _samples(self, litellm: Any, messages: list[dict[str, str]], request: Request, start: int, end: int) -> list[Reply]:
        """Replies with the samples from `start` to `end`, as many at once as the server gives."""
        most = self._most or end - start
        parts = [(i, min(i + most, end)) for i in range(start, end, most)]
        found = await together([self._part(litellm, messages, request, *part) for part in parts])
        return [reply for replies in found for reply in replies]

    async def _part(self, litellm: Any, messages: list[dict[str, str]], request: Request, start: int, end: int) -> list[Reply]:
        try:
            reply = await self._ask(litellm, messages, request, end - start, start)
        except TooMany:
            reply = await self._ask(litellm, messages, request, 1, start)
        given = len(reply.completions)
        if given == end - start:
            return [reply]
        self._most = min(given, self._most or given)
        return [reply, *await self._samples(litellm, messages, request, start + given, end)]

    async def _ask(self, litellm: Any, messages: list[dict[str, str]], request: Request, n: int, index: int) -> Reply:
        options = self._options(litellm, request, n, index)

        async def call() -> Reply:
            answer = await self._chat(litellm, messages, options)
            return Reply(tuple(_completion(choice, request) for choice in answer.choices[:n]), _usage(litellm, answer))

        return await self._calls.make(call)

    def _options(self, litellm: Any, request: Request, n: int, index: int) -> dict[str, Any]:
        sampling = request.sampling
        options = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "n": n if n > 1 else None,
            "stop": list(sampling.stop) or None,
            "seed": None if sampling.seed is None else sampling.seed + index,
            "api_base": self._api_base,
        }
        if self._api_base and self._missing_keys(litellm):
            options["api_key"] = "none"  # servers of one's own seldom ask for a key, but the client insists on one
        return {name: value for name, value in options.items() if value is not None}

    async def _chat(self, litellm: Any, messages: list[dict[str, str]], options: dict[str, Any]) -> Any:
        import openai

        try:
            answer = await litellm.acompletion(
                model=self._model,
                messages=messages,
                timeout=2 * self._limits.timeout,  # LiteLLM's are the single waits in a request: `Calls` keeps the time
                drop_params=True,
                num_retries=0,
                max_retries=0,
                **options,
            )
        except openai.OpenAIError as error:
            raise self._refusal(litellm, error, several="n" in options) from error
        if not answer.choices:
            usage = _usage(litellm, answer)
            told = usage.prompt_tokens + usage.completion_tokens > 0  # LiteLLM makes zeros of what the server didn't tell
            raise Transient(f"{self._where} answered with no completion in it", usage=usage if told else NOTHING)
        return answer

    def _refusal(self, litellm: Any, error: Exception, *, several: bool) -> ProviderError:
        said, status = first_line(error), getattr(error, "status_code", None) or 500
        after = retry_after(getattr(error, "litellm_response_headers", None) or {}, time.time())
        if status in (401, 403) or "missing credentials" in said.lower():
            keys = ", ".join(self._missing_keys(litellm))
            return ProviderError(f"{self._where} wants a key that it accepts: {f'set {keys}' if keys else 'check yours'} ({said})")
        if several and status in (400, 422) and ABOUT_N.search(str(error)):
            return TooMany(f"{self._where} gives one sample at a time ({said})")
        if status == 408:
            return Transient(f"{self._where} ran out of time: lower REQUEST_CONCURRENCY or MAX_TOKENS ({said})", after)
        if status == 429:
            return Transient(f"{self._where} takes no more requests for now: lower REQUEST_CONCURRENCY or wait ({said})", after, alive=True)
        if "connection error" in said.lower():
            return Transient(f"no connection to {self._where}: check that it runs, and API_BASE ({said})")
        failed = f"{self._where} failed with {status}: {said}"
        return Transient(failed, after, alive=status in ALIVE) if is_worth_retrying(status) else ProviderError(failed)

    def _missing_keys(self, litellm: Any) -> list[str]:
        missing: list[str] = litellm.validate_environment(self._model)["missing_keys"]
        return missing

    @property
    def _where(self) -> str:
        return f"{self.name} at {self._api_base}" if self._api_base else self.name


# LiteLLM keeps one pool of connections per event loop for all of its models: the last of ours to leave a loop closes it.
_users: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[LiteLLMModel]] = WeakKeyDictionary()


async def _leave(model: LiteLLMModel) -> None:
    loop = asyncio.get_running_loop()
    users = _users.get(loop)
    if users is None or model not in users:
        return
    users.discard(model)
    if users:
        return
    cache = load("litellm").in_memory_llm_clients_cache
    for key in [key for key in cache.cache_dict if key.endswith(f"-{id(loop)}")]:
        closing = getattr(cache.cache_dict.pop(key), "close", lambda: None)()
        if inspect.isawaitable(closing):
            await closing


def _load_litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import fetches a price list from the network otherwise
    litellm = load("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


def _completion(choice: Any, request: Request) -> Completion:
    text = without_prefix(choice.message.content or "", request.prefix)
    return Completion(text, finish_of(choice.finish_reason, text, request.sampling.stop))


def _usage(litellm: Any, answer: Any) -> Usage:
    used = getattr(answer, "usage", None)
    try:
        cost: float | None = litellm.completion_cost(completion_response=answer)
    except Exception:  # noqa: BLE001 - LiteLLM raises bare Exception for a model that it has no price for
        cost = None
    return Usage(1, counted(getattr(used, "prompt_tokens", 0)), counted(getattr(used, "completion_tokens", 0)), cost)
