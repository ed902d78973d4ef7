"""A warm interpreter in namespaces of its own that forks one confined child per check. It never sees a solution.

Two processes: the first makes the namespaces and waits; the second is pid 1 of a pid namespace, so that whoever kills it ends every check
at once, and each check is pid 1 of a namespace below, so that killing it ends all it started.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import select
import signal
import socket
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from core.sandbox.inside import landlock, room, seccomp
from core.sandbox.inside.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    KernelRefused,
    drop_capabilities,
    no_new_privileges,
    prctl,
    setns,
    unshare,
)
from core.sandbox.inside.limits import may_choose_uids, set_limits
from core.sandbox.inside.start import forget_the_house, work
from core.sandbox.inside.values import to_frame

FIRST_UID, UIDS = 1_946_157_056, 1 << 26
MAX_MESSAGE = 1 << 16
WARM = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses datetime decimal enum "
    "fractions functools hashlib heapq inspect io itertools json keyword math numbers operator random re statistics string struct sys "
    "textwrap time traceback types typing unicodedata uuid"
)
CHANNEL = GATE = 3
SPARES = 2


@dataclass(slots=True)
class Check:
    """One forked child. It is confined already, and waits behind its gate for the pipes of its session."""

    pid: int
    handle: int
    gate: socket.socket
    status: socket.socket | None = None


def main(argument: str) -> None:
    """`argument` is JSON written by the launcher: the control socket, a handle on the host, the interpreter's folders."""
    plan: dict[str, Any] = json.loads(argument)
    control = socket.socket(fileno=plan["control"])
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
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        room.build(plan["folders"])
        if not landlock.version():
            raise KernelRefused(38, "landlock: not in this kernel (5.13 or newer, with landlock among its security modules)")
        for name in WARM.split():
            import_module(name)
    except OSError as error:
        control.send(json.dumps({"broken": str(error)}).encode())
        os._exit(1)
    sys.dont_write_bytecode = True
    forget_the_house()
    for program in (True, False):
        seccomp.build(program, 1, True)
    gc.collect()
    gc.freeze()
    control.send(b'{"ready":true}')
    Zygote(control, plan["host"], own, as_root).serve()


class Zygote:
    """The loop that forks checks, kills them when their host says so or is gone, and tells how they ended."""

    def __init__(self, control: socket.socket, host: int, own: int, as_root: bool) -> None:
        self.control = control
        self.host = host
        self.own = own
        self.as_root = as_root
        self.checks: dict[int, Check] = {}
        self.spares: dict[str, Check] = {}
        self.number = secrets.randbelow(UIDS)
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.poll.register(host, select.POLLIN)

    def serve(self) -> None:
        """Until the host hangs up. As pid 1 it takes all checks along."""
        while True:
            for place, _ in self.poll.poll():
                if place == self.host:
                    os._exit(0)
                if place == self.control.fileno():
                    self._next()
                elif place in self.checks:
                    self._end(self.checks[place], ended=place == self.checks[place].handle)

    def _next(self) -> None:
        """Hand a child to a session, then fork another of its kind to be there for the next."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, MAX_MESSAGE, 8)
        except OSError:
            message, descriptors = b"", []
        if not message:
            os._exit(0)
        status = socket.socket(fileno=descriptors.pop(0))
        kind = message.decode()
        try:
            check = self._handed_over(kind, descriptors)
        except OSError as error:
            os.write(descriptors[0], to_frame(["broken", f"fork: {error}"]))
            status.close()
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._watch(check, status)
        self._prepare(kind)

    def _handed_over(self, kind: str, descriptors: list[int]) -> Check:
        spare = self.spares.pop(kind, None)
        if spare is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(spare.gate, [b"1"], descriptors)
                return spare
            self._end(spare, ended=False)
        check = self._fork(kind)
        socket.send_fds(check.gate, [b"1"], descriptors)
        return check

    def _prepare(self, kind: str) -> None:
        """Keep one spare child of each of the kinds asked for last."""
        if kind in self.spares:
            return
        while len(self.spares) >= SPARES:
            self._end(self.spares.pop(next(iter(self.spares))), ended=False)
        with contextlib.suppress(OSError):
            self.spares[kind] = self._fork(kind)

    def _fork(self, kind: str) -> Check:
        self.number = (self.number + 1) % UIDS
        near, far = socket.socketpair()
        try:
            unshare(CLONE_NEWPID, "pid namespace")
            try:
                pid = os.fork()
                if not pid:
                    self._become_a_check(json.loads(kind), far)
            finally:
                setns(self.own, CLONE_NEWPID)
        except OSError:
            near.close()
            raise
        finally:
            far.close()
        return Check(pid, os.pidfd_open(pid), near)

    def _watch(self, check: Check, status: socket.socket) -> None:
        check.gate.close()
        check.status = status
        with contextlib.suppress(OSError):
            status.send(b"1")
        for place in (check.handle, status.fileno()):
            self.checks[place] = check
            self.poll.register(place, select.POLLIN)

    def _end(self, check: Check, ended: bool) -> None:
        """A check has ended, or is to end."""
        if not ended:
            os.kill(check.pid, signal.SIGKILL)
        _, status, used = os.wait4(check.pid, 0)
        check.gate.close()
        if check.status is not None:
            for place in (check.handle, check.status.fileno()):
                self.poll.unregister(place)
                del self.checks[place]
            end = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
            with contextlib.suppress(OSError):  # the host is gone or has given up
                check.status.send(json.dumps(end).encode())
            check.status.close()
        os.close(check.handle)

    def _become_a_check(self, plan: dict[str, Any], gate: socket.socket) -> None:
        """In the fork. Does not return."""
        try:
            os.dup2(gate.detach(), GATE)
            os.closerange(GATE + 1, 1 << 20)
            try:
                greeting: list[Any] = ["hello", _confine(plan, FIRST_UID + self.number if self.as_root else None)]
            except OSError as error:
                greeting = ["broken", str(error)[:500]]
            with socket.socket(fileno=GATE) as waiting:
                _, descriptors, _, _ = socket.recv_fds(waiting, 1, 4)
            for place, descriptor in zip((CHANNEL, 1, 2, 0), descriptors, strict=True):
                os.dup2(descriptor, place)
                os.close(descriptor)
            os.write(CHANNEL, to_frame(greeting))
            if greeting[0] == "hello":
                work(CHANNEL, CHANNEL, program=plan["program"])
        finally:
            os._exit(1)


def _confine(plan: dict[str, Any], uid: int | None) -> list[str]:
    """All that must hold before a solution is read."""
    command, limits = plan["command"], plan["limits"]
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, name="pdeathsig")
    os.setsid()
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, "a check's namespaces")
    room.fresh_tmp(int(limits["disk"]))
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    unshare(CLONE_NEWUSER, "user namespace")  # with no ids mapped: nobody inside, and no way to become anybody
    set_limits(limits, address_space=not command, own_uid=True)
    drop_capabilities()
    abi = landlock.version()
    prctl(PR_SET_DUMPABLE, 0, name="dumpable")
    no_new_privileges()
    landlock.restrict(["/"], ["/tmp"], room.DEVICES)
    seccomp.install(program=bool(command), pid=1, private_files=True)
    return [
        "value protocol",
        "user, pid, mount, net, ipc, uts, cgroup namespaces",
        "own root, read only",
        "no capabilities",
        "rlimits",
        f"landlock {abi}",
        "seccomp",
        *(["own uid"] if uid is not None else []),
    ]


def _become_root_of_nothing() -> None:
    """A user namespace in which this ordinary user is root, for the mounts."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER, "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
