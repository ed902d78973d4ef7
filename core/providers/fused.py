"""The forward pass of small Llama-like models on the CPU, in a third of the operations: there most of the time goes into calling them.

Projections of the same input are one matrix, norms and residual sums are single operations, rotations come from a table. It reads and
writes the same cache as the model, to which it is equal but for the last digits. The engine proves that before it uses it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from core.providers.slots import SlotCache

MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROTATIONS = ("default", "linear", "llama3")  # those that are the same however long the text is
NO_PAIRS = (None, None, None, None)
_Matrix = tuple[torch.Tensor, torch.Tensor | None]
_Scale = tuple[torch.Tensor, float]
Pair = tuple[torch.Tensor, torch.Tensor, int]  # A (inputs, ranks) and B (ranks, outputs) of some adapters, and who owns the ranks
MOST = 100_000_000  # parameters: the matrices are copies, and in larger models the calls are cheap beside the sums


@dataclass(frozen=True, slots=True)
class _Layer:
    kind: str
    scaling: float
    before: _Scale
    qkv: _Matrix
    norms: tuple[_Scale, _Scale] | None
    out: _Matrix
    after: _Scale
    gate_up: _Matrix
    down: _Matrix


class Mixed:
    """The adapters of the rows of a batch: pairs for the four matrices of each layer, and at the end for the head.

    `owners` give for each rank the number of its adapter, `index` for each row the number of the one that answers it, -1 for the base;
    None where a single one answers all.
    """

    def __init__(self, pairs: list[list[Pair | None]], owners: list[torch.Tensor], index: torch.Tensor | None) -> None:
        self.pairs, self._owners, self._index = pairs, owners, index
        self._shut: dict[int, list[torch.Tensor | None]] = {}

    def shut(self, tokens: int) -> list[torch.Tensor | None]:
        """By owners: which ranks are not those of a row, (rows * tokens, ranks); None where all are."""
        if tokens not in self._shut:
            index = self._index
            rows = None if index is None else index.repeat_interleave(tokens)[:, None]
            self._shut = {1: self._shut[1]} if 1 in self._shut else {}  # of prompts, each has a length of its own
            self._shut[tokens] = [None if rows is None else rows != owner for owner in self._owners]
        return self._shut[tokens]


class Fused:
    """Made by `fuse`. Its weights are those that the model had then. Any thread may call it, with a cache of its own."""

    def __init__(self, model: Any, kinds: list[str]) -> None:
        config = model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._embed, self._head = model.model.embed_tokens.weight.detach(), _stacked(model.lm_head)
        self._norm = _norm(model.model.norm)
        self._rotary = model.model.rotary_emb
        self._layers = [_layer(layer, kind) for layer, kind in zip(model.model.layers, kinds, strict=True)]
        self._table = self._rotations(64)

    def __call__(
        self,
        ids: torch.Tensor,
        cache: SlotCache,
        positions: torch.Tensor,
        masks: dict[str, torch.Tensor | None],
        ends: torch.Tensor | None,
        mixed: Mixed | None = None,
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) after the last token of each row, or after token `ends` of it.

        ids, positions: (rows, tokens); masks: by the kind of layer, (rows, 1, tokens, seen), None for causal.
        `mixed` are the adapters that answer the rows.
        """
        rows, tokens = ids.shape
        shut = mixed.shut(tokens) if mixed else []
        pairs: Iterable[Sequence[Pair | None]] = mixed.pairs if mixed else itertools.repeat(NO_PAIRS, len(self._layers))
        cos, sin = self._turns(positions, cache.capacity)
        hidden = functional.embedding(ids.reshape(-1), self._embed)
        for layer, slots, (qkv, out, gate_up, down, *_) in zip(self._layers, cache.layers, pairs, strict=True):
            x = _times(_normed(hidden, layer.before), layer.qkv, None, qkv, shut).view(rows, tokens, -1, self._size)
            queries_keys, values = x[:, :, : self._heads + self._kv_heads], x[:, :, self._heads + self._kv_heads :]
            if layer.norms:
                parts = queries_keys[:, :, : self._heads], queries_keys[:, :, self._heads :]
                queries_keys = torch.cat([_normed(part, norm) for part, norm in zip(parts, layer.norms, strict=True)], dim=2)
            turned = torch.addcmul(queries_keys * cos, queries_keys.roll(self._size // 2, -1), sin).transpose(1, 2)
            keys, seen = slots.update(turned[:, self._heads :], values.transpose(1, 2))
            mask = masks[layer.kind]
            x = functional.scaled_dot_product_attention(
                turned[:, : self._heads],
                keys,
                seen,
                attn_mask=mask,
                is_causal=mask is None and tokens > 1,
                scale=layer.scaling,
                enable_gqa=self._heads != self._kv_heads,
            )
            hidden = _times(x.transpose(1, 2).reshape(rows * tokens, -1), layer.out, hidden, out, shut)
            gate, up = _times(_normed(hidden, layer.after), layer.gate_up, None, gate_up, shut).chunk(2, dim=-1)
            hidden = _times(functional.silu(gate) * up, layer.down, hidden, down, shut)
        if tokens > 1:
            last = torch.full((rows,), tokens - 1) if ends is None else ends
            hidden = hidden[torch.arange(rows) * tokens + last]
        head = mixed.pairs[-1][-1] if mixed else None
        return _times(_normed(hidden, self._norm), self._head, None, head, mixed.shut(1) if mixed and head else [])

    def _turns(self, positions: torch.Tensor, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
        tables = self._table
        if capacity > tables[0].shape[0]:
            tables = self._table = self._rotations(capacity)
        cos, sin = (functional.embedding(positions, table)[:, :, None] for table in tables)
        return cos, sin

    def _rotations(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines, (positions, head size): to turn is x * cos + (x rolled by half) * sin."""
        cos, sin = self._rotary(self._embed[:1], torch.arange(positions)[None])
        sign = torch.ones(self._size, dtype=sin.dtype)
        sign[: self._size // 2] = -1
        return cos[0], sin[0] * sign


def fuse(model: Any, kinds: list[str]) -> Fused | None:
    """None for a model of another build, size, precision or place, or one whose parts were changed or are watched by hooks."""
    config = model.config
    if (
        type(model).__name__ not in MODELS
        or model.device.type != "cpu"
        or model.dtype != torch.float32
        or len(kinds) != len(model.model.layers)
    ):
        return None
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if config.hidden_act != "silu" or rotation not in ROTATIONS or sum(p.numel() for p in model.parameters()) > MOST:
        return None
    plain = (torch.nn.Linear, torch.nn.Embedding)
    for name, module in model.named_modules():
        changed = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
        if changed or ("proj" in name.rpartition(".")[2] and type(module) not in plain):
            return None
    with torch.inference_mode(False), torch.no_grad():
        return Fused(model, kinds)


def _layer(layer: Any, kind: str) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    normed = hasattr(attention, "q_norm")
    return _Layer(
        kind,
        attention.scaling,
        _norm(layer.input_layernorm),
        _stacked(attention.q_proj, attention.k_proj, attention.v_proj),
        (_norm(attention.q_norm), _norm(attention.k_norm)) if normed else None,
        _stacked(attention.o_proj),
        _norm(layer.post_attention_layernorm),
        _stacked(mlp.gate_proj, mlp.up_proj),
        _stacked(mlp.down_proj),
    )


def _stacked(*parts: torch.nn.Linear) -> _Matrix:
    """Side by side, inputs down and outputs across: few rows are multiplied faster that way."""
    biases = [torch.zeros(part.out_features) if part.bias is None else part.bias.detach() for part in parts]
    weight = torch.cat([part.weight.detach() for part in parts]).t().contiguous()
    return weight, (torch.cat(biases) if any(part.bias is not None for part in parts) else None)


def _norm(norm: Any) -> _Scale:
    weight = norm.weight.detach()
    return torch.cat([weight, torch.zeros_like(weight)]), norm.variance_epsilon


def _normed(x: torch.Tensor, norm: _Scale) -> torch.Tensor:
    """Root mean square norm by the one operation that there is for layer norm: beside -x, the mean of x is 0 and its variance x squared."""
    weight, epsilon = norm
    return functional.layer_norm(torch.cat([x, -x], dim=-1), weight.shape, weight, None, epsilon)[..., : x.shape[-1]]


def _times(
    x: torch.Tensor,
    matrix: _Matrix,
    plus: torch.Tensor | None = None,
    pair: Pair | None = None,
    shut: Sequence[torch.Tensor | None] = (),
) -> torch.Tensor:
    weight, bias = matrix
    total = torch.mm(x, weight) if plus is None else torch.addmm(plus, x, weight)
    if pair is not None:
        down, up, owner = pair
        inner, closed = torch.mm(x, down), shut[owner]
        total.addmm_(inner if closed is None else inner.masked_fill_(closed, 0.0), up)
    return total if bias is None else total.add_(bias)
