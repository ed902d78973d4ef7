"""Swaps into the engine of this process: the new adapter is loaded beside the old, on the same base or merged into a copy of it.

Requests under way end with the weights that they began with: each belongs to a model, and a model's weights never change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from core.errors import AdapterError
from core.providers.local import LocalModel
from core.providers.registered import distance
from core.served import spec_of
from core.types import Model
from finetune.backends.candidate import Candidate, Live, Proof


class InProcess:
    """`preload` loads a model by its spec and keeps it, `release` gives it up: those of an `Orchestrator`, which closes what leaves a slot.

    `exact` asks for the manifest's fingerprint; without it the probe alone decides, for another precision than that of the training.
    """

    name = "in process"

    def __init__(self, preload: Callable[[str], Model], release: Callable[[str], None], *, exact: bool = True) -> None:
        self._preload, self._release, self._exact = preload, release, exact

    def bring(self, candidate: Candidate) -> Live:
        """The checks of `connect_adapter` and the fingerprint. What is refused is given up again."""
        spec = spec_of("embedded", candidate.reference)
        try:
            model = self._preload(spec)
            return Live(spec, self._fingerprint(model, candidate), _proof(model, candidate))
        except BaseException:
            self._release(spec)
            raise

    def has(self, reference: str) -> bool:
        """Always: what a slot names is kept, and what is not there is loaded and proved before its first answer."""
        return True

    def drop(self, reference: str) -> None:
        """Give it up."""
        self._release(spec_of("embedded", reference))

    def keep(self, references: Collection[str]) -> None:
        """The orchestrator itself sees what its slots name."""

    def _fingerprint(self, model: Model, candidate: Candidate) -> str:
        wanted = candidate.manifest["fingerprint"]
        if model.fingerprint is None or (self._exact and model.fingerprint != wanted):
            raise AdapterError(
                f"{candidate.reference} is served with the weights {model.fingerprint}, its manifest says {wanted}: set DEVICE, DTYPE and "
                "QUANTIZATION as they were in training, or swap with exact=False to go by its answers alone"
            )
        return model.fingerprint


def _proof(model: Model, candidate: Candidate) -> Proof:
    if not isinstance(model, LocalModel):
        raise AdapterError(f"{candidate.reference} is not served in this process: swap it into its server")
    # what `connect_adapter` has just found: weights never change, and asking the engine once more would wait for a step of it
    seen, manifest = model.probed or model.probe(), candidate.manifest
    off, from_base = distance(seen, manifest["probe"]), distance(seen, manifest["base_probe"])
    if not off <= distance(manifest["probe"], manifest["base_probe"]) / 2 or not from_base > 0:
        raise AdapterError(f"{candidate.reference} does not answer as it did when it was registered: the swap did not take effect")
    return Proof(off, from_base)
