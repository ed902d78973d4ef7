"""One question in, one verified Result out: route, hire, search, judge, reward, remember."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agents.npc import NPC
from agents.workers import hire
from core.attempts import failed
from core.batches import OnResult, Session, alike, answer_all, answered, watched
from core.config import Settings
from core.errors import ConfigError, RatchetError, SearchError, StoreError, TaskError
from core.inference import Inference, Question, log_path
from core.judging import Judging
from core.memory import Memory
from core.models import Models, sticky_key
from core.providers import connect
from core.registry import STORES, STRATEGIES, resolve
from core.routing import router
from core.search.events import Event
from core.specialists import InFront, Spoken, heard
from core.types import Domain, Model, Outcome, Request, Result, Sampling, Task, Verdict
from core.verifiers import Verifiers
from core.waiting import waited_for

if TYPE_CHECKING:
    from core.process_reward import ProcessReward
    from logs.otel import Heard, Telemetry
    from logs.store import TraceStore

log = logging.getLogger(__name__)

T = TypeVar("T")


class Orchestrator:
    """Ask it questions. With `enable_logging` every search, its tree and every attempt go to `<log_dir>/traces.sqlite`.

    Safe to use from any thread and inside a running event loop. `close` it, or use it in a `with`, to be sure that the log is written.
    `verify` replaces the domains' verifiers and the checks of single steps with one function: for experiments. With CACHE a verified
    answer is given again, at once: its result says `cached`, its `run_id` is the first one's, and nothing of it is logged.

    With RESPONSE_ROUTER a question goes to the specialists first: what one of them is sure of is judged and given, unless it is refuted,
    and the search is for the rest. A `strategy` that is named always searches.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        enable_logging: bool = False,
        log_dir: str | Path = "./logs",
        verify: Callable[[Task, str], Verdict] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.verifiers = verify or Verifiers(self.settings.VERIFIERS, **self._verifier_options())
        self._router = router(self.settings.ROUTER)
        self._judging = Judging(self.verifiers, self.settings, with_steps=verify is None, process=self._process_reward())
        self._specialists = InFront(self.settings) if self.settings.RESPONSE_ROUTER else None
        self._finished: list[Inference] = []
        self.log_dir = Path(log_dir)
        remembers = self.settings.CACHE != "off"
        self._memory = Memory(self.settings, self._judging, self.log_dir, own_verify=verify is not None) if remembers else None
        self._logging = enable_logging
        self._store = self._open_store() if enable_logging else None
        self._telemetry = self._open_telemetry()
        self._unlogged = 0
        self._models = Models(self.settings.REGISTRY, lambda spec: connect(spec, self.settings))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="orchestrator", daemon=True)
        self._thread.start()

    def infer(self, query: str | Task, domain: str | None = None, expected: str | None = None, *, strategy: str | None = None) -> Result:
        """Answer one question. `domain` overrides routing; `expected` is the reference answer to verify against, if it is known.

        Raises TaskError for a question that can't be asked, ConfigError for names that don't exist, ProviderError when the model
        can't be reached. A wrong answer is no error: look at `result.verified` and `result.verdict`.
        """
        return self._run(self._infer(self._task(query, domain, expected), strategy))

    async def ainfer(
        self, query: str | Task, domain: str | None = None, expected: str | None = None, *, strategy: str | None = None
    ) -> Result:
        """`infer` for asynchronous callers."""
        task = self._task(query, domain, expected)
        return await asyncio.wrap_future(self._start(self._infer(task, strategy)))

    def stream(
        self, query: str | Task, domain: str | None = None, expected: str | None = None, *, strategy: str | None = None
    ) -> Iterator[Event | Result]:
        """Each event of the search as it happens, and the Result last. Leaving the iteration ends the search. Raises as `infer` does."""
        task = self._task(query, domain, expected)
        heard: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        future = self._start(self._infer(task, strategy, listener=heard.put))
        future.add_done_callback(lambda _: heard.put(None))
        try:
            while (event := heard.get()) is not None:
                yield event
            yield future.result()
        finally:
            future.cancel()

    async def astream(
        self, query: str | Task, domain: str | None = None, expected: str | None = None, *, strategy: str | None = None
    ) -> AsyncIterator[Event | Result]:
        """`stream` for asynchronous callers."""
        task, here = self._task(query, domain, expected), asyncio.get_running_loop()
        heard: asyncio.Queue[Event | None] = asyncio.Queue()

        def tell(event: Event | None) -> None:
            here.call_soon_threadsafe(heard.put_nowait, event)

        future = self._start(self._infer(task, strategy, listener=tell))
        future.add_done_callback(lambda _: tell(None))
        try:
            while (event := await heard.get()) is not None:
                yield event
            result: Result = await asyncio.wrap_future(future)
            yield result
        finally:
            future.cancel()

    def infer_many(
        self,
        tasks: Iterable[str | Task],
        *,
        strategy: str | None = None,
        concurrency: int | None = None,
        on_result: OnResult | None = None,
        progress: bool = False,
        resume: bool = False,
    ) -> list[Result]:
        """Answer many questions side by side, results in the order of the questions; one that fails carries its `error`.

        `on_result` is called with each result as it comes, on the orchestrator's own thread; `progress` shows a bar on stderr, in a
        terminal. With `resume` a search that stands in the log, of the same task by the same worker with the same settings and seed,
        is not made again: its result is given as it was then. Raises TaskError for a question that can't be asked and ConfigError for
        a strategy that doesn't exist, before anything is answered.
        """
        if isinstance(tasks, str):
            raise TaskError("infer_many takes a list of questions: use infer for a single one")
        asked = [self._task(task, None, None) for task in tasks]
        resolve(STRATEGIES, strategy or self.settings.SEARCH_STRATEGY)
        concurrency = self.settings.CONCURRENCY if concurrency is None else concurrency
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}: choose 1 or more")
        if resume and not self._logging:
            raise ConfigError("resume goes by the log: create the Orchestrator with enable_logging=True")
        with watched(len(asked), on_result, shown=progress) as tell:
            return self._run(self._infer_many(asked, strategy, concurrency, tell, resume))

    @property
    def lost(self) -> int:
        """Searches that could not be logged."""
        return self._unlogged + (self._store.dropped if self._store else 0)

    def flush(self) -> None:
        """Returns when all that was logged so far is on disk. Raises StoreError if that can't be."""
        if self._store:
            stored, self._finished = self._finished, []
            self._store.flush()
            for inference in stored:
                inference.forget_log()

    def close(self) -> None:
        """Stop what is under way, write the log, close the models, stop the threads. Idempotent."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._wind_up())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            if self._store:
                with suppress(StoreError):  # counted in `lost`, and the logs of its searches are kept
                    self.flush()
                self._store.close()
            if self._telemetry:
                self._telemetry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def model_for(self, domain: Domain, key: str = "") -> Model:
        """The model that serves a domain, loaded at first use and kept.

        Where a slot is set, it is what the slot gives for that key now, and is kept as long as the slot names it.
        """
        return self._models.get(hire(domain, self.settings), key)

    def preload(self, spec: str) -> Model:
        """Load a model that a slot is about to name ("adapter:math@7"), so that the first question to it does not wait.

        It stays until a slot has named it and does no more; `release` it when none will.
        """
        return self._models.preload(spec)

    def release(self, spec: str) -> None:
        """Give up a model that was preloaded and that no slot has named."""
        self._models.release(spec)

    def _process_reward(self) -> ProcessReward | None:
        if self.settings.PROCESS_REWARD is None:
            return None
        from core.process_reward import load

        return load(self.settings.PROCESS_REWARD)

    def _open_telemetry(self) -> Telemetry | None:
        if not self.settings.OTEL_ENDPOINT:
            return None
        from logs.otel import Telemetry

        return Telemetry(self.settings.OTEL_ENDPOINT, content=self.settings.OTEL_CONTENT)

    def _open_store(self) -> TraceStore | None:
        try:
            from logs.redact import Redactor

            s = self.settings
            where = s.STORE_URL or self.log_dir
            kind = "postgresql" if str(where).startswith("postgres") else "sqlite"
            redact = Redactor(personal=s.REDACT_PERSONAL) if s.REDACT else None
            store: TraceStore = resolve(STORES, kind)(where, redact=redact)
            return store
        except StoreError as error:
            log.warning("answers will come, but nothing is logged: %s", error)
            return None

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop.is_closed():
            work.close()
            raise SearchError("this orchestrator is closed: make another one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return waited_for(self._start(work))

    async def _wind_up(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()} - self._models.leaving
        for work in under_way:
            work.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._models.close()
        if self._specialists:
            await asyncio.to_thread(self._specialists.close)
        if self._memory:
            self._memory.close()
        await self._loop.shutdown_default_executor()

    def _task(self, query: str | Task, domain: str | None, expected: object) -> Task:
        if domain is not None and domain not in list(Domain):
            raise TaskError(f"there is no domain {domain!r}: choose one of {', '.join(Domain)}, or leave it out")
        if isinstance(query, Task):
            reference = query.reference if expected is None else str(expected)
            return query.replace(domain=domain or query.domain, reference=reference)
        if not isinstance(query, str):
            raise TaskError(f"a question is a text or a Task, not {type(query).__name__}")
        if not query.strip():
            raise TaskError("the question is empty: ask something")
        return Task(query, Domain(domain) if domain else self._route(query)[0], None if expected is None else str(expected))

    def _route(self, query: str) -> tuple[Domain, float]:
        found = self._router(query, self.settings.MIN_ROUTING_CONFIDENCE, self.settings.FALLBACK_DOMAIN)
        return found.domain, found.confidence

    async def _infer_many(self, tasks: Sequence[Task], strategy: str | None, width: int, on_result: OnResult, resume: bool) -> list[Result]:
        for npc in self._workers(tasks) if resume or strategy or not self._specialists else ():
            with suppress(RatchetError):  # each of its tasks will tell
                await self._models.connected(npc)
        front = self._specialists if resume and not strategy else None
        searched = strategy or self.settings.SEARCH_STRATEGY
        keys = [self._key(task, searched) for task in tasks] if resume else [None] * len(tasks)
        said = [Inference(self._put_to(front, task), front.settings, self._judging).key if front else None for task in tasks]
        there = await asyncio.to_thread(self._answered, [*keys, *said]) if resume else {}

        async def answer(place: int, session: Session) -> Result:
            quick, found = there.get(said[place]), there.get(keys[place])
            if found is None and quick and quick.verdict.outcome is not Outcome.FAIL:
                return quick
            return await self._infer_safely(tasks[place], searched if quick else strategy, session) if found is None else found

        return await answer_all(alike(keys), width, answer, on_result)

    def _workers(self, tasks: Sequence[Task]) -> list[NPC]:
        """Those who will answer, each with each of its models once."""
        placed: dict[tuple[Domain, str], NPC] = {}
        for task in tasks:
            with suppress(RatchetError):
                npc = self._models.placed(hire(task.domain, self.settings), sticky_key(task))
                placed[task.domain, npc.model_spec] = npc
        return [placed[each] for each in sorted(placed)]

    def _key(self, task: Task, strategy: str) -> str | None:
        """Of the search that would be made; None when its model is not there."""
        npc = hire(task.domain, self.settings)
        model = None
        with suppress(RatchetError):  # the question itself will tell
            model = self._models.there(npc, sticky_key(task))
        return Inference(Question(task, npc, model, strategy, 0.0), self.settings, self._judging).key if model else None

    def _answered(self, keys: Sequence[str | None]) -> Mapping[str | None, Result]:
        """What the store holds; the log of a search that was killed just after it was stored is of no more use."""
        if self._store is None:
            return {}
        with suppress(StoreError):  # what could not be written is counted in `lost`
            self.flush()
        there: dict[str | None, Result] = {}
        for key, result in answered(self._store.place, [key for key in keys if key]).items():
            there[key] = result
            log_path(self.log_dir, key).unlink(missing_ok=True)
        return there

    async def _infer_safely(self, task: Task, strategy: str | None, session: Session) -> Result:
        started = time.monotonic()
        try:
            return await self._infer(task, strategy, session)
        except RatchetError as error:
            return failed(task, str(error), time.monotonic() - started)

    async def _infer(
        self, task: Task, strategy: str | None, session: Session | None = None, listener: Callable[[Event], None] | None = None
    ) -> Result:
        if strategy is None:
            if (result := await self._quick(task, session, listener)) is not None:
                return result
            strategy = self.settings.SEARCH_STRATEGY
        async with self._models.lent(hire(task.domain, self.settings), sticky_key(task)) as (npc, model):
            if self._memory and (found := await asyncio.to_thread(self._memory.find, task, npc, model)):
                return found
            with nullcontext(session) if session else Session() as client:
                client.move_to(model)
                result = await self._search(Question(task, npc, model, strategy, self._route(task.prompt)[1]), listener)
            if self._memory:
                await asyncio.to_thread(self._memory.keep, task, npc, result)
            return result

    async def _quick(self, task: Task, session: Session | None, listener: Callable[[Event], None] | None) -> Result | None:
        """What specialists are sure of and no verifier refutes; both that and what was refuted is logged as any other run."""
        if self._specialists is None:
            return None
        if session:
            session.leave()
        spoken = await self._specialists.ask(task.prompt)
        if spoken is None:
            return None
        result = await self._search(self._put_to(self._specialists, task, spoken), listener, self._specialists.settings)
        return None if result.verdict.outcome is Outcome.FAIL else result

    def _put_to(self, specialists: InFront, task: Task, spoken: Spoken | None = None) -> Question:
        npc = heard(hire(task.domain, self.settings), spoken)
        return Question(task, npc, specialists.said(spoken), "single", self._route(task.prompt)[1])

    async def _search(self, question: Question, listener: Callable[[Event], None] | None, settings: Settings | None = None) -> Result:
        log_dir = self.log_dir if self._store else None
        spans = self._telemetry.listen(listener) if self._telemetry else None
        inference = Inference(question, settings or self.settings, self._judging, emit=spans or listener, log_dir=log_dir)
        try:
            return await inference.run()
        finally:
            self._remember(inference, spans)

    def _verifier_options(self) -> dict[str, Any]:
        s = self.settings
        options: dict[str, Any] = {"sandbox": s.SANDBOX, "corpus": s.CORPUS}
        if s.ENTAILMENT_MODEL:
            from core.providers.entailment import load

            options["entails"] = load(s.ENTAILMENT_MODEL)
        if s.JUDGE_MODEL:
            from core.verifiers.judge import Judge

            options["judge"] = Judge(self._ask_judge, s.JUDGE_VOTES)
        return options

    def _ask_judge(self, prompt: str, seed: int) -> str:
        """Called from a verifier's thread, never from the loop's own."""
        judge = NPC("judge", "You judge texts by a rubric.", self.settings.JUDGE_MODEL or "")
        sampling = Sampling(temperature=self.settings.TEMPERATURE, max_tokens=self.settings.MAX_TOKENS, seed=seed)
        reply = self._run(self._models.get(judge).complete(Request(judge.messages(prompt), 1, sampling)))
        return reply.completions[0].text

    def _remember(self, inference: Inference, heard: Heard | None) -> None:
        if self._telemetry:
            self._telemetry.record(inference.record(), heard, inference.tools.names)
        if self._store is None:
            self._unlogged += self._logging
        elif self._store.put(inference.record()) and inference.error is None:
            self._finished.append(inference)
