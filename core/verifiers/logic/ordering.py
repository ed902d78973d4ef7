"""Ordering puzzles in words of one fixed form: "Ann is taller than Bob. Bob is taller than Cid. Who is the tallest?"

Nothing but the facts counts: without a chain that puts one above all others the question has no forced answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from core.types import Record

MAX_PROMPT = 4_000
MAX_PEOPLE = 40
NAME = r"[A-Z][A-Za-z]{0,30}"
SCALES = (
    ("taller", "tallest", "shorter", "shortest"),
    ("older", "oldest", "younger", "youngest"),
    ("faster", "fastest", "slower", "slowest"),
    ("heavier", "heaviest", "lighter", "lightest"),
    ("bigger", "biggest", "smaller", "smallest"),
    ("richer", "richest", "poorer", "poorest"),
    ("stronger", "strongest", "weaker", "weakest"),
)
RANK = {word: (scale, place) for scale, words in enumerate(SCALES) for place, word in enumerate(words)}
FACT = re.compile(rf"({NAME}) is ([a-z]+) than ({NAME})")
QUESTION = re.compile(r"Who is the ([a-z]+)\?")
PROMPT = re.compile(rf"((?:{NAME} is [a-z]+ than {NAME}\. ?)+)\s*(Who is the [a-z]+\?)\s*")
CHAIN = re.compile(rf"\s*{NAME}(?:\s*[<>]\s*{NAME})+\s*")
DRESS = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.)]\s+)?(?:(?:so|thus|hence|therefore|then|and)[,:]?\s+)?|[\s.,;!]+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ordering(Record):
    """Who comes directly before whom by the facts, all that follows from it, and the end of the order that is asked for."""

    facts: tuple[tuple[str, str], ...]
    above: Mapping[str, frozenset[str]]
    scale: int
    asked: Literal["most", "least"]
    superlative: str

    @property
    def contradictory(self) -> bool:
        """Somebody would stand above himself."""
        return any(person in below for person, below in self.above.items())

    @property
    def forced(self) -> str | None:
        """The one who stands above, or below, all others in every order that fits."""
        everyone = set(self.above)
        for person in everyone:
            others = everyone - {person}
            beaten = self.above[person] if self.asked == "most" else {p for p in others if person in self.above[p]}
            if others <= beaten:
                return person
        return None

    def follows(self, upper: str, lower: str) -> bool:
        """Whether the facts put one above the other."""
        return lower in self.above.get(upper, frozenset())


@lru_cache(maxsize=4096)
def read_ordering(prompt: str) -> Ordering | None:
    """The puzzle, when the prompt holds nothing else."""
    match = PROMPT.fullmatch(prompt) if len(prompt) <= MAX_PROMPT else None
    question = QUESTION.fullmatch(match[2]) if match else None
    if match is None or question is None or question[1] not in RANK:
        return None
    scale, place = RANK[question[1]]
    facts = []
    for upper, word, lower in FACT.findall(match[1]):
        fact_scale, fact_place = RANK.get(word, (-1, 1))
        if fact_scale != scale or fact_place not in (0, 2):
            return None
        facts.append((upper, lower) if fact_place == 0 else (lower, upper))
    people = {person for fact in facts for person in fact}
    if place not in (1, 3) or len(people) > MAX_PEOPLE:
        return None
    return Ordering(tuple(facts), _closure(facts, people), scale, "most" if place == 1 else "least", question[1])


def read_person(ordering: Ordering, answer: str) -> str:
    """The name in "Ann", "ann" or "Ann is the tallest"; the answer itself where it is none of these."""
    text = re.sub(rf" is (?:the )?{ordering.superlative}$", "", answer)
    return next((person for person in ordering.above if person.casefold() == text.casefold()), answer)


def read_chain(ordering: Ordering, line: str) -> list[tuple[str, str]] | None:
    """The pairs, upper first, that a line states: "Ann>Bob>Cid", "Cid < Ann", "Ann is taller than Bob"; None for any other line."""
    text = DRESS.sub("", line)
    fact = FACT.fullmatch(text)
    if fact:
        scale, place = RANK.get(fact[2], (-1, 1))
        if scale != ordering.scale or place not in (0, 2):
            return None
        pairs = [(fact[1], fact[3]) if place == 0 else (fact[3], fact[1])]
    elif CHAIN.fullmatch(text):
        parts = re.split(r"\s*([<>])\s*", text.strip())
        names, signs = parts[::2], parts[1::2]
        pairs = [(names[i], names[i + 1]) if sign == ">" else (names[i + 1], names[i]) for i, sign in enumerate(signs)]
    else:
        return None
    return pairs if any(person in ordering.above for pair in pairs for person in pair) else None


def _closure(facts: list[tuple[str, str]], people: set[str]) -> dict[str, frozenset[str]]:
    """Everybody whom a person stands above, directly or through others. In the order of names, for the same result each time."""
    below: dict[str, set[str]] = {person: set() for person in sorted(people)}
    for upper, lower in facts:
        below[upper].add(lower)
    for middle in below:
        for found in below.values():
            if middle in found:
                found |= below[middle]
    return {person: frozenset(found) for person, found in below.items()}
