"""The loop inside a sandbox: load a solution, then one call in, one value out. Once the solution is loaded, nothing here can be trusted."""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from core.sandbox.inside.values import MAX_FRAME, Reference, ValueProtocolError, from_payload, pack, to_frame, unpack

SHOWN = 500
MODULE = "solution"
NOT_RAISED_AGAIN = ("StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt")


class RemoteError(Exception):
    """What a stand-in raises when the far side raised an exception that this side doesn't have."""


def serve(incoming: int, outgoing: int, ours: types.CodeType) -> None:
    """Answer requests until the parent hangs up. `ours` is run after each source that is loaded."""
    worker = _Worker(incoming, outgoing, ours)
    while (message := worker.receive()) is not None:
        worker.answer(message)


def first_message(incoming: int) -> list[Any]:
    """The one message that starts a program."""
    message = _Worker(incoming, incoming).receive()
    if message is None:
        os._exit(0)
    return message


def rehearse(messages: list[list[Any]]) -> None:
    """Answer messages of ours: what the interpreter works out once is worked out then, and every fork inherits it."""
    (incoming, asking), (answers, outgoing) = os.pipe(), os.pipe()
    worker = _Worker(incoming, outgoing)
    for message in messages:
        os.write(asking, to_frame(message))
        worker.answer(worker.receive() or [])
        os.read(answers, MAX_FRAME)
    for end in (incoming, asking, answers, outgoing):
        os.close(end)
    del sys.modules[MODULE]


def run_as_main(source: str, name: str) -> int:
    """Run a whole Python program in this interpreter; returns its exit code."""
    module = types.ModuleType("__main__")
    module.__dict__["__file__"] = name
    sys.modules["__main__"] = module
    sys.argv[:] = [name]
    try:
        exec(compile(source, name, "exec"), module.__dict__)
        code: Any = 0
    except SystemExit as left:
        code = left.code
    except BaseException as error:  # noqa: BLE001  the program's own end, told as the interpreter tells it
        own_frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(error.with_traceback(own_frames), limit=-20)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if code is None or type(code) is int:
        return (code or 0) & 0xFF
    with contextlib.suppress(Exception):
        os.write(2, f"{code}\n".encode())
    return 1


class _Worker:
    def __init__(self, incoming: int, outgoing: int, ours: types.CodeType | None = None) -> None:
        self.ours = ours
        self.incoming = incoming
        self.outgoing = outgoing
        self.names: dict[str, Any] = {}
        self.request = ""

    def receive(self) -> list[Any] | None:
        header = self._read(4)
        if header is None:
            return None
        size = int.from_bytes(header, "big")
        payload = self._read(size) if size <= MAX_FRAME else None
        return from_payload(payload) if payload is not None else None

    def answer(self, message: list[Any]) -> None:
        kind, self.request, *rest = message
        try:
            if kind == "load":
                self._load(*rest)
                value = None
            else:
                value = self._call(*rest)
        except BaseException as error:  # noqa: BLE001  whatever a solution raises is its reply
            frame = to_frame(["raised", self.request, _kind(error), _text(error)])
        else:
            frame = self._returned(value)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._send(frame)

    def _load(self, source: str, proxies: list[str]) -> None:
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        self.names = module.__dict__
        for name in proxies:
            self.names[name] = self._stand_in(name)
        exec(compile(source, f"{MODULE}.py", "exec"), self.names)
        if self.ours is not None:
            exec(self.ours, self.names)

    def _call(self, function: str, packed_args: list[Any], packed_kwargs: dict[str, Any]) -> Any:
        head, *path = function.split(".")
        if head not in self.names:
            raise NameError(f"name {head!r} is not defined")
        target = self.names[head]
        for name in path:
            target = getattr(target, name)
        args = [unpack(arg, self._stand_in) for arg in packed_args]
        return target(*args, **{name: unpack(arg, self._stand_in) for name, arg in packed_kwargs.items()})

    def _returned(self, value: Any) -> bytes:
        try:
            return to_frame(["returned", self.request, pack(value)])
        except (ValueProtocolError, RecursionError, MemoryError) as error:
            return to_frame(["raised", self.request, "NotAValue", _text(error)])

    def _stand_in(self, name: str) -> Callable[..., Any]:
        """A function that asks the parent, and nothing more: it holds no value to be found."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            packed = [pack(arg) for arg in args], {key: pack(value) for key, value in kwargs.items()}
            self._send(to_frame(["proxy", self.request, name, *packed]))
            message = self.receive()
            if message is None:
                os._exit(1)
            if message[0] == "returned":
                return unpack(message[1], self._stand_in)
            raise _raised_again(*message[1:])

        stand_in.__name__ = stand_in.__qualname__ = name
        return stand_in

    def _send(self, frame: bytes) -> None:
        view = memoryview(frame)
        while view:
            view = view[os.write(self.outgoing, view) :]

    def _read(self, size: int) -> bytes | None:
        parts = []
        while size:
            part = os.read(self.incoming, min(size, 1 << 18))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _raised_again(kind: str, text: str) -> Exception:
    """The exception of the far side. None of those that end an iteration in silence: they would cut a loop of tests short."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and kind not in NOT_RAISED_AGAIN:
        with contextlib.suppress(Exception):
            return found(text)
    return RemoteError(f"{kind}: {text}")


def _kind(error: BaseException) -> str:
    return str(type(error).__name__)[:SHOWN]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:SHOWN]
    except Exception:  # noqa: BLE001  a hostile __str__
        return ""


__all__ = ["Reference", "RemoteError", "first_message", "rehearse", "run_as_main", "serve"]
