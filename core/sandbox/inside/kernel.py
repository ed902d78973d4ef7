"""The few Linux calls that the standard library doesn't offer, through ctypes."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() in ("x86_64", "AMD64")
ARM = platform.machine() in ("aarch64", "arm64")

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
PIVOT_ROOT = 155 if X86 else 41
MOUNT_SETATTR = 442
CAPABILITY_VERSION_3 = 0x20080522

# fmt: off
NAMES = (
    "prctl", "setsid", "unshare", "mount", "chdir", "setgroups", "setresgid", "setresuid", "prlimit64", "capset", "openat", "close_range",
    "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
)
X86_NUMBERS = (157, 112, 272, 165, 80, 116, 119, 117, 302, 126, 257, 436, 444, 445, 446)
ARM_NUMBERS = (167, 157, 97, 40, 49, 159, 149, 147, 261, 91, 56, 436, 444, 445, 446)
# fmt: on
NUMBER = dict(zip(NAMES, X86_NUMBERS if X86 else ARM_NUMBERS, strict=True))


raw_syscall = ctypes.CDLL(None, use_errno=True)["syscall"]
raw_syscall.argtypes = (ctypes.c_long,) * 7
raw_syscall.restype = ctypes.c_long


class KernelRefused(OSError):
    """A call that isolation needs was refused; the text names it."""


def syscall(number: int, *args: int | bytes | ctypes.Array[ctypes.c_char] | None, name: str) -> int:
    """A raw system call; raises KernelRefused."""
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(LIBC.syscall(ctypes.c_long(number), *words), name)


def prctl(option: int, argument: int | ctypes.Array[ctypes.c_char] = 0, third: int | bytes | None = 0, name: str = "prctl") -> int:
    """prctl(2)."""
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (argument, third)]
    return _checked(LIBC.prctl(ctypes.c_int(option), *words, ctypes.c_ulong(0), ctypes.c_ulong(0)), name)


def unshare(flags: int, name: str) -> None:
    """unshare(2)."""
    _checked(LIBC.unshare(ctypes.c_int(flags)), f"unshare {name}")


def setns(descriptor: int, kind: int) -> None:
    """setns(2)."""
    _checked(LIBC.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    done = LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _checked(done, f"mount {source} on {target}")


def mount_attributes(path: str, attributes: int) -> None:
    """Add flags to a mount and to all below it."""
    packed = struct.pack("QQQQ", attributes, 0, 0, 0)
    syscall(MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), AT_RECURSIVE, packed, len(packed), name="mount_setattr (Linux 5.12 or newer)")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2), and the old root is gone."""
    syscall(PIVOT_ROOT, os.fsencode(new), os.fsencode(old), name="pivot_root")
    os.chdir("/")
    _checked(LIBC.umount2(os.fsencode("/" + os.path.basename(old)), ctypes.c_int(MNT_DETACH)), "umount")


def drop_capabilities() -> None:
    """All that this process holds. With no_new_privs and no uid 0 none can come back."""
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    _checked(LIBC.capset(header, bytes(24)), "capset")


def no_new_privileges() -> None:
    """No setuid program gives anything back."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, name="no_new_privs")


def _checked(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise KernelRefused(code, f"{name}: {os.strerror(code)}")
    return int(result)
