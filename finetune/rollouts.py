"""Agents at work on tasks: several answers to each, side by side, scored by a reward function, kept in a CSV.

A reward that is not known (None, NaN, an exception) stays unknown and is told; it is not 0. Tools of an agent are not offered to it here:
what a tool says must not be learnt as if the model had said it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.npc import NPC
from core.attempts import derive, new_id
from core.batches import Session
from core.config import Settings
from core.errors import ConfigError, ProviderError, StoreError, TaskError
from core.providers import connect
from core.providers.remote import together
from core.tasks.splits import split_of
from core.types import Completion, Domain, Model, Record, Request, Sampling, Split, Task
from finetune.rlconfig import RLConfig
from logs.export import write_csv
from logs.redact import Redactor

log = logging.getLogger(__name__)

Rollout = dict[str, Any]
RewardFn = Callable[[Rollout], Any]

COLUMNS = (
    "id",
    "task_id",
    "split",
    "agent_name",
    "model",
    "fingerprint",
    "sample",
    "prompt",
    "directive",
    "final_output",
    "complete",
    "reward",
    "reward_error",
    "error",
    "task_metadata",
)


@dataclass(frozen=True, slots=True)
class Asked(Record):
    """A task as an agent gets it, and what the reward function is told about it."""

    id: str
    prompt: str
    metadata: Mapping[str, Any]
    split: Split


@dataclass(frozen=True, slots=True)
class Job(Record):
    """One request to one agent: `count` samples, the first of which has the number `first`."""

    agent: NPC
    asked: Asked
    first: int
    count: int


def collect_traces(
    tasks: Iterable[Mapping[str, Any] | Task],
    agents: NPC | Iterable[NPC],
    reward_fn: RewardFn,
    config: RLConfig | None = None,
    *,
    settings: Settings | None = None,
) -> list[Rollout]:
    """Each agent answers each task `max_iterations` times; `reward_fn` scores every answer; all of it goes to a CSV with a timestamp.

    A task is a dictionary with a `prompt` and anything else (`expected`, ...), which the reward function finds in
    `trace["task_metadata"]`, or a `core.types.Task`. A trace is a dictionary: agent_name, prompt, directive, task_metadata,
    final_output, complete, reward, and why there is none. They come in the order of agents, tasks and samples. `reward_fn` is called in
    this thread, one trace after the other. Raises TaskError, ConfigError, StoreError or ProviderError before anything is asked, or
    when no attempt was answered.
    """
    config, settings = config or RLConfig(), settings or Settings()
    asked, hired = _asked(tasks), _hired(agents)
    if inspect.iscoroutinefunction(reward_fn):
        raise ConfigError("reward_fn is asynchronous: give a plain function of a trace")
    folder = _folder(config.log_dir)
    models = _connected(hired, settings, config)
    traces: dict[tuple[int, int, int], Rollout] = {}
    try:
        _run(_answered(asked, hired, models, config, traces))
        for place in sorted(traces):
            _score(traces[place], reward_fn)
    finally:
        found = [traces[place] for place in sorted(traces)]
        if folder and found:
            _save(found, folder, settings)
    _tell(found)
    return found


def _asked(tasks: Iterable[Mapping[str, Any] | Task]) -> list[Asked]:
    if isinstance(tasks, str | Mapping | Task):
        raise TaskError("tasks is a list: put the single task into one")
    found = []
    for number, task in enumerate(tasks, 1):
        if isinstance(task, Task):
            found.append(Asked(task.id, task.prompt, {**task.metadata, "expected": task.reference}, split_of(task)))
            continue
        if not isinstance(task, Mapping) or not isinstance(task.get("prompt"), str) or not task["prompt"].strip():
            raise TaskError(f'task {number} is {task!r:.80}: write {{"prompt": "...", "expected": "..."}} or give a Task')
        metadata = {key: value for key, value in task.items() if key != "prompt"}
        # the caller has chosen these to be learnt; only the id of a Task is taken here, not the domain
        found.append(Asked(Task(task["prompt"], Domain.ANALYSIS).id, task["prompt"], metadata, Split.TRAIN))
    if not found:
        raise TaskError("there are no tasks: give at least one")
    return found


def _hired(agents: NPC | Iterable[NPC]) -> list[NPC]:
    hired = [agents] if isinstance(agents, NPC) else list(agents)
    for agent in hired:
        if not isinstance(agent, NPC):
            raise ConfigError(f"{agent!r:.80} is no agent: make one with NPC(name, primary_directive, model, provider)")
    if not hired:
        raise ConfigError("there are no agents: give at least one NPC")
    if tooled := sorted({agent.name for agent in hired if agent.tools}):
        log.warning("%s: tools are not offered while traces are collected", ", ".join(tooled))
    return hired


def _folder(log_dir: str | Path | None) -> Path | None:
    if log_dir is None:
        return None
    folder = Path(log_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the log folder {folder} ({error.strerror}): choose another log_dir, or None") from error
    return folder


def _connected(agents: Sequence[NPC], settings: Settings, config: RLConfig) -> dict[str, Model]:
    """One model for each name, however many agents use it."""
    enough = config.concurrency <= settings.REQUEST_CONCURRENCY
    wide = settings if enough else settings.changed(REQUEST_CONCURRENCY=config.concurrency)
    models: dict[str, Model] = {}
    try:
        for agent in agents:
            if agent.model_spec not in models:
                models[agent.model_spec] = connect(agent.model_spec, wide)
    except BaseException:
        _run(_close(models))
        raise
    return models


async def _close(models: Mapping[str, Model]) -> None:
    for model in models.values():
        await model.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, in a thread of its own where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(loop.run_until_complete, task)
            try:
                return done.result()
            except BaseException:
                loop.call_soon_threadsafe(task.cancel)
                raise
    finally:
        loop.close()


async def _answered(
    asked: Sequence[Asked],
    agents: Sequence[NPC],
    models: Mapping[str, Model],
    config: RLConfig,
    traces: dict[tuple[int, int, int], Rollout],
) -> None:
    """Fill `traces`, by agent, task and sample. So many clients ask as there may be requests at once."""
    left = _jobs(asked, agents, models, config)

    async def client() -> None:
        with Session() as session:
            for where, job in left:
                model = models[job.agent.model_spec]
                session.move_to(model)
                for sample, trace in enumerate(await _attempts(job, model, config), job.first):
                    traces[*where, sample] = trace

    try:
        await together([client() for _ in range(min(config.concurrency, len(asked) * len(agents) * config.max_iterations))])
    finally:
        await _close(models)


def _jobs(
    asked: Sequence[Asked], agents: Sequence[NPC], models: Mapping[str, Model], config: RLConfig
) -> Iterator[tuple[tuple[int, int], Job]]:
    """A model in this process reads a prompt once for all samples; a server is asked for each, so that what fails is one answer."""
    for a, agent in enumerate(agents):
        at_once = config.max_iterations if getattr(models[agent.model_spec], "in_process", False) else 1
        for t, task in enumerate(asked):
            for first in range(0, config.max_iterations, at_once):
                yield (a, t), Job(agent, task, first, at_once)


async def _attempts(job: Job, model: Model, config: RLConfig) -> list[Rollout]:
    agent, task = job.agent, job.asked
    sampling = Sampling(
        temperature=config.temperature if agent.temperature is None else agent.temperature,
        max_tokens=agent.max_tokens or config.max_tokens,
        seed=derive(config.seed, agent.name, agent.primary_directive, task.id, task.prompt, job.first),
    )
    try:
        reply = await model.complete(Request(agent.messages(task.prompt), job.count, sampling))
    except ProviderError as error:
        return [_trace(job, model, job.first + i, None, str(error)) for i in range(job.count)]
    return [_trace(job, model, job.first + i, completion, None) for i, completion in enumerate(reply.completions)]


def _trace(job: Job, model: Model, sample: int, said: Completion | None, error: str | None) -> Rollout:
    return {
        "id": new_id(),
        "task_id": job.asked.id,
        "split": str(job.asked.split),
        "agent_name": job.agent.name,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "sample": sample,
        "prompt": job.asked.prompt,
        "directive": job.agent.primary_directive,
        "final_output": said.text if said else "",
        "complete": said is not None and said.finish != "length",
        "reward": None,
        "reward_error": None,
        "error": error,
        "task_metadata": dict(job.asked.metadata),
    }


def _score(trace: Rollout, reward_fn: RewardFn) -> None:
    if trace["error"] is not None:
        return
    try:
        given = reward_fn(trace)
    except Exception as error:  # noqa: BLE001  whatever is wrong with the function, the answer was paid for
        trace["reward"], trace["reward_error"] = None, f"reward_fn raised {error!r:.200}"
        return
    trace["reward"], trace["reward_error"] = known_reward(given)


def known_reward(given: object) -> tuple[float | None, str | None]:
    """(the reward, None), or (None, why it is unknown)."""
    if given is None:
        return None, "reward_fn returned None"
    if isinstance(given, str | bytes):
        return None, f"reward_fn returned the text {given!r:.80}: return a number"
    try:
        value = float(given)  # type: ignore[arg-type]  # numpy's and torch's numbers too
    except (TypeError, ValueError):
        return None, f"reward_fn returned {given!r:.80}: return a number"
    return (value, None) if math.isfinite(value) else (None, f"reward_fn returned {value}")


def _save(traces: Sequence[Rollout], folder: Path, settings: Settings) -> None:
    """What was paid for is not lost because the disk is full: then it is only told."""
    clean = Redactor(personal=settings.REDACT_PERSONAL).plain if settings.REDACT else lambda value: value
    rows = (tuple(clean({name: trace[name] for name in COLUMNS}).values()) for trace in traces)
    try:
        path = write_csv(folder / f"rl_traces_{datetime.now():%Y%m%d_%H%M%S_%f}.csv", COLUMNS, rows)
    except StoreError as error:
        log.warning("the traces are not kept: %s", error)
    else:
        log.info("%d traces in %s", len(traces), path)


def _tell(traces: Sequence[Rollout]) -> None:
    """Warn of what is missing. Raises ProviderError when nothing was answered at all."""
    failed = [trace["error"] for trace in traces if trace["error"] is not None]
    if len(failed) == len(traces):
        raise ProviderError(f"none of the {len(traces)} attempts was answered: {failed[0]}")
    if failed:
        log.warning("%d of %d attempts were not answered: %s", len(failed), len(traces), failed[0])
    unknown = Counter(trace["reward_error"] for trace in traces if trace["reward_error"] is not None)
    if unknown:
        log.warning("the rewards of %d of %d traces are unknown, mostly: %s", unknown.total(), len(traces), unknown.most_common(1)[0][0])
