"""Any hosted or OpenAI-compatible model, through LiteLLM.

Stop strings are cut off by most servers, and few say whether one of them ended a completion: `remote.finish_of` says how that is read.
Options that a server doesn't know are dropped. A server that gives fewer samples than asked for is asked again for the rest.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from core.config import Settings
from core.errors import ProviderError
from core.providers.remote import Transient, chat_messages, finish_of, first_line, load, require, together, with_retries, without_prefix
from core.types import Completion, Reply, Request, Usage


def connect(name: str, settings: Settings) -> LiteLLMModel:
    """The model that LiteLLM calls `name`, for example `openai/gpt-4o-mini`; at API_BASE where that is set."""
    return LiteLLMModel(name, settings.API_BASE, settings.REQUEST_TIMEOUT, settings.REQUEST_RETRIES)


class LiteLLMModel:
    """One model of one endpoint. LiteLLM itself is imported by the first request: that takes seconds."""

    fingerprint: str | None = None

    def __init__(
        self,
        name: str,
        api_base: str | None = None,
        timeout: float = 120.0,
        retries: int = 2,
        rng: random.Random | None = None,
        pause: float = 0.5,
    ) -> None:
        """`timeout` and `pause` (before the first retry) are in seconds; `rng` spreads the pauses."""
        require("litellm")
        self.name = f"litellm:{name}"
        self._model, self._api_base, self._timeout = name, api_base, timeout
        self._retries, self._rng, self._pause = retries, rng or random.Random(), pause

    async def complete(self, request: Request) -> Reply:
        """`request.n` completions. Each answered request counts as one call; `cost` is LiteLLM's estimate, None if it has no price."""
        # The import takes seconds, which would hold up the loop; and what LiteLLM opens while importing must not belong to our loop.
        litellm = await asyncio.to_thread(_load_litellm)
        _users.setdefault(asyncio.get_running_loop(), WeakSet()).add(self)
        messages = chat_messages(request)
        first = await self._ask(litellm, messages, request, request.n, 0)
        got = len(first.completions)
        rest = await together([self._ask(litellm, messages, request, 1, index) for index in range(got, request.n)])
        completions = [c for reply in (first, *rest) for c in reply.completions]
        return Reply(tuple(completions[: request.n]), sum((reply.usage for reply in rest), first.usage))

    async def close(self) -> None:
        """Close the connections, once no other LiteLLM model uses them."""
        await _leave(self)

    async def _ask(self, litellm: Any, messages: list[dict[str, str]], request: Request, n: int, index: int) -> Reply:
        options = self._options(litellm, request, n, index)
        answer = await with_retries(lambda: self._chat(litellm, messages, options), self._retries, self._rng, self._pause)
        return Reply(tuple(_completion(choice, request) for choice in answer.choices), _usage(litellm, answer))

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
                model=self._model, messages=messages, timeout=self._timeout, drop_params=True, num_retries=0, max_retries=0, **options
            )
        except openai.OpenAIError as error:
            raise self._refusal(litellm, error) from error
        if not answer.choices:
            raise Transient(f"{self._where} answered with no completion in it")
        return answer

    def _refusal(self, litellm: Any, error: Exception) -> ProviderError:
        said, status = first_line(error), getattr(error, "status_code", None) or 500
        if status in (401, 403) or "missing credentials" in said.lower():
            keys = ", ".join(self._missing_keys(litellm))
            return ProviderError(f"{self._where} wants a key that it accepts: {f'set {keys}' if keys else 'check yours'} ({said})")
        if status == 408:
            return Transient(f"{self._where} gave no answer in {self._timeout:g} s: raise REQUEST_TIMEOUT or take a faster model")
        if status == 429:
            return Transient(f"{self._where} takes no more requests for now: lower CONCURRENCY or wait ({said})", _retry_after(error))
        if "connection error" in said.lower():
            return Transient(f"no connection to {self._where}: check that it runs, and API_BASE ({said})")
        failed = f"{self._where} failed with {status}: {said}"
        return Transient(failed) if status >= 500 else ProviderError(failed)

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
    used = answer.usage
    try:
        cost: float | None = litellm.completion_cost(completion_response=answer)
    except Exception:  # noqa: BLE001 - LiteLLM raises bare Exception for a model that it has no price for
        cost = None
    return Usage(1, used.prompt_tokens or 0, used.completion_tokens or 0, cost)


def _retry_after(error: Exception) -> float | None:
    said = (getattr(error, "litellm_response_headers", None) or {}).get("retry-after", "")
    return float(said) if said.replace(".", "", 1).isdigit() else None
