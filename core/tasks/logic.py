"""Ordering puzzles: shuffled comparisons of three to six people, and who stands at one end."""

from __future__ import annotations

import itertools
import random

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
PEOPLE = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea", "Max", "Ned", "Pam", "Sue")
RELATIONS = (("taller", "tallest", "shortest"), ("older", "oldest", "youngest"), ("faster", "fastest", "slowest"))


def generate(rng: random.Random, level: int) -> Problem:
    """One puzzle of `level` + 2 people."""
    people = rng.sample(PEOPLE, level + 2)
    more, most, least = rng.choice(RELATIONS)
    facts = [f"{a} is {more} than {b}." for a, b in itertools.pairwise(people)]
    rng.shuffle(facts)
    asked_most = rng.random() < 0.5
    answer = people[0] if asked_most else people[-1]
    prompt = " ".join(facts) + f" Who is the {most if asked_most else least}?"
    task = Task(prompt, Domain.LOGIC, reference=answer, key=f"logic:{more}:{'>'.join(people)}", level=level, family="ordering")
    chain = tuple(f"{a}>{b}" for a, b in itertools.pairwise(people))
    return Problem(task, answer, careful=(*chain, ">".join(people)), terse=(">".join(people),))
