"""The process tier: a fresh interpreter that gives up its rights before it sees the solution. Also the container tier's prefix."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from core.errors import SandboxError
from core.sandbox.child import Ends, Plan, explain
from core.sandbox.inside.limits import may_choose_uids
from core.sandbox.records import Tier, Usage

INSIDE = Path(__file__).parent / "inside"
FLAGS = ("-s", "-P", "-S", "-X", "utf8")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "OPENSSL_CONF": "/dev/null"}
FIRST_UID, UIDS = 1_879_048_192, 1 << 26
BUNDLED = ("values", "worker", "limits", "start")
HOUSE = """
import sys, types
for name, path in (("core", []), ("core.sandbox", [{folder!r}])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
"""
FROM_FOLDER = HOUSE + "from core.sandbox.inside.start import main\nmain(sys.argv[1])"
FROM_TEXT = (
    HOUSE
    + """
sys.modules["core.sandbox.inside"] = types.ModuleType("core.sandbox.inside")
sys.modules["core.sandbox.inside"].__path__ = []
for name, text in {texts!r}:
    module = sys.modules["core.sandbox.inside." + name] = types.ModuleType("core.sandbox.inside." + name)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
sys.modules["core.sandbox.inside.start"].main(sys.argv[1])
"""
)


class ProcessChild:
    """One interpreter process, or a container's client that speaks for one."""

    def __init__(self, plan: Plan) -> None:
        self.tier = Tier.CONTAINER if plan.container else Tier.PROCESS
        self.ending = -1
        self.ends = Ends(plan.program)
        self.scratch: str | None = None
        self.disk = plan.limits.disk
        self.usage: Usage | None = None
        self.looked = time.monotonic()
        own = not plan.container and may_choose_uids(FIRST_UID, UIDS)
        uid = FIRST_UID + secrets.randbelow(UIDS) if own else None
        try:
            if not plan.container:
                self.scratch = _scratch(uid)
            self.process = _launched(lambda: self._start(plan, uid))
        except SandboxError:
            self.ends.close()
            self._clear()
            raise
        except OSError as error:
            self.ends.close()
            self._clear()
            raise explain(error, "a sandbox process") from error
        self.ends.close_far()

    def finished(self) -> bool:
        if self.usage is None:
            self._reap(os.WNOHANG)
        return self.usage is not None

    def finish(self) -> Usage:
        if self.usage is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reap(0)
        return self.usage or Usage()

    def release(self) -> None:
        self.ends.close()
        self._clear()

    def full(self) -> bool:
        """Looks at the scratch folder ten times a second, at most at as many files as one could fear."""
        if self.scratch is None or time.monotonic() - self.looked < 0.1:
            return False
        self.looked = time.monotonic()
        used = 0
        try:
            for folder, folders, files in itertools.islice(os.walk(self.scratch), 1000):
                used += 4096 * (len(folders) + len(files))
                for name in files:
                    with contextlib.suppress(OSError):
                        used += os.lstat(os.path.join(folder, name)).st_blocks * 512
        except RecursionError:
            return True
        return used > self.disk

    def out_of_memory(self) -> bool:
        return False

    def _start(self, plan: Plan, uid: int | None) -> subprocess.Popen[bytes]:
        inside = bool(plan.container)
        facts = {
            "in": 0 if inside else self.ends.far_channel,
            "out": 1 if inside else self.ends.far_channel,
            "limits": plan.limits.as_dict(),
            "program": plan.program,
            "command": plan.command,
            "ours": plan.ours,
            "uid": uid,
            "scratch": self.scratch,
            "harden": not inside,
            "host": os.getpid(),
        }
        interpreter = [*plan.container, "python3"] if inside else [base_interpreter()]
        bootstrap = bundle() if inside else FROM_FOLDER.format(folder=str(INSIDE.parent))
        stdin = self.ends.far_channel if inside else self.ends.far_input if plan.program else subprocess.DEVNULL
        return subprocess.Popen(
            [*interpreter, *FLAGS, "-c", bootstrap, json.dumps(facts)],
            stdin=stdin,
            stdout=self.ends.far_channel if inside else self.ends.far_output,
            stderr=self.ends.far_output if inside else self.ends.far_errors,
            pass_fds=() if inside else (self.ends.far_channel,),
            env=None if inside else ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )

    def _reap(self, options: int) -> None:
        try:
            pid, status, used = os.wait4(self.process.pid, options)
        except ChildProcessError:  # the host reaps all its children itself
            self.usage = Usage()
            self.process.returncode = 0
            return
        if pid:
            self.process.returncode = os.waitstatus_to_exitcode(status)
            peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            self.usage = Usage(self.process.returncode, used.ru_utime + used.ru_stime, peak)

    def _clear(self) -> None:
        """Remove the scratch folder. What the solution made of it (links, rights taken away) can lead nowhere else."""
        if self.scratch is None:
            return

        with contextlib.suppress(OSError, RecursionError):
            for folder, names, _ in os.walk(self.scratch):
                for path in (os.path.join(folder, name) for name in names):
                    if not os.path.islink(path):
                        os.chmod(path, 0o700)
        with contextlib.suppress(RecursionError):
            shutil.rmtree(self.scratch, ignore_errors=True)
        if os.path.lexists(self.scratch):  # too deep for Python
            subprocess.run(["rm", "-rf", "--", self.scratch], check=False, capture_output=True)
        self.scratch = None


def _scratch(uid: int | None) -> str:
    try:
        folder = tempfile.mkdtemp(prefix="ratchet-")
    except OSError as error:
        raise SandboxError(f"no scratch folder for a sandbox: {error}; free some space, or set TMPDIR to a folder with some") from error
    if uid is not None:
        os.chown(folder, uid, uid)
    return folder


@cache
def _launchers(pid: int) -> ThreadPoolExecutor:
    """Children die with the thread that started them, so one thread that lives as long as its process starts them all."""
    return ThreadPoolExecutor(1, f"sandbox-{pid}")


def _launched(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    try:
        return _launchers(os.getpid()).submit(start).result()
    except RuntimeError as error:
        raise SandboxError(f"a sandbox process could not be started: {error}; raise `ulimit -u`") from error


@cache
def base_interpreter() -> str:
    """The interpreter itself, outside of any virtual environment."""
    path = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    if not os.path.isfile(path):
        raise SandboxError(f"no Python interpreter at {path!r}: start Ratchet with an interpreter that is a file on disk")
    return path


@cache
def bundle() -> str:
    """The far side as one text, for a container that holds no Ratchet."""
    texts = tuple((name, (INSIDE / f"{name}.py").read_text(encoding="utf-8")) for name in BUNDLED)
    return FROM_TEXT.format(folder="", texts=texts)
