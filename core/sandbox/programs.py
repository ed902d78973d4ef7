"""Whole programs: standard input in, standard output out, judged by the parent on what was printed."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Sequence

from core.errors import SandboxError
from core.sandbox.child import Plan
from core.sandbox.inside.values import MAX_FRAME, ValueProtocolError, to_frame
from core.sandbox.probe import available
from core.sandbox.records import DEFAULT, Limits, ProgramReport
from core.sandbox.session import cause
from core.sandbox.tiers import start
from core.sandbox.waiting import CHUNK, HUNG_UP, READ, ChildStopped, Line

LANGUAGES = {"python": "program.py", "javascript": "program.js"}
STDERR_TAIL = 4096


def run_program(
    command: Sequence[str] | str,
    source: str,
    stdin: str = "",
    limits: Limits = DEFAULT,
    tier: str = "strongest",
    container: Sequence[str] = (),
) -> ProgramReport:
    """Run a program to its end. `command` is "python", "javascript", or an interpreter's words, and the file is added as the last.

    Raises SandboxError when the interpreter is not installed, or the tier can't be reached.
    """
    words, name = _interpreter(command, limits)
    available(tier, container)
    started = time.monotonic()
    child = start(Plan(limits, program=True, command=words, container=tuple(container)), tier)
    run = _Run(Line(child, limits))
    mechanisms: tuple[str, ...] = ("never started",)
    stopped: str | None = None
    try:
        frame = to_frame([list(words), name, source])
        run.line.begin(frame)
        mechanisms = run.line.greeting()
        run.feed(stdin.encode("utf-8", "replace"))
    except ValueProtocolError:
        stopped = f"source: {len(source)} characters are too long, at most {MAX_FRAME} bytes are sent"
    except ChildStopped as error:
        stopped = str(error)
    finally:
        usage = child.finish()
        try:
            run.line.drain()
        finally:
            child.release()
    if stopped == "exit" and usage.status is not None and usage.status >= 0:
        stopped = None
    return ProgramReport(
        run.line.printed.decode("utf-8", "replace"),
        usage.status if stopped is None else None,
        cause(stopped, usage, limits, child) if stopped is not None else None,
        child.tier,
        mechanisms,
        time.monotonic() - started,
        bytes(run.errors).decode("utf-8", "replace"),
        usage.cpu,
        usage.peak_memory,
    )


class _Run:
    """Feeding a program and listening to it at the same time."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.errors = bytearray()

    def feed(self, stdin: bytes) -> None:
        """Until the program has ended; raises ChildStopped, with "exit" for an end of its own."""
        ends, view, poll = self.line.ends, memoryview(stdin), select.poll()
        poll.register(ends.output, READ)
        poll.register(ends.errors, READ)
        if view:
            poll.register(ends.input, select.POLLOUT)
        else:
            ends.close_input()
        open_ends = 2
        while open_ends:
            for place, event in self.line.timed_poll(poll):
                if place == ends.input:
                    view = self._write(view, broken=bool(event & HUNG_UP))
                    if not view:
                        poll.unregister(ends.input)
                        ends.close_input()
                elif not self._read(place):
                    poll.unregister(place)
                    open_ends -= 1
        self.line.wait_for_end()
        raise ChildStopped("exit")

    def _write(self, view: memoryview, broken: bool) -> memoryview:
        if broken:
            return view[:0]
        try:
            return view[os.write(self.line.ends.input, view[:CHUNK]) :]
        except BlockingIOError:
            return view
        except OSError:
            return view[:0]

    def _read(self, place: int) -> bool:
        if place == self.line.ends.output:
            return self.line.listen()
        part = os.read(place, CHUNK)
        self.errors = (self.errors + part)[-STDERR_TAIL:]
        return bool(part)


def _interpreter(command: Sequence[str] | str, limits: Limits) -> tuple[tuple[str, ...], str]:
    """The words to exec, none for Python, and the name of the program's file."""
    if command == "python":
        return (), LANGUAGES["python"]
    if isinstance(command, str):
        if command != "javascript":
            raise SandboxError(f"there is no language {command!r}: choose {', '.join(LANGUAGES)}, or give a command as a list of words")
        return (_found("node"), f"--max-old-space-size={limits.memory >> 20}"), LANGUAGES["javascript"]
    words = tuple(command)
    if not words or not all(type(word) is str and "\0" not in word for word in words):
        raise SandboxError("a command is a list of words, the interpreter first")
    return (_found(words[0]), *words[1:]), "program"


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SandboxError(f"{name} is not installed: install it, or leave out tasks that need it")
    return os.path.realpath(path)
