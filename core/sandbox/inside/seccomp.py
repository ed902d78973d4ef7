"""The system calls that code in a sandbox may make: a list of what is allowed, and EPERM for all else.

No processes (threads only), no sockets but a stream pair, no tracing, mounting, keys, io_uring, bpf, memfd, user faults. Numbers for x86-64
and AArch64; a call from any other architecture, x32 included, kills.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from functools import cache

from core.sandbox.inside.kernel import ARM, PR_SET_SECCOMP, X86, KernelRefused, prctl

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
DENY = ERRNO | EPERM
LOAD, EQUAL, AT_LEAST, ABOVE, ANY_BIT, RETURN, AND = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06, 0x54
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
X32 = 0x40000000
CLONE_THREAD = 0x10000
NAMESPACES = 0x7E020080
AF_UNIX, SOCK_STREAM, SOCK_KIND = 1, 1, 0xF
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal, its size, bytes waiting, blocking, close on exec
PRCTL_NAMES = (15, 16)
FCNTL_OWNERS = (8, 10, 15)  # who gets a signal, and which

Span = tuple[int, int]
# fmt: off
X86_ALLOWED: tuple[int | Span, ...] = (
    (0, 15), (17, 28), (32, 36), (37, 40), 44, 45, 46, 47, 48, 51, 52, 55, 60, 61, 63, (73, 75), (77, 89), (95, 100), 102, 104, (107, 108),
    (110, 111), 115, 118, 120, 121, 124, 125, 127, 128, (130, 131), (137, 138), 140, 143, (145, 147), 186, 201, 202, 204, 213, (217, 219),
    221, (228, 233), 247, (257, 258), (262, 267), (269, 271), 273, 281, 285, (290, 293), (295, 296), 316, 318, 324, 332, 334,
    (436, 437), 439, 441,
)
ARM_ALLOWED: tuple[int | Span, ...] = (
    17, (19, 24), 32, (34, 38), (43, 44), (46, 50), (56, 57), 59, (61, 73), (78, 80), (82, 83), 90, (93, 96), (98, 99), (101, 103),
    (113, 115), 120, 121, (123, 126), 128, (132, 137), 139, 141, 148, 150, 153, (155, 156), 158, 160, 163, (165, 166), 169, (172, 179),
    204, 205, 206, 207, 209, 210, 211, 212, (214, 216), (222, 223), (226, 227), (232, 233), 260, 276, 278, 283, 291, 293,
    (436, 437), 439, 441,
)
# fmt: on
X86_ATTRIBUTES: tuple[int | Span, ...] = (76, (90, 91), 132, 235, 261, 268, 280)  # truncate, chmod, utime by path: Landlock lets them by
ARM_ATTRIBUTES: tuple[int | Span, ...] = (45, (52, 53), 88)
NAMED = ("kill", "tkill", "tgkill", "clone", "socketpair", "ioctl", "prctl", "prlimit64", "fcntl", "execve", "arch_prctl")
X86_NAMED = dict(zip(NAMED, (62, 200, 234, 56, 53, 16, 157, 302, 72, 59, 158), strict=True))
ARM_NAMED = dict(zip(NAMED, (129, 130, 131, 220, 199, 29, 167, 261, 25, 221, -1), strict=True))
CLONE3 = 435


def install(program: bool, pid: int, private_files: bool) -> None:
    """Filter this process for good. A program may exec; a session may not. Needs no_new_privs.

    `private_files`: no file of anybody else is in sight, so that rights and times may be changed.
    """
    code = build(program, pid, private_files)
    block = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(block))
    prctl(PR_SET_SECCOMP, 2, header, name="seccomp")


@cache
def build(program: bool, pid: int, private_files: bool) -> bytes:
    """The filter as the kernel reads it."""
    if not (X86 or ARM):
        raise KernelRefused(ENOSYS, "seccomp: only x86-64 and AArch64 are known")
    named = X86_NAMED if X86 else ARM_NAMED
    code = [_op(LOAD, ARCHITECTURE), _op(EQUAL, 0xC000003E if X86 else 0xC00000B7, 1, 0), _op(RETURN, KILL), _op(LOAD, NUMBER)]
    if X86:
        code += [_op(AT_LEAST, X32, 0, 1), _op(RETURN, KILL)]
    allowed = X86_ALLOWED if X86 else ARM_ALLOWED
    attributes = X86_ATTRIBUTES if X86 else ARM_ATTRIBUTES
    for low, high in _spans((*allowed, *attributes) if private_files else allowed):
        code += [_op(AT_LEAST, low, 0, 2), _op(ABOVE, high, 1, 0), _op(RETURN, ALLOW)]
    if program:
        code += [op for name in ("execve", "arch_prctl") if named[name] >= 0 for op in (_op(EQUAL, named[name], 0, 1), _op(RETURN, ALLOW))]
    for name in ("kill", "tgkill"):
        code += _when(named[name], _argument_is(0, (pid,)))
    code += _when(named["tkill"], _argument_is(0, (pid,)))
    code += _when(named["prlimit64"], _argument_is(0, (0, pid)))
    code += _when(named["prctl"], _argument_is(0, PRCTL_NAMES))
    code += _when(named["ioctl"], _argument_is(1, IOCTLS))
    code += _when(named["fcntl"], _argument_is(1, FCNTL_OWNERS, DENY, ALLOW))
    code += _when(named["clone"], _a_thread())
    code += _when(named["socketpair"], _a_stream_pair())
    code += [_op(EQUAL, CLONE3, 0, 1), _op(RETURN, ERRNO | ENOSYS), _op(RETURN, DENY)]
    return b"".join(code)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """A body that ends in a return, for one call."""
    return [_op(EQUAL, number, 0, len(body)), *body]


def _argument_is(place: int, values: Iterable[int], then: int = ALLOW, otherwise: int = DENY) -> list[bytes]:
    chosen = tuple(values)
    tests = [_op(EQUAL, value, len(chosen) - i, 0) for i, value in enumerate(chosen)]
    return [_op(LOAD, ARGUMENTS + 8 * place), *tests, _op(RETURN, otherwise), _op(RETURN, then)]


def _a_thread() -> list[bytes]:
    return [
        _op(LOAD, ARGUMENTS),
        _op(ANY_BIT, NAMESPACES, 1, 0),
        _op(ANY_BIT, CLONE_THREAD, 1, 0),
        _op(RETURN, DENY),
        _op(RETURN, ALLOW),
    ]


def _a_stream_pair() -> list[bytes]:
    return [
        _op(LOAD, ARGUMENTS),
        _op(EQUAL, AF_UNIX, 0, 3),
        _op(LOAD, ARGUMENTS + 8),
        _op(AND, SOCK_KIND),
        _op(EQUAL, SOCK_STREAM, 1, 0),
        _op(RETURN, DENY),
        _op(RETURN, ALLOW),
    ]


def _spans(allowed: Iterable[int | Span]) -> list[Span]:
    return [(item, item) if isinstance(item, int) else item for item in allowed]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
