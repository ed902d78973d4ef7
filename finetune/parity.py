"""Do two back ends answer alike? Greedy answers to the same prompts, compared word for word.

Equal weights in another precision, or summed up in another order, part at the first token whose best two choices are near each other, so
that few answers may differ: `least` says how many must not. Quantisation and wrong weights are told apart by that share alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.errors import AdapterError, ConfigError
from core.types import Message, Model, Record, Request, Sampling

PROMPTS = (
    "Solve 17*6+23",
    "What is 48 / 4 - 5?",
    "Solve 9*9-12",
    "Tom has 12 apples and buys 7 more. How many apples does Tom have?",
    "x = 4\ny = x * 3\nprint(x + y)",
    "Is every cat an animal?",
    "Write one line about the sea.",
    "Which of 3, 17 and 8 is the largest?",
)
MAX_TOKENS = 24
LEAST = 0.75


@dataclass(frozen=True, slots=True)
class Difference(Record):
    """A prompt with two answers, and the character from which they differ."""

    prompt: str
    one: str
    other: str
    place: int


@dataclass(frozen=True, slots=True)
class Parity(Record):
    """How many of so many answers are equal, and the first that isn't."""

    prompts: int
    equal: int
    first: Difference | None = None

    @property
    def share(self) -> float:
        """Of equal answers, 0 to 1."""
        return self.equal / self.prompts

    def told(self) -> str:
        """In a sentence."""
        said = f"{self.equal} of {self.prompts} greedy answers are equal"
        if self.first is None:
            return said
        return f"{said}; the first difference: {self.first.prompt!r} is answered {self.first.one!r} and {self.first.other!r}"


def answers(model: Model, prompts: Sequence[str] = PROMPTS, *, max_tokens: int = MAX_TOKENS) -> tuple[str, ...]:
    """One greedy answer a prompt, asked all at once. Not inside a running event loop; there, await `ask`."""
    return asyncio.run(ask(model, prompts, max_tokens=max_tokens))


async def ask(model: Model, prompts: Sequence[str] = PROMPTS, *, max_tokens: int = MAX_TOKENS) -> tuple[str, ...]:
    """The same for asynchronous callers. Raises ConfigError when there is nothing to ask."""
    if not prompts or any(not prompt.strip() for prompt in prompts):
        raise ConfigError("a parity check needs at least one prompt, and none of them empty")
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    replies = await asyncio.gather(*(model.complete(Request((Message("user", prompt),), 1, sampling)) for prompt in prompts))
    return tuple(reply.completions[0].text for reply in replies)


def compare(prompts: Sequence[str], one: Iterable[str], other: Iterable[str]) -> Parity:
    """Space at the ends counts for nothing: some servers cut it off."""
    pairs = [(p, a.strip(), b.strip()) for p, a, b in zip(prompts, one, other, strict=True)]
    if not pairs:
        raise ConfigError("a parity check needs at least one prompt")
    unequal = [Difference(p, a, b, _place(a, b)) for p, a, b in pairs if a != b]
    return Parity(len(pairs), len(pairs) - len(unequal), unequal[0] if unequal else None)


def require(parity: Parity, least: float, what: str) -> None:
    """Raises AdapterError when fewer answers are equal than `least` (0 to 1) asks."""
    if not 0 <= least <= 1:
        raise ConfigError(f"the least share of equal answers is {least}: choose one from 0 to 1")
    if parity.share < least:
        raise AdapterError(f"{what}: {parity.told()}, asked were {least:.0%}")


def _place(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
