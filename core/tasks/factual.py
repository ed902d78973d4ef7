"""Closed-context questions: the answer, and the sentence it stands in, are in the prompt."""

from __future__ import annotations

import random

from core.tasks.logic import PEOPLE
from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Quito", "Delhi", "Tokyo", "Bern", "Riga")
THINGS = ("pens", "cups", "books", "coins", "maps", "keys", "stamps", "shells")
COLOURS = ("red", "blue", "green", "black", "white", "grey")


def generate(rng: random.Random, level: int) -> Problem:
    """A context of 2, 4, 6 or 8 sentences and one question about one of them."""
    facts: dict[str, tuple[str, str]] = {}
    while len(facts) < 2 * level:
        sentence, question, answer = rng.choice((_home, _box, _owner))(rng)
        facts.setdefault(question, (sentence, answer))
    question = rng.choice(sorted(facts))
    sentence, answer = facts[question]
    context = " ".join(said for said, _ in facts.values())
    task = Task(
        f"Context: {context}\nQuestion: {question}",
        Domain.FACTUAL,
        reference=answer,
        level=level,
        family="context",
        metadata={"context": context, "complete": True},
    )
    return Problem(task, answer, careful=(f'"{sentence}"',), terse=())


def _home(rng: random.Random) -> tuple[str, str, str]:
    who, where = rng.choice(PEOPLE), rng.choice(CITIES)
    return f"{who} lives in {where}.", f"Where does {who} live?", where


def _box(rng: random.Random) -> tuple[str, str, str]:
    colour, count, thing = rng.choice(COLOURS), str(rng.randint(2, 99)), rng.choice(THINGS)
    return f"The {colour} box holds {count} {thing}.", f"What does the {colour} box hold?", f"{count} {thing}"


def _owner(rng: random.Random) -> tuple[str, str, str]:
    who, thing = rng.choice(PEOPLE), rng.choice(THINGS)
    return f"The {thing} belong to {who}.", f"Who owns the {thing}?", who
