"""Canary attacks: before a tier is used, programs of ours try to break out of it. A tier that they break is not offered."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import SandboxError
from core.sandbox.child import Plan
from core.sandbox.records import Call, Limits, Returned, Tier
from core.sandbox.tiers import chosen

MUST_HOLD = {
    Tier.NAMESPACES: ("environment", "memory", "trace", "signal", "tcp", "abstract", "read", "write", "fork"),
    Tier.PROCESS: ("environment", "memory", "trace"),
    Tier.CONTAINER: (),
}
KNOWN_NAMES = {"PYTHONHASHSEED", "PATH", "LANG", "HOME", "OPENSSL_CONF", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
FORKS = 200
CANARIES = """
import ctypes, os, socket, time

def environment(known):
    if not set(os.environ) - known: raise PermissionError
def memory(pid, address, size):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        return file.read(size)
def trace(pid):
    if ctypes.CDLL(None).ptrace(0x4206, pid, None, None): raise PermissionError
def signal(pid):
    os.kill(pid, 0)
def tcp(port):
    with socket.socket() as s: s.settimeout(1); s.connect(("127.0.0.1", port))
def abstract(name):
    with socket.socket(socket.AF_UNIX) as s: s.settimeout(1); s.connect("\\0" + name)
def read(path):
    with open(path) as file: return file.read()
def write(path):
    with open(path, "w") as file: file.write("x")
def fork(most):
    started = 0
    try:
        for _ in range(most):
            if not os.fork():
                time.sleep(0.5)
                os._exit(0)
            started += 1
    except OSError:
        raise PermissionError
"""

_lock = threading.Lock()
_leaks: dict[tuple[Tier, tuple[str, ...]], tuple[str, ...]] = {}


def _new_lock() -> None:
    """In a fork of the host: a thread that held the old one is not there any more."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)


def available(tier: str = "strongest", container: Sequence[str] = ()) -> Tier:
    """The tier that is reached, after canaries tried it once in this process. Raises SandboxError with advice; never a weaker tier."""
    reached = chosen(Plan(Limits(), container=tuple(container)), tier)
    open_ways = leaks(reached, container)
    broken = [name for name in MUST_HOLD[reached] if name in open_ways]
    if broken:
        raise SandboxError(
            f"the tier {reached} does not hold here: canaries got through by {', '.join(broken)}. "
            "Run on Linux 5.13 or newer with Landlock and seccomp allowed, as root, or in a container"
        )
    return reached


def leaks(tier: Tier, container: Sequence[str] = ()) -> tuple[str, ...]:
    """The canaries that get through in a tier: what it does not stop on this machine."""
    key = tier, tuple(container)
    with _lock:
        if key not in _leaks:
            _leaks[key] = _try_everything(tier) if tier is not Tier.CONTAINER else ()
        return _leaks[key]


def _try_everything(tier: Tier) -> tuple[str, ...]:
    from core.sandbox.session import run

    with _bait() as calls:
        report = run(CANARIES, calls, Limits(wall=10, cpu=5), tier, probed=False)
    if report.stopped is not None:
        raise SandboxError(f"the canaries of the tier {tier} ended early: {report.stopped}; nothing can be said about this tier here")
    return tuple(call.function for call, result in zip(calls, report.values, strict=True) if isinstance(result, Returned))


@contextmanager
def _bait() -> Iterator[list[Call]]:
    """What there is to steal, reach or break, and the calls that try."""
    secret = secrets.token_bytes(32)
    folder = Path(tempfile.mkdtemp(prefix="ratchet-bait-"))
    try:
        folder.chmod(0o777)
        (folder / "secret").write_text(secret.hex(), encoding="ascii")
        (folder / "secret").chmod(0o644)
        calls = [
            Call("environment", (KNOWN_NAMES,)),
            Call("read", (str(folder / "secret"),)),
            Call("write", (str(folder / "written"),)),
            Call("signal", (os.getpid(),)),
        ]
        if sys.platform == "linux":
            calls += [Call("memory", (os.getpid(), id(secret) + 32, len(secret))), Call("trace", (os.getpid(),))]
        with contextlib.ExitStack() as listeners:
            tcp = listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
            calls.append(Call("tcp", (tcp.getsockname()[1],)))
            if sys.platform == "linux":
                abstract = listeners.enter_context(socket.socket(socket.AF_UNIX))
                name = f"ratchet-{secrets.token_hex(8)}"
                abstract.bind("\0" + name)
                abstract.listen()
                calls.append(Call("abstract", (name,)))
            yield [*calls, Call("fork", (FORKS,))]
    except OSError as error:
        raise SandboxError(f"the canaries could not be set up: {error}; is the disk full, or TMPDIR not writable?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
