"""The specialists of the router that RESPONSE_ROUTER names, as an orchestrator asks them: the search is its own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from core.config import Settings
from core.specialists import Spoken
from core.types import Completion, Usage
from finetune.ensemble.files import load_router


class Front:
    """A `core.specialists.Specialists`. Raises ConfigError when the file holds no router."""

    def __init__(self, settings: Settings) -> None:
        self._router = load_router(settings=settings, system2=_unasked)
        self.identity = sha256(Path(settings.RESPONSE_ROUTER or "").read_bytes()).hexdigest()

    async def ask(self, query: str) -> Spoken | None:
        """The answer of the specialist that is sure, or the one that most of them agree on; None where neither is."""
        found = await self._router.ask_specialists(query)
        if found is None or self._router.genome is None:
            return None
        first = found["genes"][0]
        answer = next(each for each in found["answers"] if each.gene == first)
        said = self._router.genome[first].messages(query)
        return Spoken(
            model=answer.model,
            fingerprint=answer.fingerprint,
            directive=said[0].content if said[0].role == "system" else "",
            completion=Completion(answer.text, "end" if answer.complete else "length", answer.logprob),
            usage=sum((each.usage for each in found["answers"] if not each.cached), Usage()),
        )

    def close(self) -> None:
        """Give the models back."""
        self._router.close()


def _unasked(query: str) -> str:
    raise AssertionError(f"the search is the orchestrator's: {query!r}")
