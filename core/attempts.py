"""What one search gathers while it runs, and the records that are made of it: traces, the run, the result."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass, field

from agents.npc import NPC
from core.answers import final_answer
from core.choice import answer_of_run, choose
from core.search.events import Event
from core.tasks.splits import split_of
from core.types import Domain, Model, NodeRecord, Outcome, Result, Reward, Run, Task, Trace, Usage, Verdict, best_first
from core.verifiers.code.text import find_code
from core.verifiers.creative.piece import find_piece

NO_ANSWER = "the search ended without an answer: raise SEARCH_CALLS"


@dataclass(slots=True)
class Attempts:
    """What one search gathers while it runs."""

    task: Task
    confidence: float
    npc: NPC
    model: Model
    seed: int
    strategy: str
    run_id: str
    started: float
    created: float
    usage: Usage = field(default_factory=Usage)
    attempts: list[Trace] = field(default_factory=list)


def trace_of(search: Attempts, text: str, verdict: Verdict, earned: Reward, node: str, complete: bool, usage: Usage) -> Trace:
    """One finished attempt. `usage` is its share of the request that finished it; the run has the sum of all."""
    return Trace(
        id=new_id(),
        run_id=search.run_id,
        task=search.task,
        worker=search.npc.name,
        directive=search.npc.primary_directive,
        model=search.model.name,
        fingerprint=search.model.fingerprint,
        text=text,
        answer=answer_of(search.task, text),
        steps=tuple(line for line in text.split("\n") if line.strip()),
        verdict=verdict,
        reward=earned.value,
        reward_parts=earned.parts,
        reward_recipe=earned.recipe,
        complete=complete,
        node=node,
        usage=usage,
        seconds=time.monotonic() - search.started,
        created=time.time(),
        split=split_of(search.task),
    )


def answer_of(task: Task, text: str) -> str | None:
    """What a text gives as its answer: one line, or for tasks that ask for a program or a piece of writing the whole of that."""
    if task.domain is Domain.CREATIVE:
        return find_piece(text)
    asks_for_code = task.domain is Domain.CODE and any(key in task.metadata for key in ("entry_point", "stdin"))
    return find_code(text, str(task.metadata.get("language", "python"))) or None if asks_for_code else final_answer(text)


def run_of(
    search: Attempts, nodes: tuple[NodeRecord, ...], error: str | None, stopped: str | None, key: str, events: tuple[Event, ...]
) -> Run:
    """The whole search as the store keeps it."""
    return Run(
        id=search.run_id,
        task=search.task,
        worker=search.npc.name,
        model=search.model.name,
        fingerprint=search.model.fingerprint,
        strategy=search.strategy,
        seed=search.seed,
        routing_confidence=search.confidence,
        nodes=nodes,
        traces=best_first(search.attempts),
        usage=search.usage,
        seconds=time.monotonic() - search.started,
        created=search.created,
        error=error,
        stopped=stopped,
        key=key,
        events=tuple(event.as_dict() for event in events),
    )


def result_of(search: Attempts, *, vote: bool = False) -> Result:
    """The best attempt, as the answer; or of a vote, one with the answer that most of them give."""
    seconds = time.monotonic() - search.started
    chosen = choose(search.attempts, vote=vote)
    if chosen is None:
        nothing = failed(search.task, NO_ANSWER, seconds)
        return nothing.replace(worker=search.npc.name, run_id=search.run_id, usage=search.usage, model=search.model.name)
    return _result(chosen, search.usage, seconds)


def result_of_run(run: Run) -> Result:
    """The result that a stored run gave when it was made."""
    chosen = answer_of_run(run)
    if chosen is None:
        nothing = failed(run.task, run.error or NO_ANSWER, run.seconds)
        return nothing.replace(worker=run.worker, run_id=run.id, usage=run.usage, model=run.model)
    return _result(chosen, run.usage, run.seconds)


def failed(task: Task, error: str, seconds: float) -> Result:
    """A result that says why there is no answer."""
    return Result(
        answer=None,
        text="",
        domain=task.domain,
        worker="",
        verified=False,
        verdict=Verdict(Outcome.ERROR, None, error),
        reward=None,
        steps=(),
        run_id="",
        usage=Usage(),
        seconds=seconds,
        model="",
        error=error,
    )


def shared(usage: Usage, among: int) -> Usage:
    """An equal share of what a request used, prompt aside, which each of its samples needed whole."""
    cost = None if usage.cost is None else usage.cost / max(among, 1)
    return Usage(1, usage.prompt_tokens, round(usage.completion_tokens / max(among, 1)), cost)


def derive(*parts: object) -> int:
    """A seed of 63 bits that follows from its parts and nothing else."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def new_id() -> str:
    """32 hex digits that sort by time, so that rows can move between databases with their keys."""
    return f"{time.time_ns() // 1000:014x}{uuid.uuid4().hex[:18]}"


def _result(chosen: Trace, usage: Usage, seconds: float) -> Result:
    return Result(
        answer=chosen.answer,
        text=chosen.text,
        domain=chosen.task.domain,
        worker=chosen.worker,
        verified=chosen.verified,
        verdict=chosen.verdict,
        reward=chosen.reward,
        steps=chosen.steps,
        run_id=chosen.run_id,
        usage=usage,
        seconds=seconds,
        model=chosen.model,
        fingerprint=chosen.fingerprint,
    )
