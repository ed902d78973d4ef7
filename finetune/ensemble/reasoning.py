"""System 2: any function of the query, or the Orchestrator with search; what it finds is a thought."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, cast

from core.answers import final_answer
from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.registry import REASONERS, resolve
from core.types import Outcome, Result

Said = str | Result
System2 = Callable[[str], Said] | Callable[[str], Awaitable[Said]]


class Thought(NamedTuple):
    """What System 2 came to. `confidence` is 1 for a verified answer, 0 for one that was refuted, None where nobody knows.

    A named tuple, since a router may not add more than some microseconds to a query.
    """

    text: str
    answer: str | None
    confidence: float | None
    seconds: float
    cost: float | None


class Search:
    """The Orchestrator with the search that the settings name, made when it is first asked. Safe from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.changed(RESPONSE_ROUTER=None)  # it is asked where the specialists were not sure
        self._orchestrator: Any = None
        self._making = threading.Lock()

    def __call__(self, query: str) -> Result:
        """One question."""
        result: Result = self._made().infer(query)
        return result

    def many(self, queries: Sequence[str]) -> list[Result]:
        """Several, side by side. Raises ProviderError when one of them could not be answered."""
        results: list[Result] = self._made().infer_many(queries)
        for result in results:
            if result.error:
                raise ProviderError(result.error)
        return results

    def close(self) -> None:
        """Give back its models."""
        with self._making:
            if self._orchestrator is not None:
                self._orchestrator.close()

    def _made(self) -> Any:
        with self._making:
            if self._orchestrator is None:
                self._orchestrator = resolve(REASONERS, "orchestrator")(self._settings)
            return self._orchestrator


class Deliberation:
    """Asks System 2. An async one runs where `run` runs it, many questions at once; a plain one is asked one by one.

    A `many` of its own, from a list of queries to a list of what it says, is used where there are several.
    """

    def __init__(self, system2: System2, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        if not callable(system2):
            raise ConfigError(f"system2 is {system2!r}: give a function of the query, or leave it out for the Orchestrator")
        self._ask: Callable[[str], Any] = system2
        self._run = run
        self._is_async = iscoroutinefunction(system2) or iscoroutinefunction(type(system2).__call__)
        self._many: Callable[[Sequence[str]], Sequence[Said]] | None = getattr(system2, "many", None)

    def one(self, query: str) -> Thought:
        """What it says to one query."""
        if self._is_async:
            return cast("Thought", self._run(self._think(query)))
        began = time.perf_counter()
        return thought_of(self._ask(query), time.perf_counter() - began)

    def all(self, queries: Sequence[str]) -> list[Thought]:
        """What it says to each."""
        if self._is_async:
            return cast("list[Thought]", self._run(self._think_all(queries)))
        if self._many is None or len(queries) < 2:
            return [self.one(query) for query in queries]
        began = time.perf_counter()
        said = self._many(queries)
        seconds = (time.perf_counter() - began) / len(queries)
        return [thought_of(each, seconds) for each in said]

    async def _think(self, query: str) -> Thought:
        began = time.perf_counter()
        said = await self._ask(query)
        return thought_of(said, time.perf_counter() - began)

    async def _think_all(self, queries: Sequence[str]) -> list[Thought]:
        return await asyncio.gather(*map(self._think, queries))


def thought_of(said: object, seconds: float) -> Thought:
    """A text or a Result as a thought. Raises ConfigError for anything else."""
    if isinstance(said, str):
        return Thought(said, final_answer(said), None, seconds, None)
    if isinstance(said, Result):
        known = {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}
        return Thought(said.text, said.answer, known.get(said.verdict.outcome), seconds, said.usage.cost)
    raise ConfigError(f"system2 returned {type(said).__name__}: return a text, or a core.types.Result")
