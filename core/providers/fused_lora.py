"""LoRA adapters beside the matrices of a fused model: all that a batch needs side by side, two more products for each matrix.

A row's own part of x A is kept and that of the others set to nought, so that the number of adapters in a batch costs next to nothing,
where PEFT asks each adapter apart. Tables are made when an adapter first answers, or ahead of that, and used once they proved equal to the
model's own. `ahead` is for any thread, all else for the one that owns the engine.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.providers.fused import Fused, Mixed, Pair
from core.providers.slots import SlotCache

KEPT = 32  # adapters, and as many combinations of them
PROOF = [5, 9, 2]  # token ids that any vocabulary has
Given = tuple[torch.Tensor, torch.Tensor, float]  # A (rank, inputs), B (outputs, rank) and by what B A is multiplied
_Half = tuple[torch.Tensor, torch.Tensor]  # A (inputs, rank) and B (rank, outputs), scaled
_Halves = list[list[_Half | None]]  # by layer and matrix


@dataclass(frozen=True, slots=True)
class _Table:
    """Pairs by layer and matrix, those of the last layer followed by that of the head. `owners` say whose a column of x A is."""

    pairs: list[list[Pair | None]]
    owners: list[torch.Tensor]


class Loras:
    """`base` gives the model whose layers hold the adapters, `probe` the first 64 logits of a prompt by an adapter.

    `reach` is how many positions each kind of layer sees, None for all.
    """

    def __init__(
        self,
        fused: Fused,
        reach: Mapping[str, int | None],
        base: Callable[[], Any],
        probe: Callable[[list[int], str], list[float]],
        tolerance: float,
    ) -> None:
        self._fused, self._reach, self._base, self._probe, self._tolerance = fused, reach, base, probe, tolerance
        self._ahead: dict[str, _Halves] = {}
        self._halves: OrderedDict[str, _Halves | None] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], _Table] = OrderedDict()
        self._last: tuple[tuple[str | None, ...], Mixed] | None = None

    def ahead(self, name: str, given: Mapping[Any, Given], prompt: Sequence[int]) -> list[float] | None:
        """The first 64 logits after a prompt, by the matrices that will answer for an adapter which gives these layers that.

        None where it changes more than is in the tables, where its tables have been found to differ from the model, and for a prompt that
        is longer than a layer sees.
        """
        model = self._base()
        known = {part for layer in model.model.layers for parts in _matrices(layer) for part in parts} | {model.lm_head}
        narrow = any(reach is not None and reach < len(prompt) for reach in self._reach.values())
        if narrow or not given.keys() <= known or self._halves.get(name, []) is None:
            return None
        halves = self._ahead[name] = self._halved(given.get)
        for old in list(self._ahead)[:-KEPT]:
            self._ahead.pop(old, None)
        logits: list[float] = self._logits(halves, prompt).tolist()
        return logits

    def of(self, names: Sequence[str | None]) -> Mixed | None:
        """For rows that are answered by these adapters, None by the base. None where one of them has to go another way."""
        key = tuple(names)
        if self._last is None or self._last[0] != key:
            used = tuple(sorted({name for name in names if name}))
            if any(self._known(name) is None for name in used):
                return None
            table = self._table(used)
            index = torch.tensor([used.index(name) if name else -1 for name in names])
            self._last = key, Mixed(table.pairs, table.owners, None if len(used) == 1 and None not in names else index)
        return self._last[1]

    def _known(self, name: str) -> _Halves | None:
        if name not in self._halves:
            self._halves[name] = self._read(name)
            if len(self._halves) > KEPT:
                self._halves.popitem(last=False)
        self._halves.move_to_end(name)
        return self._halves[name]

    def _read(self, name: str) -> _Halves | None:
        halves = self._ahead.pop(name, None) or self._halved(lambda part: _hung_in(part, name))
        return halves if self._proven(name, halves) else None

    def _halved(self, given: Callable[[Any], Given | None]) -> _Halves:
        model = self._base()
        halves = [[_stacked(given, parts) for parts in _matrices(layer)] for layer in model.model.layers]
        halves[-1].append(_stacked(given, (model.lm_head,)))
        return halves

    def _proven(self, name: str, halves: _Halves) -> bool:
        """The logits must be those of the model."""
        found, expected = self._logits(halves, PROOF), torch.tensor(self._probe(PROOF, name))
        return bool((found - expected).abs().max() <= self._tolerance * (expected.max() - expected.min()))

    def _logits(self, halves: _Halves, prompt: Sequence[int]) -> torch.Tensor:
        """The first 64 after a prompt that all layers see whole."""
        table = _combined([halves])
        cache = SlotCache(len(table.pairs), 1, torch.device("cpu"))
        cache.reserve(1, len(prompt) + 1)
        cache.fresh(torch.tensor([0]))
        ids, positions = torch.tensor([list(prompt)]), torch.arange(len(prompt))[None]
        masks: dict[str, torch.Tensor | None] = dict.fromkeys(self._reach)
        with torch.inference_mode():
            return self._fused(ids, cache, positions, masks, None, Mixed(table.pairs, table.owners, None))[0, :64]

    def _table(self, used: tuple[str, ...]) -> _Table:
        if used not in self._tables:
            self._tables[used] = _combined([halves for name in used if (halves := self._known(name)) is not None])
            if len(self._tables) > KEPT:
                self._tables.popitem(last=False)
        self._tables.move_to_end(used)
        return self._tables[used]


def _matrices(layer: Any) -> tuple[tuple[Any, ...], ...]:
    """The projections of a layer as the fused model stacks them."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )


def _hung_in(part: Any, name: str) -> Given | None:
    """What PEFT's layer holds for that adapter."""
    if name not in getattr(part, "lora_A", ()):
        return None
    return part.lora_A[name].weight.detach(), part.lora_B[name].weight.detach(), part.scaling[name]


def _stacked(given: Callable[[Any], Given | None], parts: Sequence[Any]) -> _Half | None:
    """Ranks side by side; each part writes to its own outputs."""
    changed = [given(part) for part in parts]
    if not any(changed):
        return None
    downs = [change[0] for change in changed if change]
    ups = [change[1].t() * change[2] if change else torch.zeros(0, part.out_features) for part, change in zip(parts, changed, strict=True)]
    return torch.cat(downs).t().contiguous(), torch.block_diag(*ups)  # type: ignore[no-untyped-call]  # torch has not typed it


def _combined(adapters: Sequence[_Halves]) -> _Table:
    """Several adapters side by side."""
    owners: dict[tuple[int, ...], int] = {}
    pairs: list[list[Pair | None]] = []
    for layers in zip(*adapters, strict=True):
        row: list[Pair | None] = []
        for halves in zip(*layers, strict=True):
            there = [(number, half) for number, half in enumerate(halves) if half is not None]
            owner = tuple(number for number, (down, _) in there for _ in range(down.shape[1]))
            number = owners.setdefault(owner, len(owners))
            row.append(
                (torch.cat([half[0] for _, half in there], dim=1), torch.cat([half[1] for _, half in there]), number) if there else None
            )
        pairs.append(row)
    return _Table(pairs, [torch.tensor(owner, dtype=torch.long) for owner in owners])
