"""A warm interpreter in namespaces of its own that forks one confined child per check. It never sees a solution.

Two processes: the first makes the namespaces and waits; the second is pid 1 of a pid namespace, so that whoever kills it ends every check
at once, and each check is pid 1 of a namespace below, so that killing it ends all it started.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from array import array
from dataclasses import dataclass
from importlib import import_module
from types import CodeType
from typing import Any

from core.sandbox.inside import landlock, room
from core.sandbox.inside.confine import CHANNEL, HELD, ROOT, Confinement, hold_paths
from core.sandbox.inside.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_PDEATHSIG,
    KernelRefused,
    prctl,
    setns,
    unshare,
)
from core.sandbox.inside.limits import may_choose_uids
from core.sandbox.inside.start import forget_the_house, work
from core.sandbox.inside.values import to_frame
from core.sandbox.inside.worker import rehearse

FIRST_UID, UIDS = 1_946_157_056, 1 << 26
MAX_MESSAGE = 1 << 16
WARM = (  # what needs OpenSSL is left out: each shared library makes every fork dearer
    "abc array ast base64 bisect cmath collections collections.abc contextlib copy dataclasses datetime decimal enum fractions functools "
    "heapq inspect io itertools json keyword math numbers operator random re statistics string struct sys textwrap time traceback types "
    "typing"
)
EACH, SPARES = 2, 4  # of one kind, and of all
KINDS = 64
ROOM = socket.CMSG_SPACE(4)
REHEARSALS = 24
REHEARSED_LOAD = ["load", "0" * 16, "def f(x, *rest, **named):\n    return [x, (x + 1,), {'a': str(x)}]\n", []]
REHEARSED_CALL = ["call", "0" * 16, "f", [1, {"t": ["a", 1.5]}], {"a": {"d": [["b", None]]}}]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the children of one kind have in common. `ours` is code of the host's own."""

    confinement: Confinement
    greeting: bytes
    program: bool
    ours: CodeType


@dataclass(slots=True)
class Check:
    """One forked child, confined, and waiting for its first message. `near` are the host's ends of its pipes."""

    kind: str
    pid: int
    handle: int
    near: list[int]
    status: socket.socket | None = None


def main(argument: str) -> None:
    """`argument` is JSON written by the launcher: the control socket, a handle on the host, the interpreter's folders."""
    plan: dict[str, Any] = json.loads(argument)
    os.environ.pop("LD_BIND_NOW", None)  # it was for this process alone
    control = socket.socket(fileno=_away(plan["control"]))
    host = _away(plan["host"])
    as_root = may_choose_uids(FIRST_UID, UIDS)
    try:
        if not as_root:
            _become_root_of_nothing()
        unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP, "namespaces")
        first = os.fork()
    except OSError as error:
        control.send(json.dumps({"broken": str(error)}).encode())
        os._exit(1)
    if first:
        control.close()
        os.waitpid(first, 0)
        os._exit(0)
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, name="pdeathsig")
        own = _away(os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
        room.build(plan["folders"])
        if not landlock.version():
            raise KernelRefused(38, "landlock: not in this kernel (5.13 or newer, with landlock among its security modules)")
        for name in WARM.split():
            import_module(name)
        _occupy_the_low_places()
    except OSError as error:
        control.send(json.dumps({"broken": str(error)}).encode())
        os._exit(1)
    sys.dont_write_bytecode = True
    rehearse([REHEARSED_LOAD, REHEARSED_CALL] * REHEARSALS)
    forget_the_house()
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(b'{"ready":true}')
    Zygote(control, host, own, as_root).serve()


class Zygote:
    """The loop that forks checks, kills them when their host says so or is gone, and tells how they ended."""

    def __init__(self, control: socket.socket, host: int, own: int, as_root: bool) -> None:
        self.control = control
        self.host = host
        self.own = own
        self.as_root = as_root
        self.checks: dict[int, Check] = {}
        self.spares: list[Check] = []
        self.wanted: dict[str, int] = {}
        self.kinds: dict[str, Kind] = {}
        self.number = int.from_bytes(os.urandom(8), "big") % UIDS
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.poll.register(host, select.POLLIN)

    def serve(self) -> None:
        """Until the host hangs up. As pid 1 it takes all checks along. Spares are forked while nobody asks for anything."""
        while True:
            events = self.poll.poll(0 if self.wanted else None)
            if not events:
                self._prepare()
            for place, _ in events:
                if place == self.host:
                    os._exit(0)
                if place == self.control.fileno():
                    self._next()
                elif place in self.checks:
                    self._end(self.checks[place], ended=place == self.checks[place].handle)

    def _next(self) -> None:
        """Hand a child to a session."""
        try:
            message, carried, _, _ = self.control.recvmsg(MAX_MESSAGE, ROOM)
        except OSError:
            message, carried = b"", []
        if not message:
            os._exit(0)
        status = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=int.from_bytes(carried[0][2], sys.byteorder))
        kind = message.decode()
        try:
            check = self._spare(kind) or self._fork(kind)
        except OSError as error:
            with contextlib.suppress(OSError):
                status.send(f"0fork: {error}".encode())
            status.close()
            return
        self._hand_over(check, status)

    def _spare(self, kind: str) -> Check | None:
        """One that waits, and is still there."""
        found, left = None, 0
        for check in self.spares[:]:
            if check.kind == kind and found is None:
                self.spares.remove(check)
                if _ended(check.handle):
                    self._end(check, ended=True)
                else:
                    found = check
            elif check.kind == kind:
                left += 1
        if not left:
            self.wanted[kind] = EACH if found else 1
        return found

    def _prepare(self) -> None:
        """One spare more of a kind that ran out, in the place of the one of another kind that has waited longest.

        Two in a row cost less than each for itself: after a fork each page that the zygote touches is dear once.
        """
        kind = next(iter(self.wanted))
        if sum([spare.kind == kind for spare in self.spares]) >= self.wanted[kind]:
            del self.wanted[kind]
            return
        if len(self.spares) >= SPARES:
            oldest = next(spare for spare in self.spares if spare.kind != kind)
            self.spares.remove(oldest)
            self._end(oldest, ended=False)
        try:
            self.spares.append(self._fork(kind))
        except OSError:
            del self.wanted[kind]  # not before somebody asks again, and is told why

    def _fork(self, kind: str) -> Check:
        known = self._known(kind)
        self.number = (self.number + 1) % UIDS
        near, far = _ends(known.program)
        try:
            unshare(CLONE_NEWPID, "pid namespace")
            try:
                pid = os.fork()
                if not pid:
                    self._become_a_check(known, far)
            finally:
                setns(self.own, CLONE_NEWPID)
            handle = _handle(pid)
        except OSError:
            _close(near)
            raise
        finally:
            _close(far)
        return Check(kind, pid, handle, near)

    def _known(self, kind: str) -> Kind:
        if kind not in self.kinds:
            if len(self.kinds) >= KINDS:
                self.kinds.clear()
            plan = json.loads(kind)
            confinement = Confinement(plan, self.as_root)
            ours = compile(plan["ours"], "ours.py", "exec", dont_inherit=True)
            self.kinds[kind] = Kind(confinement, to_frame(["hello", confinement.mechanisms]), plan["program"], ours)
        return self.kinds[kind]

    def _hand_over(self, check: Check, status: socket.socket) -> None:
        """The host gets its ends of the pipes, and a handle to kill by."""
        check.status = status
        with contextlib.suppress(OSError):  # the host is gone or has given up
            status.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [check.handle, *check.near]))])
        _close(check.near)
        for place in (check.handle, status.fileno()):
            self.checks[place] = check
            self.poll.register(place, select.POLLIN)

    def _end(self, check: Check, ended: bool) -> None:
        """A check has ended, or is to end."""
        if not ended:
            os.kill(check.pid, signal.SIGKILL)
        _, status, used = os.wait4(check.pid, 0)
        _close(check.near)
        if check.status is not None:
            for place in (check.handle, check.status.fileno()):
                self.poll.unregister(place)
                del self.checks[place]
            end = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
            with contextlib.suppress(OSError):  # the host is gone or has given up
                check.status.send(json.dumps(end).encode())
            check.status.close()
        os.close(check.handle)

    def _become_a_check(self, kind: Kind, far: list[int]) -> None:
        """In the fork. Does not return."""
        try:
            for place, descriptor in zip((CHANNEL, 1, 2, 0), far, strict=True):
                os.dup2(descriptor, place)
            try:
                kind.confinement.apply(FIRST_UID + self.number if self.as_root else None)
            except OSError as error:
                os.write(CHANNEL, to_frame(["broken", str(error)[:500]]))
                os._exit(1)
            os.write(CHANNEL, kind.greeting)
            gc.enable()
            work(CHANNEL, CHANNEL, kind.program, kind.ours)
        finally:
            os._exit(1)


def _ends(program: bool) -> tuple[list[int], list[int]]:
    """Channel, output, and of a program errors and input: the host's ends, which never block, and the child's."""
    near: list[int] = []
    far: list[int] = []
    try:
        for end, ends in zip(socket.socketpair(), (near, far), strict=True):
            ends.append(end.detach())
        pipes = [os.pipe(), os.pipe(), os.pipe()[::-1]] if program else [os.pipe()]
        for one, other in pipes:
            near.append(one)
            far.append(other)
        for descriptor in near:
            os.set_blocking(descriptor, False)
        if not program:
            far += [os.dup(far[1]), os.open(os.devnull, os.O_RDONLY)]
    except OSError:
        _close(near)
        _close(far)
        raise
    return near, far


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _handle(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _away(descriptor: int) -> int:
    """The same descriptor above all places that a check uses."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HELD + 2)
    os.close(descriptor)
    return moved


def _occupy_the_low_places() -> None:
    """So that no pipe of a check comes to lie where another is to be put."""
    for place in range(ROOT):
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != place:
            os.dup2(opened, place, inheritable=False)
            os.close(opened)
    hold_paths()


def _become_root_of_nothing() -> None:
    """A user namespace in which this ordinary user is root, for the mounts."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER, "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
