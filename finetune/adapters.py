"""The registry's writing side: versions that never change, a journal of what became of them, and the slots that say which of them serve.

    <registry>/math/7-1a2b3c4d/   version 7: weights, config, tokenizer, manifest.json
    <registry>/slots/math.json    what serves (core.slots)
    <registry>/journal.jsonl      one line a change: who, when, why, on what statistics

A version appears whole, under its name, or not at all. A change of a slot is written to the journal first and to the slot then, under
the slot's lock; where a process was killed in between, the slot is right.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from core import slots
from core.config import EMBEDDED
from core.errors import AdapterError, ConfigError
from core.providers import parse_model
from core.providers.loading import EMBEDDED_DIRECTORY, base_of
from core.providers.registered import CONFIG, MANIFEST, WEIGHTS, base_sha256, check_base, check_template, sha256_of
from core.slots import Slot, locate, locked, parse_reference
from core.types import Record
from finetune.adapter_files import check_files, copy_adapter, sync_files
from finetune.dataset import Dataset
from finetune.history import Entry, History, State, What, plain, states
from finetune.manifest import Manifest, prove, read_manifest, register, write_manifest

__all__ = ["CONFIG", "MANIFEST", "WEIGHTS", "Manifest", "Registry", "Version", "prove", "read_manifest", "register"]

PART = ".part-"


class Decided(Protocol):
    """What a gate says, such as `finetune.gate.Decision`: a record with these two and its statistics."""

    @property
    def promoted(self) -> bool:
        """True when the candidate may serve."""
        ...

    @property
    def reason(self) -> str:
        """Why, or why not."""
        ...


@dataclass(frozen=True, slots=True)
class Version(Record):
    """An adapter of the registry. `problem` says what is wrong with its files, as far as it was looked for; then manifest is None."""

    reference: str
    folder: Path
    state: State
    manifest: Manifest | None
    problem: str = ""


class Registry:
    """A folder of adapters. Any number of processes may use it. `who` stands in the journal; by default the user's name."""

    def __init__(self, folder: str | Path = "adapters", *, who: str = "", now: Callable[[], float] = time.time) -> None:
        self.folder = Path(folder)
        self._history, self._now = History(self.folder, who, now), now

    def add(
        self,
        adapter_dir: str | Path,
        name: str,
        *,
        dataset: Dataset | Mapping[str, Any] | None = None,
        run: str = "",
        evaluation: Record | Mapping[str, Any] | None = None,
        why: str = "",
    ) -> Version:
        """Copy a trained adapter in as the next version of `name`, a candidate. The directory has the manifest that training leaves.

        With a `run` a second call for the same weights gives the version that is there. Raises AdapterError, with the reason, for an
        adapter that is damaged, has no manifest, or does not fit its base.
        """
        slots.checked_name(name)
        source = Path(adapter_dir)
        check_files(source)
        found = read_manifest(source)
        check_base(source, found.as_dict())
        check_template(source, found.as_dict())
        shelf = self.folder / name
        try:
            shelf.mkdir(parents=True, exist_ok=True)
            with _part(shelf) as part:
                copy_adapter(source, part)
                with locked(shelf / ".lock"):
                    for there in self.list(name) if run else ():
                        if there.manifest and (there.manifest.run, there.manifest.weights_sha256) == (run, found.weights_sha256):
                            return there
                    version = self._next(name)
                    manifest = found.replace(
                        base=base_of(str(part)),
                        base_sha256=found.base_sha256 or base_sha256(base_of(str(part))),
                        config_sha256=sha256_of(part / CONFIG),
                        name=name,
                        version=version,
                        created=self._now(),
                        run=run or found.run,
                        dataset=_dataset(dataset) or found.dataset,
                        trace_ids=found.trace_ids or _traces(dataset),
                        evaluation=plain(evaluation or found.evaluation),
                    )
                    write_manifest(part, manifest)
                    read_manifest(part)  # what was copied is what was trained
                    sync_files(part)
                    folder = shelf / f"{version}-{manifest.weights_sha256[:8]}"
                    os.rename(part, folder)
                    slots.sync_folder(shelf)
        except OSError as error:
            raise AdapterError(f"can't add {source} to the registry {self.folder} ({error}): nothing was added") from error
        try:
            self._history.append(Entry("add", manifest.reference, {manifest.reference: "candidate"}, why=why))
        except AdapterError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Version(manifest.reference, folder, "candidate", manifest)

    def list(self, name: str | None = None) -> tuple[Version, ...]:
        """All versions, or those of one adapter, by name and number. Their files are not read: `check` does."""
        known = self.states()
        found: tuple[Version, ...] = ()
        shelves = [path for path in self.folder.glob("*") if slots.NAME.fullmatch(path.name)]
        for shelf in sorted(shelves) if name is None else [self.folder / slots.checked_name(name)]:
            versions = [(int(match[1]), path) for path in shelf.glob("*-*") if (match := slots.VERSION.fullmatch(path.name))]
            found += tuple(self._peek(f"{shelf.name}@{number}", path, known) for number, path in sorted(versions) if path.is_dir())
        return found

    def get(self, reference: str) -> Version:
        """That version. Raises AdapterError when there is none."""
        return self._peek(reference, locate(self.folder, reference), self.states())

    def check(self, reference: str) -> Version:
        """That version, its files, base and chat template checked against its manifest. Raises AdapterError with what is wrong."""
        folder = locate(self.folder, reference)
        check_files(folder)
        manifest = read_manifest(folder)
        if manifest.reference != reference:
            raise AdapterError(
                f"{folder} says that it is {manifest.reference or 'of no registry'}: {reference} was replaced by another one"
            )
        check_base(folder, manifest.as_dict())
        check_template(folder, manifest.as_dict())
        return Version(reference, folder, self.states().get(reference, "candidate"), manifest)

    def states(self) -> dict[str, State]:
        """The state of each adapter that something was done with; the others are candidates."""
        return states(self._history.entries(), self.slots())

    def slots(self) -> tuple[Slot, ...]:
        """All slots. Raises AdapterError when one is damaged."""
        return tuple(slots.read(self.folder, name) for name in slots.names(self.folder))

    def history(self, reference: str = "", slot: str = "") -> tuple[Entry, ...]:
        """What happened, oldest first: to one adapter, in one slot, or all of it."""
        return tuple(
            entry
            for entry in self._history.entries()
            if (not reference or reference == entry.reference or reference in entry.states) and (not slot or slot == entry.slot)
        )

    def decided(self, reference: str, decision: Decided, slot: str) -> Entry:
        """Keep what the gate said of it against what the slot serves now. Without a promotion it is rejected."""
        self.get(reference)
        rejected: dict[str, State] = {} if decision.promoted else {reference: "rejected"}
        against = self._serves(slot)
        return self._history.append(
            Entry("decide", reference, rejected, slot, against=against, why=decision.reason, statistics=plain(decision))
        )

    def promote(
        self, reference: str, slot: str, decision: Decided | None = None, *, force: bool = False, why: str = "", base: str = ""
    ) -> Slot:
        """Let it serve in the slot, which is made if it is not there; what served there is one rollback away.

        It takes the gate's `decision`, or one that `decided` kept against what serves there now. `force` does without, and is logged.
        `base` is the slot's base from now on: by default the one it has, and of a new slot the adapter's. On another base there is no
        way back to what served before.
        """
        version = self.check(reference)
        there = self._slot(slot, version, base)
        base = base or there.base
        _check_slot(version, slot, base)
        if there.champion == reference:
            raise AdapterError(f"{reference} serves in {slot} already")
        used = self._allowed(reference, there, decision, force)
        previous = there.champion if base == there.base else None
        new = there.replace(base=base, champion=reference, previous=previous, canary=None, share=0.0)
        return self._change(there, new, "promote", reference, why, used, forced=force)

    def start_canary(
        self, reference: str, slot: str, share: float = 0.1, decision: Decided | None = None, *, force: bool = False, why: str = ""
    ) -> Slot:
        """Let it answer a share, 0 to 1, of the slot's traffic. What it takes is what `promote` takes."""
        version = self.check(reference)
        there = self._slot(slot, version)
        _check_slot(version, slot, there.base)
        if there.canary not in (None, reference):
            raise AdapterError(f"{there.canary} is the canary of {slot}: promote it or stop it first")
        if there.champion == reference:
            raise AdapterError(f"{reference} serves in {slot} already")
        if there.canary == reference:
            return self._change(there, there.replace(share=share), "share", reference, why, {"share": share}, forced=force)
        used = {**self._allowed(reference, there, decision, force), "share": share}
        return self._change(there, there.replace(canary=reference, share=share), "canary", reference, why, used, forced=force)

    def stop_canary(self, slot: str, why: str = "", statistics: Record | Mapping[str, Any] | None = None) -> Slot:
        """The champion answers everything again, and the canary is rejected."""
        there = slots.read(self.folder, slot)
        if there.canary is None:
            raise AdapterError(f"the slot {slot} has no canary")
        return self._change(there, there.replace(canary=None, share=0.0), "stop canary", there.canary, why, statistics or {})

    def rollback(self, slot: str, why: str = "", statistics: Record | Mapping[str, Any] | None = None) -> Slot:
        """The previous one serves again, or the base where there was none; a canary ends too. What served is retired."""
        there = slots.read(self.folder, slot)
        if there.champion is None:
            raise AdapterError(f"the slot {slot} serves its base, {there.base}: there is nothing to go back to")
        if there.previous:
            self.check(there.previous)
        new = there.replace(champion=there.previous, previous=None, canary=None, share=0.0)
        return self._change(there, new, "rollback", there.previous or there.base, why, statistics or {})

    def reject(self, reference: str, why: str = "", statistics: Record | Mapping[str, Any] | None = None) -> Entry:
        """It is not to serve. Raises AdapterError for one that a slot names."""
        return self._leave(reference, "reject", "rejected", why, statistics)

    def retire(self, reference: str, why: str = "") -> Entry:
        """It has served its time. Raises AdapterError for one that a slot names."""
        return self._leave(reference, "retire", "retired", why, None)

    def _leave(self, reference: str, what: What, state: State, why: str, statistics: Record | Mapping[str, Any] | None) -> Entry:
        self.get(reference)
        for name in slots.names(self.folder):
            if reference in slots.read(self.folder, name).references:
                raise AdapterError(f"{reference} is in the slot {name}: roll it back or promote another one first")
        return self._history.append(Entry(what, reference, {reference: state}, why=why, statistics=plain(statistics or {})))

    def _change(
        self, there: Slot, new: Slot, what: What, reference: str, why: str, statistics: Record | Mapping[str, Any], *, forced: bool = False
    ) -> Slot:
        """Journal, then slot, if nobody else has changed it since it was read."""
        changed: dict[str, State] = {}
        for old in (there.champion, there.canary):
            if old and old not in (new.champion, new.canary):
                changed[old] = "rejected" if what == "stop canary" else "retired"
        changed |= {new.canary: "canary"} if new.canary else {}
        changed |= {new.champion: "champion"} if new.champion else {}
        entry = Entry(what, reference, changed, new.name, against=there.champion or there.base, why=why, forced=forced)

        def journal(written: Slot) -> None:
            self._history.append(entry.replace(epoch=written.epoch, statistics=plain(statistics)))

        return slots.write(self.folder, new, there.epoch, before=journal)

    def _allowed(self, reference: str, there: Slot, decision: Decided | None, force: bool) -> dict[str, Any]:
        """The statistics that a promotion rests on. Raises AdapterError when there are none, or when they speak against it."""
        if decision is not None:
            if not decision.promoted and not force:
                raise AdapterError(f"the gate does not let {reference} through: {decision.reason}; force it if you must")
            return dict(plain(decision))
        if force:
            return {}
        kept = [entry for entry in self.history(reference, there.name) if entry.what == "decide" and entry.reference == reference]
        serves = there.champion or there.base
        if not kept:
            raise AdapterError(f"no gate has decided on {reference} in {there.name}: evaluate it against {serves}, or force it")
        if not kept[-1].statistics.get("promoted"):
            raise AdapterError(f"the gate does not let {reference} through: {kept[-1].why}; force it if you must")
        if kept[-1].against != (serves if there.epoch else ""):
            raise AdapterError(
                f"the gate compared {reference} with {kept[-1].against}, and now {serves} serves: evaluate it again, or force it"
            )
        return dict(kept[-1].statistics)

    def _slot(self, name: str, version: Version, base: str = "") -> Slot:
        """The slot, or a new one with that base, else the adapter's."""
        if slots.checked_name(name) in slots.names(self.folder):
            return slots.read(self.folder, name)
        own = version.manifest.base if version.manifest else ""
        return Slot(name, base or (EMBEDDED if Path(own) == EMBEDDED_DIRECTORY else own))

    def _serves(self, slot: str) -> str:
        """What a candidate for that slot is compared with; "" where there is no slot yet."""
        if slots.checked_name(slot) not in slots.names(self.folder):
            return ""
        there = slots.read(self.folder, slot)
        return there.champion or there.base

    def _peek(self, reference: str, folder: Path, known: Mapping[str, State]) -> Version:
        state = known.get(reference, "candidate")
        try:
            values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            tuples = {name: tuple(values[name]) for name in ("probe", "base_probe", "trace_ids")}
            return Version(reference, folder, state, Manifest(**{**values, **tuples}))
        except (OSError, ValueError, TypeError, KeyError) as error:
            return Version(reference, folder, state, None, f"its {MANIFEST} can't be read ({error})")

    def _next(self, name: str) -> int:
        """One more than was ever given, also to a version that is not there any more."""
        there = [int(match[1]) for path in (self.folder / name).iterdir() if (match := slots.VERSION.fullmatch(path.name))]
        journal = [parse_reference(entry.reference) for entry in self._history.entries() if entry.what == "add"]
        return 1 + max([0, *there, *(number for each, number in journal if each == name)])


def _check_slot(version: Version, slot: str, base: str) -> None:
    """Raises AdapterError when the adapter was made for other weights than the slot's base has, as far as they are here to be seen."""
    manifest = version.manifest
    provider, model = parse_model(base)
    if manifest is None or provider not in (EMBEDDED, "local"):
        return
    sha256 = base_sha256(base_of(model))
    if sha256 and manifest.base_sha256 and sha256 != manifest.base_sha256:
        raise AdapterError(
            f"{version.reference} is an adapter of {manifest.base}, and the base of the slot {slot} is {base}: "
            "use another slot, or name the base"
        )


@contextmanager
def _part(shelf: Path) -> Iterator[Path]:
    """A folder to be renamed, locked while its process lives; those of processes that were killed are removed."""
    part = shelf / f"{PART}{uuid4().hex}"
    with ExitStack() as stack:
        with locked(shelf / ".lock"):
            for old in shelf.glob(f"{PART}*"):
                with suppress(OSError), _held(old):
                    shutil.rmtree(old)
            part.mkdir()
            stack.enter_context(_held(part))
        stack.callback(shutil.rmtree, part, ignore_errors=True)
        yield part


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Raises BlockingIOError when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _dataset(given: Dataset | Mapping[str, Any] | None) -> dict[str, Any]:
    """What a manifest keeps of a dataset."""
    if isinstance(given, Dataset):
        return {"folder": str(given.folder.resolve()), "sha256": given.sha256, "rows": given.rows, "kind": given.kind}
    if given and not given.get("sha256"):
        raise ConfigError("a dataset is known by its sha256: give it with the others")
    return dict(given or {})


def _traces(given: Dataset | Mapping[str, Any] | None) -> tuple[str, ...]:
    """Of all rows, each once, so that whoever deletes one finds this adapter."""
    return tuple(dict.fromkeys(trace for row in given for trace in row.trace_ids)) if isinstance(given, Dataset) else ()
