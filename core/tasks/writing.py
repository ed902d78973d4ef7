"""Constrained writing: short pieces whose constraints a program can check, built together with a piece that keeps them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
Constraint = dict[str, Any]
Built = tuple[list[str], list[Constraint], list[str]]

# A piece is put together from these. Words of two syllables where their name says so; all are in the pronouncing dictionary.
TWO_SYLLABLE_ADJECTIVES = ("quiet", "silver", "golden", "gentle", "yellow", "hollow", "distant", "frozen", "tender", "crooked")
TWO_SYLLABLE_NOUNS = ("river", "garden", "window", "candle", "meadow", "harbor", "mountain", "lantern", "sparrow", "market", "pigeon")
ADJECTIVES = (*TWO_SYLLABLE_ADJECTIVES, "small", "bright", "dark", "warm", "cold", "tall", "green")
NOUNS = (*TWO_SYLLABLE_NOUNS, "boat", "fox", "clock", "tree", "bird", "road", "stone", "lamp", "horse", "wolf", "bell", "ship", "cloud")
VERBS = ("waits", "sleeps", "sings", "rests", "stands", "shines", "turns", "moves", "falls", "drifts")
PLACES = ("the hill", "the bridge", "the valley", "a wall", "the water", "my house", "the church", "a field", "the old mill", "the sea")
WHERE = ("near", "behind", "below", "beside", "under", "beyond")
WHEN = ("at night", "in winter", "before dawn", "every evening", "after the rain", "all summer", "in the morning")
OPENERS = {
    "a": "Above", "b": "Below", "c": "Children", "d": "Dreams", "e": "Every", "f": "For", "g": "Geese", "h": "Here", "i": "In",
    "l": "Leaves", "m": "My", "n": "Nobody", "o": "Over", "p": "People", "r": "Rain", "s": "Some", "t": "The", "u": "Under", "w": "We",
}  # fmt: skip
OPENED = {
    "a": "{place} the {noun} {verb}", "b": "{place} the {noun} {verb}", "c": "play by the {adjective} {noun}",
    "d": "come {when} to the {noun}", "e": "{noun} {verb} {where} {place}", "f": "me the {noun} {verb} {when}",
    "g": "fly over the {adjective} {noun}", "h": "the {adjective} {noun} {verb}", "i": "{place} a {noun} {verb}",
    "l": "cover the {adjective} {noun}", "m": "{noun} {verb} {where} {place}", "n": "sees the {adjective} {noun}",
    "o": "{place} the {noun} {verb}", "p": "walk to the {noun} {when}", "r": "comes to the {adjective} {noun}",
    "s": "{noun} {verb} {where} {place}", "t": "{adjective} {noun} {verb} {where} {place}", "u": "{place} a {noun} {verb}",
    "w": "walk to the {noun} {when}",
}  # fmt: skip
ACROSTICS = {
    2: ("sun", "sea", "owl", "map", "pen", "cup", "fog", "hat", "fire", "moon", "bird", "rain", "wind", "leaf", "door", "home", "ship"),
    3: ("light", "cloud", "storm", "bread", "plant", "horse", "dream", "earth", "water", "music", "ocean", "tiger", "candle"),
}
RHYMES = (
    ("sea", "tree", "bee", "key"), ("light", "night", "kite", "height"), ("moon", "spoon", "tune"), ("day", "bay", "hay", "clay"),
    ("stone", "bone", "throne", "phone"), ("hill", "mill", "pill", "thrill"), ("snow", "crow", "bow", "glow"), ("rain", "train", "lane"),
    ("ring", "spring", "king", "wing"), ("gold", "cold", "fold"), ("road", "toad", "load"), ("sky", "pie", "fly"), ("house", "mouse"),
)  # fmt: skip
COMMON_FIRST = "eaotinsrhldcumfpgwybvkxjqz"
FORBIDDEN = ("very", "beautiful", "love", "heart", "soul", "world", "life", "time", "like", "never", "always", "and", "with", "is", "so")


def generate(rng: random.Random, level: int) -> Problem:
    """A piece of one sentence (level 1), some lines (2), an acrostic or a rhyme (3), a haiku or all together (4)."""
    makers: dict[int, tuple[Callable[[random.Random, int], Built], ...]] = {
        1: (_sentence,),
        2: (_lines, _sentence),
        3: (_acrostic, _couplets),
        4: (_haiku, _acrostic, _couplets),
    }
    make = rng.choice(makers[level])
    lines, constraints, told = make(rng, level)
    if level > 3:
        _length(rng, lines, constraints, told)
    if level > 1:
        _forbid(rng, lines, constraints, told, level)
    topic = next(word for row in constraints if row["kind"] == "include" for word in row["words"] if word in NOUNS)
    family = make.__name__.strip("_")
    rng.shuffle(told)
    prompt = f"{rng.choice(('Write', 'Compose'))} {_named(family)} about a {topic}. {' '.join(told)}"
    key = f"creative:{family}:{topic}:{json.dumps(constraints, sort_keys=True)}"
    task = Task(prompt, Domain.CREATIVE, key=key, level=level, family=family, metadata={"constraints": constraints})
    return Problem(task, "\n".join(lines), careful=(), terse=())


def _named(family: str) -> str:
    return {"sentence": "one sentence", "lines": "a short poem", "acrostic": "an acrostic poem", "couplets": "a poem", "haiku": "a haiku"}[
        family
    ]


def _sentence(rng: random.Random, level: int) -> Built:
    line = f"The {_filled(rng, OPENED['t'])} {rng.choice(WHEN)}."
    constraints: list[Constraint] = [{"kind": "sentences", "exactly": 1}]
    told: list[str] = []
    _length(rng, [line], constraints, told)
    _required(rng, [line], constraints, told, level)
    return [line], constraints, told


def _lines(rng: random.Random, level: int) -> Built:
    letters = rng.sample(sorted(OPENERS), rng.randint(2, 4))
    lines = [_opened(rng, letter) for letter in letters]
    constraints: list[Constraint] = [{"kind": "lines", "exactly": len(lines)}]
    told = [f"It has exactly {len(lines)} lines."]
    _required(rng, lines, constraints, told, level)
    return lines, constraints, told


def _acrostic(rng: random.Random, level: int) -> Built:
    word = rng.choice(ACROSTICS[level - 1])
    lines = [_opened(rng, letter) for letter in word]
    constraints: list[Constraint] = [{"kind": "acrostic", "word": word}]
    told = [f"The first letters of its lines spell {word.upper()}."]
    _required(rng, lines, constraints, told, level - 2)
    return lines, constraints, told


def _couplets(rng: random.Random, level: int) -> Built:
    pairs = [rng.sample(group, 2) for group in rng.sample(RHYMES, level - 2)]
    lines = []
    for pair in pairs:
        lines.append(f"{_subject(rng, ('The', 'My', 'One'))} {rng.choice(('by the', 'near a'))} {pair[0]}")
        lines.append(f"{_subject(rng, ('Some', 'A', 'Your'))} {rng.choice(('for the', 'like a'))} {pair[1]}")
    scheme = "AABB"[: len(lines)]
    constraints: list[Constraint] = [{"kind": "lines", "exactly": len(lines)}, {"kind": "rhyme", "scheme": scheme}]
    told = [f"It has exactly {len(lines)} lines.", f"Its lines rhyme in the scheme {scheme}."]
    _required(rng, lines, constraints, told, level - 2)
    return lines, constraints, told


def _subject(rng: random.Random, starts: tuple[str, ...]) -> str:
    return f"{rng.choice(starts)} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)}"


def _haiku(rng: random.Random, level: int) -> Built:
    adjectives, nouns = rng.sample(TWO_SYLLABLE_ADJECTIVES, 3), rng.sample(TWO_SYLLABLE_NOUNS, 3)
    lines = [
        f"{rng.choice(('The', 'One', 'My'))} {adjectives[0]} {nouns[0]}",
        f"{rng.choice(('waits', 'sleeps', 'rests', 'stands'))} by a {adjectives[1]} {nouns[1]}",
        f"{rng.choice(('near', 'and'))} the {rng.choice(('small', 'old', 'warm'))} {nouns[2]}",
    ]
    constraints: list[Constraint] = [{"kind": "form", "form": "haiku"}]
    told = ["Its three lines have 5, 7 and 5 syllables."]
    _required(rng, lines, constraints, told, 1)
    return lines, constraints, told


def _filled(rng: random.Random, pattern: str) -> str:
    return pattern.format(
        noun=rng.choice(NOUNS),
        adjective=rng.choice(ADJECTIVES),
        verb=rng.choice(VERBS),
        place=rng.choice(PLACES),
        where=rng.choice(WHERE),
        when=rng.choice(WHEN),
    )


def _opened(rng: random.Random, letter: str) -> str:
    return f"{OPENERS[letter]} {_filled(rng, OPENED[letter])}"


def _words(lines: list[str]) -> list[str]:
    return [word.strip(".,").lower() for line in lines for word in line.split()]


def _length(rng: random.Random, lines: list[str], constraints: list[Constraint], told: list[str]) -> None:
    count = len(_words(lines))
    least, most = count - rng.randint(0, 4), count + rng.randint(0, 4)
    constraints.append({"kind": "words", "min": least, "max": most})
    told.append(f"It has {least} to {most} words.")


def _required(rng: random.Random, lines: list[str], constraints: list[Constraint], told: list[str], count: int) -> None:
    used = set(_words(lines))
    noun = rng.choice(sorted(used & {*NOUNS}))
    others = sorted(used & {*NOUNS, *ADJECTIVES, *VERBS} - {noun})
    words = sorted([noun, *rng.sample(others, min(count, len(others)))])
    constraints.append({"kind": "include", "words": words})
    told.append(f"Use the word{'s' if len(words) > 1 else ''} {_listed(words)}.")


def _forbid(rng: random.Random, lines: list[str], constraints: list[Constraint], told: list[str], level: int) -> None:
    """Words and, from level 3, a letter that the piece does not have; the commonest such letters are the hardest to do without."""
    unused = [word for word in FORBIDDEN if word not in _words(lines)]
    words = sorted(rng.sample(unused, level - 1))
    constraints.append({"kind": "exclude", "words": words})
    told.append(f"Do not use the word{'s' if len(words) > 1 else ''} {_listed(words)}.")
    if level > 2:
        text = " ".join(_words(lines))
        letter = rng.choice([letter for letter in COMMON_FIRST if letter not in text][:3])
        constraints.append({"kind": "lipogram", "letters": letter})
        told.append(f"Do not use the letter {letter}.")


def _listed(words: list[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
