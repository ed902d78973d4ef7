"""What a back end is given to serve, what it says of it, and the seam between both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from core.types import Record
from finetune.parity import Parity


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """A version of the registry that is to serve: "math@7", its directory, its manifest, and the base that its slot names."""

    reference: str
    folder: Path
    manifest: Mapping[str, Any]
    base: str


@dataclass(frozen=True, slots=True)
class Proof(Record):
    """Why what serves is the adapter: largest difference of logits (in process) or of log-probabilities (vLLM) on the probe.

    `off` is the difference from what the adapter should do, `from_base` from what its base does; None where a back end tells none.
    `parity`: greedy answers beside the adapter's in process, where the back end is another program.
    """

    off: float | None
    from_base: float | None
    parity: Parity | None = None


@dataclass(frozen=True, slots=True)
class Live(Record):
    """An adapter that is loaded and proved. `fingerprint` is that of its weights."""

    spec: str
    fingerprint: str
    proof: Proof


class Backend(Protocol):
    """What `finetune.swap` needs of whoever serves. All of it may take seconds; none of it changes what is served."""

    name: str

    def bring(self, candidate: Candidate) -> Live:
        """Load it beside what serves and prove it. Raises AdapterError or ProviderError with the reason, and leaves nothing behind."""
        ...

    def has(self, reference: str) -> bool:
        """True when it could serve at once. Raises ProviderError when nobody can tell."""
        ...

    def drop(self, reference: str) -> None:
        """No slot will name it after all."""
        ...

    def keep(self, references: Collection[str]) -> None:
        """A slot names these; other versions of the same adapters may go. Raises ProviderError when they can't."""
        ...
