"""What all model servers share: failures and what they mean, requests side by side, how a begun answer is put to a chat server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from email.utils import parsedate_to_datetime
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from typing import Any, Literal, TypeVar

from core.errors import ProviderError
from core.types import Request, Usage

CONTINUE = (
    "This is your work so far:\n\n{}\n\n"
    "Go on from exactly there, as one text with it. Don't repeat any of it, don't comment on it, and don't start again."
)

ALIVE = (409, 425, 429)
NOTHING = Usage()

T = TypeVar("T")
Finish = Literal["end", "stop", "length"]


class Transient(ProviderError):
    """A failure that may pass, and is worth another try.

    `after`: the seconds that the server asked us to wait. `alive`: the server works, it only can't take this call now. `usage`: what a
    useless answer has cost all the same.
    """

    def __init__(self, message: str, after: float | None = None, *, alive: bool = False, usage: Usage = NOTHING) -> None:
        super().__init__(message)
        self.after, self.alive, self.usage = after, alive, usage


class Unreachable(ProviderError):
    """Nobody listens there: the server's failure, but no other try helps."""

    alive = False


def is_worth_retrying(status: int) -> bool:
    """True for answers that may be other ones later: timeouts, conflicts, too early, too many, and the server's own errors."""
    return status in (*ALIVE, 408) or status >= 500


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a server asks us to wait, as a number or as the date until which (RFC 9110, 10.2.3). `now` is in Unix seconds."""
    said = headers.get("retry-after", "").strip()
    try:
        seconds = float(said) if said[:1].isdigit() else parsedate_to_datetime(said).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


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


def counted(told: int | None) -> int:
    """A server's count of tokens as far as it can be one: budgets add it up."""
    return max(0, told or 0)


def first_line(error: object) -> str:
    """What an error says, without the pages that some clients and servers add."""
    said = str(error).strip().partition("\n")[0][:300]
    return said if said or not isinstance(error, Exception) else type(error).__name__


def require(package: str) -> None:
    """Raises ProviderError with the install command when the package that a provider stands on is missing."""
    if find_spec(package) is None:
        raise ProviderError(f'this model needs the package {package}: pip install "ratchet-agents[{package}]"')


def load(package: str) -> Any:
    """The package that a provider stands on, imported now."""
    require(package)
    return import_module(package)
