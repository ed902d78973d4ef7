"""Waiting for a child: its messages, what it prints, its end, and the clock, which the parent owns."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any

from core.errors import SandboxError
from core.sandbox.child import Child
from core.sandbox.inside.values import MAX_FRAME, ValueProtocolError, from_payload
from core.sandbox.records import Limits

READ, HUNG_UP = select.POLLIN, select.POLLHUP | select.POLLERR
TICK = 0.1
PATIENCE = 30.0
CHUNK = 1 << 16


class ChildStopped(Exception):
    """The child broke a limit, broke the protocol, or left. Its text is the reason."""


class Line:
    """One side of the conversation with one child, with the time and the output it has left."""

    def __init__(self, child: Child, limits: Limits) -> None:
        self.child = child
        self.ends = child.ends
        self.limits = limits
        self.left = limits.wall
        self.printed = bytearray()
        self._buffer = bytearray()
        self._place = self.ends.channel.fileno()
        self._poll = select.poll()
        self._poll.register(self.ends.output, READ)

    def begin(self, first: bytes) -> None:
        """Send the first message. Raises ChildStopped."""
        self.left = PATIENCE
        self.send(first)

    def greeting(self) -> tuple[str, ...]:
        """Hear which mechanisms hold; the clock starts after that. Raises SandboxError, ChildStopped.

        The far side says so before it has seen anything untrusted.
        """
        answer = self.receive()
        self.left = self.limits.wall
        match answer:
            case ["hello", list(mechanisms)]:
                return tuple(str(name) for name in mechanisms)
            case ["broken", str(why)]:
                raise SandboxError(f"isolation was refused: {why}; ask for another tier, or for the rights that this one needs")
        raise SandboxError("the sandbox did not start as it should: check the interpreter it was given")

    def send(self, frame: bytes) -> None:
        """All of it, while the child reads. Raises ChildStopped."""
        view = memoryview(frame)
        while view:
            try:
                view = view[self.ends.channel.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError:
                raise ChildStopped("exit") from None

    def charge(self, started: float) -> None:
        """What a message costs the parent goes on the child's clock too. Raises ChildStopped."""
        self.left -= time.monotonic() - started
        if self.left <= 0:
            raise ChildStopped("wall")

    def receive(self) -> list[Any]:
        """The next message. Raises ChildStopped."""
        while (message := self._message()) is None:
            self._wait(READ)
            self._fill()
        return message

    def expect_silence(self) -> None:
        """Nothing may have been said that was not asked for. Raises ChildStopped."""
        if self._buffer:
            raise ChildStopped("protocol: more than one reply")
        with contextlib.suppress(OSError):
            more = self.ends.channel.recv(1)
            raise ChildStopped("protocol: a reply before its request" if more else "exit")

    def has_more(self) -> bool:
        """Whether bytes stand behind the last message."""
        return bool(self._buffer)

    def drain(self) -> None:
        """What was printed and not yet read."""
        poll = select.poll()
        poll.register(self.ends.output, READ)
        with contextlib.suppress(ChildStopped):
            while poll.poll(0) and self.listen():
                pass

    def _message(self) -> list[Any] | None:
        if len(self._buffer) < 4:
            return None
        size = int.from_bytes(self._buffer[:4], "big")
        if size > MAX_FRAME:
            raise ChildStopped("protocol: a frame that is too long")
        if len(self._buffer) < 4 + size:
            return None
        payload = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        started = time.monotonic()
        try:
            message = from_payload(payload)
        except ValueProtocolError as error:
            raise ChildStopped(f"protocol: {error}") from None
        self.charge(started)
        return message

    def _fill(self) -> None:
        try:
            part = self.ends.channel.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            raise ChildStopped("exit")
        self._buffer += part

    def _wait(self, event: int) -> None:
        """Until the channel is ready. What the child prints meanwhile is kept up to its limit."""
        poll = self._poll
        poll.register(self._place, event)
        while True:
            ready = self.timed_poll(poll)
            found = False
            for place, _ in ready:
                if place == self._place:
                    found = True
                elif not self.listen():
                    poll.unregister(self.ends.output)
            if found:
                return

    def timed_poll(self, poll: select.poll) -> list[tuple[int, int]]:
        """Poll until something is ready or the time is up; keeps the clock. Raises ChildStopped."""
        while True:
            start = time.monotonic()
            ready = poll.poll(max(0.0, min(self.left, TICK)) * 1000)
            self.left -= time.monotonic() - start
            if ready:
                return ready
            if self.left <= 0:
                raise ChildStopped("wall")
            if self.child.full():
                raise ChildStopped("disk")
            if self.child.finished():
                return self._last_words(poll)

    def wait_for_end(self) -> None:
        """All pipes are closed: it has ended, or it lives on in silence until its time is up. Raises ChildStopped."""
        poll = select.poll()
        if self.child.ending >= 0:
            poll.register(self.child.ending, READ)
        while not self.child.finished():
            start = time.monotonic()
            poll.poll(max(0.0, min(self.left, TICK)) * 1000 if self.child.ending >= 0 else 1)
            self.left -= time.monotonic() - start
            if self.left <= 0:
                raise ChildStopped("wall")

    def _last_words(self, poll: select.poll) -> list[tuple[int, int]]:
        ready = poll.poll(0)
        if not ready:
            raise ChildStopped("exit")
        return ready

    def listen(self) -> bool:
        """Keep what is printed; False when the child has closed its end."""
        try:
            part = os.read(self.ends.output, CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            raise SandboxError(f"the output of a sandbox can't be read: {error}") from error
        self.printed += part
        if len(self.printed) > self.limits.output:
            del self.printed[self.limits.output :]
            raise ChildStopped("output")
        return bool(part)
