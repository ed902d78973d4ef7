"""Resource limits of one process."""

from __future__ import annotations

import contextlib
import math
import os
import resource
from collections.abc import Mapping
from typing import Any

FILES = 64
TASKS = 64


def may_choose_uids(first: int, count: int) -> bool:
    """Whether this is a root that can become any uid of a range; the root of a rootless container can't."""
    if os.geteuid() != 0 or os.uname().sysname != "Linux":
        return False
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        mapped = [tuple(map(int, line.split())) for line in lines]
    return any(inside <= first and first + count <= inside + length for inside, _, length in mapped)


def set_limits(limits: Mapping[str, Any], address_space: bool, own_uid: bool) -> None:
    """For good. Interpreters that reserve address space without using it are bounded by what they write to instead."""
    counted = hasattr(resource, "RLIMIT_NPROC") and (own_uid or os.uname().sysname == "Linux")
    tasks = TASKS + (0 if own_uid else _tasks_of_this_user()) if counted else None
    for kind, most in bounds(limits, address_space, tasks):
        with contextlib.suppress(ValueError, OSError):  # macOS knows some limits that it doesn't keep
            resource.setrlimit(kind, (most, most))


def bounds(limits: Mapping[str, Any], address_space: bool, tasks: int | None) -> list[tuple[int, int]]:
    """Each kind of limit with what it is set to, as far as this process may still choose."""
    wanted = [
        (resource.RLIMIT_CPU, math.ceil(limits["cpu"])),  # with no soft limit below: pid 1 would not see its signal
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, int(limits["disk"])),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_AS if address_space else resource.RLIMIT_DATA, int(limits["memory"])),
    ]
    if hasattr(resource, "RLIMIT_MSGQUEUE"):
        wanted.append((resource.RLIMIT_MSGQUEUE, 0))
    if hasattr(resource, "RLIMIT_MEMLOCK"):
        wanted.append((resource.RLIMIT_MEMLOCK, 0))
    if tasks is not None:
        wanted.append((resource.RLIMIT_NPROC, tasks))
    return [(kind, _possible(kind, most)) for kind, most in wanted]


def _possible(kind: int, wanted: int) -> int:
    _, ceiling = resource.getrlimit(kind)
    return wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)


def _tasks_of_this_user() -> int:
    """Threads this user has already: the limit counts them too."""
    uid, count = os.getuid(), 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == uid:
                        count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count
