"""A started child, whatever started it: the ends of its pipes that the parent holds, and how to end it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from core.errors import SandboxError
from core.sandbox.records import Limits, Tier, Usage


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. `command` is an interpreter to exec, empty for Python itself; `program` says that it runs one program and no calls.

    `ours` is a text of the host's own, run after each source in the same names.
    """

    limits: Limits
    program: bool = False
    command: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    ours: str = ""


class Child(Protocol):
    """Untrusted code on the far side."""

    tier: Tier
    ends: Ends
    ending: int
    """A descriptor that can be read once it has ended, -1 where there is none."""

    def finished(self) -> bool:
        """Whether it has ended, without waiting."""
        ...

    def finish(self) -> Usage:
        """Kill all of it, wait for that, and say what it used up. May be called again."""
        ...

    def release(self) -> None:
        """Close the pipes and remove what it wrote, once it has ended."""
        ...

    def full(self) -> bool:
        """Whether it has written more files than it may."""
        ...

    def out_of_memory(self) -> bool:
        """Whether the kernel ended it for its memory."""
        ...


class Ends:
    """The pipes between parent and child. The far ends go to the child and are then closed here."""

    def __init__(self, program: bool) -> None:
        self.near: list[int] = []
        self.far: list[int] = []
        try:
            near, far = socket.socketpair()
            self.channel = _raised(near)
            self.far_channel = self._keep(_raised(far).detach(), self.far)
            self.channel.setblocking(False)
            self.output, self.far_output = self._pipe()
            self.errors, self.far_errors = self._pipe() if program else (-1, self.far_output)
            self.far_input, self.input = self._pipe(inward=True) if program else (-1, -1)
        except OSError as error:
            self.close()
            raise SandboxError(f"no pipe for a sandbox: {error.strerror}; close files or raise `ulimit -n`") from error

    @classmethod
    def received(cls, channel: int, output: int, errors: int = -1, given: int = -1) -> Self:
        """The near ends of a child that somebody else started; they don't block."""
        ends = cls.__new__(cls)
        ends.far = []
        ends.channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=channel)
        ends.channel.setblocking(False)
        ends.output, ends.errors, ends.input = output, errors, given
        ends.near = [end for end in (output, errors, given) if end >= 0]
        return ends

    def close_far(self) -> None:
        """Once the child has them."""
        while self.far:
            os.close(self.far.pop())

    def close_input(self) -> None:
        """The program reads to the end."""
        if self.input in self.near:
            self.near.remove(self.input)
            os.close(self.input)

    def close(self) -> None:
        """All that is still open."""
        self.close_far()
        while self.near:
            os.close(self.near.pop())
        if hasattr(self, "channel"):
            self.channel.close()

    def _pipe(self, inward: bool = False) -> tuple[int, int]:
        reading, writing = (high(end) for end in os.pipe())
        self._keep(reading, self.far if inward else self.near)
        self._keep(writing, self.near if inward else self.far)
        os.set_blocking(writing if inward else reading, False)
        return reading, writing

    @staticmethod
    def _keep(descriptor: int, where: list[int]) -> int:
        where.append(descriptor)
        return descriptor


def high(descriptor: int) -> int:
    """The same descriptor above the three standard ones, which a host may have closed."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _raised(end: socket.socket) -> socket.socket:
    return end if end.fileno() > 2 else socket.socket(fileno=high(end.detach()))


def explain(error: OSError, what: str) -> SandboxError:
    """Why a process could not be started, and what to do."""
    advice = {
        11: "the limit on processes is reached; raise `ulimit -u`",
        12: "there is not enough memory",
        24: "too many files are open; raise `ulimit -n`",
        28: "the disk is full; free some space or set TMPDIR to another disk",
        30: "the disk can't be written; set TMPDIR to a folder that can",
    }.get(error.errno or 0, "check that it exists and may be run")
    return SandboxError(f"{what} could not be started: {error.strerror or error}: {advice}")


def check_container(container: Sequence[str]) -> None:
    """The container tier needs a command line."""
    if not container or not all(type(part) is str and part for part in container):
        example = '("docker", "run", "--rm", "-i", "--network", "none", "python:3.11")'
        raise SandboxError(f"the container tier needs its command: container={example}")
