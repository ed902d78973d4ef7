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
from typing import Any

from core.errors import SandboxError
from core.sandbox.child import Ends, Plan, explain, high
from core.sandbox.process import ENVIRONMENT, FLAGS, HOUSE, INSIDE, base_interpreter
from core.sandbox.records import Tier, Usage

PATIENCE = 20.0
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
        self.ends = Ends(plan.program)
        self.usage: Usage | None = None
        try:
            self.status = _spawn(plan, self.ends)
        except BaseException:
            self.ends.close()
            raise
        self.ends.close_far()

    def finished(self) -> bool:
        if self.usage is None:
            self.status.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self.status.recv(1, socket.MSG_PEEK)
                self._learn()
        return self.usage is not None

    def finish(self) -> Usage:
        if self.usage is None:
            with contextlib.suppress(OSError):
                self.ends.channel.shutdown(socket.SHUT_RDWR)  # one that is idle leaves by itself, while the zygote wakes up
            with contextlib.suppress(OSError):
                self.status.shutdown(socket.SHUT_WR)
            self._learn()
        assert self.usage is not None
        return self.usage

    def release(self) -> None:
        self.status.close()
        self.ends.close()

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
                env=ENVIRONMENT,
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


def _spawn(plan: Plan, ends: Ends) -> socket.socket:
    """Ask for a fork; the socket that comes back ends it when closed, and tells how it ended."""
    message = {
        "limits": plan.limits.as_dict(),
        "program": plan.program,
        "command": plan.command,
    }
    stdin = ends.far_input if plan.program else os.open(os.devnull, os.O_RDONLY)
    try:
        for _ in range(2):  # once more when it has died meanwhile
            zygote = _running()
            near, far = socket.socketpair()
            try:
                descriptors = [far.fileno(), ends.far_channel, ends.far_output, ends.far_errors, stdin]
                socket.send_fds(zygote.control, [json.dumps(message).encode()], descriptors)
                far.close()
                near.settimeout(PATIENCE)
                if near.recv(1):
                    return near
            except OSError as error:
                last: OSError | None = error
            else:
                last = None
            far.close()
            near.close()
            _bury(zygote)
        raise SandboxError(f"the sandbox's zygote ended twice in a row: {last or 'it hung up'}; is there memory left, and `ulimit -u`?")
    finally:
        if stdin != ends.far_input:
            os.close(stdin)


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
