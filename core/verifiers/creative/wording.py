"""Constraints on words and letters: asked for, forbidden, how many different ones, how they begin, how they are written, where from."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from core.verifiers.base import short
from core.verifiers.creative.diversity import longest_run
from core.verifiers.creative.limits import Found, Options, counted, limits, told, worst
from core.verifiers.creative.piece import Line, Piece, fold, words_of
from core.verifiers.creative.wordforms import FUNCTION_WORDS, forms, word_set

COPIED_WORDS = 8
SMALL_WORDS = word_set("a an the and or but nor of in on at to by for from with as")
SIGN_WITHIN = re.compile(r"(?<=\w)[^\w\s]+(?=\w)|_+")
LOOKALIKE = re.compile(r"[^\W\d_]")


def check_include(piece: Piece, options: Options) -> Found:
    """`words`: each stands in the piece, or `at_least` so many of them. `match`: whole words, or inflections of them too."""
    index = _index(piece.words)
    words = list(dict.fromkeys(options["words"]))
    missing = [word for word in words if _place(piece.words, index, word, options) is None]
    needed = options.get("at_least", len(words))
    there = len(words) - len(missing)
    return Found(there >= needed, f"{there} of {needed} words asked for; missing: {short(', '.join(missing)) or 'none'}")


def check_exclude(piece: Piece, options: Options) -> Found:
    """None of `words` stands in the piece, nor as part of a compound or cut by signs (c*at).

    `match`: whole words, inflections of them too, or anywhere within words.
    """
    parts = (*piece.words, *words_of(piece.text.replace("-", " ")), *words_of(SIGN_WITHIN.sub("", piece.text)))
    index, text = _index(parts), fold(piece.text) if options.get("match") == "anywhere" else ""
    for word in dict.fromkeys(options["words"]):
        place = _place(parts, index, word, options)
        if fold(word) in text or place is not None:
            return Found(False, f"the forbidden {short(word)} is in it" + (f", as {short(parts[place])}" if place is not None else ""))
    return _readable(piece, "no forbidden word")


def check_lipogram(piece: Piece, options: Options) -> Found:
    """None of `letters`, with or without accents, stands in the piece or its title."""
    for word in words_of(piece.text):
        for letter in fold(options["letters"]):
            if letter in word:
                return Found(False, f"the forbidden letter {letter} is in {short(word)}")
    return _readable(piece, f"no letter of {options['letters']}")


def check_without(piece: Piece, options: Options) -> Found:
    """None of `characters` stands in the piece, as they are written."""
    text = piece.text + unicodedata.normalize("NFKC", piece.text)
    there = [sign for sign in options["characters"] if sign in text]
    return Found(not there, f"the forbidden {' '.join(map(repr, there[:5]))} is in it" if there else "no forbidden sign")


def check_pangram(piece: Piece, options: Options) -> Found:
    """Every letter of the alphabet."""
    missing = sorted(set(string.ascii_lowercase) - set("".join(piece.words)))
    return Found(not missing, f"letters that are missing: {' '.join(missing) or 'none'}")


def check_unique_words(piece: Piece, options: Options) -> Found:
    """Different words: `min` of them, or a `share` of all."""
    different, share = len(set(piece.words)), len(set(piece.words)) / max(1, len(piece.words))
    findings = [counted("different words", options, different)]
    findings.append(Found(share >= options.get("share", 0), f"{share:.0%} different words, {options.get('share', 0):.0%} asked for"))
    return worst(findings, f"{different} different words")


def check_word_length(piece: Piece, options: Options) -> Found:
    """Letters in each word, from `min` to `max`."""
    least, most = limits(options)
    wrong = [word for word in piece.words if not least <= sum(map(str.isalnum, word)) <= most]
    return Found(not wrong, f"words of {told(options)} letters asked for; others: {short(', '.join(wrong[:9])) or 'none'}")


def check_alliteration(piece: Piece, options: Options) -> Found:
    """A `share` of the words, small ones like "the" apart, begins with `letter`. Without a share: all."""
    letter, asked = fold(options["letter"]), options.get("share", 1.0)
    words = [word for word in piece.words if word not in FUNCTION_WORDS or word.startswith(letter)]
    share = sum(word.startswith(letter) for word in words) / max(1, len(words))
    return Found(bool(words) and share >= asked, f"{share:.0%} of the words begin with {letter}, {asked:.0%} asked for")


def check_case(piece: Piece, options: Options) -> Found:
    """`style`: upper, lower, or title (each word but the small ones with a capital)."""
    style, text = options["style"], piece.text
    if style == "title":
        wrong = [word for word in re.findall(r"[^\W\d_][\w'’]*", text) if word[0].islower() and word not in SMALL_WORDS]
        return Found(not wrong, f"words without a capital: {short(', '.join(wrong[:9])) or 'none'}")
    wrong = [letter for letter in text if (letter.islower() if style == "upper" else letter.isupper())]
    return Found(not wrong, f"letters that are not in {style} case: {len(wrong)}")


def check_starts_with(piece: Piece, options: Options) -> Found:
    """The piece, or `each` line, sentence or paragraph, begins with `text`."""
    return _edge(piece, options, "begin", str.startswith)


def check_ends_with(piece: Piece, options: Options) -> Found:
    """The piece, or `each` line or paragraph, ends with `text`."""
    return _edge(piece, options, "end", str.endswith)


def check_no_copy(piece: Piece, options: Options) -> Found:
    """No more than `words` words in a row, 8 if not said, stand also in the prompt or in an `earlier` text."""
    allowed = options.get("words", COPIED_WORDS)
    sources = [words_of(text) for text in (*options.get("earlier", ()), options.get("prompt", ""))]
    run = longest_run(without_phrases(piece.words, options.get("asked", ())), sources)
    return Found(len(run) <= allowed, f"{len(run)} words in a row are copied, {allowed} allowed: {short(' '.join(run))}")


def without_phrases(words: Sequence[str], phrases: Sequence[tuple[str, ...]]) -> list[str | None]:
    """The words with None for every word of a phrase that stands in them."""
    index, left = _index(words), list[str | None](words)
    for phrase in phrases:
        for at in index.get(phrase[0], ()):
            if tuple(words[at : at + len(phrase)]) == phrase:
                left[at : at + len(phrase)] = [None] * len(phrase)
    return left


def _place(words: Sequence[str], index: Mapping[str, Sequence[int]], phrase: str, options: Options) -> int | None:
    """Where a word or a phrase stands; a possessive of it counts."""
    inflected = options.get("match") == "inflections"
    choices = [forms(word) if inflected else frozenset((word, f"{word}'s")) for word in words_of(phrase)]
    for start in choices[0]:
        for at in index.get(start, ()):
            if at + len(choices) <= len(words) and all(words[at + more] in choice for more, choice in enumerate(choices)):
                return at
    return None


def _index(words: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for at, word in enumerate(words):
        places.setdefault(word, []).append(at)
    return places


def _readable(piece: Piece, well: str) -> Found:
    """Letters of other alphabets can look like the forbidden ones."""
    strange = [letter for letter in LOOKALIKE.findall(fold(piece.text)) if not letter.isascii()]
    return Found(None, f"{len(strange)} letters of another alphabet: what they stand for can't be told") if strange else Found(True, well)


def _edge(piece: Piece, options: Options, verb: str, fits: Callable[[str, str], bool]) -> Found:
    each = options.get("each", "piece")
    wanted = " ".join(words_of(options["text"]))
    for at, said in enumerate(_units(piece, each)):
        if wanted:
            spoken = " ".join(words_of(said))
            held = fits(f" {spoken} ", f" {wanted} ")
        else:
            held = fits(said.strip(), options["text"].strip())
        if not held:
            where = "the piece" if each == "piece" else f"{each} {at + 1}"
            return Found(False, f"{where} does not {verb} with {short(options['text'])}: {short(said)}")
    return Found(bool(piece.words), f"{verb}s with {short(options['text'])}")


def _units(piece: Piece, each: str) -> list[str]:
    if each == "line":
        return [line.text for line in piece.lines]
    return [_joined(lines) for lines in piece.paragraphs] if each == "paragraph" else [_joined(piece.lines)]


def _joined(lines: Sequence[Line]) -> str:
    return "\n".join(line.text for line in lines)
