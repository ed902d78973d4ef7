"""Models served by Ollama, through its own client.

Ollama gives one completion per request, so n samples are n requests at once, with seeds that count up from the request's. It cuts stop
strings off and doesn't say whether one of them ended a completion: the text stays as it came, without the stop string, and
`remote.finish_of` says how its end is read. Hidden thinking is switched off: no verifier sees it, and it would eat the token limit.
"""

from __future__ import annotations

import random
from typing import Any

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers.remote import Transient, chat_messages, finish_of, first_line, load, together, with_retries, without_prefix
from core.types import Completion, Reply, Request, Sampling, Usage


def connect(name: str, settings: Settings) -> OllamaModel:
    """The model that Ollama calls `name`, for example `qwen3:0.6b`."""
    return OllamaModel(name, settings.OLLAMA_HOST, settings.REQUEST_TIMEOUT, settings.REQUEST_RETRIES)


class OllamaModel:
    """One model of one Ollama server. Its connections belong to the event loop that uses it first."""

    fingerprint: str | None = None

    def __init__(
        self,
        name: str,
        host: str = "http://127.0.0.1:11434",
        timeout: float = 120.0,
        retries: int = 2,
        rng: random.Random | None = None,
        pause: float = 0.5,
    ) -> None:
        """`timeout` and `pause` (before the first retry) are in seconds; `rng` spreads the pauses."""
        self.name = f"ollama:{name}"
        self._model, self._host, self._timeout = name, host, timeout
        self._retries, self._rng, self._pause = retries, rng or random.Random(), pause
        self._ollama = load("ollama")
        try:
            self._client = self._ollama.AsyncClient(host=host, timeout=timeout)
        except ValueError as error:
            raise ConfigError(f"OLLAMA_HOST {host!r} is no address ({first_line(error)}): write it like http://127.0.0.1:11434") from error

    async def complete(self, request: Request) -> Reply:
        """`request.n` completions; each of them is one request to the server and counts as one call."""
        messages = chat_messages(request)
        replies = await together([self._sample(messages, request, index) for index in range(request.n)])
        usage = sum((_usage(reply) for reply in replies), Usage())
        return Reply(tuple(_completion(reply, request) for reply in replies), usage)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _sample(self, messages: list[dict[str, str]], request: Request, index: int) -> Any:
        options = _options(request.sampling, index)
        return await with_retries(lambda: self._chat(messages, options), self._retries, self._rng, self._pause)

    async def _chat(self, messages: list[dict[str, str]], options: dict[str, Any]) -> Any:
        import httpx

        try:
            reply = await self._client.chat(self._model, messages, think=False, options=options)
        except self._ollama.ResponseError as error:
            raise self._refusal(error.status_code, error.error) from error
        except ConnectionError as error:
            raise ProviderError(f"no Ollama at {self._host}: start it with `ollama serve`, or set OLLAMA_HOST") from error
        except httpx.TimeoutException as error:
            raise Transient(
                f"{self.name} at {self._host} gave no answer in {self._timeout:g} s: raise REQUEST_TIMEOUT or take a smaller model"
            ) from error
        except httpx.RequestError as error:
            raise Transient(f"the connection to Ollama at {self._host} broke: {first_line(error)}") from error
        except ValueError as error:
            raise Transient(
                f"what answers at {self._host} doesn't speak as Ollama does ({first_line(error)}): check OLLAMA_HOST"
            ) from error
        if reply.done is False:
            raise Transient(f"{self.name} at {self._host} sent half an answer")
        return reply

    def _refusal(self, status: int, reason: str) -> ProviderError:
        if status == 404:
            return ProviderError(f"Ollama at {self._host} has no model {self._model}: fetch it with `ollama pull {self._model}`")
        said = f"Ollama at {self._host} refused {self._model} with {status}: {reason.strip() or 'no reason given'}"
        return Transient(said) if status == 429 or status >= 500 else ProviderError(said)


def _options(sampling: Sampling, index: int) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "num_predict": sampling.max_tokens}
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        options["seed"] = sampling.seed + index
    return options


def _completion(reply: Any, request: Request) -> Completion:
    text = without_prefix(reply.message.content or "", request.prefix)
    return Completion(text, finish_of(reply.done_reason, text, request.sampling.stop))


def _usage(reply: Any) -> Usage:
    return Usage(calls=1, prompt_tokens=reply.prompt_eval_count or 0, completion_tokens=reply.eval_count or 0)
