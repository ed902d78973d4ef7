"""Keys and values of the rows that an engine decodes together: a slot a row, in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

GROWTH = 64  # positions
FEW = 8  # slots to begin with
KEPT = 256 << 20  # bytes
Stretch = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of some positions, layer by layer, each (heads, positions, head size)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, rows packed at the front. Shape (slots, heads, capacity, head size)."""

    is_sliding = False

    def __init__(self, where: SlotCache) -> None:
        super().__init__()
        self.where = where

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for `slots` rows of `capacity` positions in the shape that this model's heads have."""
        _, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros((self.where.slots, heads, self.where.capacity, size))
        self.values = value_states.new_zeros((self.where.slots, heads, self.where.capacity, value_states.shape[-1]))
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write what is new, return all that is to be seen: see `SlotCache.fresh`, `.further` and `.decode`."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        where = self.where
        if where.target is None:
            rows, heads = key_states.shape[:2]
            places = where.places(heads)
            self.keys.view(-1, self.keys.shape[-1]).index_copy_(0, places, key_states.reshape(rows * heads, -1))
            self.values.view(-1, self.values.shape[-1]).index_copy_(0, places, value_states.reshape(rows * heads, -1))
            return self.keys[:rows, :, : where.filled], self.values[:rows, :, : where.filled]
        if not where.filled:
            self.keys[where.target, :, : key_states.shape[2]] = key_states
            self.values[where.target, :, : key_states.shape[2]] = value_states
            return key_states, value_states
        self.keys[where.target[:, None], :, where.positions] = key_states.transpose(1, 2)
        self.values[where.target[:, None], :, where.positions] = value_states.transpose(1, 2)
        return self.keys[where.target, :, : where.filled], self.values[where.target, :, : where.filled]

    def grow(self, slots: int, capacity: int) -> None:
        """More rows and positions, the old ones kept."""
        if self.is_initialized:
            more = (0, 0, 0, capacity - self.keys.shape[2], 0, 0, 0, slots - self.keys.shape[0])
            self.keys = torch.nn.functional.pad(self.keys, more)
            self.values = torch.nn.functional.pad(self.values, more)

    def copy(self, source: Any, target: Any, length: int) -> None:
        """Slot `source` into slot or slots `target`, up to `length` positions."""
        self.keys[target, :, :length] = self.keys[source, :, :length].clone()
        self.values[target, :, :length] = self.values[source, :, :length].clone()

    def get_seq_length(self) -> int:
        """Fresh prompts start at 0. Otherwise positions are given explicitly."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Fresh prompts see themselves alone. Otherwise masks are given explicitly."""
        return self.where.filled or query_length, 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """All layers, and where the forward pass to come reads and writes. Grows with the rows and positions that are asked for."""

    def __init__(self, layers: int, slots: int, device: torch.device) -> None:
        self.slots, self.capacity = min(slots, FEW), GROWTH
        self.most = slots
        self.index = torch.arange(slots, device=device)
        self.target: torch.Tensor | None = None
        self.positions = self.index[:0, None]
        self.filled = 0
        self._places: dict[int, torch.Tensor] = {}
        self._each = 0  # bytes of one position of one slot
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def fresh(self, target: torch.Tensor) -> None:
        """Next: prompts from their first token on, into the slots `target`."""
        self.target, self.filled = target, 0

    def further(self, target: torch.Tensor, positions: torch.Tensor, filled: int) -> None:
        """Next: tokens at `positions` (rows, tokens) of the slots `target`, which see up to `filled` positions of their slot."""
        self.target, self.positions, self.filled = target, positions, filled

    def decode(self, positions: torch.Tensor, filled: int) -> None:
        """Next: one token of each of the first rows, at `positions` (rows, 1)."""
        self.target, self.positions, self.filled = None, positions, filled
        self._places.clear()

    def places(self, heads: int) -> torch.Tensor:
        """Where the tokens to decode go, were slots, heads and positions one row of places."""
        if heads not in self._places:
            slot_heads = torch.arange(len(self.positions) * heads, device=self.index.device).view(-1, heads)
            self._places[heads] = (slot_heads * self.capacity + self.positions).flatten()
        return self._places[heads]

    def reserve(self, slots: int, positions: int) -> None:
        """Room for that many rows and positions."""
        if slots > self.slots or positions > self.capacity:
            self.slots, self.capacity = self._grown(slots, positions)
            for layer in self.layers:
                layer.grow(self.slots, self.capacity)

    def bytes_for(self, slots: int, positions: int) -> int:
        """What it would take to have room for that many. Nothing is known before the first use."""
        slots, positions = self._grown(slots, positions)
        return self._each * slots * positions

    def rest(self, kept: int = KEPT) -> None:
        """No row is left: give back what only a rare batch needs, all above `kept` bytes."""
        if self.layers[0].is_initialized and not self._each:
            places = self.slots * self.capacity
            self._each = sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers) // places
        if self.bytes_for(self.slots, self.capacity) > kept:
            self.slots, self.capacity = min(self.most, FEW), GROWTH
            for layer in self.layers:
                layer.is_initialized = False
                layer.keys = layer.values = None

    def _grown(self, slots: int, positions: int) -> tuple[int, int]:
        """Twice as many at least, so that little is copied; of positions no more than half of what is asked on top."""
        if slots > self.slots:
            slots = min(self.most, max(slots, 2 * self.slots))
        if positions > self.capacity:
            positions = -(-(positions + min(positions // 2, 4 * GROWTH)) // GROWTH) * GROWTH
        return max(slots, self.slots), max(positions, self.capacity)

    def copy(self, source: Any, target: Any, length: int) -> None:
        """Slot to slot, in every layer."""
        for layer in self.layers:
            layer.copy(source, target, length)

    def read(self, slot: int, start: int, end: int) -> Stretch:
        """A copy of some positions of a slot."""
        return [(layer.keys[slot, :, start:end].clone(), layer.values[slot, :, start:end].clone()) for layer in self.layers]

    def write(self, slots: Sequence[int], start: int, stretch: Stretch) -> None:
        """The same positions into several slots."""
        target: Any = slots[0] if len(slots) == 1 else torch.tensor(slots, device=self.index.device)
        end = start + stretch[0][0].shape[1]
        for layer, (keys, values) in zip(self.layers, stretch, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.keys[target, :, start:end] = keys
            layer.values[target, :, start:end] = values
