"""Prompts that evolve: a model proposes the variation, or, without one, sentences are dropped, moved and exchanged.

The model is a plain callable, `propose(prompt) -> str`. What it says is only ever used as a text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import ConfigError

HINTS = (
    "says the same in fewer words",
    "is more precise about the form of the answer",
    "tells in which order to proceed",
    "names a mistake to avoid",
    "asks to check the answer before giving it",
    "puts the most important demand first",
    "uses plainer words",
)
VARY = (
    "Here is an instruction for a language model:\n\n{}\n\nWrite a variation of it that {}. Keep what it is for. "
    "Reply with the new instruction and nothing else."
)
JOIN = (
    "Here are two instructions for a language model, both for the same purpose.\n\nFirst:\n{}\n\nSecond:\n{}\n\nWrite one instruction "
    "that joins what is good in both. Reply with the new instruction and nothing else."
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
QUOTES = {'"': '"', "“": "”", "'": "'", "`": "`"}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts that begin as one of `seeds`. A proposal that is empty or longer than `max_characters` is not taken.

    Each request carries one of the `hints`, so that a model which answers greedily proposes different things as well. A run is as
    repeatable as `propose` is.
    """

    seeds: Sequence[str]
    propose: Callable[[str], str] | None = None
    max_characters: int = 2_000
    hints: Sequence[str] = HINTS

    def __post_init__(self) -> None:
        if isinstance(self.seeds, str) or not self.seeds or not all(seed.strip() for seed in self.seeds):
            raise ConfigError("seeds is a list of one prompt or more, none of them empty")
        if not self.hints:
            raise ConfigError("hints is empty: say in which ways a prompt may vary, or leave it out")
        longest = max(map(len, self.seeds))
        if longest > self.max_characters:
            raise ConfigError(f"a seed has {longest} characters, max_characters is {self.max_characters}: shorten it, or raise the limit")

    def initialize(self, rng: random.Random) -> str:
        """A seed, or every other time a variation of one."""
        seed = rng.choice(self.seeds)
        return seed if rng.random() < 0.5 else self.mutate(seed, rng)

    def mutate(self, individual: str, rng: random.Random) -> str:
        """What the model makes of it."""
        hint = rng.choice(self.hints)
        if self.propose:
            return self._proposed(VARY.format(individual, hint), individual)
        return self._fitting(self._edited(sentences(individual), rng), individual)

    def crossover(self, first: str, second: str, rng: random.Random) -> str:
        """What the model makes of both."""
        if self.propose:
            return self._proposed(JOIN.format(first, second), first)
        both = dict.fromkeys([*sentences(first), *sentences(second)])
        return self._fitting([sentence for sentence in both if rng.random() < 0.5], first)

    def _proposed(self, request: str, otherwise: str) -> str:
        assert self.propose is not None
        reply = self.propose(request)
        if not isinstance(reply, str):
            raise ConfigError(f"propose returned {type(reply).__name__}: it takes a prompt and returns a text")
        return self._fitting([bare(reply)], otherwise)

    def _edited(self, text: list[str], rng: random.Random) -> list[str]:
        others = [s for seed in self.seeds for s in sentences(seed) if s not in text]
        ways = ["remove"] * (len(text) > 1) + ["move"] * (len(text) > 1) + ["insert"] * bool(others)
        way = rng.choice(ways or ["stay"])
        if way == "remove":
            del text[rng.randrange(len(text))]
        elif way == "move":
            text.insert(rng.randrange(len(text)), text.pop(rng.randrange(len(text))))
        elif way == "insert":
            text.insert(rng.randint(0, len(text)), rng.choice(others))
        return text

    def _fitting(self, parts: Sequence[str], otherwise: str) -> str:
        text = " ".join(parts).strip()
        return text if text and len(text) <= self.max_characters else otherwise


def sentences(text: str) -> list[str]:
    """Cut behind full stops, question and exclamation marks."""
    return [sentence for sentence in SENTENCE_END.split(text.strip()) if sentence]


def bare(reply: str) -> str:
    """Without what a model thought aloud before it, and the fence or quotation marks around it."""
    text = THOUGHT.sub("", reply).strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text.split("\n", 1)[1][:-3].strip()
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
