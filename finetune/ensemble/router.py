"""A query goes to the specialist it calls, to all of them, or to deliberate thought: whichever is the first to be sure enough.

System 1 and System 2 after Kahneman (2011, Thinking, Fast and Slow). How sure a specialist is is measured on its answer: see
`finetune.ensemble.calibration`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar

from core.config import Settings
from core.errors import ConfigError, SearchError, TaskError
from core.providers import connect
from core.types import Model, Record, Task
from core.waiting import waited_for
from finetune.ensemble.answers import Answer, Answers, Lately, cost_of
from finetune.ensemble.calibration import Calibration
from finetune.ensemble.genes import Genome, checked_genome
from finetune.ensemble.models import ModelPool
from finetune.ensemble.reasoning import Deliberation, Search, System2, Thought
from finetune.ensemble.triggers import Gate, Learned, Triggers
from finetune.ensemble.voting import vote

if TYPE_CHECKING:
    from finetune.ensemble.calibrating import Calibrated

Path = Literal["fast", "ensemble", "reasoning"]
T = TypeVar("T")


class Routed(TypedDict):
    """What `route_query` returns.

    `path` says who answered: one specialist ("fast"), several ("ensemble"), System 2 ("reasoning"). `genes` are the places in the genome
    of those whose answer it is, `triggered` of those that the query called, `answers` what each answered that was asked. `confidence`
    in [0, 1] is None where System 2 tells none; `calibrated` says that it stands on judged answers. `seconds` is the time of this call,
    `model_seconds` what models took for it whenever they were asked, `cost` the US dollars of this call (None: a provider can't say).
    """

    response: str
    used_fast_path: bool
    confidence: float | None
    path: Path
    answer: str | None
    genes: list[int]
    triggered: list[int]
    answers: list[Answer]
    calibrated: bool
    cached: bool
    seconds: float
    model_seconds: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Unsure(Record):
    """Which genes a query called, and what all genes answered, none of them sure enough."""

    called: list[int]
    answers: list[Answer]


class ResponseRouter:
    """Routes queries over a genome. `fast_threshold` and `ensemble_threshold` in [0, 1] must be exceeded.

    `system2` is any function of the query, also an async one, that returns a text or a `core.types.Result`; by default the Orchestrator
    with search. `gate` says which genes a query calls: "triggers", "learned" (the routing classifier) or a function of query and genome.
    `calibrations` go by the fingerprint of the weights; `calibrate` makes them. `models` and `megabytes` bound what stays loaded,
    `cache_size` the answers that are kept, of each model and of System 2; 0 keeps none.

    Safe from any thread and inside a running event loop. `close` it, or use it in a `with`, to give the models back.
    """

    def __init__(
        self,
        fast_threshold: float = 0.8,
        ensemble_threshold: float = 0.6,
        *,
        system2: System2 | None = None,
        gate: Literal["triggers", "learned"] | Gate = "triggers",
        calibrations: Mapping[str, Calibration] | None = None,
        genome: Genome | None = None,
        settings: Settings | None = None,
        models: int = 8,
        megabytes: int | None = None,
        cache_size: int = 4_096,
        max_tokens: int | None = None,
        connect: Callable[[str, Settings], Model] = connect,
    ) -> None:
        self.fast_threshold = _share("fast_threshold", fast_threshold)
        self.ensemble_threshold = _share("ensemble_threshold", ensemble_threshold)
        self.settings = settings or Settings()
        self.genome = None if genome is None else list(checked_genome(genome))
        self.calibrations: dict[str, Calibration] = dict(calibrations or {})
        self.gate = gate
        self._called = _gate(gate, self.settings)
        self._search = Search(self.settings) if system2 is None else None
        self._system2 = Deliberation(system2 or self._search, self._run)  # type: ignore[arg-type]
        self._thoughts: Lately[Thought] = Lately(cache_size)
        self.pool = ModelPool(self.settings, limit=models, megabytes=megabytes, connect=connect)
        self._answers = Answers(self.pool, self.calibrations, max_tokens=max_tokens or self.settings.MAX_TOKENS, size=cache_size)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()
        self._closed = False

    def route_query(self, query: str, genome: Genome | None = None) -> Routed:
        """Answer one query, by the router's own genome if none is given. Raises TaskError, ConfigError, ProviderError."""
        began = time.perf_counter()
        if type(genome) is not list:
            genome = list(self._own(genome))
        try:
            trained = any([gene.sft_path for gene in genome])  # a list is quicker than a generator
        except AttributeError:
            trained = bool(self._own(genome))  # which tells what is wrong with it
        _check(query)
        if not trained:
            return self._reasoned(self._think(query), list(self._called(query, genome)), [], began)
        found: Routed | Unsure = self._run(self._specialists(query, genome, began))
        return self._reasoned(self._think(query), found.called, found.answers, began) if isinstance(found, Unsure) else found

    async def aroute_query(self, query: str, genome: Genome | None = None) -> Routed:
        """`route_query` for asynchronous callers."""
        return await asyncio.to_thread(self.route_query, query, genome)

    def route_many(self, queries: Iterable[str], genome: Genome | None = None) -> list[Routed]:
        """Answer many: specialists in common batches, what is left by System 2, side by side where it can. Raises as `route_query`."""
        if isinstance(queries, str):
            raise TaskError("route_many takes a list of queries: use route_query for a single one")
        began, asked, own = time.perf_counter(), list(queries), self._own(genome)
        for query in asked:
            _check(query)
        found: list[Routed | Unsure] = self._run(self._all_specialists(asked, own, began))
        left = list(dict.fromkeys(query for query, each in zip(asked, found, strict=True) if isinstance(each, Unsure)))
        thoughts = self._think_all(left)
        return [
            self._reasoned(thoughts[query], each.called, each.answers, began) if isinstance(each, Unsure) else each
            for query, each in zip(asked, found, strict=True)
        ]

    async def ask_specialists(self, query: str, genome: Genome | None = None) -> Routed | None:
        """What the specialists answer, None when none of them is sure enough: System 2 is the caller's. Raises as `route_query`."""
        _check(query)
        found = await asyncio.wrap_future(self._start(self._specialists(query, self._own(genome), time.perf_counter())))
        return None if isinstance(found, Unsure) else found

    def calibrate(self, tasks: Iterable[Task], genome: Genome | None = None, **options: Any) -> list[Calibrated]:
        """Measure on tasks that can be verified what each gene's confidence is worth: see `finetune.ensemble.calibrating.calibrate`."""
        from finetune.ensemble.calibrating import calibrate

        return calibrate(self, list(tasks), self._own(genome), **options)

    def ask_genes(self, questions: Sequence[tuple[int, str]], genome: Genome | None = None) -> list[Answer]:
        """What single genes, named by their places, answer to queries: all at once, and whatever calls them."""
        own = self._own(genome)

        async def ask() -> list[list[Answer]]:
            return await asyncio.gather(*(self._answers.of({place: own[place]}, query) for place, query in questions))

        return [answer for answers in self._run(ask()) for answer in answers]

    def called(self, query: str, genome: Genome | None = None) -> list[int]:
        """The places of the genes that the query calls."""
        return list(self._called(query, self._own(genome)))

    def forget(self) -> None:
        """Drop what was answered; the models stay."""
        self._thoughts.clear()
        self._answers.forget()

    def close(self) -> None:
        """Give back the models, and System 2 if it is the router's own. Idempotent."""
        with self._turn:
            self._closed, loop, thread, self._loop = True, self._loop, self._thread, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_wind_up(self.pool), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        if self._search:
            self._search.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _own(self, genome: Genome | None) -> Genome:
        if genome is None:
            if self.genome is None:
                raise ConfigError("there is no genome to route over: give one, made with create_model_genome")
            return self.genome
        return checked_genome(genome)

    async def _all_specialists(self, queries: Sequence[str], genome: Genome, began: float) -> list[Routed | Unsure]:
        return await asyncio.gather(*(self._specialists(query, genome, began) for query in queries))

    async def _specialists(self, query: str, genome: Genome, began: float) -> Routed | Unsure:
        """System 1, then the ensemble."""
        called = list(self._called(query, genome))
        answers = await self._answers.of({place: genome[place] for place in called}, query)
        sure = [answer for answer in answers if self._may_answer_alone(answer, genome)]
        if sure:
            return self._routed("fast", [max(sure, key=lambda answer: answer.confidence or 0.0)], None, called, answers, began)
        answers += await self._answers.of({place: gene for place, gene in enumerate(genome) if place not in called}, query)
        found = vote(answers)
        if found is not None and found.confidence > self.ensemble_threshold:
            return self._routed("ensemble", found.winners, found.confidence, called, answers, began)
        return Unsure(called, answers)

    def _may_answer_alone(self, answer: Answer, genome: Genome) -> bool:
        sure = answer.confidence
        return sure is not None and sure > self.fast_threshold and sure >= genome[answer.gene].confidence_threshold

    def _routed(
        self, path: Path, winners: Sequence[Answer], confidence: float | None, called: list[int], answers: list[Answer], began: float
    ) -> Routed:
        first = winners[0]
        return {
            "response": first.text,
            "used_fast_path": path == "fast",
            "confidence": first.confidence if confidence is None else confidence,
            "path": path,
            "answer": first.answer,
            "genes": [answer.gene for answer in winners],
            "triggered": called,
            "answers": answers,
            "calibrated": all(answer.calibrated for answer in winners),
            "cached": all(answer.cached for answer in answers),
            "seconds": time.perf_counter() - began,
            "model_seconds": _model_seconds(answers),
            "cost": cost_of(answers),
        }

    def _reasoned(self, thought: tuple[Thought, bool], called: list[int], answers: list[Answer], began: float) -> Routed:
        found, cached = thought
        spent = cost_of(answers) if answers else 0.0
        cost = spent if cached else None if spent is None or found.cost is None else spent + found.cost
        return {
            "response": found.text,
            "used_fast_path": False,
            "confidence": found.confidence,
            "path": "reasoning",
            "answer": found.answer,
            "genes": [],
            "triggered": called,
            "answers": answers,
            "calibrated": False,
            "cached": cached and all([answer.cached for answer in answers]),
            "seconds": time.perf_counter() - began,
            "model_seconds": found.seconds + (_model_seconds(answers) if answers else 0.0),
            "cost": cost,
        }

    def _think(self, query: str) -> tuple[Thought, bool]:
        """What System 2 says, and whether it had said it before."""
        known = self._thoughts.get(query)
        if known is not None:
            return known, True
        thought = self._system2.one(query)
        self._thoughts.put(query, thought)
        return thought, False

    def _think_all(self, queries: Sequence[str]) -> dict[str, tuple[Thought, bool]]:
        known = {query: found for query in queries if (found := self._thoughts.get(query)) is not None}
        asked = [query for query in queries if query not in known]
        new = dict(zip(asked, self._system2.all(asked) if asked else [], strict=True))
        for query, thought in new.items():
            self._thoughts.put(query, thought)
        return {query: (known[query], True) if query in known else (new[query], False) for query in queries}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine on the router's own loop. An interrupt cancels it."""
        return waited_for(self._start(work))

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """A coroutine on the router's own loop, which starts at first use."""
        try:
            with self._turn:
                if self._closed:
                    raise SearchError("this router is closed: make another one")
                if self._loop is None:
                    self._loop = asyncio.new_event_loop()
                    self._thread = threading.Thread(target=self._loop.run_forever, name="response router", daemon=True)
                    self._thread.start()
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise


async def _wind_up(pool: ModelPool) -> None:
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for work in under_way:
        work.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    await pool.close()
    await asyncio.get_running_loop().shutdown_default_executor()


def _gate(gate: object, settings: Settings) -> Gate:
    if gate == "triggers":
        return Triggers()
    if gate == "learned":
        return Learned.of(settings)
    if not callable(gate):
        raise ConfigError(f"gate is {gate!r}: choose triggers or learned, or give a function of the query and the genome")
    return gate


def _share(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value!r}: choose a number from 0 to 1")
    return value


def _check(query: object) -> None:
    if not isinstance(query, str):
        raise TaskError(f"a query is a text, not {type(query).__name__}")
    if not query or query.isspace():
        raise TaskError("the query is empty: ask something")


def _model_seconds(answers: Sequence[Answer]) -> float:
    """Those that were asked together shared their time."""
    return sum({(answer.model, answer.specialization): answer.seconds for answer in answers}.values())
