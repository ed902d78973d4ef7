"""What each gene answers to a query, asked once: equal questions to one model wait for one answer, and find it again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from core.answers import final_answer
from core.errors import ConfigError
from core.types import Completion, Message, Record, Request, Sampling, Usage
from finetune.ensemble.calibration import Calibration, probability
from finetune.ensemble.genes import ModelGene
from finetune.ensemble.models import ModelPool

V = TypeVar("V")
Key = tuple[str, tuple[Message, ...]]
NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """What one gene answered. `answer` is what it ends with, None where that can't be found.

    `confidence` is the calibrated share of such answers that are right, or, where `calibrated` is False, the mean probability of a
    token; None where the model tells none. One that was cut off has 0. `weights` is the fingerprint of what answered, or the model's name
    where a server tells no `fingerprint`. `seconds`, `cost` and `usage` are of the time when it was asked; seconds in which several were
    under way are shared among them.
    """

    gene: int
    specialization: str
    model: str
    weights: str
    text: str
    answer: str | None
    complete: bool
    logprob: float | None
    confidence: float | None
    calibrated: bool
    seconds: float
    cost: float | None
    cached: bool
    usage: Usage = NOTHING
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Said(Record):
    """The completion, and what came with it."""

    completion: Completion
    weights: str
    fingerprint: str | None
    seconds: float
    usage: Usage


class Lately(Generic[V]):
    """The values that were used last, at most `size`; with 0 nothing is kept. Safe from any thread."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ConfigError(f"cache_size is {size}: give 0 for no cache, or more")
        self.size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        """The value, if it is there."""
        if not self.size:
            return None
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: V) -> None:
        """Keep it; the one unused for longest goes."""
        if not self.size:
            return
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self.size:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._values.clear()


class Answers:
    """Asks the models of genes, all at once. Use it from the event loop of its pool."""

    def __init__(self, pool: ModelPool, calibrations: Mapping[str, Calibration], *, max_tokens: int, size: int) -> None:
        self.pool, self.calibrations = pool, calibrations
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        self._kept: Lately[Said] = Lately(size)
        self._asked: dict[Key, asyncio.Task[Said]] = {}
        self._under_way, self._shared, self._ticked = 0, 0.0, 0.0

    async def of(self, genes: Mapping[int, ModelGene], query: str) -> list[Answer]:
        """One answer a gene, in order. Genes that would put the same to the same model share one."""
        places: dict[Key, list[int]] = {}
        for place, gene in genes.items():
            if gene.sft_path:
                places.setdefault((gene.sft_path, gene.messages(query)), []).append(place)
        known = {key: self._kept.get(key) for key in places}
        said = await asyncio.gather(*(self._say(key) if there is None else _given(there) for key, there in known.items()))
        found = {
            place: self._answer(place, genes[place], words, there is not None)
            for (key, there), words in zip(known.items(), said, strict=True)
            for place in places[key]
        }
        return [found[place] for place in sorted(found)]

    def forget(self) -> None:
        """Ask everything again."""
        self._kept.clear()

    async def _say(self, key: Key) -> Said:
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(key))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: Key) -> Said:
        name, messages = key
        async with self.pool.use(name) as model:
            with self._shared_time() as seconds:
                reply = await model.complete(Request(messages, 1, self._sampling))
            said = Said(reply.completions[0], model.fingerprint or model.name, model.fingerprint, seconds(), reply.usage)
        self._kept.put(key, said)
        return said

    @contextmanager
    def _shared_time(self) -> Iterator[Callable[[], float]]:
        """The seconds inside, each divided by the number of those who are inside with it."""
        self._tick()
        self._under_way += 1
        began = ended = self._shared
        try:
            yield lambda: ended - began
        finally:
            self._tick()
            self._under_way -= 1
            ended = self._shared

    def _tick(self) -> None:
        now = time.perf_counter()
        self._shared += (now - self._ticked) / max(self._under_way, 1)
        self._ticked = now

    def _answer(self, place: int, gene: ModelGene, said: Said, cached: bool) -> Answer:
        done = said.completion
        calibration = self.calibrations.get(said.weights)
        logprob, complete = done.mean_logprob, done.finish != "length"
        confidence = probability(logprob) if calibration is None or logprob is None else calibration(logprob)
        return Answer(
            gene=place,
            specialization=gene.specialization,
            model=gene.sft_path or "",
            weights=said.weights,
            text=done.text,
            answer=final_answer(done.text),
            complete=complete,
            logprob=logprob,
            confidence=confidence if complete else 0.0,
            calibrated=calibration is not None and logprob is not None,
            seconds=said.seconds,
            cost=said.usage.cost,
            cached=cached,
            usage=said.usage,
            fingerprint=said.fingerprint,
        )


async def _given(said: Said) -> Said:
    return said


def cost_of(answers: Sequence[Answer]) -> float | None:
    """US dollars of those that were asked now; None where a provider can't say."""
    costs = [answer.cost for answer in answers if not answer.cached]
    known = [cost for cost in costs if cost is not None]
    return None if len(known) < len(costs) else sum(known)
