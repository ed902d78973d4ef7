"""Closed-context questions with near names and near numbers around the answer; in two steps, or unanswerable, at the higher levels.

Half of the plain ones come without a reference: their sources are complete, and the verifier reads the answer there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from core.tasks.problem import Problem
from core.types import Domain, Record, Task

LEVELS = (1, 2, 3, 4)
GIVEN = (("Anna", "Anne", "Hanna"), ("Jon", "John", "Joan"), ("Mara", "Maria", "Marta"), ("Nils", "Niels", "Neil"), ("Olga", "Olaf", "Ola"))
FAMILY = ("Berg", "Bergh", "Birk", "Dahl", "Dale", "Holm", "Holt", "Lind", "Lund", "Moen", "Moe", "Vik")
CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Quito", "Delhi", "Tokyo", "Bern", "Riga", "Accra", "Hanoi", "Turin", "Porto")
TREES = ("Alder", "Elder", "Ash", "Oak", "Birch", "Beech", "Cedar", "Elm", "Maple", "Poplar")
BUILDINGS = ("Tower", "Bridge", "Chapel", "Mill", "Station")
COLOURS = ("red", "blue", "green", "black", "white", "grey")
BOATS = ("boat", "van", "barn", "shop", "cabin")
HOLDERS = ("box", "bag", "chest", "drawer")
THINGS = ("pens", "cups", "books", "coins", "maps", "keys", "stamps", "shells")
UNKNOWN = "not stated"


@dataclass(frozen=True, slots=True)
class Fact(Record):
    """One statement: `relation` and `subject` name it; `other` are spellings of the answer that are as good."""

    relation: str
    subject: str
    sentence: str
    questions: tuple[str, ...]
    answer: str
    other: tuple[str, ...] = ()


def generate(rng: random.Random, level: int) -> Problem:
    """3, 5, 7 or 9 statements, and one question: about one of them, about two, or about none."""
    facts = _facts(rng, 2 * level + 1)
    kind = rng.choice(("plain", "plain", "two steps", "unanswerable") if level > 2 else ("plain",))
    if kind == "two steps":
        return _two_steps(rng, facts, level)
    if kind == "unanswerable":
        return _unanswerable(rng, facts, level)
    return _plain(rng, facts, level)


def _plain(rng: random.Random, facts: list[Fact], level: int) -> Problem:
    asked = rng.choice(facts)
    has_reference = rng.random() < 0.5
    question = rng.choice(asked.questions) if has_reference else asked.questions[0]
    task = _task(facts, question, f"{asked.relation}:{asked.subject}", level, "span", asked.answer if has_reference else None, asked.other)
    return Problem(task, asked.answer, careful=(f'"{asked.sentence}"',), terse=())


def _two_steps(rng: random.Random, facts: list[Fact], level: int) -> Problem:
    """How old is the owner of the red boat?"""
    person = _person(rng)
    thing = f"the {rng.choice(COLOURS)} {rng.choice(BOATS)}"
    owns = Fact("owner", thing, f"{person} owns {thing}.", (f"Who owns {thing}?",), person)
    second = rng.choice((_age, _home, _born))(rng, person)
    phrase = {"age": "How old is the owner of {}?", "home": "Where does the owner of {} live?", "born": "When was the owner of {} born?"}
    kept = [fact for fact in facts if (fact.relation, fact.subject) not in {("owner", thing), (second.relation, person)}]
    kept = [*kept[: 2 * level - 1], owns, second]
    rng.shuffle(kept)
    question = phrase[second.relation].format(thing)
    task = _task(kept, question, f"owner+{second.relation}:{thing}", level, "two steps", second.answer, second.other)
    return Problem(task, second.answer, careful=(f'"{owns.sentence}"', f'"{second.sentence}"'), terse=(f'"{second.sentence}"',))


def _unanswerable(rng: random.Random, facts: list[Fact], level: int) -> Problem:
    """A question whose subject, or whose relation to it, the sources don't speak of."""
    told = {(fact.relation, fact.subject) for fact in facts}
    subjects = {fact.subject for fact in facts}
    while True:
        make = rng.choice(MAKERS)
        asked = make(rng)
        near = any(_near(asked.subject, subject) for subject in subjects)
        if (asked.relation, asked.subject) not in told and near:
            break
    task = _task(facts, asked.questions[0], f"{asked.relation}:{asked.subject}", level, "unanswerable", None, ())
    metadata = {**task.metadata, "answerable": False}
    return Problem(task.replace(metadata=metadata), UNKNOWN, careful=(f"No statement is about this: {asked.subject}.",), terse=())


def _task(facts: list[Fact], question: str, asked: str, level: int, family: str, reference: str | None, other: tuple[str, ...]) -> Task:
    """The order of the statements and the wording of the question make no new problem: the key is without them."""
    context = " ".join(fact.sentence for fact in facts)
    metadata: dict[str, object] = {"context": context, "question": question, "complete": True}
    if reference is not None and other:
        metadata["answers"] = list(other)
    return Task(
        f"Context: {context}\nQuestion: {question}",
        Domain.FACTUAL,
        reference=reference,
        key=f"reading:{asked}|{'|'.join(sorted(fact.sentence for fact in facts))}",
        level=level,
        family=family,
        metadata=metadata,
    )


def _facts(rng: random.Random, count: int) -> list[Fact]:
    """Statements about different things, of few relations, so that the neighbour of an answer looks like one."""
    makers = rng.sample(MAKERS, 2)
    facts: dict[tuple[str, str], Fact] = {}
    while len(facts) < count:
        fact = rng.choice(makers)(rng)
        facts.setdefault((fact.relation, fact.subject), fact)
    return list(facts.values())


def _near(one: str, other: str) -> bool:
    return bool(set(one.split()) & set(other.split()) - {"the"})


def _person(rng: random.Random) -> str:
    return f"{rng.choice(rng.choice(GIVEN))} {rng.choice(FAMILY)}"


def _age(rng: random.Random, person: str | None = None) -> Fact:
    who, age = person or _person(rng), str(rng.randint(18, 90))
    questions = (f"How old is {who}?", f"What is the age of {who}?")
    return Fact("age", who, f"{who} is {age} years old.", questions, age, (f"{age} years", f"{age} years old"))


def _home(rng: random.Random, person: str | None = None) -> Fact:
    who, where = person or _person(rng), rng.choice(CITIES)
    questions = (f"Where does {who} live?", f"In which city does {who} live?")
    return Fact("home", who, f"{who} lives in {where}.", questions, where, (f"in {where}",))


def _born(rng: random.Random, person: str | None = None) -> Fact:
    who, year = person or _person(rng), str(rng.randint(1920, 2005))
    questions = (f"When was {who} born?", f"In which year was {who} born?")
    return Fact("born", who, f"{who} was born in {year}.", questions, year, (f"in {year}",))


def _height(rng: random.Random) -> Fact:
    what, height = f"the {rng.choice(TREES)} {rng.choice(BUILDINGS)}", rng.randint(8, 240)
    questions = (f"How tall is {what}?", f"What is the height of {what}?")
    return Fact("height", what, f"T{what[1:]} is {height} metres tall.", questions, f"{height} metres", (f"{height} metres tall",))


def _built(rng: random.Random) -> Fact:
    what, year = f"the {rng.choice(TREES)} {rng.choice(BUILDINGS)}", str(rng.randint(1700, 1999))
    questions = (f"When was {what} built?", f"In which year was {what} built?")
    return Fact("built", what, f"T{what[1:]} was built in {year}.", questions, year, (f"in {year}",))


def _held(rng: random.Random) -> Fact:
    what, thing = f"the {rng.choice(COLOURS)} {rng.choice(HOLDERS)}", rng.choice(THINGS)
    count = str(rng.randint(2, 99))
    questions = (f"How many {thing} does {what} hold?", f"How many {thing} are there in {what}?")
    return Fact("held", what, f"T{what[1:]} holds {count} {thing}.", questions, count, (f"{count} {thing}",))


def _owner(rng: random.Random) -> Fact:
    who, what = _person(rng), f"the {rng.choice(COLOURS)} {rng.choice(BOATS)}"
    questions = (f"Who owns {what}?", f"What is the name of the owner of {what}?")
    return Fact("owner", what, f"{who} owns {what}.", questions, who)


MAKERS: tuple[Callable[[random.Random], Fact], ...] = (_age, _home, _born, _height, _built, _held, _owner)
