"""The file system of the namespaces tier: an empty tmpfs with what an interpreter needs bound into it, read only; no /proc, no /sys.

The binds are made before any uid changes, so that an interpreter in somebody's home works for a uid that could not walk there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from core.sandbox.inside.kernel import (
    ATTR_NODEV,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MS_BIND,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    mount,
    mount_attributes,
    pivot_root,
)

SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/bin")
DATA = ("/usr/local/lib", "/usr/share/zoneinfo", "/usr/share/nodejs", "/etc/ld.so.cache", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SITE = "/proc"  # nothing that is to be bound lies below it
OLD = ".old"


def build(interpreter: Iterable[str]) -> None:
    """Make the new root of this mount namespace and move into it."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    sources = [path for path in (*SYSTEM, *DATA, *interpreter) if os.path.lexists(path)]
    mount("sandbox", SITE, "tmpfs", MS_NOSUID, "size=1m,nr_inodes=1k,mode=755")
    for path in _outermost(sources):
        _bring(path)
    for path in DEVICES:
        _bind(path, ATTR_RDONLY | ATTR_NOSUID)
    for name in ("tmp", OLD):
        os.mkdir(f"{SITE}/{name}", 0o755)
    pivot_root(SITE, f"{SITE}/{OLD}")
    with contextlib.suppress(OSError):
        os.rmdir(f"/{OLD}")
    mount_attributes("/", ATTR_RDONLY | ATTR_NOSUID)


def scratch_options(size: int) -> str:
    """How a check's own writable folder is mounted."""
    return f"size={max(size, 4096)},nr_inodes=1k,mode=1777"


def _bring(path: str) -> None:
    if os.path.islink(path):
        _parents(path)
        os.symlink(os.readlink(path), SITE + path)
    else:
        _bind(path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)


def _bind(path: str, attributes: int) -> None:
    target = SITE + path
    _parents(path)
    if os.path.isdir(path):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(path, target, None, MS_BIND | MS_REC)
    mount_attributes(target, attributes)


def _parents(path: str) -> None:
    os.makedirs(SITE + os.path.dirname(path), 0o755, exist_ok=True)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie inside another of them."""
    chosen: list[str] = []
    for path in sorted(set(paths)):
        real = os.path.dirname(path) if os.path.islink(path) else path
        if not any(real == other or real.startswith(other.rstrip("/") + "/") for other in chosen):
            chosen.append(path)
    return chosen
