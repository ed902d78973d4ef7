"""The swap: an adapter of the registry is put beside what serves, proved to do what it should, and only then named by the slot.

Nothing changes for who asks until the slot's file does, in one piece, and only if nobody else has changed it. What is refused - damaged, of
another base, diverged, without effect, not what the gate let through - leaves the slot and its champion as they were. What served before
stays loaded, so that going back costs nothing; the one before that is let go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from core import slots
from core.errors import AdapterError, RatchetError
from core.served import spec_of
from core.types import Record
from finetune.adapters import Decided, Registry
from finetune.backends.candidate import Backend, Candidate, Live, Proof

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swapped(Record):
    """What a swap did. `reference` None is the base, after a rollback to it; `before` is what the slot named until then.

    `seconds` are those of the whole swap, `flip_seconds` those in which the slot was changed and journalled. `proof` is None where
    nothing had to be loaded.
    """

    slot: str
    reference: str | None
    before: str | None
    spec: str
    fingerprint: str | None
    backend: str
    epoch_before: int
    epoch: int
    seconds: float
    flip_seconds: float
    proof: Proof | None


def swap(
    slot: str,
    reference: str,
    *,
    registry: Registry,
    backend: Backend,
    decision: Decided | None = None,
    force: bool = False,
    why: str = "",
    base: str = "",
    share: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Swapped:
    """Let `reference` ("math@7") serve in the slot; with a `share`, 0 to 1, as its canary. Needs what `Registry.promote` needs.

    Raises AdapterError or ProviderError with the reason when it is refused: nothing has changed then.
    """
    started = clock()
    before = _slot(registry, slot)
    candidate = _candidate(registry, reference, base or (before.base if before else ""))
    live = backend.bring(candidate)
    flipping = clock()
    try:
        if live.spec != (served := spec_of(candidate.base, reference)):
            raise AdapterError(
                f"the slot {slot} would serve {served}, and {live.spec} was proved: its base and the back end don't go together"
            )
        if share is None:
            after = registry.promote(reference, slot, decision, force=force, why=why, base=base)
        else:
            after = registry.start_canary(reference, slot, share, decision, force=force, why=why)
    except BaseException:
        if before is None or reference not in before.references:
            backend.drop(reference)
        raise
    flipped = clock()
    _let_go(backend, after)
    return _swapped(after, before, reference, live, backend, clock() - started, flipped - flipping)


def roll_back(slot: str, *, registry: Registry, backend: Backend, why: str = "", clock: Callable[[], float] = time.perf_counter) -> Swapped:
    """What served before serves again, or the base. It is still loaded; where its server has lost it, it is brought and proved again."""
    started = clock()
    before = slots.read(registry.folder, slot)
    live = None
    if before.champion and before.previous and not backend.has(before.previous):
        live = backend.bring(_candidate(registry, before.previous, before.base))
    flipping = clock()
    after = registry.rollback(slot, why)
    flipped = clock()
    return _swapped(after, before, after.champion, live, backend, clock() - started, flipped - flipping)


def _slot(registry: Registry, name: str) -> slots.Slot | None:
    """None for one that is to be made."""
    return slots.read(registry.folder, name) if slots.checked_name(name) in slots.names(registry.folder) else None


def _candidate(registry: Registry, reference: str, base: str) -> Candidate:
    """Its files are checked by who loads or sends them, and again by the registry before the slot changes."""
    version = registry.get(reference)
    if version.manifest is None:
        raise AdapterError(f"{reference} can't serve: {version.problem}")
    return Candidate(reference, version.folder, version.manifest.as_dict(), base or version.manifest.base)


def _let_go(backend: Backend, after: slots.Slot) -> None:
    """The swap has taken place: a server that keeps more than it should is no reason to say that it has not."""
    try:
        backend.keep(after.references)
    except RatchetError as error:
        log.warning("what %s served before stays loaded: %s", after.name, error)


def _swapped(
    after: slots.Slot,
    before: slots.Slot | None,
    reference: str | None,
    live: Live | None,
    backend: Backend,
    seconds: float,
    flip_seconds: float,
) -> Swapped:
    spec = spec_of(after.base, reference) if reference else after.base
    return Swapped(
        slot=after.name,
        reference=reference,
        before=before.champion if before else None,
        spec=spec,
        fingerprint=live.fingerprint if live else None,
        backend=backend.name,
        epoch_before=before.epoch if before else 0,
        epoch=after.epoch,
        seconds=round(seconds, 4),
        flip_seconds=round(flip_seconds, 4),
        proof=live.proof if live else None,
    )
