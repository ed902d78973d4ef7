"""Specialists in front of the search: where one of them is sure, it answers at once, and nothing is searched."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from agents.npc import NPC
from core.config import Settings
from core.errors import RatchetError
from core.registry import SPECIALISTS, resolve
from core.types import Completion, Record, Reply, Request, Usage

BOUNDS = ("SEARCH_PROMPT_TOKENS", "SEARCH_COMPLETION_TOKENS", "SEARCH_SECONDS", "SEARCH_COST")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spoken(Record):
    """What a specialist answered. `directive` is the system message that it heard, `usage` what all that were asked took for it."""

    model: str
    fingerprint: str | None
    directive: str
    completion: Completion
    usage: Usage


class Specialists(Protocol):
    """Those of a response router. Use it from one event loop. `identity` tells routers with other specialists or thresholds apart."""

    identity: str

    async def ask(self, query: str) -> Spoken | None:
        """The answer of one that is sure, or of several that agree; None where the search is needed. Raises RatchetError."""
        ...

    def close(self) -> None:
        """Give the models back."""
        ...


class InFront:
    """The specialists that the settings name. Where they can't answer it is said once, and the search answers.

    `settings` are those to judge an answer under: the bounds of a search are not for what has been said. Raises ConfigError.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.changed(**dict.fromkeys(BOUNDS))
        self._specialists: Specialists = resolve(SPECIALISTS, "router")(settings)
        self._told = False

    async def ask(self, query: str) -> Spoken | None:
        """As `Specialists.ask`, without raising."""
        try:
            return await self._specialists.ask(query)
        except RatchetError as error:
            if not self._told:
                self._told = True
                log.warning("the specialists of RESPONSE_ROUTER can't answer, so that all is searched: %s (told once)", error)
            return None

    def said(self, spoken: Spoken | None = None) -> Said:
        """What one of them said as a model; None where a run of theirs is only looked up."""
        return Said(spoken, self._specialists.identity)

    def close(self) -> None:
        """Give the models back."""
        self._specialists.close()


class Said:
    """A `core.types.Model` that has spoken already, so that its answer is judged, rewarded and kept as any other.

    A run of it goes by the name of all that were `asked`: which of them will speak isn't known before.
    """

    in_process = True
    reflects = False

    def __init__(self, spoken: Spoken | None, asked: str) -> None:
        self.name, self.fingerprint = (spoken.model, spoken.fingerprint) if spoken else ("", None)
        self.asked = asked
        self._spoken = spoken

    async def complete(self, request: Request) -> Reply:
        """What was said, whatever is asked."""
        del request
        assert self._spoken, "nothing has been said yet"
        return Reply((self._spoken.completion,), self._spoken.usage)

    async def close(self) -> None:
        """There is nothing to give back: the model is the router's."""


def heard(npc: NPC, spoken: Spoken | None) -> NPC:
    """The worker as the specialist that answered in its place, if one did."""
    if spoken is None:
        return npc
    return npc.replace(primary_directive=spoken.directive or npc.primary_directive, model=spoken.model, provider=None, tools=())
