"""From records to rows and back. Text that UTF-8 can't hold is mended on the way, and numbers that are not finite become unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, Table, select

from core.tasks.splits import split_of
from core.types import Domain, Evidence, NodeRecord, Outcome, Reward, Run, Split, Task, Trace, Usage, Verdict, mended
from logs.redact_run import kept_split
from logs.tables import NODE, RUN, TASK, TRACE, Values


def rows_of(run: Run) -> dict[Table, list[Values]]:
    """All that is stored of a run. Text that UTF-8 can't hold is mended; numbers that are not finite are unknown."""
    task = _storable_task(run.task)
    others = {t.id: _storable_task(t.task) for t in run.traces if t.task is not run.task and t.task != run.task}
    return {
        TASK: [_task_row(each, run.created) for each in (task, *others.values())],
        RUN: [_run_row(run, task)],
        NODE: [_node_row(run.id, place, node) for place, node in enumerate(run.nodes)],
        TRACE: [_trace_row(place, t, others.get(t.id, task), t.id in others) for place, t in enumerate(run.traces)],
    }


@cache
def select_traces() -> Select[Any]:
    """Rows for `trace_of`: a trace beside its task, in the words of its run."""
    return select(TRACE, TASK.c.key.label("task_key"), TASK.c.split.label("task_split"), RUN.c.asked.label("run_asked")).select_from(
        TRACE.join(TASK, TASK.c.id == TRACE.c.task_id).join(RUN, RUN.c.id == TRACE.c.run_id)
    )


@cache
def select_runs() -> Select[Any]:
    """Rows for `run_of`: a run beside its task."""
    return select(RUN, TASK.c.key.label("task_key"), TASK.c.domain.label("task_domain")).join_from(RUN, TASK)


def trace_of(row: Any) -> Trace:
    """A trace, from a row of `select_traces`."""
    return Trace(
        id=row.id,
        run_id=row.run_id,
        task=_task_of(row.asked or row.run_asked, row.domain, row.task_key),
        worker=row.worker,
        directive=row.directive,
        model=row.model,
        fingerprint=row.fingerprint,
        text=row.text,
        answer=row.answer,
        steps=tuple(row.steps),
        verdict=verdict_of(row),
        reward=row.reward,
        reward_parts=row.reward_parts,
        reward_recipe=row.reward_recipe,
        complete=row.complete,
        node=row.node,
        usage=_usage_of(row),
        seconds=row.seconds,
        created=row.created,
        split=Split(row.task_split),
    )


def verdict_of(row: Any) -> Verdict:
    """A verdict, from a row of a trace or of the verdicts."""
    return Verdict(
        Outcome(row.outcome),
        row.score,
        row.reason,
        Evidence(row.evidence),
        row.verifier,
        row.verifier_version,
        row.verdict_ms,
        row.isolation,
        row.details,
    )


def verdict_row(verdict: Verdict, earned: Reward) -> Values:
    """The columns that a trace and the verdicts share."""
    return {
        "outcome": Outcome(verdict.outcome).value,
        "score": _finite(verdict.score),
        "reason": mended(verdict.reason),
        "evidence": Evidence(verdict.evidence).value,
        "verifier": mended(verdict.verifier),
        "verifier_version": mended(verdict.version),
        "verdict_ms": _known(verdict.milliseconds),
        "isolation": mended(verdict.isolation),
        "details": _plain(dict(verdict.details)),
        "reward": _finite(earned.value),
        "reward_parts": _numbers(earned.parts),
        "reward_recipe": mended(earned.recipe),
    }


def run_of(row: Any, nodes: Sequence[NodeRecord], traces: Sequence[Trace]) -> Run:
    """A run, from a row of `select_runs` and what belongs to it."""
    return Run(
        id=row.id,
        task=_task_of(row.asked, row.task_domain, row.task_key),
        worker=row.worker,
        model=row.model,
        fingerprint=row.fingerprint,
        strategy=row.strategy,
        seed=int(row.seed),
        routing_confidence=row.routing_confidence,
        nodes=tuple(nodes),
        traces=tuple(traces),
        usage=_usage_of(row),
        seconds=row.seconds,
        created=row.created,
        error=row.error,
        stopped=row.stopped,
        process_reward=row.process_reward,
        key=row.key,
        events=tuple(row.events),
    )


def node_of(row: Any) -> NodeRecord:
    """A node, from a row of its table."""
    value = math.nan if row.value is None else row.value
    outcome = None if row.outcome is None else Outcome(row.outcome)
    return NodeRecord(row.path, row.text, row.visits, value, row.terminal, outcome)


def _task_row(task: Task, first_seen: float) -> Values:
    return {
        "id": task.id,
        "domain": task.domain.value,
        "key": task.key,
        **_asked(task),
        "split": (kept_split(task) or split_of(task)).value,
        "first_seen": _known(first_seen),
    }


def _run_row(run: Run, task: Task) -> Values:
    return {
        "id": mended(run.id),
        "task_id": task.id,
        "asked": _asked(task),
        "worker": mended(run.worker),
        "model": mended(run.model),
        "fingerprint": _mended_or_none(run.fingerprint),
        "strategy": mended(run.strategy),
        "seed": str(int(run.seed)),
        "routing_confidence": _known(run.routing_confidence),
        **_usage_row(run.usage),
        "seconds": _known(run.seconds),
        "created": _known(run.created),
        "error": _mended_or_none(run.error),
        "stopped": _mended_or_none(run.stopped),
        "process_reward": mended(run.process_reward),
        "key": mended(run.key),
        "events": [_plain(dict(event)) for event in run.events],
    }


def _node_row(run_id: str, place: int, node: NodeRecord) -> Values:
    return {
        "run_id": mended(run_id),
        "place": place,
        "path": mended(node.path),
        "text": mended(node.text),
        "visits": int(node.visits),
        "value": _finite(node.value),
        "terminal": bool(node.terminal),
        "outcome": None if node.outcome is None else Outcome(node.outcome).value,
    }


def _trace_row(place: int, trace: Trace, task: Task, asked_apart: bool) -> Values:
    return {
        "id": mended(trace.id),
        "run_id": mended(trace.run_id),
        "task_id": task.id,
        "domain": task.domain.value,
        "asked": _asked(task) if asked_apart else None,
        "place": place,
        "worker": mended(trace.worker),
        "directive": mended(trace.directive),
        "model": mended(trace.model),
        "fingerprint": _mended_or_none(trace.fingerprint),
        "text": mended(trace.text),
        "answer": _mended_or_none(trace.answer),
        "steps": [mended(step) for step in trace.steps],
        **verdict_row(trace.verdict, Reward(trace.reward, trace.reward_parts, trace.reward_recipe)),
        "complete": bool(trace.complete),
        "node": mended(trace.node),
        **_usage_row(trace.usage),
        "seconds": _known(trace.seconds),
        "created": _known(trace.created),
    }


def _usage_row(usage: Usage) -> Values:
    return {
        "calls": int(usage.calls),
        "prompt_tokens": int(usage.prompt_tokens),
        "completion_tokens": int(usage.completion_tokens),
        "cost": _finite(usage.cost),
    }


def _usage_of(row: Any) -> Usage:
    return Usage(row.calls, row.prompt_tokens, row.completion_tokens, row.cost)


def _asked(task: Task) -> Values:
    return {
        "prompt": task.prompt,
        "reference": task.reference,
        "level": task.level,
        "family": task.family,
        "metadata": task.metadata,
    }


def _task_of(asked: Values, domain: str, key: str) -> Task:
    return Task(domain=Domain(domain), key=key, **asked)


def _storable_task(task: Task) -> Task:
    """The id is a hash of the key, so the key is mended before the id is taken."""
    return task.replace(
        prompt=mended(task.prompt),
        key=mended(task.key),
        reference=_mended_or_none(task.reference),
        family=_mended_or_none(task.family),
        metadata=_plain(dict(task.metadata)),
    )


def _plain(value: Any) -> Any:
    """What JSON can hold: tuples and sets become lists, keys become text, anything foreign becomes its text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {mended(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return mended(str(value))


def _mended_or_none(text: str | None) -> str | None:
    return None if text is None else mended(text)


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _numbers(parts: Mapping[str, float]) -> dict[str, float]:
    return {mended(name): float(part) for name, part in parts.items() if math.isfinite(part)}


def _known(number: float) -> float:
    """For columns that always hold a number."""
    return _finite(number) or 0.0
