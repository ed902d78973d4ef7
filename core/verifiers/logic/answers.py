"""Reads what an answer claims: one of a few words ("it does not follow"), or who or what has which value ("Ann is a knight, ...")."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from core.answers import normalise

MAX_ANSWER = 600
NOUN = (
    r"conclusion|argument|inference|statement|statements|syllogism|claim|answer|premises|sentences|formulas|formulae|formula|set|two|puzzle"
)
LEAD = re.compile(rf"(?:(?:it|they|these|this|that)|(?:(?:the|this|that|these) )?(?:two )?(?:{NOUN}))(?: (?:is|are))? ")
TAIL = re.compile(r" (?:from (?:the|these) premises|logically|necessarily|argument|inference|syllogism|statement|conclusion)$")
BECAUSE = re.compile(r",? (?:because|since) ")
WORD = re.compile(r"[a-z]+(?: [a-z]+)*")
FILLER = (
    *("is", "are", "=", ":", "->", "→", "-", "–", "—", "a", "an", "the", "in", "on", "at", "sits", "sit", "lives", "has", "owns", "gets"),
    *("takes", "position", "seat", "house", "place", "number", "chair", "day", "room"),
)
DASHES = ("-", "–", "—")
EVERYONE = ("both", "all", "everyone", "everybody")
NONE = ("none", "nobody", "no one")
BETWEEN = (",", ";", ".", "and", "&", "while", "but")
GIVEN = r"E?N(?:s+N)+c[cE]*V|N[cE]*V"
LISTED = r"c*Vc+(?:N(?:s+N)*|Z)"
SUBJECT_FIRST = re.compile(rf"(?:{GIVEN})(?:s+(?:{GIVEN}))*s*")
VALUE_FIRST = re.compile(rf"{LISTED}(?:s+{LISTED})*s*")
EVERYONE_IS = re.compile(r"Ec+V")


def read_word(answer: str, words: Mapping[str, Sequence[str]]) -> str | None:
    """The key under which the answer stands in `words`; None when it is none of them, or says two of them.

    "Yes, it follows" says the same thing twice; "yes, but it does not follow" says nothing.
    """
    if len(answer) > MAX_ANSWER:
        return None
    key_of = {_spelled(word): key for key, some in words.items() for word in some}
    text, _, reason = _spelled(answer).partition("\0")
    said = {key_of.get(_spelled(part)) or key_of.get(_core(part)) for part in re.split(r"[,;:.–—] ?", text) if part.strip()}
    if len(said) != 1 or None in said:
        return None
    found = said.pop()
    others = {word for word, key in key_of.items() if key != found}
    return None if reason and any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", reason) for word in others) else found


def read_assignment(
    answer: str, names: Sequence[str], values: Mapping[str, str], asked: str | None = None, asked_value: str | None = None
) -> dict[str, str] | None:
    """Which name has which value, in the words of `values` (word -> value); None when anything in the answer can't be read.

    Reads "Ann is a knight, Bob is a knave", "Ann: knight; Bob: knave", "Ann and Bob are knights", "knights: Ann; knaves: none" and
    "Ann = 2, Bob = 1"; a lone value where one name was `asked` for, a lone name where it was one value. A denial is not read, nor is a
    name with two values.
    """
    if len(answer) > MAX_ANSWER:
        return None
    tokens = _classed(normalise(answer).strip("{}").replace('"', "").replace("'", ""), names, values)
    if tokens is None:
        return None
    shape = "".join(kind for kind, _ in tokens)
    if asked is not None and re.fullmatch("c*V", shape):
        return {asked: tokens[-1][1]}
    if asked_value is not None and re.fullmatch("c*N", shape):
        return {tokens[-1][1]: asked_value}
    if EVERYONE_IS.fullmatch(shape):
        return dict.fromkeys(names, tokens[-1][1]) if tokens[0][1] != "both" or len(names) == 2 else None
    value_first = VALUE_FIRST.fullmatch(shape) is not None
    if not value_first and not SUBJECT_FIRST.fullmatch(shape):
        return None
    found: dict[str, str] = {}
    for name, value in _paired(tokens, value_first):
        if found.setdefault(name, value) != value:
            return None
    return found


def _classed(text: str, names: Sequence[str], values: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """The answer as (class, word): N a name, V a value, c filler, s a separator, E everyone, Z nobody.

    Case matters only where names would get lost without it: `A` beside the article, `p` beside `P`.
    """
    classes: dict[str, tuple[str, str]] = {}
    for kind, words in (("c", FILLER), ("s", BETWEEN), ("E", EVERYONE), ("Z", NONE)):
        classes.update({word: (kind, word) for word in words})
    exact = len({name.casefold() for name in names}) < len(names) or any(name.casefold() in classes for name in names)
    for word, value in values.items():
        classes.update({spelled: ("V", value) for spelled in (word, word.casefold(), word.capitalize())})
    classes.update({name if exact else name.casefold(): ("N", name) for name in names})
    any_word = "|".join(_pattern(word) for word in sorted(classes, key=len, reverse=True))
    known = re.compile(rf"\s*({any_word})")
    tokens, place = [], 0
    text = (text if exact else text.casefold()).rstrip()
    while place < len(text):
        match = known.match(text, place)
        if match is None:
            return None
        tokens.append(classes[match[1]])
        place = match.end()
    return tokens


def _pattern(word: str) -> str:
    """The word as a whole; a dash that stands before a digit is a minus and no dash."""
    if word in DASHES:
        return f"{word}(?!\\d)"
    left = r"(?<!\w)" if word[0].isalnum() else ""
    return left + re.escape(word) + (r"(?!\w)" if word[-1].isalnum() else "")


def _paired(tokens: list[tuple[str, str]], value_first: bool) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    group: list[str] = []
    value = ""
    for kind, word in tokens:
        if kind == "V":
            value = word
            pairs += [] if value_first else [(name, value) for name in group]
            group = []
        elif kind == "N" and value_first:
            pairs.append((word, value))
        elif kind == "N":
            group.append(word)
    return pairs


def _spelled(text: str) -> str:
    """Lower case, one space, "doesn't" in two words; a reason that follows stands behind a null byte."""
    text = normalise(" ".join(text[: 2 * MAX_ANSWER].replace("\0", " ").split())).casefold().strip(" .!")
    text = re.sub(r"n[’']t\b", " not", text).replace("ca not", "can not").replace("cannot", "can not")
    return BECAUSE.sub("\0", text, count=1)


def _core(part: str) -> str:
    """The phrase without its subject and what adds nothing: "the conclusion follows logically" is "follows"."""
    text = part.strip()
    for _ in range(2):
        text = TAIL.sub("", LEAD.sub("", text + " ", count=1).strip())
    return text.removeprefix("a ").removeprefix("an ")
