"""What goes into a sandbox and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.errors import SandboxError
from core.types import Record

MIB = 1 << 20


class Tier(StrEnum):
    """The isolation that was reached."""

    NAMESPACES = "namespaces"
    PROCESS = "process"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Limits(Record):
    """What a session may use up: seconds, bytes. `wall` counts while the parent waits for the child, over the whole session."""

    wall: float = 5.0
    cpu: float = 5.0
    memory: int = 512 * MIB
    output: int = MIB
    disk: int = 16 * MIB

    def __post_init__(self) -> None:
        for name in self.keys():
            value = self[name]
            if type(value) not in (int, float) or not 0 < value < 1 << 50:
                raise SandboxError(f"the limit {name} is {value!r}: give a positive number")
        if self.memory < 64 * MIB:
            raise SandboxError(f"the limit memory is {self.memory} bytes: an interpreter needs at least 64 MiB")


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Call(Record):
    """One call of a function of the solution: a name it defines, or a dotted path from one."""

    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Returned(Record):
    """A plain value came back. Compare it with `same`."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised(Record):
    """The call raised, by the child's own account: the name of the exception's class, and its text, cut.

    The kind is "NotAValue" when what came back is no plain value of a bounded size.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Stopped(Record):
    """The session is over, and all later calls of it are Stopped too. The first word of `why` is one of

    wall, cpu, memory, disk, output (a limit); exit, signal (it left); protocol (it forged or garbled a reply); source (the source raised
    while it was loaded, with the exception behind a colon); proxy (what the proxy stands for was stopped); closed (by the caller).
    """

    why: str


CallResult = Returned | Raised | Stopped


@dataclass(frozen=True, slots=True)
class Proxy(Record):
    """As an argument of a call: the stand-in of that name, which calls back to the parent."""

    name: str


@dataclass(frozen=True, slots=True)
class Report(Record):
    """All about one session. `stdout` is what it printed, errors included, up to the limit; `cpu` and `peak_memory` None when unknown."""

    values: tuple[CallResult, ...]
    isolation: Tier
    mechanisms: tuple[str, ...]
    seconds: float
    cpu: float | None
    peak_memory: int | None
    stopped: str | None
    stdout: str


@dataclass(frozen=True, slots=True)
class ProgramReport(Record):
    """All about one run of a program. `exit_code` is None when it did not leave by itself; `stderr` is the end of it."""

    stdout: str
    exit_code: int | None
    stopped: str | None
    isolation: Tier
    mechanisms: tuple[str, ...]
    seconds: float
    stderr: str
    cpu: float | None = None
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """How a child ended: its exit code, or minus the signal that killed it."""

    status: int | None = None
    cpu: float | None = None
    peak_memory: int | None = None
