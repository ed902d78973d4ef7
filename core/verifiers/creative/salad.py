"""Words in any order: pairs of small words that no English sentence has, "a" before a vowel, and runs without any small word.

Hand-made and one-sided: what it finds is wrong nearly always, and much that is wrong it can't find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from core.verifiers.creative.piece import Piece, words_of
from core.verifiers.creative.pronouncing import FIRST_VOWEL, pronunciations
from core.verifiers.creative.wordforms import FUNCTION_WORDS, word_set

PAUSE = re.compile(r"[.,;:!?…—–()\[\]\"“”«»*]+|(?<!\w)['‘’]|['’](?!\w)| - ")

SUBJECT, OBJECT = word_set("i he she we they"), word_set("me him us them")
SELF = word_set("myself himself herself itself ourselves themselves yourself")
FINITE, MODAL = word_set("is am are was were has had does did"), word_set("would should could shall")
ARTICLES, OWNERS = word_set("the a an"), word_set("my your our their its")
PREPOSITIONS = word_set("of from with into onto at toward towards upon among during without")
NEGATED = word_set("don't doesn't didn't isn't wasn't aren't weren't can't won't couldn't wouldn't")
SHORTENED = word_set("i'm i'll i've i'd he's she's you're we're they're you'll we'll they'll")
JOINING = word_set("and or nor than because although though unless")
DETERMINERS = ARTICLES | OWNERS | word_set("every his")

NOT_AFTER_DETERMINERS = (
    SUBJECT | OBJECT | SELF | FINITE | MODAL | PREPOSITIONS | NEGATED | SHORTENED | JOINING | ARTICLES | OWNERS
    | word_set("be been to for by but if while until since whether that these those this which whom whose it there's it's let's than as")
)  # fmt: skip
NOT_AFTER: dict[str, frozenset[str]] = {
    **dict.fromkeys(DETERMINERS, NOT_AFTER_DETERMINERS),
    **dict.fromkeys(word_set("his every"), NOT_AFTER_DETERMINERS - word_set("as for by to but is was than and or with from at")),
    **dict.fromkeys(
        PREPOSITIONS,
        SUBJECT | MODAL | SHORTENED | NEGATED | JOINING - {"or"} | word_set("of into onto towards be been does did has had am"),
    ),
    **dict.fromkeys(FINITE - word_set("does did"), FINITE | MODAL | SHORTENED | NEGATED),
    **dict.fromkeys(MODAL, FINITE | MODAL | OBJECT | SHORTENED | NEGATED | PREPOSITIONS | SELF | word_set("been and or than to")),
    **dict.fromkeys(SUBJECT, SUBJECT | OBJECT | ARTICLES | OWNERS | SHORTENED | word_set("of his than it it's")),
    **dict.fromkeys(OBJECT, OBJECT),
    **dict.fromkeys(NEGATED, FINITE | MODAL | NEGATED | SHORTENED | PREPOSITIONS | JOINING),
    **dict.fromkeys(SHORTENED, SUBJECT | MODAL | FINITE - {"had"} | SHORTENED | NEGATED | word_set("of than and or")),
    **dict.fromkeys(("be", "been"), FINITE | MODAL | SUBJECT | SHORTENED | NEGATED | word_set("be been have do")),
    **dict.fromkeys(("very", "too"), FINITE | MODAL | OBJECT | ARTICLES | OWNERS | SHORTENED | word_set("of into onto upon been")),
    **dict.fromkeys(("these", "those"), ARTICLES | OWNERS | OBJECT | SHORTENED | word_set("of into is was has i he she of")),
    **dict.fromkeys(("and", "or"), word_set("than or nor and")),
    "to": FINITE | MODAL | SUBJECT | SHORTENED | NEGATED | word_set("been of to than from with into onto"),
}
WRONG_VERB = {
    **dict.fromkeys(("i",), word_set("is are has does")),
    **dict.fromkeys(("he", "she"), word_set("am are have do")),
    **dict.fromkeys(("we", "they"), word_set("am is was has does")),
}
NOT_LAST = ARTICLES | OWNERS | word_set("and or because than every very")


def impossible_pairs(piece: Piece) -> tuple[str, ...]:
    """Pairs of words, with no pause between them, that don't follow each other in a sentence, and a last word that ends none."""
    found = [f"{one} {other}" for words in _phrases(piece) for one, other in pairwise(words) if _impossible(one, other)]
    return (*found, piece.words[-1]) if piece.words and piece.words[-1] in NOT_LAST else tuple(found)


def longest_bare_run(piece: Piece) -> tuple[str, ...]:
    """The longest run of words, with no pause in it, of which none holds a sentence together."""
    best: tuple[str, ...] = ()
    for words in _phrases(piece):
        start = 0
        for at, word in enumerate((*words, "and")):
            if word in FUNCTION_WORDS:
                best = max(best, words[start:at], key=len)
                start = at + 1
    return best


def _phrases(piece: Piece) -> Iterator[tuple[str, ...]]:
    for line in piece.lines:
        for phrase in PAUSE.split(line.text):
            yield words_of(phrase)


def _impossible(one: str, other: str) -> bool:
    if other in NOT_AFTER.get(one, ()) or other in WRONG_VERB.get(one, ()):
        return True
    if one not in ("a", "an") or len(other) < 2:
        return False
    starts = {said[0] >= FIRST_VOWEL for said in pronunciations(other)}
    return len(starts) == 1 and starts != {one == "an"} and not other.startswith("h")
