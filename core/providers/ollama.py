"""Models served by Ollama, through its own client.

Ollama gives one completion per request, so n samples are n requests at once, with seeds that count up from the request's. Answers are
streamed: a call that is cancelled closes its connection, and the server stops generating. It cuts stop strings off and doesn't say
whether one of them ended a completion: the text stays as it came, without the stop string, and `remote.finish_of` says how its end is
read. Hidden thinking is switched off: no verifier sees it, and it would eat the token limit.

Ollama continues a last assistant message word for word where the model's template leaves that message open, and most do but not all
(github.com/ollama/ollama/issues/6778). So the server is asked once, at the first request with a prefix, to render such a conversation
(`_debug_render_only` of /api/chat, undocumented). Where it can't, or closes the message, the begun work is shown in a user's message.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers.calls import Calls, Limits
from core.providers.remote import (
    ALIVE,
    Transient,
    Unreachable,
    chat_messages,
    counted,
    finish_of,
    first_line,
    is_worth_retrying,
    load,
    retry_after,
    together,
    without_prefix,
)
from core.types import Completion, Message, Reply, Request, Sampling, Usage

SAMPLING = ("num_predict", "seed", "stop", "temperature", "top_p")
BEGUN = "Let me see.\n"
BEGINNING = Request((Message("user", "Hello"),), sampling=Sampling(max_tokens=1))


def connect(name: str, settings: Settings) -> OllamaModel:
    """The model that Ollama calls `name`, for example `qwen3:0.6b`."""
    return OllamaModel(
        name,
        settings.OLLAMA_HOST,
        Limits.of(settings),
        keep_alive=settings.OLLAMA_KEEP_ALIVE,
        options=settings.OLLAMA_OPTIONS,
    )


class OllamaModel:
    """One model of one Ollama server. Its connections belong to the event loop that uses it first."""

    fingerprint: str | None = None

    def __init__(
        self,
        name: str,
        host: str = "http://127.0.0.1:11434",
        limits: Limits | None = None,
        *,
        keep_alive: str = "5m",
        options: Mapping[str, Any] | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keep_alive`: how long the server keeps the model loaded, "5m", "30s", seconds, or "-1" for ever. `options` are Ollama's own."""
        self.name = f"ollama:{name}"
        self._model, self._host = name, host
        self._keep_alive, self._own_options = _duration(keep_alive), _checked(options or {})
        self._calls = Calls(f"{self.name} at {host}", limits or Limits(), rng, clock)
        self._continues: bool | None = None
        self._finding_out = asyncio.Lock()
        self._ollama = load("ollama")
        import httpx  # comes with it

        try:
            self._client = self._ollama.AsyncClient(host=host, timeout=None, limits=httpx.Limits(max_connections=None))
        except ValueError as error:
            raise ConfigError(f"OLLAMA_HOST {host!r} is no address ({first_line(error)}): write it like http://127.0.0.1:11434") from error

    async def complete(self, request: Request) -> Reply:
        """`request.n` completions; each of them is one request to the server and counts as one call."""
        messages = chat_messages(request)
        usage = await self._find_out() if request.prefix else Usage()
        continued = bool(request.prefix and self._continues)
        if continued:
            messages = _as_begun(request)
        replies = await together([self._sample(messages, request, index, continued) for index in range(request.n)])
        return Reply(tuple(reply.completions[0] for reply in replies), sum((reply.usage for reply in replies), usage))

    async def close(self) -> None:
        """Break off what is under way and close the connections."""
        await self._calls.close()
        await self._client.close()

    async def _sample(self, messages: list[dict[str, str]], request: Request, index: int, continued: bool) -> Reply:
        options = {**self._own_options, **_options(request.sampling, index)}

        async def call() -> Reply:
            text, last = await self._chat(messages, options)
            text = text if continued else without_prefix(text, request.prefix)
            return Reply((Completion(text, finish_of(last.done_reason, text, request.sampling.stop)),), _usage(last))

        return await self._calls.make(call)

    async def _chat(self, messages: list[dict[str, str]], options: dict[str, Any]) -> tuple[str, Any]:
        """The whole text, and the last part of the stream, which has the counts."""
        texts, last = [], None
        with self._failures():
            async with aclosing(
                await self._client.chat(self._model, messages, stream=True, think=False, options=options, keep_alive=self._keep_alive)
            ) as parts:
                async for part in parts:
                    texts.append(part.message.content or "")
                    last = part
        if last is None or not last.done:
            raise Transient(f"{self.name} at {self._host} sent half an answer")
        return "".join(texts), last

    async def _find_out(self) -> Usage:
        """Find out, once, whether this model continues an assistant's message. A server too old to tell answers instead: that counts."""
        async with self._finding_out:
            if self._continues is not None:
                return Usage()
            reply = await self._calls.make(self._render)
            self._continues = reply.completions[0].text.endswith(BEGUN)
            return reply.usage

    async def _render(self) -> Reply:
        """A begun conversation as the model's template renders it; nothing, where the server doesn't tell."""
        asked = {
            "model": self._model,
            "messages": _as_begun(BEGINNING.replace(prefix=BEGUN)),
            "options": {**self._own_options, **_options(BEGINNING.sampling, 0)},
            "keep_alive": self._keep_alive,
            "think": False,
            "stream": False,
            "_debug_render_only": True,
        }
        with self._failures():
            try:
                answer = (await self._client._request_raw("POST", "/api/chat", json=asked)).json()
            except self._ollama.ResponseError as error:
                if error.status_code != 400:
                    raise
                answer = {"_debug_info": {}}  # it refuses a conversation that ends in an assistant's message
            shown = answer.get("_debug_info")
            if shown is None:
                return Reply((Completion(""),), _usage(self._ollama.ChatResponse(**answer)))
            return Reply((Completion(str(shown.get("rendered_template", ""))),), Usage())

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except self._ollama.ResponseError as error:
            raise self._refusal(error) from error
        except (ConnectionError, httpx.ConnectError) as error:
            raise Unreachable(f"no Ollama at {self._host}: start it with `ollama serve`, or set OLLAMA_HOST") from error
        except httpx.RequestError as error:
            raise Transient(f"the connection to Ollama at {self._host} broke: {first_line(error)}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise Transient(
                f"what answers at {self._host} doesn't speak as Ollama does ({first_line(error)}): check OLLAMA_HOST"
            ) from error

    def _refusal(self, error: Any) -> ProviderError:
        status, reason = error.status_code, first_line(error.error) or "no reason given"
        if status == 404:
            return ProviderError(f"Ollama at {self._host} has no model {self._model}: fetch it with `ollama pull {self._model}`")
        if status == -1:  # the client's word for an error in the middle of a stream
            return Transient(f"Ollama at {self._host} broke {self._model} off in the middle: {reason}")
        said = f"Ollama at {self._host} refused {self._model} with {status}: {reason}"
        if not is_worth_retrying(status):
            return ProviderError(said)
        headers = getattr(getattr(error.__context__, "response", None), "headers", {})
        return Transient(said, retry_after(headers, time.time()), alive=status in ALIVE)


def _as_begun(request: Request) -> list[dict[str, str]]:
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    return [*messages, {"role": "assistant", "content": request.prefix}]


def _options(sampling: Sampling, index: int) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "num_predict": sampling.max_tokens}
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        options["seed"] = sampling.seed + index
    return options


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    taken = ", ".join(name for name in SAMPLING if name in options)
    if taken:
        raise ConfigError(f"OLLAMA_OPTIONS sets {taken}, which each request sets itself: use TEMPERATURE, MAX_TOKENS and SEED")
    return dict(options)


def _duration(keep_alive: str) -> float | str:
    """Ollama takes a bare number of seconds as a number only, and refuses it as a text."""
    try:
        return float(keep_alive)
    except ValueError:
        return keep_alive


def _usage(last: Any) -> Usage:
    return Usage(calls=1, prompt_tokens=counted(last.prompt_eval_count), completion_tokens=counted(last.eval_count))
