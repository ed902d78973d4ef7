"""Where fitness runs: here, in threads, in processes, on an event loop, on Ray. Each takes jobs and hands out outcomes as they come."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import queue
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple, Protocol

from core.errors import ConfigError
from finetune.evolution.chance import wants_rng
from finetune.evolution.config import GAConfig

AT_ONCE = 16


class Job(NamedTuple):
    """One call of fitness_fn: an individual, or a list of them; `seed` is what its rng is made from."""

    payload: Any
    seed: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What a call raised. `cause` is there when it happened in this process."""

    reason: str
    cause: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """fitness_fn with the random generator that it may ask for."""

    function: Callable[..., Any]
    with_rng: bool

    def __call__(self, job: Job) -> Any:
        if self.with_rng:
            return self.function(job.payload, rng=random.Random(job.seed))
        return self.function(job.payload)


Outcomes = Iterator[tuple[int, Any]]


class Pool(Protocol):
    """Outcomes are (index of the job, what the call returned or Raised), in any order."""

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """Every job once. Closing the iterator early drops the jobs that have not begun."""
        ...

    def close(self) -> None:
        """Give back threads and processes."""
        ...


@contextmanager
def opened(function: Callable[..., Any], config: GAConfig) -> Generator[Pool]:
    """The pool that the options ask for. Raises ConfigError when it can't be had for this function."""
    check_pool(function, config)
    call = Call(function, wants_rng(function))
    pool: Pool
    if config.parallel == "threads":
        pool = Threads(call, config.workers or AT_ONCE)
    elif config.parallel == "processes":
        pool = Processes(call, config.workers or os.cpu_count() or 1)
    elif config.parallel == "asyncio":
        pool = Loop(call, config.workers or AT_ONCE)
    elif config.parallel == "ray":
        pool = Ray(call, config.workers)
    else:
        pool = Here(call)
    try:
        yield pool
    finally:
        pool.close()


def check_pool(function: Callable[..., Any], config: GAConfig) -> None:
    """Raises ConfigError when this function can't run where the options say."""
    asynchronous = iscoroutinefunction(function) or (callable(function) and iscoroutinefunction(type(function).__call__))
    if asynchronous and config.parallel != "asyncio":
        raise ConfigError(f'fitness_fn is `async def` and parallel is {config.parallel!r}: set parallel="asyncio"')
    if config.parallel == "ray" and find_spec("ray") is None:
        raise ConfigError('parallel="ray" needs Ray: pip install "ratchet-agents[ray]"')
    if config.parallel == "processes":
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f'fitness_fn can\'t be sent to another process ({error}): define it at the top of a module, or set parallel="threads"'
            ) from error


class Here:
    """One after the other, in this thread."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.function: Callable[[Any], Any] | None = None if call.with_rng else call.function

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """In order."""
        for i, job in enumerate(jobs):
            try:
                outcome = self._call(job)
            except Exception as error:  # noqa: BLE001  it is reported with its individual
                outcome = raised(error)
            yield i, outcome

    def close(self) -> None:
        """There is nothing to give back."""


class Threads:
    """For a fitness that waits for a server or a device, or computes outside of Python."""

    def __init__(self, call: Call, workers: int) -> None:
        self._call = call
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="fitness")

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """As they are done."""
        return _as_completed(self._executor, self._call, jobs)

    def close(self) -> None:
        """Waits for the calls under way."""
        self._executor.shutdown(cancel_futures=True)


class Processes:
    """For a fitness that computes in Python. Processes start afresh, so that nothing of this one's threads is inherited.

    When one dies, every job that was under way is done again, alone: the one that kills again is to blame.
    """

    def __init__(self, call: Call, workers: int) -> None:
        self._call, self._workers = call, workers
        self._executor = self._start(workers)

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """As they are done."""
        left = set(range(len(jobs)))
        for i, outcome in _as_completed(self._executor, _in_process, jobs):
            if not (isinstance(outcome, Raised) and isinstance(outcome.cause, BrokenProcessPool)):
                left.discard(i)
                yield i, outcome
        if left:
            for i in sorted(left):
                yield i, self._alone(jobs[i])
            self._executor.shutdown()
            self._executor = self._start(self._workers)

    def close(self) -> None:
        """Waits for the calls under way."""
        self._executor.shutdown(cancel_futures=True)

    def _start(self, workers: int) -> ProcessPoolExecutor:
        # not fork: a lock that another thread holds, torch's for one, would stay locked for ever in the child
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_remember, initargs=(self._call,))

    def _alone(self, job: Job) -> Any:
        with self._start(1) as executor:
            try:
                return executor.submit(_in_process, job).result()
            except BrokenProcessPool as error:
                return Raised(
                    "ended the process that it ran in (killed, out of memory, or a script without `if __name__ == '__main__':`)", error
                )


class Loop:
    """For an asynchronous fitness: a loop of its own in a thread of its own, the same for the whole run, so that connections last."""

    def __init__(self, call: Call, workers: int) -> None:
        self._call, self._workers = call, workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fitness", daemon=True)
        self._thread.start()

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """As they are done."""
        done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        work = self._start(self._all(jobs, done))
        try:
            for _ in jobs:
                i, outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield i, outcome
        finally:
            work.cancel()

    def close(self) -> None:
        """Cancels what is under way."""
        self._start(self._wind_up()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _all(self, jobs: Sequence[Job], done: queue.SimpleQueue[tuple[int, Any]]) -> None:
        free = asyncio.Semaphore(self._workers)

        async def one(i: int, job: Job) -> None:
            async with free:
                try:
                    found = self._call(job)
                    done.put((i, await found if isawaitable(found) else found))
                except Exception as error:  # noqa: BLE001  it is reported with its individual
                    done.put((i, raised(error)))
                except asyncio.CancelledError as error:
                    done.put((i, Raised("was cancelled", error)))
                    raise
                except BaseException as error:
                    done.put((i, error))
                    raise

        await asyncio.gather(*(one(i, job) for i, job in enumerate(jobs)), return_exceptions=True)

    async def _wind_up(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


class Ray:
    """On the Ray cluster that this process is connected to, or on one of its own on this machine."""

    def __init__(self, call: Call, workers: int) -> None:
        import ray

        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            # modules that are found here are found there
            path = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
            ray.init(num_cpus=workers or None, include_dashboard=False, log_to_driver=False, runtime_env=path)
        self._workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._call = ray.put(call)
        self._remote = ray.remote(_called)

    def outcomes(self, jobs: Sequence[Job]) -> Outcomes:
        """As they are done; never more than `workers` are handed in."""
        waiting = list(enumerate(jobs))[::-1]
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < self._workers:
                    i, job = waiting.pop()
                    under_way[self._remote.remote(self._call, job)] = i
                done, _ = self._ray.wait(list(under_way))
                for reference in done:
                    yield under_way.pop(reference), self._result(reference)
        finally:
            for reference in under_way:
                self._ray.cancel(reference)

    def close(self) -> None:
        """Leaves a cluster alone that was there before."""
        if self._ours:
            self._ray.shutdown()

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Raised(f"could not be computed on Ray: {error}", error)


def _as_completed(executor: Executor, call: Callable[[Job], Any], jobs: Sequence[Job]) -> Outcomes:
    places: dict[Future[Any], int] = {}
    try:
        for i, job in enumerate(jobs):
            try:
                places[executor.submit(call, job)] = i
            except BrokenProcessPool as broken:
                yield i, raised(broken)
        for future in as_completed(places):
            error = future.exception()
            if not isinstance(error, Exception | None):
                raise error
            yield places[future], future.result() if error is None else raised(error)
    finally:
        for future in places:
            future.cancel()


def raised(error: BaseException) -> Raised:
    """With its class, as a traceback would say it."""
    return Raised(f"raised {type(error).__name__}: {error}", error)


_call: Call | None = None


def _remember(call: Call) -> None:
    global _call
    _call = call


def _in_process(job: Job) -> Any:
    assert _call is not None
    return _called(_call, job)


def _called(call: Call, job: Job) -> Any:
    """What a call raises stays there as a text: not every error survives the way between two processes."""
    try:
        return call(job)
    except Exception as error:  # noqa: BLE001  it is reported with its individual
        return Raised(f"raised {type(error).__name__}: {error}")
