"""The namespaces tier, seen from the host: one zygote for each host process, started on first use and again when it has died."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from functools import lru_cache
from typing import Any

from core.errors import SandboxError
from core.sandbox.child import Ends, Plan, explain, high
from core.sandbox.process import ENVIRONMENT, FLAGS, HOUSE, INSIDE, base_interpreter
from core.sandbox.records import Tier, Usage

PATIENCE = 20.0
ANSWER, PLACES = 512, 8
BOOTSTRAP = HOUSE + "from core.sandbox.inside.zygote import main\nmain(sys.argv[1])"
ADVICE = (
    "The namespaces tier needs Linux 5.13 or newer with Landlock and seccomp, and leave to make user namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in Docker --security-opt "
    'seccomp=unconfined). Or choose tier="process" and know what it does not stop'
)


class NamespaceChild:
    """One check, forked by the zygote."""

    tier = Tier.NAMESPACES

    def __init__(self, plan: Plan) -> None:
        self.usage: Usage | None = None
        self.status, descriptors = _spawn(plan)
        self.ending = self.status.fileno()
        self.handle = descriptors[0]
        self.ends = Ends.received(*descriptors[1:])

    def finished(self) -> bool:
        if self.usage is None:
            self.status.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self.status.recv(1, socket.MSG_PEEK)
                self._learn()
        return self.usage is not None

    def finish(self) -> Usage:
        if self.usage is None:
            try:
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
            except OSError:
                with contextlib.suppress(OSError):
                    self.status.shutdown(socket.SHUT_WR)  # the zygote kills it
            self._learn()
        assert self.usage is not None
        return self.usage

    def release(self) -> None:
        """Closes what may have been closed before."""
        self.status.close()
        self.ends.close()
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def full(self) -> bool:
        return False  # its tmpfs has an end

    def out_of_memory(self) -> bool:
        return self.usage is not None and self.usage.status == -signal.SIGKILL and (self.usage.cpu or 0) < 0.5

    def _learn(self) -> None:
        self.status.settimeout(PATIENCE)
        try:
            end = json.loads(self.status.recv(4096) or b"[null, null, null]")
        except TimeoutError:
            stop_zygote()
            end = [None, None, None]
        except OSError:
            end = [None, None, None]
        self.usage = Usage(*end)


class Zygote:
    """The host's handle on its zygote."""

    def __init__(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        host = -1
        try:
            self.control = near
            far_end, host = high(far.detach()), high(os.pidfd_open(os.getpid()))
            facts = {"control": far_end, "host": host, "folders": interpreter_folders()}
            self.process = subprocess.Popen(
                [base_interpreter(), *FLAGS, "-c", BOOTSTRAP.format(folder=str(INSIDE.parent)), json.dumps(facts)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(far_end, host),
                env=ENVIRONMENT | {"LD_BIND_NOW": "1"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            near.close()
            raise explain(error, "the sandbox's zygote") from error
        finally:
            for end in (far_end, host):
                with contextlib.suppress(OSError):
                    os.close(end)
        self._greet()

    def stop(self) -> None:
        """All checks end with it."""
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _greet(self) -> None:
        self.control.settimeout(PATIENCE)
        try:
            answer: dict[str, Any] = json.loads(self.control.recv(4096) or b'{"broken": "its zygote ended at once"}')
        except (OSError, ValueError) as error:
            answer = {"broken": str(error)}
        self.control.settimeout(PATIENCE)
        if "ready" not in answer:
            self.stop()
            raise SandboxError(f"no sandbox of the namespaces tier: {answer.get('broken')}. {ADVICE}")


_lock = threading.Lock()
_zygote: Zygote | None = None


def stop_zygote() -> None:
    """End the zygote and every check; the next check starts a new one."""
    global _zygote
    with _lock:
        if _zygote is not None:
            _zygote.stop()
        _zygote = None


def _spawn(plan: Plan) -> tuple[socket.socket, list[int]]:
    """Ask for a child: a socket that ends it when closed and tells how it ended, a handle on it, and the near ends of its pipes."""
    message, last = _message(plan), "it hung up"
    for _ in range(2):  # once more when it has died meanwhile
        zygote = _running()
        near, far = _pair()
        try:
            with far:
                socket.send_fds(zygote.control, [message], [far.fileno()])
            near.settimeout(PATIENCE)
            answer, descriptors, _, _ = socket.recv_fds(near, ANSWER, PLACES, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            answer, last = b"", str(error)
        if answer == b"1" and len(descriptors) == (5 if plan.program else 3):
            return near, [high(descriptor) for descriptor in descriptors]
        near.close()
        if answer:
            for descriptor in descriptors:
                os.close(descriptor)
            raise SandboxError(
                "no descriptors for a sandbox: too many files are open; raise `ulimit -n`"
                if answer == b"1"
                else f"isolation was refused: {answer[1:].decode('utf-8', 'replace')}; is there memory left, and `ulimit -u`?"
            )
        _bury(zygote)
    raise SandboxError(f"the sandbox's zygote ended twice in a row: {last}; is there memory left, and `ulimit -u`?")


def _pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as error:
        raise explain(error, "a sandbox") from error


@lru_cache(64)
def _message(plan: Plan) -> bytes:
    """The kind of child that is asked for."""
    return json.dumps({"limits": plan.limits.as_dict(), "program": plan.program, "command": plan.command, "ours": plan.ours}).encode()


def _running() -> Zygote:
    global _zygote
    with _lock:
        if _zygote is None:
            _zygote = Zygote()
        return _zygote


def _bury(dead: Zygote) -> None:
    global _zygote
    with _lock:
        if _zygote is dead:
            _zygote = None
            dead.stop()


def _forget_in_a_fork() -> None:
    """A forked host has a zygote of its own; the inherited one belongs to its parent."""
    global _zygote, _lock
    _lock = threading.Lock()
    if _zygote is not None:
        _zygote.control.close()
        _zygote.process.returncode = 0
        _zygote = None


def interpreter_folders() -> list[str]:
    """Where the interpreter and its library lie: the library's folders, the program, and its shared library."""
    paths = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
    folders = {os.path.realpath(path) for path in (paths["stdlib"], paths["platstdlib"], base_interpreter())}
    shared = os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
    return sorted(folders | ({shared} if os.path.isfile(shared) else set()))


os.register_at_fork(after_in_child=_forget_in_a_fork)
atexit.register(stop_zygote)
