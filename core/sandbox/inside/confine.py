"""A check's confinement, worked out before its fork: the child makes raw calls in order and touches few pages, each of which is copied."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from typing import Any

from core.sandbox.inside import kernel, landlock, room, seccomp
from core.sandbox.inside.kernel import NUMBER, KernelRefused, raw_syscall
from core.sandbox.inside.limits import TASKS, bounds

CHANNEL = 3
ROOT = CHANNEL + 1  # then the devices: paths that Landlock's rules name, held open by the zygote
HELD = ROOT + 1 + len(room.DEVICES)
RULES, SCRATCH = HELD, HELD + 1
LAST = (1 << 32) - 1
Step = tuple[int, str, int, int, int, int, int, int, int]


def hold_paths() -> None:
    """Open what the rules name at the places they name. Only with all descriptors from ROOT to HELD free."""
    for place, path in enumerate(("/", *room.DEVICES), ROOT):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if opened != place:
            os.dup2(opened, place, inheritable=False)
            os.close(opened)


class Confinement:
    """All that must hold before a solution is read, for one kind of check."""

    def __init__(self, plan: Mapping[str, Any], own_uid: bool) -> None:
        self._kept: list[Any] = []
        limits, program = plan["limits"], bool(plan["command"])
        self.mechanisms = _mechanisms(own_uid)
        self._before = self._namespaces(limits)
        self._after = [*self._rights(limits, program), *self._files(), *self._filter(program)]

    def apply(self, uid: int | None) -> None:
        """For good. Raises KernelRefused at the first call that does not do what it has to."""
        for step in self._before:
            _make(step)
        if uid is not None:
            _make((0, "setgroups", NUMBER["setgroups"], 0, 0, 0, 0, 0, 0))
            _make((0, "setresgid", NUMBER["setresgid"], uid, uid, uid, 0, 0, 0))
            _make((0, "setresuid", NUMBER["setresuid"], uid, uid, uid, 0, 0, 0))
        for step in self._after:
            _make(step)

    def _namespaces(self, limits: Mapping[str, Any]) -> list[Step]:
        """A mount namespace with a folder of its own in it. Net, ipc, uts and cgroup are the zygote's."""
        scratch, tmp, kind = self._text("scratch"), self._text("/tmp"), self._text("tmpfs")
        options = self._text(room.scratch_options(int(limits["disk"])))
        return [
            _step("close_range", HELD, LAST),
            _step("prctl", kernel.PR_SET_PDEATHSIG, 9, name="pdeathsig"),
            _step("setsid", expected=1),
            _step("unshare", kernel.CLONE_NEWNS, name="unshare a check's mount namespace"),
            _step("mount", scratch, tmp, kind, kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options),
            _step("chdir", tmp),
        ]

    def _rights(self, limits: Mapping[str, Any], program: bool) -> list[Step]:
        capabilities = self._bytes(struct.pack("Ii", kernel.CAPABILITY_VERSION_3, 0))
        return [
            _step("unshare", kernel.CLONE_NEWUSER, name="unshare user namespace"),  # no ids mapped: nobody inside, for good
            *(
                _step("prlimit64", 0, kind, self._bytes(struct.pack("QQ", most, most)), name=f"setrlimit {kind}")
                for kind, most in bounds(limits, address_space=not program, tasks=TASKS)
            ),
            _step("capset", capabilities, self._bytes(bytes(24))),
            _step("prctl", kernel.PR_SET_DUMPABLE, 0, name="dumpable"),
            _step("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1, name="no_new_privs"),
        ]

    def _files(self) -> list[Step]:
        abi = landlock.version()
        attributes = landlock.attributes(abi)
        rules = [
            (ROOT, landlock.READING),
            *((place, landlock.device_rights(abi)) for place in range(ROOT + 1, HELD)),
            (SCRATCH, landlock.writing(abi)),
        ]
        return [
            _step("landlock_create_ruleset", self._bytes(attributes), len(attributes), 0, expected=RULES),
            _step("openat", kernel.AT_FDCWD, self._text("/tmp"), os.O_PATH | os.O_CLOEXEC, expected=SCRATCH),
            *(
                _step("landlock_add_rule", RULES, landlock.PATH_BENEATH, self._bytes(struct.pack("=Qi", access, place)), 0)
                for place, access in rules
            ),
            _step("landlock_restrict_self", RULES, 0),
            _step("close_range", ROOT, LAST),
        ]

    def _filter(self, program: bool) -> list[Step]:
        code = seccomp.build(program, 1, True)
        header = self._bytes(struct.pack("HxxxxxxP", len(code) // 8, self._bytes(code)))
        return [_step("prctl", kernel.PR_SET_SECCOMP, 2, header, name="seccomp")]

    def _text(self, text: str) -> int:
        return self._bytes(text.encode() + b"\0")

    def _bytes(self, content: bytes) -> int:
        """The address of a copy that lives as long as this."""
        block = ctypes.create_string_buffer(content, len(content))
        self._kept.append(block)
        return ctypes.addressof(block)


def _step(call: str, *words: int, expected: int = 0, name: str = "") -> Step:
    a, b, c, d, e, f = (*words, 0, 0, 0, 0, 0, 0)[:6]
    return expected, name or call, NUMBER[call], a, b, c, d, e, f


def _make(step: Step) -> None:
    expected, name, number, a, b, c, d, e, f = step
    found = raw_syscall(number, a, b, c, d, e, f)
    if found != expected:
        code = ctypes.get_errno() if found < 0 else 0
        raise KernelRefused(code, f"{name}: {os.strerror(code) if code else f'gave {found} for {expected}'}")


def _mechanisms(own_uid: bool) -> list[str]:
    return [
        "value protocol",
        "user, pid, mount, net, ipc, uts, cgroup namespaces",
        "own root, read only",
        "no capabilities",
        "rlimits",
        f"landlock {landlock.version()}",
        "seccomp",
        *(["own uid"] if own_uid else []),
    ]
