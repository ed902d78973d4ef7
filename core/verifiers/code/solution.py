"""A solution in its sandbox: called one function at a time, its results judged as values, its steadiness watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from core.errors import SandboxError
from core.sandbox import Limits, Raised, Returned, Stopped, open_session, same
from core.types import Record
from core.verifiers.base import short
from core.verifiers.code.task import BrokenTask, CodeTask, shape

MAX_REMEMBERED = 20_000
SHOWN = 60
FAR_SIDE = """
class _RatchetPrinted(__import__("io").StringIO):
    def write(self, text):
        super().write(text[: max(0, 65536 - self.tell())])
        return len(text)

def _ratchet_call(name, args, kwargs, watched, asynchronous):
    import sys
    head, *path = name.split(".")
    if head not in globals():
        return ("missing", head)
    target = globals()[head]
    printed, before = _RatchetPrinted(), sys.stdout
    sys.stdout = printed
    try:
        for part in path:
            target = getattr(target() if isinstance(target, type) else target, part)
        value = target(*args, **kwargs)
        if asynchronous:
            import asyncio
            value = asyncio.run(value)
    except Exception as error:
        try:
            text = str(error)[:300]
        except Exception:
            text = ""
        return ("raised", [kind.__name__[:100] for kind in type(error).__mro__][:20], text)
    finally:
        sys.stdout = before
    return ("returned", value, args if watched else None, kwargs if watched else None, printed.getvalue())
"""
LOADED = """
_ratchet_setup, _ratchet_names = {setup!r}, {names!r}
if _ratchet_setup:
    try:
        exec(compile(_ratchet_setup, "prompt.py", "exec", dont_inherit=True), globals())
    except Exception:
        pass
    for _ratchet_name in _ratchet_names:
        globals().pop(_ratchet_name, None)
exec(compile({code!r}, "solution.py", "exec", dont_inherit=True), globals())
"""


@dataclass(frozen=True, slots=True)
class Got(Record):
    """The call returned; the arguments as they were after it where they were watched, and what it printed."""

    value: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    printed: str = ""


@dataclass(frozen=True, slots=True)
class Threw(Record):
    """The call raised: the names of the exception's classes, its own first, and its text."""

    kinds: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Lost(Record):
    """Nothing that could be compared came back."""

    why: str


Result = Got | Threw | Lost


class Solution:
    """An open session with a solution. `unsteady` tells of a call that gave two different results."""

    def __init__(self, code: str, asked: CodeTask, tier: str) -> None:
        names = [asked.entry_point.split(".")[0]]
        source = LOADED.format(setup=asked.setup, names=names, code=code)
        self.asked = asked
        self.session = open_session(
            source, Limits(wall=max(asked.seconds, 0.1), cpu=max(asked.seconds, 0.1)), tier, ours=FAR_SIDE, wait=False
        )
        self.stopped: Stopped | None = None
        self.unsteady: str | None = None
        self._remembered: dict[Any, Result] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.session.close()

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], watched: bool = False) -> Result:
        """One call. The arguments are copies: what the solution does to them stays on its side."""
        outcome = self._called(name, args, kwargs, watched)
        if not self.asked.stateful and self.unsteady is None:
            self._compare(name, args, kwargs, outcome)
        return outcome

    def isolation(self) -> str:
        """End the session and name the tier it ran in."""
        return str(self.session.report().isolation)

    def _called(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], watched: bool) -> Result:
        self.session.loaded()
        try:
            reply = self.session.call("_ratchet_call", name, list(args), dict(kwargs), watched, self.asked.asynchronous)
        except SandboxError as error:
            raise BrokenTask(f"{written(name, args, kwargs)} can't be asked: {error}") from error
        match reply:
            case Returned(("returned", value, None | list() as after, None | dict() as named, str(printed))):
                return Got(value, tuple(after or ()), named, printed)
            case Returned(("raised", [str(), *_] as kinds, str(text))):
                return Threw(tuple(str(kind) for kind in kinds), text)
            case Returned(("missing", str(head))):
                return Lost(f"the code defines no {short(head)}")
            case Raised("NotAValue", message):
                return Lost(f"what came back is no plain value ({short(message)}): return lists, dicts, numbers, texts")
            case Raised(kind, message):
                return Threw((kind,), message)
            case Stopped():
                self.stopped = reply
                return Lost(told(reply, self.asked.seconds))
        return Lost("the reply was forged")

    def _compare(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], outcome: Result) -> None:
        """A function is one: the same arguments, the same result. Otherwise tests that contradict each other could be satisfied."""
        if self.stopped:
            return
        key = name, shape(list(args)), shape(dict(kwargs))
        before = self._remembered.get(key, outcome)
        if len(self._remembered) < MAX_REMEMBERED:
            self._remembered[key] = before
        if before is not outcome and not _alike(before, outcome):
            self.unsteady = f"{written(name, args, kwargs)} gave {shown(before)} and then {shown(outcome)}"


def told(stopped: Stopped, seconds: float) -> str:
    """Why a session ended, in words."""
    first, _, rest = stopped.why.partition(":")
    words = {
        "wall": f"it took longer than {seconds:g} s",
        "cpu": f"it used more than {seconds:g} s of processor time",
        "memory": "it used too much memory",
        "disk": "it wrote too much",
        "output": "it printed too much",
        "protocol": "the reply was forged",
        "source": f"the code can't be loaded: {short(rest.strip())}",
    }
    return words.get(first, f"it ended by itself ({short(stopped.why)})")


def written(name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> str:
    """A call as one would write it, cut."""
    parts = [cut(arg) for arg in args] + [f"{key}={cut(value)}" for key, value in (kwargs or {}).items()]
    return short(f"{name}({', '.join(parts)})")


def shown(outcome: Result) -> str:
    """What came of a call, cut."""
    if isinstance(outcome, Got):
        return cut(outcome.value)
    return f"{outcome.kinds[0]}: {short(outcome.text, SHOWN)}" if isinstance(outcome, Threw) else outcome.why


def cut(value: Any) -> str:
    """The repr of a plain value, short, without writing out what is long."""
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else repr(value[:SHOWN]) + "…"
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > SHOWN:
        return f"a {type(value).__name__} of {len(value)}"
    return short(repr(value), SHOWN)


def _alike(one: Result, other: Result) -> bool:
    if isinstance(one, Got) and isinstance(other, Got):
        return same(one.value, other.value) or shape(one.value) == shape(other.value)
    if isinstance(one, Threw) and isinstance(other, Threw):
        return one.kinds == other.kinds
    return isinstance(one, Lost) and isinstance(other, Lost)
