"""Deduction with its truth known by construction: entailment, syllogisms, knights and knaves, and seats in a row."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
LETTERS = ("P", "Q", "R", "S", "T")
PEOPLE = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea", "Max", "Ned", "Pam", "Sue")
NOUNS = (
    *("artists", "bakers", "cyclists", "dancers", "farmers", "gardeners", "hunters", "jugglers", "knitters", "lawyers", "miners", "nurses"),
    *("painters", "poets", "pilots", "readers", "sailors", "singers", "swimmers", "tailors", "vegans", "writers"),
)
TRIES = 400
Statement = tuple[Any, ...]
Kinds = Mapping[str, bool]
Clue = tuple[str, str, Callable[[Mapping[str, int]], bool]]


def generate(rng: random.Random, level: int) -> Problem:
    """One problem of one of the four families, each as likely."""
    return rng.choice((entailment, syllogism, knights, puzzle))(rng, level)


def entailment(rng: random.Random, level: int) -> Problem:
    """Does a formula follow from `level` + 1 others? As often as not."""
    letters, wanted = LETTERS[: min(level + 2, 5)], rng.random() < 0.5
    while True:
        premises = [_formula(rng, letters, level) for _ in range(level + 1)]
        conclusion = _formula(rng, letters, level - 1)
        used = {letter for premise in premises for letter in _letters(premise)}
        if conclusion in premises or len(set(premises)) < len(premises) or not used >= _letters(conclusion):
            continue
        worlds = [dict(zip(letters, values, strict=True)) for values in itertools.product((True, False), repeat=len(letters))]
        models = [world for world in worlds if all(_true(premise, world) for premise in premises)]
        if models and all(_true(conclusion, world) for world in models) == wanted:
            break
    texts, claim = [_shown(premise) for premise in premises], _shown(conclusion)
    prompt = rng.choice(
        (
            f"Premises: {'; '.join(texts)}. Conclusion: {claim}. Is the conclusion entailed? Answer yes or no.",
            f"Given: {'; '.join(texts)}. Does it follow that {claim}? Answer yes or no.",
        )
    )
    statement = {"kind": "entailment", "premises": texts, "conclusion": claim}
    return _problem(prompt, "yes" if wanted else "no", _letter_key(premises, conclusion), level, "entailment", statement)


def syllogism(rng: random.Random, level: int) -> Problem:
    """Does a sentence about two sorts of people follow from two to four others? As often as not."""
    terms, wanted = rng.sample(NOUNS, 2 + (level + 2) // 2), rng.random() < 0.5
    forms = ("all", "no", "some", "some not")
    while True:
        pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in itertools.pairwise(terms)]
        premises = [(rng.choice(forms if level > 1 else forms[:3]), *pair) for pair in pairs]
        ends = (terms[0], terms[-1])
        conclusion = (rng.choice(forms), *(ends if rng.random() < 0.5 else ends[::-1]))
        if _syllogism_holds(premises, conclusion, terms) == wanted:
            break
    rng.shuffle(premises)
    sentences, claim = [_sentence(premise) for premise in premises], _sentence(conclusion)
    given = " ".join(f"{sentence.capitalize()}." for sentence in sentences)
    prompt = rng.choice((f"{given} Does it follow that {claim}?", f"{given} Therefore, {claim}. Is this syllogism valid?"))
    key = f"deduction:syllogism:{';'.join(sorted(_same_sentence(premise) for premise in premises))}|-{_same_sentence(conclusion)}"
    statement = {"kind": "syllogism", "premises": sentences, "conclusion": claim}
    return _problem(f"{prompt} Answer yes or no.", "yes" if wanted else "no", key, level, "syllogism", statement)


def knights(rng: random.Random, level: int) -> Problem:
    """Who of `level` + 1 people always tells the truth and who always lies? Their statements leave one possibility."""
    people = rng.sample(PEOPLE, level + 1)
    while True:
        kinds = {person: rng.random() < 0.5 for person in people}
        for _ in range(TRIES):
            said = {person: _saying(rng, person, people, level) for person in people}
            if all(said[person][2](kinds) == kinds[person] for person in people) and _only_way(said, people):
                return _knights_problem(people, said, kinds, level)


def puzzle(rng: random.Random, level: int) -> Problem:
    """`level` + 2 people in a row of seats: who sits where? No clue can be spared."""
    people = rng.sample(PEOPLE, level + 2)
    seats = dict(zip(people, range(1, len(people) + 1), strict=True))
    orders = [dict(zip(order, range(1, len(people) + 1), strict=True)) for order in itertools.permutations(people)]
    clues: list[Clue] = []
    left = orders
    while len(left) > 1:
        clue = _clue(rng, people, seats)
        fewer = [order for order in left if clue[2](order)]
        if len(fewer) < len(left):
            clues, left = [*clues, clue], fewer
    clues = _needed(clues, orders)
    rng.shuffle(clues)
    names = sorted(people)
    prompt = f"{', '.join(names[:-1])} and {names[-1]} sit in a row of {len(people)} seats, numbered from left to right. "
    prompt += " ".join(f"{text}." for _, text, _ in clues)
    person = rng.choice(people)
    constraints = [f"all_different({', '.join(names)})", *(formula for formula, _, _ in clues)]
    statement: dict[str, Any] = {"kind": "puzzle", "variables": names, "domain": f"1..{len(people)}", "constraints": constraints}
    key = f"deduction:puzzle:{len(people)}:{';'.join(sorted(formula for formula, _, _ in clues))}"
    if rng.random() < 0.5:
        prompt, answer, statement["asked_value"] = f"{prompt} Who sits in seat {seats[person]}?", person, seats[person]
        return _problem(prompt, answer, f"{key}?{seats[person]}", level, "puzzle", statement)
    prompt, answer, statement["asked"] = f"{prompt} In which seat does {person} sit?", str(seats[person]), person
    return _problem(prompt, answer, f"{key}?{person}", level, "puzzle", statement)


def _problem(prompt: str, answer: str, key: str, level: int, family: str, statement: Mapping[str, Any]) -> Problem:
    task = Task(prompt, Domain.LOGIC, reference=answer, key=key, level=level, family=family, metadata={"logic": dict(statement)})
    return Problem(task, answer, careful=(), terse=())


def _formula(rng: random.Random, letters: Sequence[str], level: int) -> Statement:
    if level <= 0 or rng.random() < 0.2:
        return _literal(rng, letters)
    one, two, three = (_literal(rng, [letter]) for letter in rng.sample(letters, 3))
    shapes: list[Statement] = [("->", one, two), ("or", one, two), ("->", one, two)]
    if level > 1:
        shapes.append(("not", ("and", one, two)))
    if level > 2:
        shapes += [("<->", one, two), ("->", ("and", one, two), three)]
    if level > 3:
        shapes += [("->", one, ("or", two, three)), ("or", one, ("and", two, three))]
    return rng.choice(shapes)


def _literal(rng: random.Random, letters: Sequence[str]) -> Statement:
    letter = rng.choice(letters)
    return ("letter", letter) if rng.random() < 0.6 else ("not", ("letter", letter))


def _true(formula: Statement, world: Mapping[str, bool]) -> bool:
    match formula:
        case ("letter", str(letter)):
            return world[letter]
        case ("not", body):
            return not _true(body, world)
        case (connective, left, right):
            a, b = _true(left, world), _true(right, world)
            return {"and": a and b, "or": a or b, "->": not a or b, "<->": a == b}[connective]
    raise AssertionError(formula)


def _letters(formula: Statement) -> set[str]:
    return {formula[1]} if formula[0] == "letter" else set().union(*(_letters(part) for part in formula[1:]))


def _shown(formula: Statement, names: Mapping[str, str] | None = None) -> str:
    if formula[0] == "letter":
        return names[formula[1]] if names else str(formula[1])
    parts = [_shown(part, names) for part in formula[1:]]
    inner = [text if part[0] in ("letter", "not") else f"({text})" for text, part in zip(parts, formula[1:], strict=True)]
    return f"not {inner[0]}" if formula[0] == "not" else f" {formula[0]} ".join(inner)


def _letter_key(premises: Sequence[Statement], conclusion: Statement) -> str:
    """The same for every order of the premises and every choice of letters."""
    used = sorted(set().union(*(_letters(formula) for formula in (*premises, conclusion))))

    def written(order: Iterable[str]) -> str:
        names = dict(zip(order, LETTERS, strict=False))
        return f"{';'.join(sorted(_shown(premise, names) for premise in premises))}|-{_shown(conclusion, names)}"

    return f"deduction:entailment:{min(map(written, itertools.permutations(used)))}"


def _sentence(sentence: tuple[str, str, str]) -> str:
    form, subject, predicate = sentence
    return f"{form.split()[0]} {subject} are {'not ' if form == 'some not' else ''}{predicate}"


def _same_sentence(sentence: tuple[str, str, str]) -> str:
    """No A are B is no B are A, and so with some."""
    form, subject, predicate = sentence
    if form in ("no", "some") and predicate < subject:
        return _sentence((form, predicate, subject))
    return _sentence(sentence)


def _syllogism_holds(premises: Sequence[tuple[str, str, str]], conclusion: tuple[str, str, str], terms: Sequence[str]) -> bool | None:
    """Whether it follows without any claim of existence; None when the premises contradict each other.

    A region is the set of terms somebody falls under. All and No empty regions; each Some needs somebody in one of its own, and a Some
    follows when that leaves one of the premises no other place.
    """
    regions = [frozenset(some) for size in range(len(terms) + 1) for some in itertools.combinations(terms, size)]
    open_regions = {region for region in regions if not any(_denies(premise, region) for premise in premises)}
    witnesses = [{region for region in open_regions if _shows(premise, region)} for premise in premises if premise[0].startswith("some")]
    if not all(witnesses):
        return None
    if conclusion[0].startswith("some"):
        return any(all(_shows(conclusion, region) for region in places) for places in witnesses)
    return not any(_denies(conclusion, region) for region in open_regions)


def _denies(sentence: tuple[str, str, str], region: frozenset[str]) -> bool:
    form, subject, predicate = sentence
    return subject in region and ((form == "all" and predicate not in region) or (form == "no" and predicate in region))


def _shows(sentence: tuple[str, str, str], region: frozenset[str]) -> bool:
    form, subject, predicate = sentence
    return subject in region and (predicate in region) == (form == "some")


def _saying(rng: random.Random, speaker: str, people: Sequence[str], level: int) -> tuple[str, str, Callable[[Kinds], bool]]:
    """A statement as formula, as text, and whether it is true."""
    other = rng.choice([person for person in people if person != speaker])
    third = rng.choice([person for person in people if person != other])
    me, am = ("I", "am") if third == speaker else (third, "is")
    forms: list[tuple[str, str, Callable[[Kinds], bool]]] = [
        (f"knight({other})", f"{other} is a knight", lambda kinds: kinds[other]),
        (f"knave({other})", f"{other} is a knave", lambda kinds: not kinds[other]),
        (f"knave({other}) or knave({third})", f"{other} is a knave or {me} {am} a knave", lambda k: not (k[other] and k[third])),
        (f"knight({other}) <-> knight({third})", f"{other} and {me} are of the same kind", lambda k: k[other] == k[third]),
        (f"knight({other}) xor knight({third})", f"{other} and {me} are of different kinds", lambda k: k[other] != k[third]),
        (f"knave({other}) and knave({third})", f"{other} and {me} are both knaves", lambda k: not (k[other] or k[third])),
    ]
    if level > 2:
        text = f"if {other} is a knight, then {me} {am} a knave"
        forms.append((f"knight({other}) -> knave({third})", text, lambda k: not (k[other] and k[third])))
    return rng.choice(forms)


def _only_way(said: Mapping[str, tuple[str, str, Callable[[Kinds], bool]]], people: Sequence[str]) -> bool:
    ways = (dict(zip(people, values, strict=True)) for values in itertools.product((True, False), repeat=len(people)))
    return sum(all(said[person][2](way) == way[person] for person in people) for way in ways) == 1


def _knights_problem(
    people: Sequence[str], said: Mapping[str, tuple[str, str, Callable[[Kinds], bool]]], kinds: Kinds, level: int
) -> Problem:
    prompt = "Knights always tell the truth and knaves always lie. Each of these people is a knight or a knave. "
    prompt += " ".join(f'{person} says: "{said[person][1][0].upper()}{said[person][1][1:]}."' for person in people)
    prompt += " Who is a knight and who is a knave?"
    answer = ", ".join(f"{person} is a {'knight' if kinds[person] else 'knave'}" for person in people)
    statements = {person: said[person][0] for person in people}
    key = f"deduction:knights:{';'.join(f'{person}:{statements[person]}' for person in sorted(people))}"
    statement = {"kind": "knights", "people": list(people), "statements": statements}
    return _problem(prompt, answer, key, level, "knights", statement)


def _clue(rng: random.Random, people: Sequence[str], seats: Mapping[str, int]) -> Clue:
    """A clue that is true of these seats: as formula, as text, and as a test of other seats."""
    a, b, c = rng.sample(people, 3)
    seat = rng.randint(1, len(people))
    clues: list[Clue] = [
        (f"left_of({a}, {b})", f"{a} sits somewhere to the left of {b}", lambda s: s[a] < s[b]),
        (f"adjacent({a}, {b})", f"{a} and {b} are neighbours", lambda s: abs(s[a] - s[b]) == 1),
        (f"not adjacent({a}, {b})", f"{a} and {b} are not neighbours", lambda s: abs(s[a] - s[b]) != 1),
        (f"{a} + 1 = {b}", f"{a} sits directly to the left of {b}", lambda s: s[a] + 1 == s[b]),
        (f"between({a}, {b}, {c})", f"{a} sits somewhere between {b} and {c}", lambda s: min(s[b], s[c]) < s[a] < max(s[b], s[c])),
        (f"{a} != {seat}", f"{a} does not sit in seat {seat}", lambda s: s[a] != seat),
    ]
    if rng.random() < 0.3:
        clues.append((f"{a} = {seats[a]}", f"{a} sits in seat {seats[a]}", lambda s: s[a] == seats[a]))
    return rng.choice([clue for clue in clues if clue[2](seats)])


def _needed(clues: list[Clue], orders: Sequence[Mapping[str, int]]) -> list[Clue]:
    """Without the clues that the others make superfluous."""
    for clue in list(clues):
        rest = [other for other in clues if other is not clue]
        if sum(all(other[2](order) for other in rest) for order in orders) == 1:
            clues = rest
    return clues
