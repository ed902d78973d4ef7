"""The hard constraints of a writing task: a table of kinds, how a task's metadata is read, and what a form such as a sonnet stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from core.errors import TaskError
from core.types import Record
from core.verifiers.base import short
from core.verifiers.creative import layout, metre, wording
from core.verifiers.creative.diversity import MAX_CHARACTERS
from core.verifiers.creative.limits import BOUNDS, Found, Options, limits, worst
from core.verifiers.creative.piece import Piece, fold, words_of

MAX_CONSTRAINTS = 100
MAX_COUNT = 1_000_000
MAX_LISTED = 200
Check = Callable[[Piece, Options], Found]


@dataclass(frozen=True, slots=True)
class Shape(Record):
    """What an option may be: a test, and the words for it."""

    fits: Callable[[Any], bool]
    told: str


@dataclass(frozen=True, slots=True)
class Kind(Record):
    """One kind of constraint. `needs`: of each group of option names at least one must be given."""

    check: Check
    options: Mapping[str, Shape] = field(default_factory=dict)
    needs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint(Record):
    """One thing that the piece must be."""

    kind: str
    options: Options

    def check(self, piece: Piece) -> Found:
        """Whether it holds."""
        return KINDS[self.kind].check(piece, self.options)


def read_constraints(metadata: object, prompt: str) -> tuple[Constraint, ...]:
    """The constraints that a task's metadata states. Raises TaskError on one that can't be understood."""
    stated = metadata.get("constraints", []) if isinstance(metadata, Mapping) else []
    if not isinstance(stated, list | tuple) or len(stated) > MAX_CONSTRAINTS:
        raise TaskError(f'"constraints" must be a list of up to {MAX_CONSTRAINTS} objects like {{"kind": "words", "max": 50}}')
    read = tuple(read_constraint(row) for row in stated)
    sources = {"prompt": prompt, "asked": asked_phrases(read)}
    return tuple(Constraint(c.kind, {**c.options, **sources}) if c.kind == "no_copy" else c for c in read)


def read_constraint(row: object) -> Constraint:
    """One row of the metadata. Raises TaskError with what to write instead."""
    if not isinstance(row, Mapping) or not isinstance(row.get("kind"), str):
        raise TaskError(f'a constraint is an object with a "kind", like {{"kind": "words", "max": 50}}, not {short(repr(row))}')
    name = row["kind"]
    if name not in KINDS:
        raise TaskError(f"there is no constraint {short(name)!r}: {_nearest(name, KINDS)}")
    kind, options = KINDS[name], {key: value for key, value in row.items() if key != "kind"}
    for option, value in options.items():
        shape = kind.options.get(option) if isinstance(option, str) else None
        if shape is None:
            raise TaskError(f"the constraint {name!r} has no option {short(str(option))!r}: {_nearest(str(option), kind.options)}")
        if not shape.fits(value):
            raise TaskError(f"option {option!r} of the constraint {name!r} must be {shape.told}, not {short(repr(value))}")
    for group in kind.needs:
        if not set(group) & set(options):
            raise TaskError(f"the constraint {name!r} needs {' or '.join(map(repr, group))}")
    least, most = limits(options) if set(BOUNDS) & set(options) else (0, 0)
    if least > most or {"exactly", "min"} <= set(options) or {"exactly", "max"} <= set(options):
        raise TaskError(f'the constraint {name!r} contradicts itself: give "exactly", or "min" not above "max"')
    if name == "form":
        _read_form(options)
    return Constraint(name, options)


def asked_phrases(constraints: Iterable[Constraint]) -> tuple[tuple[str, ...], ...]:
    """The words that the constraints make a piece contain: to have them from the prompt is no copying."""
    found: list[str] = []
    for constraint in constraints:
        for option in ("words", "headings", "text"):
            value = constraint.options.get(option, ())
            if constraint.kind in ("include", "sections", "starts_with", "ends_with"):
                found += [value] if isinstance(value, str) else value
    return tuple(dict.fromkeys(filter(None, map(words_of, found))))


def shortest(constraints: tuple[Constraint, ...], least: int) -> int:
    """How many words a piece must have at least, given that the constraints may ask for fewer than `least`."""
    for constraint in constraints:
        for kind, options in [(constraint.kind, constraint.options), *_of_form(constraint)]:
            most = limits(options)[1]
            if kind == "words":
                most = min(most, sum(options.get("per_line", (most,))))
                least = min(least, max(1, most))
            elif (kind == "characters" and most < 30) or (kind == "syllables" and most < 8):
                least = 1
    return least


def check_form(piece: Piece, options: Options) -> Found:
    """A form is a bundle of other constraints; of several that a form may be, one must hold."""
    findings = []
    for bundle in _bundles(options):
        findings.append(worst((KINDS[kind].check(piece, given) for kind, given in bundle), f"a {options['form']}"))
        if findings[-1].held:
            return findings[-1]
    undecided = [finding for finding in findings if finding.held is None]
    return (undecided or findings)[0].replace(found=f"{options['form']}: {(undecided or findings)[0].found}")


def _read_form(options: Options) -> None:
    if options["form"] == "acrostic" and "word" not in options:
        raise TaskError('the form "acrostic" needs "word"')
    if "word" in options and options["form"] != "acrostic":
        raise TaskError(f'the form {options["form"]!r} has no "word": that is for acrostics')


def _bundles(options: Options) -> tuple[tuple[tuple[str, Options], ...], ...]:
    if options["form"] == "acrostic":
        return ((("acrostic", {"word": options["word"]}),),)
    return FORMS[options["form"]]


def _of_form(constraint: Constraint) -> list[tuple[str, Options]]:
    return [pair for bundle in _bundles(constraint.options) for pair in bundle] if constraint.kind == "form" else []


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name[:40], list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(known) or 'none'}"


def _whole(value: object, least: int = 0, most: int = MAX_COUNT) -> bool:
    return type(value) is int and least <= value <= most


def _text(value: object, most: int = 1_000) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= most


def _listed(value: object, fits: Callable[[Any], bool], most: int = MAX_LISTED) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= most and all(map(fits, value))


def _is_phrase(value: object) -> bool:
    return _text(value) and bool(words_of(str(value)))


def _is_earlier(value: object) -> bool:
    return _listed(value, lambda text: isinstance(text, str)) and sum(map(len, value)) <= MAX_CHARACTERS  # type: ignore[call-overload]


def _is_bounds(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and set(value) <= set(BOUNDS) and all(map(_whole, value.values()))


def _one_of(*names: str) -> Shape:
    return Shape(lambda value: value in names if isinstance(value, str) else False, f"one of {', '.join(names)}")


COUNT = Shape(_whole, "a whole number from 0 to 1000000")
COUNTS = Shape(lambda value: _listed(value, lambda n: _whole(n, 1, 1_000)), "a list of whole numbers, one for each line")
SHARE = Shape(lambda value: type(value) in (int, float) and 0 < value <= 1, "a number above 0, up to 1")
TEXT = Shape(_text, "a text of 1 to 1000 characters")
WORDS = Shape(lambda value: _listed(value, _is_phrase), "a list of 1 to 200 words or phrases")
LETTER = Shape(lambda value: isinstance(value, str) and len(fold(value)) == 1 and value.isalpha(), "one letter")
LETTERS = Shape(lambda value: _text(value, 26) and value.isascii() and value.isalpha(), "a text of letters from a to z")
SPELLED = Shape(lambda value: _text(value, 200) and any(map(str.isalnum, fold(value))), "a word of 1 to 200 letters")
SCHEME = Shape(
    lambda value: (
        _text(value, 40) and value.isascii() and len(value.replace(" ", "")) > 1 and value.replace(" ", "").replace("-", "X").isalpha()
    ),
    "letters, one for each line, like ABAB; X for a line that rhymes with none",
)
FLAG = Shape(lambda value: type(value) is bool, "true or false")
LIMITS = {name: COUNT for name in BOUNDS}

FIVE_SEVEN_FIVE = (("syllables", {"per_line": (5, 7, 5)}),)
FOURTEEN = (("lines", {"exactly": 14}), ("syllables", {"each": 10, "slack": 1}))
SESTETS = ("CDECDE", "CDCDCD", "CDDCDC", "CDCCDC", "CDEDCE", "CDDCEE", "CDCDEE", "CDDCCD")
FORMS: dict[str, tuple[tuple[tuple[str, Options], ...], ...]] = {
    "haiku": (FIVE_SEVEN_FIVE,),
    "senryu": (FIVE_SEVEN_FIVE,),
    "tanka": ((("syllables", {"per_line": (5, 7, 5, 7, 7)}),),),
    "cinquain": ((("syllables", {"per_line": (2, 4, 6, 8, 2)}),),),
    "couplet": ((("lines", {"exactly": 2}), ("rhyme", {"scheme": "AA"})),),
    "tercet": ((("lines", {"exactly": 3}),),),
    "quatrain": tuple((("lines", {"exactly": 4}), ("rhyme", {"scheme": s})) for s in ("AABB", "ABAB", "ABBA", "XAXA", "AAXA", "AAAA")),
    "limerick": ((("lines", {"exactly": 5}), ("rhyme", {"scheme": "AABBA"}), ("limerick", {})),),
    "sonnet": tuple(
        (*FOURTEEN, ("rhyme", {"scheme": s})) for s in ("ABABCDCDEFEFGG", "ABABBCBCCDCDEE", *("ABBAABBA" + s for s in SESTETS))
    ),
    "six-word story": ((("words", {"exactly": 6}),),),
    "drabble": ((("words", {"exactly": 100}),),),
    "abecedarian": ((("acrostic", {"word": "abcdefghijklmnopqrstuvwxyz"}),),),
}

KINDS: dict[str, Kind] = {
    "words": Kind(
        layout.check_words,
        {**LIMITS, "per_line": COUNTS, "each": Shape(_is_bounds, 'limits like {"min": 3, "max": 9}')},
        ((*BOUNDS, "per_line", "each"),),
    ),
    "lines": Kind(layout.check_lines, LIMITS, (BOUNDS,)),
    "characters": Kind(layout.check_characters, LIMITS, (BOUNDS,)),
    "sentences": Kind(layout.check_sentences, LIMITS, (BOUNDS,)),
    "paragraphs": Kind(layout.check_paragraphs, {**LIMITS, "lines": COUNT}, ((*BOUNDS, "lines"),)),
    "title": Kind(layout.check_title, LIMITS),
    "bullets": Kind(layout.check_bullets, {**LIMITS, "style": _one_of("any", "dashed", "numbered"), "only": FLAG}),
    "sections": Kind(layout.check_sections, {"headings": WORDS}, (("headings",),)),
    "acrostic": Kind(layout.check_acrostic, {"word": SPELLED, "by": _one_of("lines", "words")}, (("word",),)),
    "form": Kind(check_form, {"form": _one_of(*FORMS, "acrostic"), "word": SPELLED}, (("form",),)),
    "limerick": Kind(metre.check_limerick),
    "syllables": Kind(
        metre.check_syllables, {**LIMITS, "per_line": COUNTS, "each": COUNT, "slack": COUNT}, ((*BOUNDS, "per_line", "each"),)
    ),
    "rhyme": Kind(metre.check_rhyme, {"scheme": SCHEME}, (("scheme",),)),
    "include": Kind(wording.check_include, {"words": WORDS, "match": _one_of("whole", "inflections"), "at_least": COUNT}, (("words",),)),
    "exclude": Kind(wording.check_exclude, {"words": WORDS, "match": _one_of("whole", "inflections", "anywhere")}, (("words",),)),
    "lipogram": Kind(wording.check_lipogram, {"letters": LETTERS}, (("letters",),)),
    "without": Kind(wording.check_without, {"characters": TEXT}, (("characters",),)),
    "pangram": Kind(wording.check_pangram),
    "unique_words": Kind(wording.check_unique_words, {"min": COUNT, "share": SHARE}, (("min", "share"),)),
    "word_length": Kind(wording.check_word_length, LIMITS, (BOUNDS,)),
    "alliteration": Kind(wording.check_alliteration, {"letter": LETTER, "share": SHARE}, (("letter",),)),
    "case": Kind(wording.check_case, {"style": _one_of("upper", "lower", "title")}, (("style",),)),
    "starts_with": Kind(wording.check_starts_with, {"text": TEXT, "each": _one_of("piece", "line", "paragraph")}, (("text",),)),
    "ends_with": Kind(wording.check_ends_with, {"text": TEXT, "each": _one_of("piece", "line", "paragraph")}, (("text",),)),
    "no_copy": Kind(wording.check_no_copy, {"words": COUNT, "earlier": Shape(_is_earlier, "a list of texts, up to 250000 characters")}),
}
