"""Asks z3, in a process of its own that is killed at the wall, whether formulas can hold together.

z3 is native code: it can run past its own limits, eat memory or crash. A child costs a tenth of a millisecond a question, and then none of
that reaches the host.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from core.types import Record

WALL = 1.2
START_WALL = 60.0
REMEMBERED = 4_096
MISSING = 'z3 is not installed: pip install "ratchet-agents[verify]"'

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Record):
    """sat with a `world` in which the formulas hold, unsat with the places of those that clash (-1 the denied one), unknown with `why`."""

    state: Literal["sat", "unsat", "unknown"]
    world: dict[str, Any] = field(default_factory=dict)
    core: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Setting(Record):
    """What the formulas speak of: anything; a closed list of elements; or the variables of a puzzle with their whole numbers."""

    domain: tuple[str, ...] = ()
    variables: tuple[tuple[str, tuple[int, ...]], ...] = ()


OPEN = Setting()


def satisfiable(formulas: tuple[str, ...], denied: str | None = None, setting: Setting = OPEN) -> Found:
    """Whether the formulas can hold together, with `denied` false where it is given. They must have been parsed before.

    The same question has the same answer; what the clock cut off is asked anew.
    """
    if find_spec("z3") is None:
        return Found("unknown", why=MISSING)
    return _worker.ask(formulas, denied, setting)


def close() -> None:
    """End the worker process; the next question starts a new one."""
    _worker.close()


class _Worker:
    """One child process, one question at a time, lines of JSON both ways, and a memory of what was decided."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()
        self.asked = 0
        self.decided: OrderedDict[tuple[tuple[str, ...], str | None, Setting], Found] = OrderedDict()

    def ask(self, formulas: tuple[str, ...], denied: str | None, setting: Setting) -> Found:
        question = (formulas, denied, setting)
        with self.lock:
            if question in self.decided:
                self.decided.move_to_end(question)
                return self.decided[question]
            found, final = self._answered(formulas, denied, setting)
            if final:
                self.decided[question] = found
                if len(self.decided) > REMEMBERED:
                    self.decided.popitem(last=False)
            return found

    def close(self) -> None:
        with self.lock:
            self._end()

    def _answered(self, formulas: tuple[str, ...], denied: str | None, setting: Setting) -> tuple[Found, bool]:
        """What the child found, and whether it would find the same at any speed."""
        try:
            if self.process is None or self.process.poll() is not None:
                self._start()
            response = self._asked({"formulas": formulas, "denied": denied, "domain": setting.domain, "variables": dict(setting.variables)})
            found = Found(response["state"], response.get("world", {}), tuple(response.get("core", ())), response.get("why", ""))
            return found, found.state != "unknown" or "final" in response
        except queue.Empty:
            self._end()
            return Found("unknown", why=f"z3 was stopped after {WALL} s"), False
        except (OSError, ValueError, KeyError) as error:
            log.warning("the logic solver broke and is started again: %s", error)
            self._end()
            return Found("unknown", why=f"the solver broke: {error}"), False

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        self.asked += 1
        self.process.stdin.write(json.dumps({"id": self.asked, **request}) + "\n")
        self.process.stdin.flush()
        response = self._line(WALL)
        if response.get("id") != self.asked:
            raise ValueError(f"it answered question {response.get('id')!r}, and {self.asked} was asked")
        return response

    def _start(self) -> None:
        self._end()
        lines: queue.Queue[str] = queue.Queue()
        process = subprocess.Popen(
            [sys.executable, "-m", "core.verifiers.logic.solver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[3],
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.process, self.lines = process, lines
        threading.Thread(target=_pump, args=(process, lines), daemon=True, name="logic-solver").start()
        if self._line(START_WALL).get("ready") is not True:
            raise ValueError("it did not say that it is ready")

    def _line(self, wall: float) -> dict[str, Any]:
        line = self.lines.get(timeout=wall)
        response = json.loads(line) if line else {}
        if not isinstance(response, dict) or not response:
            raise ValueError("it ended without an answer")
        return response

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            try:
                process.stdin.close()
            except BrokenPipeError:
                log.debug("the logic solver had closed its input")


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Lines from the child into the queue; an empty one at its end. Closes the pipe it reads."""
    assert process.stdout is not None
    with process.stdout as stdout:
        for line in stdout:
            lines.put(line)
    lines.put("")


def _forget() -> None:
    """A forked child must not share its parent's pipe."""
    global _worker
    _worker = _Worker()


_worker = _Worker()
atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
