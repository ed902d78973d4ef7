"""A model that says what it was told to: for tests and demonstrations of everything around a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.types import Completion, Reply, Request, Usage

Script = Sequence[str] | Callable[[Request, int], str]


def connect(name: str, settings: Settings) -> ScriptedModel:
    """A script in a file of JSON lines, one string a line, handed out in order."""
    return ScriptedModel(_read(Path(name).expanduser()), name=f"scripted:{name}")


class ScriptedModel:
    """Replies from a list, in order, or from a function of the request and the sample's index in it.

    It keeps the contract of an in-process model: a reply ends with the first stop string in it. Only the token limit is not its
    business, and a token is a word. `requests` holds all that it was asked.
    """

    def __init__(self, replies: Script, name: str = "scripted", fingerprint: str | None = "scripted") -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.requests: list[Request] = []
        self._replies = replies if callable(replies) else tuple(replies)
        self._given = 0

    async def complete(self, request: Request) -> Reply:
        """The next `request.n` replies. Raises ProviderError when the list has run out."""
        self.requests.append(request)
        completions = tuple(_cut(self._next(request, index), request.sampling.stop) for index in range(request.n))
        read = sum(len(m.content.split()) for m in request.messages) + len(request.prefix.split())
        return Reply(completions, Usage(1, read, sum(len(c.text.split()) for c in completions)))

    async def close(self) -> None:
        """There is nothing to give back."""

    def _next(self, request: Request, index: int) -> str:
        if callable(self._replies):
            return self._replies(request, index)
        if self._given == len(self._replies):
            raise ProviderError(f"the script of {self.name} has {len(self._replies)} replies and was asked for one more: add some")
        self._given += 1
        return self._replies[self._given - 1]


def _cut(text: str, stop: Sequence[str]) -> Completion:
    ends = [text.index(s) + len(s) for s in stop if s in text]
    return Completion(text[: min(ends)], "stop") if ends else Completion(text, "end")


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"can't read the script {path} ({error.strerror}): give a file of JSON lines, one string a line") from error
    return [_reply(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def _reply(line: str, path: Path, number: int) -> str:
    try:
        reply = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {number} is no JSON: {error}") from error
    if not isinstance(reply, str):
        raise ConfigError(f"{path}, line {number} holds {reply!r}: write one JSON string a line")
    return reply
