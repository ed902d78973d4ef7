"""What all model servers share: retries, several requests at once, and how a begun answer is put to a chat server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

from core.errors import ProviderError
from core.types import Request

LONGEST_PAUSE = 60.0
CONTINUE = (
    "This is your work so far:\n\n{}\n\n"
    "Go on from exactly there, as one text with it. Don't repeat any of it, don't comment on it, and don't start again."
)

T = TypeVar("T")
Finish = Literal["end", "stop", "length"]


class Transient(ProviderError):
    """A failure that may pass: a timeout, a broken connection, 429, 5xx. `after`: the seconds that the server asked us to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


async def with_retries(
    call: Callable[[], Awaitable[T]],
    retries: int,
    rng: random.Random,
    base: float = 0.5,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """What `call` returns, called again after a Transient up to `retries` times; any other error passes at once.

    The pause doubles from `base` seconds and is spread over +-50 %, so that many searches don't come back at the same moment.
    """
    for tried in range(retries):
        try:
            return await call()
        except Transient as error:
            await sleep(min(LONGEST_PAUSE, max(error.after or 0.0, base * 2**tried * rng.uniform(0.5, 1.5))))
    try:
        return await call()
    except Transient as error:
        tries = f" ({retries + 1} tries)" if retries else ""
        raise ProviderError(f"{error}{tries}") from error


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. The first failure cancels the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__
    return [task.result() for task in tasks]


def chat_messages(request: Request) -> list[dict[str, str]]:
    """The conversation as chat servers take it, ending in a user's turn.

    A chat server ends the assistant's turn before it answers, so a `prefix` can't be continued word for word: a further user turn
    shows the work so far and asks to go on. It is joined to a user turn before it, as some chat templates refuse two in a row.
    """
    if request.banned_start is not None:
        raise ProviderError("banned_start needs an in-process model (embedded, a directory or a hub id): a server can't forbid a token")
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    if request.prefix:
        wish = CONTINUE.format(request.prefix)
        if messages and messages[-1]["role"] == "user":
            wish = f"{messages.pop()['content']}\n\n{wish}"
        messages.append({"role": "user", "content": wish})
    return messages


def without_prefix(text: str, prefix: str) -> str:
    """The text without the work that it was asked not to repeat, if it did so from the first to the last word."""
    begun = prefix.rstrip()
    return text.removeprefix(begun).lstrip("\r\n") if begun and text.startswith(begun) else text


def finish_of(reason: str | None, text: str, stop: Sequence[str]) -> Finish:
    """How a server's completion ended, as far as it can be known.

    Servers report "stop" both for the end of the turn and for a stop string, and cut the stop string off. With stop strings in the
    request and something written, the cautious reading is "stop": at worst one more request finds that there is nothing to add,
    while "end" would take a first step for a whole answer. Nothing written means that there was nothing left to say: "end".
    """
    if reason == "length":
        return "length"
    return "stop" if stop and text.strip() else "end"


def first_line(error: Exception) -> str:
    """What an error says, without the pages that some clients add."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def require(package: str) -> None:
    """Raises ProviderError with the install command when the package that a provider stands on is missing."""
    if find_spec(package) is None:
        raise ProviderError(f'this model needs the package {package}: pip install "ratchet-agents[{package}]"')


def load(package: str) -> Any:
    """The package that a provider stands on, imported now."""
    require(package)
    return import_module(package)
