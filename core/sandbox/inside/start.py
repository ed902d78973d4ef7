"""The far side of the process and container tiers: a fresh interpreter that gives up what it can, then serves or runs one program."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import CodeType
from typing import Any

from core.sandbox.inside.limits import set_limits
from core.sandbox.inside.values import to_frame
from core.sandbox.inside.worker import first_message, run_as_main, serve

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def main(argument: str) -> None:
    """`argument` is JSON written by the launcher."""
    plan: dict[str, Any] = json.loads(argument)
    incoming, outgoing = _channel(plan)
    try:
        mechanisms = give_up(plan)
    except (OSError, ValueError) as error:
        os.write(outgoing, to_frame(["broken", str(error)[:500]]))
        os._exit(1)
    os.write(outgoing, to_frame(["hello", mechanisms]))
    sys.dont_write_bytecode = True
    forget_the_house()
    work(incoming, outgoing, plan["program"], compile(plan["ours"], "ours.py", "exec", dont_inherit=True))


def work(incoming: int, outgoing: int, program: bool, ours: CodeType) -> None:
    """Serve calls, or become the one program that the parent sends. Does not return."""
    if not program:
        serve(incoming, outgoing, ours)
        os._exit(0)
    command, name, source = first_message(incoming)
    os.close(incoming)
    if outgoing not in (incoming, 1):
        os.close(outgoing)
    if not command:
        os._exit(run_as_main(source, name))
    with open(name, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    try:
        os.execve(command[0], [*command, name], dict(os.environ))
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def give_up(plan: dict[str, Any]) -> list[str]:
    """Rights and resources, for good; returns the mechanisms that hold."""
    mechanisms = ["value protocol", "fresh interpreter", "rlimits", "clean environment"]
    uid = plan.get("uid")
    command = plan.get("command") or []
    if sys.platform == "linux" and plan.get("harden"):
        from core.sandbox.inside import kernel, landlock, seccomp  # noqa: F401  another uid may not be able to read them
    libraries = _keep_the_library(uid is not None)
    if plan.get("scratch"):
        os.chdir(plan["scratch"])
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        mechanisms.append("own uid")
    set_limits(plan["limits"], address_space=not command, own_uid=uid is not None)
    if sys.platform == "linux" and plan.get("harden"):
        mechanisms += _harden(plan, libraries, command)
    return mechanisms


def _harden(plan: dict[str, Any], libraries: list[str | int], command: list[str]) -> list[str]:
    """What Linux offers a single process without namespaces."""
    from core.sandbox.inside import landlock, seccomp
    from core.sandbox.inside.kernel import ARM, PR_SET_DUMPABLE, PR_SET_PDEATHSIG, X86, no_new_privileges, prctl

    done = ["no new privileges"]
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, name="pdeathsig")  # only now: a change of uid forgets it
    if os.getppid() != plan["host"]:
        os._exit(1)
    prctl(PR_SET_DUMPABLE, 1, name="dumpable")
    no_new_privileges()
    if landlock.version():
        landlock.restrict([*LIBRARIES, *libraries, *command[:1]], [plan["scratch"]], DEVICES)
        done.append(f"landlock {landlock.version()}")
    if X86 or ARM:
        seccomp.install(program=bool(command), pid=os.getpid(), private_files=False)
        done.append("seccomp")
    return done


def _channel(plan: dict[str, Any]) -> tuple[int, int]:
    """Where the protocol runs. Over stdin and stdout it moves away from there, and what is printed goes to stderr."""
    if plan["in"] != 0:
        return plan["in"], plan["out"]
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return incoming, outgoing


def _keep_the_library(loses_rights: bool) -> list[str | int]:
    """The standard library's folders. Where an own uid could not walk to them, through descriptors that are opened before."""
    folders = [path for path in sys.path if os.path.isdir(path)]
    if not loses_rights or sys.platform != "linux":
        return list(folders)
    opened: list[str | int] = []
    for path in folders:
        descriptor = os.open(path, os.O_PATH)
        sys.path[sys.path.index(path)] = f"/proc/self/fd/{descriptor}"
        opened.append(descriptor)
    sys.path_importer_cache.clear()
    return opened


def forget_the_house() -> None:
    """A solution finds no module of ours to import."""
    for name in [name for name in sys.modules if name == "core" or name.startswith("core.")]:
        del sys.modules[name]
