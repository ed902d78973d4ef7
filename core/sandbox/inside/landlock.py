"""Landlock: which files may be read and written, no TCP, no abstract sockets, no signals to and no tracing of whoever is outside."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Sequence

from core.sandbox.inside.kernel import KernelRefused, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
EVERYTHING_V1 = (1 << 13) - 1
MAKING_DEVICES = 1 << 6 | 1 << 11  # character and block devices
READING = EXECUTE | READ_FILE | READ_DIR
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
TCP = 3
ABSTRACT_AND_SIGNALS = 3


def version() -> int:
    """The kernel's Landlock ABI; 0 when it has none."""
    try:
        return syscall(CREATE_RULESET, None, 0, VERSION_FLAG, name="landlock")
    except KernelRefused:
        return 0


def restrict(readable: Sequence[str | int], writable: Sequence[str | int], devices: Sequence[str] = ()) -> None:
    """Confine this thread and its children for good. Paths that don't exist are left out; needs no_new_privs."""
    abi = version()
    handled = attributes(abi)
    rules = syscall(CREATE_RULESET, handled, len(handled), 0, name="landlock_create_ruleset")
    for path in readable:
        _allow(rules, path, READING)
    for path in writable:
        _allow(rules, path, writing(abi))
    for path in devices:
        _allow(rules, path, device_rights(abi))
    syscall(RESTRICT_SELF, rules, 0, name="landlock_restrict_self")
    os.close(rules)


def attributes(abi: int) -> bytes:
    """What a ruleset forbids where no rule allows it, as the kernel reads it."""
    packed = struct.pack("QQQ", _file_rights(abi), TCP if abi >= 4 else 0, ABSTRACT_AND_SIGNALS if abi >= 6 else 0)
    return packed[: 24 if abi >= 6 else 16 if abi >= 4 else 8]


def writing(abi: int) -> int:
    """The rights below a folder that may be written."""
    return _file_rights(abi) & ~MAKING_DEVICES & ~EXECUTE & ~IOCTL_DEV


def device_rights(abi: int) -> int:
    """The rights on a device file."""
    return (READ_FILE | WRITE_FILE | TRUNCATE) & _file_rights(abi)


def _file_rights(abi: int) -> int:
    return EVERYTHING_V1 | (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0) | (IOCTL_DEV if abi >= 5 else 0)


def _allow(rules: int, path: str | int, access: int) -> None:
    opened = path
    if isinstance(opened, str):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            opened = os.open(opened, os.O_PATH | os.O_CLOEXEC)
        if isinstance(opened, str):
            return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            access &= FOR_FILES
        syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", access, opened), 0, name="landlock_add_rule")
    finally:
        if opened is not path:
            os.close(opened)
