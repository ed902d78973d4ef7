"""A few child processes that answer one question at a time and are killed at the wall; grown when a caller would have to wait."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

START_WALL = 60.0
STOP_WALL = 2.0
PATIENCE = 0.05
STRETCH = 1.0  # walls are so many times longer: for tests of what is right on a machine that is busy
MOST = max(2, min(4, os.cpu_count() or 1))

log = logging.getLogger(__name__)


class WallError(Exception):
    """The question was not answered within its wall; its worker is gone."""


class BrokenWorkerError(Exception):
    """The worker ended, or said what nobody can read."""


class Pool:
    """At most `most` children that run one module. Safe from any thread; a forked process starts its own.

    The module says `{"ready": true}` once it is warm, and again when, on SIGUSR1, it has given up its question and can take the next.
    """

    def __init__(self, module: str, most: int = MOST) -> None:
        self.module = module
        self.most = most
        self.inherited: list[_Worker] = []
        self.idle: list[_Worker] = []
        self._reset()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def ask(self, request: Mapping[str, Any], wall: float) -> dict[str, Any]:
        """The reply to one JSON question, `wall` seconds after its worker took it at the latest. Raises WallError, BrokenWorkerError."""
        worker = self._borrow()
        try:
            reply = worker.ask(request, wall * STRETCH)
        except BaseException:
            self._in_background(self._revive, worker)
            raise
        self._give_back(worker)
        return reply

    def close(self) -> None:
        """End the workers that wait; the next question starts new ones."""
        with self.changed:
            idle, self.idle = self.idle, []
            self.started -= len(idle)
        for worker in idle:
            worker.end()

    def workers(self) -> list[subprocess.Popen[str]]:
        """The processes that wait for a question."""
        with self.changed:
            return [worker.process for worker in self.idle]

    def _reset(self) -> None:
        """Also in a forked child, which must not touch its parent's pipes."""
        self.inherited += self.idle
        self.changed = threading.Condition()
        self.idle = []
        self.started = 0
        self.failure: BrokenWorkerError | None = None

    def _borrow(self) -> _Worker:
        """A worker that is free. Where none is for a moment, one more is started, and the first that comes is taken."""
        impatient = monotonic() + PATIENCE
        with self.changed:
            while True:
                worker = self._take_idle()
                if worker is not None:
                    return worker
                if self.started < self.most and (not self.started or monotonic() >= impatient):
                    self.started += 1
                    self.failure = None
                    self._in_background(self._grow)
                self.changed.wait(PATIENCE if self.started < self.most else None)
                if self.failure is not None and not self.started:
                    raise self.failure

    def _take_idle(self) -> _Worker | None:
        while self.idle:
            worker = self.idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.end()
            self.started -= 1
        return None

    def _grow(self) -> None:
        try:
            worker = _Worker(self.module)
        except (BrokenWorkerError, OSError) as error:
            self._give_back(None, BrokenWorkerError(str(error)))
        else:
            self._give_back(worker)

    def _revive(self, worker: _Worker) -> None:
        """Stop what it is at; where that doesn't help, end it, and the next question starts another."""
        self._give_back(worker if worker.stop() else None)

    def _give_back(self, worker: _Worker | None, failure: BrokenWorkerError | None = None) -> None:
        with self.changed:
            if worker is None:
                self.started -= 1
                self.failure = failure
            else:
                self.idle.append(worker)
            self.changed.notify_all()

    def _in_background(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True, name="symbolic-pool").start()


class _Worker:
    """One child; lines of JSON both ways."""

    def __init__(self, module: str) -> None:
        self.asked = 0
        self.lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        threading.Thread(target=_pump, args=(self.process, self.lines), daemon=True, name="symbolic-checker").start()
        if not self._is_ready(START_WALL):
            self.end()
            raise BrokenWorkerError(f"{module} did not say that it is ready within {START_WALL:g} s")

    def ask(self, request: Mapping[str, Any], wall: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.asked += 1
        try:
            self.process.stdin.write(json.dumps({**request, "id": self.asked}) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise BrokenWorkerError(f"it takes no question: {error}") from error
        reply = self._line(wall)
        if reply.get("id") != self.asked:
            raise BrokenWorkerError(f"it answered question {reply.get('id')!r}, and {self.asked} was asked")
        return reply

    def stop(self) -> bool:
        """Have it give up its question; whether it can take another. It is ended if not."""
        stopped = False
        if hasattr(signal, "SIGUSR1") and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            stopped = self._is_ready(STOP_WALL)
        if not stopped:
            self.end()
        return stopped

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                log.debug("the worker had closed its input")

    def _is_ready(self, wall: float) -> bool:
        """Whether it says so in time; what it says before, it says to an earlier question."""
        end = monotonic() + wall
        try:
            while self._line(max(end - monotonic(), 0.001)).get("ready") is not True:
                pass
        except (WallError, BrokenWorkerError):
            return False
        return True

    def _line(self, wall: float) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=wall)
        except queue.Empty:
            raise WallError(f"no reply within {wall:g} s") from None
        try:
            reply = json.loads(line) if line else None
        except ValueError as error:
            raise BrokenWorkerError("its reply is no JSON") from error
        if not isinstance(reply, dict):
            raise BrokenWorkerError("it ended without an answer")
        return reply


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Lines from the child into the queue; an empty one at its end. Closes the pipe it reads."""
    assert process.stdout is not None
    with process.stdout as stdout:
        for line in stdout:
            lines.put(line)
    lines.put("")
