"""The canary of a slot, watched through the traces of a store: promoted or stopped when its outcomes have said enough.

Nothing is kept between two looks: the traces since the canary began say all, in the order in which their runs ended, and the first of
them that decided decides every time. A look that was broken off is made again, and one after the decision finds no canary and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

from core import slots
from core.choice import choose
from core.errors import AdapterError
from core.models import sticky_key
from core.providers import parse_model
from core.slots import Slot
from core.types import Outcome, Trace
from finetune.canary import DEFAULT, Arm, CanaryPlan, Seen, Standing, weigh
from logs.place import Place
from logs.reading import read_traces

if TYPE_CHECKING:
    from finetune.adapters import Registry


def watch(where: str | Path | Place, registry: Registry, slot: str, plan: CanaryPlan = DEFAULT, *, act: bool = True) -> Standing | None:
    """Where the slot's canary stands by the traces in the log folder or store; None when it has none.

    Promotes or stops it where that is decided, with the standing in the registry's journal; `act` False only looks. Raises AdapterError
    when the registry can't be read or written, StoreError when there is no store.
    """
    there = slots.read(registry.folder, slot)
    if there.canary is None:
        return None
    fingerprint = _fingerprint(registry, there.canary)
    standing = weigh(seen_of(where, there, fingerprint, began(registry, there)), plan, fingerprint)
    if act and standing.verdict != "continue" and slots.read(registry.folder, slot).epoch == there.epoch:
        if standing.promoted:
            registry.promote(there.canary, slot, standing, why=standing.reason)
        else:
            registry.stop_canary(slot, standing.reason, standing)
    return standing


def began(registry: Registry, slot: Slot) -> float:
    """When the slot's canary began to answer, in seconds since 1970, by the registry's journal."""
    starts = [entry.time for entry in registry.history(slot.canary or "", slot.name) if entry.what == "canary"]
    if not starts:
        raise AdapterError(
            f"the journal of {registry.folder} doesn't say when {slot.canary} became the canary of {slot.name}: start it again"
        )
    return starts[-1]


def seen_of(where: str | Path | Place, slot: Slot, fingerprint: str, since: float) -> Iterator[Seen]:
    """The outcomes of both arms since then, told apart by the model that each trace names. Of one sticky key only the first is taken.

    What a run is worth is what its answer was worth, and a check that broke on any of its attempts counts as an error of the verifier.
    `fingerprint` is the canary's: a run that carries another one is never left out.
    """
    champion = slot.champion and f"adapter:{slot.champion}"
    names = {champion} if champion else {slot.base, parse_model(slot.base)[1]}
    arms: dict[str, Arm] = {**dict.fromkeys(names, "champion"), f"adapter:{slot.canary}": "canary"}
    streams = [read_traces(where, model=model, since=since) for model in arms]
    known: set[str] = set()
    for run in _runs(merge(*streams, key=lambda trace: (trace.created, trace.id))):
        arm, key, answer = arms[run[0].model], sticky_key(run[0].task), choose(run) or run[0]
        strange = [t for t in run if t.fingerprint not in (None, fingerprint)] if arm == "canary" else []
        if key not in known or strange:
            known.add(key)
            shown = strange[0] if strange else answer
            broke = any(t.verdict.outcome is Outcome.ERROR for t in run)
            yield Seen(arm, answer.verdict.outcome, broke, shown.fingerprint, shown.id)


def _runs(traces: Iterable[Trace]) -> list[list[Trace]]:
    """The traces of each run, the runs in the order of their last traces."""
    runs: dict[str, list[Trace]] = {}
    for trace in traces:
        runs.setdefault(trace.run_id, []).append(trace)
    return sorted(runs.values(), key=lambda run: (run[-1].created, run[-1].id))


def _fingerprint(registry: Registry, reference: str) -> str:
    found = registry.get(reference)
    if found.manifest is None:
        raise AdapterError(f"the canary {reference} can't be watched, {found.problem}: restore it, or stop the canary")
    return found.manifest.fingerprint
