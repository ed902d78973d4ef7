"""One token a row from its logits. A row's draws depend on its own seed and step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Drawn:
    """How one row wants its next token: temperature 0 is the likeliest, else `uniform` in [0, 1) decides."""

    temperature: float
    top_p: float
    uniform: float


def draw(logits: torch.Tensor, wishes: Sequence[Drawn]) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, their log probabilities), by inverse transform where the temperature is above 0."""
    logprobs = torch.log_softmax(logits, dim=-1)
    tokens = logits.argmax(dim=-1)
    hot = [i for i, wish in enumerate(wishes) if wish.temperature > 0]
    if hot:
        temperatures = torch.tensor([wishes[i].temperature for i in hot], device=logits.device)
        chosen = logits if len(hot) == len(wishes) else logits[hot]
        probabilities = torch.softmax(chosen / temperatures[:, None], dim=-1)
        if any(wishes[i].top_p < 1 for i in hot):
            probabilities = nucleus(probabilities, [wishes[i].top_p for i in hot])
        uniform = torch.tensor([wishes[i].uniform for i in hot], device=logits.device)
        cumulative = probabilities.cumsum(dim=-1)
        drawn = (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(dim=-1)
        tokens[hot] = drawn.clamp_(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def nucleus(probabilities: torch.Tensor, top_p: Sequence[float]) -> torch.Tensor:
    """The smallest set of tokens that holds `top_p` of the probability (Holtzman et al., 2020)."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    # at 1 nothing may go, whatever the sums round to; at 0 the likeliest stays
    limits = torch.tensor([p if p < 1 else 2.0 for p in top_p], device=probabilities.device).clamp_(min=1e-9)[:, None]
    ordered[ordered.cumsum(dim=-1) - ordered >= limits] = 0
    return torch.zeros_like(probabilities).scatter_(1, order, ordered)


def mix(x: int) -> int:
    """SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ x >> 31


def seed_of(seed: int | None, sample: int) -> int:
    """Of one sample of a request."""
    return mix((seed or 0) * 0x9E3779B97F4A7C15 + sample)


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) of one step of a sample."""
    return (mix(seed + step * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53
