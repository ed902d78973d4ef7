"""Slots: small files that say which adapter of the registry serves, so that a worker moves to another one without a restart.

    <registry>/slots/math.json      the slot "math", replaced whole at each change
    <registry>/math/7-1a2b3c4d/     version 7 of the adapter "math", which never changes

A slot is written by compare-and-set on its epoch, and read by any number of processes at any moment. One that can't be read is an error
and never means "serve the base": that would answer with weights that nobody chose.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from core.errors import AdapterError, ConfigError
from core.served import spec_of
from core.types import Record

SLOTS = "slots"
PREFIX = "slot:"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
REFERENCE = re.compile(rf"({NAME.pattern})@([1-9][0-9]{{0,8}})")
VERSION = re.compile(r"([1-9][0-9]{0,8})-([0-9a-f]{8})")

Arm = Literal["champion", "canary", "base"]
_read: dict[Path, tuple[tuple[int, int], Slot]] = {}


@dataclass(frozen=True, slots=True)
class Slot(Record):
    """What serves. `base` is the model's name as in the settings, for when there is no champion; the others are references, "math@7".

    `share` of the traffic, 0 to 1, goes to the canary. `epoch` grows by one at each change; one that was never written has 0.
    """

    name: str
    base: str
    champion: str | None = None
    canary: str | None = None
    previous: str | None = None
    share: float = 0.0
    epoch: int = 0

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not isinstance(self.base, str) or not self.base.strip():
            raise ConfigError(f"the slot {self.name} has no base: name the model that serves when there is no champion")
        if slot_of(self.base):
            raise ConfigError(f"the base of the slot {self.name} is {self.base!r}: it must be a model, and no other slot")
        for reference in (self.champion, self.canary, self.previous):
            if reference is not None:
                parse_reference(reference)
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 <= self.share <= 1:
            raise ConfigError(f"the share of the slot {self.name} is {self.share!r}: choose one from 0 to 1")
        if isinstance(self.epoch, bool) or not isinstance(self.epoch, int) or self.epoch < 0:
            raise ConfigError(f"the epoch of the slot {self.name} is {self.epoch!r}: it counts changes from 0")

    @property
    def references(self) -> tuple[str, ...]:
        """The adapters that it names: champion, canary, previous, as far as there are any."""
        return tuple(each for each in (self.champion, self.canary, self.previous) if each)


@dataclass(frozen=True, slots=True)
class Served(Record):
    """Which model answers a key: `spec` as `core.providers.connect` takes it, `reference` None where it is the base."""

    spec: str
    arm: Arm
    reference: str | None
    epoch: int


def read(registry: str | Path, name: str) -> Slot:
    """The slot as it is now. Raises AdapterError when it isn't there, or is damaged."""
    path = _path(registry, name)
    try:
        stat = os.stat(path)
    except OSError as error:
        raise _missing(Path(registry), name, error) from error
    stamp = stat.st_mtime_ns, stat.st_ino  # the first grows at every write, so that it tells all of them apart
    known = _read.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    slot = _load(path, name)
    _read[path] = stamp, slot
    return slot


def write(registry: str | Path, slot: Slot, expected_epoch: int, *, before: Callable[[Slot], None] | None = None) -> Slot:
    """Replace the slot if its epoch is the expected one (0: it must not be there yet), and return it with the next epoch.

    `before` is called under the lock with what is about to be written: what it raises leaves the slot as it was. Raises AdapterError
    when another was quicker.
    """
    path = _path(registry, slot.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{slot.name}.lock")):
            there = _load(path, slot.name) if path.exists() else None
            epoch = there.epoch if there else 0
            if epoch != expected_epoch:
                told = f"has changed (epoch {epoch}, not {expected_epoch})" if there else "is not there"
                raise AdapterError(f"the slot {slot.name} in {registry} {told}: read it again, and decide on what it says now")
            new = slot.replace(epoch=epoch + 1)
            if before:
                before(new)
            replace_file(path, _text(new), newer_than=path.stat().st_mtime_ns if there else 0)
            return new
    except OSError as error:
        raise AdapterError(f"can't write the slot {slot.name} in {registry} ({error}): it is as it was") from error


def names(registry: str | Path) -> list[str]:
    """The slots there are."""
    return sorted(path.stem for path in (Path(registry) / SLOTS).glob("*.json") if NAME.fullmatch(path.stem))


def locate(registry: str | Path, reference: str) -> Path:
    """The directory of that version. Raises AdapterError when there is none."""
    name, version = parse_reference(reference)
    folder = Path(registry) / name
    found = sorted(path for path in folder.glob(f"{version}-*") if VERSION.fullmatch(path.name) and path.is_dir())
    if len(found) > 1:
        raise AdapterError(f"{reference} is there {len(found)} times in {folder}: remove what is not from `ratchet adapters list`")
    if found:
        return found[0]
    if not Path(registry).is_dir():
        raise AdapterError(f"there is no registry {registry} to find {reference} in: set REGISTRY to the folder of your adapters")
    versions = sorted(int(path.name.partition("-")[0]) for path in folder.glob("*-*") if VERSION.fullmatch(path.name))
    there = f"{name} has {', '.join(map(str, versions[-5:]))}" if versions else f"there is no adapter {name}"
    raise AdapterError(f"there is no {reference} in {registry}: {there}; see `ratchet adapters list`")


def serving(registry: str | Path, name: str, key: str) -> Served:
    """What answers that key. The same key keeps its arm as long as the canary and its share stay."""
    return choose(read(registry, name), key)


def choose(slot: Slot, key: str) -> Served:
    """The same of a slot that was read. A larger share only moves keys to the canary, a smaller one only moves them back."""
    if slot.canary and in_canary(slot, key):
        return Served(spec_of(slot.base, slot.canary), "canary", slot.canary, slot.epoch)
    if slot.champion:
        return Served(spec_of(slot.base, slot.champion), "champion", slot.champion, slot.epoch)
    return Served(slot.base, "base", None, slot.epoch)


def in_canary(slot: Slot, key: str) -> bool:
    """Sticky: by a hash of the slot's name, the canary and the key, against the share. No key, no canary."""
    if not key:
        return False
    digest = hashlib.sha256("\0".join((slot.name, slot.canary or "", key)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < slot.share * 2**64


def slot_of(spec: str) -> str | None:
    """ "math" of "slot:math", None for the name of any other model. Raises ConfigError for a slot that can't be."""
    spec = spec.strip()
    return checked_name(spec.removeprefix(PREFIX)) if spec.startswith(PREFIX) else None


def parse_reference(reference: str) -> tuple[str, int]:
    """("math", 7) of "math@7". Raises ConfigError for anything else."""
    match = REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if match is None:
        raise ConfigError(f"{reference!r} is no adapter reference: write NAME@VERSION, such as math@7")
    return checked_name(match[1]), int(match[2])


def checked_name(name: str) -> str:
    """The name, if a slot or an adapter may have it. Raises ConfigError when not."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == SLOTS:
        raise ConfigError(
            f"{name!r} can't be a name: up to 64 small letters, digits, dots, - and _, the first a letter or digit; not {SLOTS!r}"
        )
    return name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes and threads; a killed process leaves no lock behind. Raises OSError when it can't be written."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str, *, newer_than: int = 0) -> None:
    """Write the file whole or not at all, also when the machine stops. Its time of change, in ns, is later than `newer_than`."""
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        stat = part.stat()
        os.utime(part, ns=(stat.st_atime_ns, max(stat.st_mtime_ns, newer_than + 1)))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were given in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=256)
def _path(registry: str | Path, name: str) -> Path:
    return Path(registry) / SLOTS / f"{checked_name(name)}.json"


def _missing(registry: Path, name: str, error: OSError) -> AdapterError:
    if not registry.is_dir():
        return AdapterError(f"there is no registry {registry} with a slot {name}: set REGISTRY to the folder of your adapters")
    if isinstance(error, FileNotFoundError):
        there = ", ".join(names(registry)) or "none"
        return AdapterError(f"there is no slot {name} in {registry} (there: {there}): make it with `ratchet adapters promote NAME@VERSION`")
    return AdapterError(f"can't read the slot {name} in {registry} ({error}): nothing is served in its place")


def _load(path: Path, name: str) -> Slot:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop("sha256")
        slot = Slot(**values)
        if digest != _digest(values) or slot.name != name:
            raise ValueError("its hash is another one")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise AdapterError(f"the slot file {path} is damaged ({error}): restore it, or remove it and promote an adapter again") from error
    return slot


def _text(slot: Slot) -> str:
    values = slot.as_dict()
    return json.dumps({**values, "sha256": _digest(values)}, indent=2) + "\n"


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
