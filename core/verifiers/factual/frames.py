"""Finds, by form alone, the words of a sentence that answer a question.

"Where does Ann live?" asks for what follows "Ann lives in". The sentence must be that statement from its first word to its last: a word
more, another tense, a subject that is longer than the one asked for, and nothing is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.types import Record
from core.verifiers.factual.passages import Sentence, Word, stem
from core.verifiers.factual.question import Question
from core.verifiers.factual.words import (
    AUXILIARIES,
    BARE_PLACES,
    CALENDAR,
    COLOURS,
    COORDINATORS,
    COPULAS,
    DAYS,
    DETERMINERS,
    FUNCTION,
    IRREGULAR,
    MONTHS,
    NEGATIONS,
    NO_NOUN,
    PARTICIPLES,
    PERFECT,
    PLACES,
    PREPOSITIONS,
    PRONOUNS,
    RELATIVES,
    SUBORDINATORS,
    SUPPORTS,
    WITHIN_DATES,
)

LONGEST = 40
YEAR = re.compile(r"[12]\d{3}(?:-\d{2}(?:-\d{2})?)?|\d{1,2}:\d{2}|[12]\d{3}s", re.ASCII)
PARTICIPLE = re.compile(r"[a-z]{2,}(?:ed|ing|en)")
DOUBLED = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")


@dataclass(frozen=True, slots=True)
class Slot(Record):
    """The answer in a sentence, as offsets in it; `lead` is the preposition before it, `verb` the stem of the word that was inflected."""

    sentence: Sentence
    start: int
    end: int
    lead: str = ""
    verb: str = ""

    @property
    def text(self) -> str:
        """The answer, word for word."""
        return self.sentence.text[self.start : self.end]


def answers_in(question: Question, sentence: Sentence) -> Iterator[Slot]:
    """The slots of a sentence that states what the question asks for; most often none, seldom more than one."""
    words = sentence.words
    if sentence.quoted or sentence.source.cut or len(words) < 2 or len(sentence.text) > 1_500 or sentence.text.endswith(("?", ":")):
        return
    for clause in _clauses(question, words):
        for first, last, verb in _slots(question, clause):
            taken = clause[first:last]
            if taken and len(taken) <= LONGEST and _fits(question, taken, first == 0):
                led = first > 0 and question.kind in ("where", "when") and clause[first - 1].key in BARE_PLACES
                yield Slot(sentence, taken[0].start, taken[-1].end, clause[first - 1].text if led else "", verb)


def variants(question: Question, slot: Slot) -> tuple[str, ...]:
    """Full spellings of an answer: where 12 pens are counted "12" and "12 pens", where a place is asked for "Oslo" and "in Oslo"."""
    said = slot.text
    found = [said]
    if slot.lead:
        found.append(f"{slot.lead} {said}")
    if question.kind == "number":
        found.append(f"{said} {' '.join(word.text for word in question.noun)}")
    elif question.kind == "measure":
        adjective = question.noun[0].text
        number = re.fullmatch(r"(\d+)(?: years)?", said, re.ASCII) if adjective == "old" else None
        found += [number[1], f"{number[1]} years"] if number else []
        found.append(f"{found[-1]} {adjective}")
    return tuple(found)


def is_participle(key: str) -> bool:
    """Whether a word looks like "built", "opened" or "holding"."""
    return key in PARTICIPLES or PARTICIPLE.fullmatch(key) is not None


def _clauses(question: Question, words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The sentence without its full stop, cut at semicolons and where ", and" joins two statements with the verb that is asked about."""
    words = words[:-1] if words[-1].key in (".", "!", "…") else words
    start = 0
    for i, word in enumerate(words):
        if word.key == ";":
            yield words[start:i]
            start = i + 1
        elif word.key == "," and _two_statements(question, words[start:i], words[i + 1 :]):
            yield words[start:i]
            start = i + 2
    yield words[start:]


def _two_statements(question: Question, left: Sequence[Word], right: Sequence[Word]) -> bool:
    """Whether the second part has a subject of its own before the verb of the first: else it may be the end of a list."""
    if len(right) < 3 or right[0].key not in COORDINATORS or not (right[1].is_capital or right[1].key in DETERMINERS):
        return False
    if question.auxiliary in SUPPORTS:
        verbs = {word.key for word in left[1:] if word.key not in question.asked or question.auxiliary == "do"}
        verbs = {key for key in verbs if stem(key) in question.stems}
    else:
        verbs = {question.auxiliary or question.asked[0]}
    return bool(verbs & {word.key for word in right[2:]})


def _slots(question: Question, clause: Sequence[Word]) -> Iterator[tuple[int, int, str]]:
    """Places of a slot in a clause, as word numbers, before its content is looked at."""
    keys = [word.key for word in clause]
    if question.auxiliary in SUPPORTS:
        yield from _after_verb(question, clause, keys)
    elif question.auxiliary:
        yield from _after_auxiliary(question, keys)
        yield from _before_auxiliary(question, keys)
    else:
        yield from _subject(question, keys)


def _after_verb(question: Question, clause: Sequence[Word], keys: list[str]) -> Iterator[tuple[int, int, str]]:
    """X lives in SLOT; for "when" and "where" also In SLOT, X left Oslo."""
    size = len(question.words)
    verb = _inflected(question, keys[:size])
    if verb is not None:
        for first, last in _rest(question, keys, size):
            yield first, last, verb
    comma = keys.index(",") if "," in keys else 0
    if question.kind in ("when", "where") and comma and keys[0] in BARE_PLACES:
        while "," in keys[comma + 1 :] and len(keys) - comma - 1 != size:
            comma = keys.index(",", comma + 1)
        verb = _inflected(question, keys[comma + 1 :])
        if verb is not None and len(keys) - comma - 1 == size:
            yield 1, comma, verb


def _inflected(question: Question, said: Sequence[str]) -> str | None:
    """The stem of the one word that is inflected as the auxiliary asks; all others must be the same."""
    words, keys = question.words, question.asked
    if len(said) != len(keys):
        return None
    if question.auxiliary == "do":
        return "" if list(said) == list(keys) else None
    places = [i for i in range(len(keys)) if keys[i] != said[i]]
    if len(places) != 1 or places[0] == 0:
        return None
    place = places[0]
    if words[place].is_capital or keys[place - 1] in DETERMINERS or not _is_form(keys[place], said[place], question.auxiliary):
        return None
    if question.auxiliary == "does" and place + 1 < len(keys):
        after = words[place + 1]
        if not (after.key in FUNCTION or after.is_capital or after.is_number or words[place - 1].is_capital):
            return None
    return stem(keys[place])


def _is_form(base: str, form: str, auxiliary: str) -> bool:
    if auxiliary == "does":
        return form in {base + "s", base + "es", base[:-1] + "ies" if base.endswith("y") else "", {"have": "has"}.get(base, "")}
    if DOUBLED.fullmatch(base):
        regular = {base + base[-1] + "ed"}
    else:
        regular = {base + "ed", base + "d" if base.endswith("e") else "", base[:-1] + "ied" if base.endswith("y") else ""}
    return form in regular or (IRREGULAR.get(form) == base and not form.endswith("s") and form not in PERFECT)


def _rest(question: Question, keys: list[str], start: int) -> Iterator[tuple[int, int]]:
    """What follows the statement, up to the end of the clause or to a relative clause behind a comma."""
    end = len(keys)
    for i in range(start, len(keys) - 1):
        if keys[i] == "," and keys[i + 1] in RELATIVES:
            end = i
            break
    if question.kind == "number":
        size = len(question.noun)
        if keys[end - size : end] == [word.key for word in question.noun]:
            yield start, end - size
    elif question.kind == "measure":
        adjective = question.noun[0].key
        if keys[end - 1] == adjective:
            yield start, end - 1
        elif adjective == "old" and end - start == 1:
            yield start, end
    elif question.kind == "where" and question.asked[-1] not in PREPOSITIONS:
        if keys[start : start + 1] and keys[start] in PLACES:
            yield (start + 1 if keys[start] in BARE_PLACES else start), end
    elif question.kind == "when" and keys[start : start + 1] and keys[start] in BARE_PLACES:
        yield start + 1, end
    else:
        yield start, end


def _after_auxiliary(question: Question, keys: list[str]) -> Iterator[tuple[int, int, str]]:
    """X was born in SLOT: the words of the question with the auxiliary among them, then the slot."""
    asked, size = list(question.asked), len(question.words)
    if question.kind == "number":
        noun = [word.key for word in question.noun]
        if keys[:2] == ["there", question.auxiliary] and keys[3:] == noun + asked:
            yield 2, 3, ""
        if keys[1:] == [*noun, question.auxiliary, *asked]:
            yield 0, 1, ""
    place = keys.index(question.auxiliary) if question.auxiliary in keys else 0
    if not 1 <= place <= size or keys[:place] + keys[place + 1 : size + 1] != asked:
        return
    if question.kind == "number" and place == size:
        return
    if not _may_follow(question, place):
        return
    for first, last in _rest(question, keys, size + 1):
        yield first, last, ""


def _may_follow(question: Question, place: int) -> bool:
    """Whether an auxiliary can stand before that word of the question: "was" before "born", and not within a name or at the end then."""
    if place == len(question.words):
        return question.asked[-1] not in PARTICIPLES and not question.asked[-1].endswith("ed")
    word = question.words[place]
    fits = question.auxiliary not in COPULAS or is_participle(word.key) or word.key in PREPOSITIONS
    return fits and not word.is_capital


def _before_auxiliary(question: Question, keys: list[str]) -> Iterator[tuple[int, int, str]]:
    """SLOT is the capital of X, SLOT was built by X."""
    size = len(question.words)
    first = question.words[0]
    wanted = [question.auxiliary, *question.asked]
    named = (
        first.key == "the" or first.is_capital or first.key in PREPOSITIONS or first.key in PARTICIPLES or PARTICIPLE.fullmatch(first.key)
    )
    if question.kind in ("who", "what") and not question.noun and named and len(keys) > size + 1 and keys[-size - 1 :] == wanted:
        yield 0, len(keys) - size - 1, ""


def _subject(question: Question, keys: list[str]) -> Iterator[tuple[int, int, str]]:
    """SLOT owns the pens."""
    wanted = [*(word.key for word in question.noun if question.kind == "number"), *question.asked]
    if len(keys) > len(wanted) and keys[-len(wanted) :] == wanted:
        yield 0, len(keys) - len(wanted), stem(question.words[0].key)


def _fits(question: Question, slot: Sequence[Word], opens: bool) -> bool:
    """Whether the words in the slot are the kind of thing that was asked for."""
    keys = [word.key for word in slot]
    if (PRONOUNS | NEGATIONS) & set(keys) or not slot[0].is_word or keys[0] in NO_NOUN:
        return False
    if any(not word.is_word and word.key not in (",", ".", "$", "€", "£", "%", "'") for word in slot):
        return False
    if question.kind == "number":
        return len(slot) == 1 and slot[0].is_number
    if question.kind == "measure":
        return slot[0].is_number and len(slot) <= 3 and "," not in keys
    if question.kind == "when":
        return _is_date(question, slot)
    if question.kind == "where":
        return _is_place(slot)
    return _is_thing(question, slot, opens)


def _is_date(question: Question, slot: Sequence[Word]) -> bool:
    keys = [word.key for word in slot]
    noun = question.noun[0].key if question.noun else ""
    if noun == "year":
        return len(slot) == 1 and re.fullmatch(r"[12]\d{3}", keys[0], re.ASCII) is not None
    if noun in ("month", "day", "date"):
        table = MONTHS if noun == "month" else DAYS
        return noun != "date" and len(slot) == 1 and keys[0] in table
    dated = any(YEAR.fullmatch(key) or key in CALENDAR for key in keys)
    return dated and len(slot) <= 6 and all(_in_date(word) for word in slot)


def _in_date(word: Word) -> bool:
    return word.is_number or word.key in CALENDAR or word.key in WITHIN_DATES


def _is_place(slot: Sequence[Word]) -> bool:
    keys = [word.key for word in slot]
    head = keys[1:] if keys[0] in PLACES else keys
    if not head or set(head) & CALENDAR or head[0][0].isdigit():
        return False
    return head[0] in DETERMINERS or all(word.is_capital or word.key in ("of", "the", ",", ".") for word in slot[len(keys) - len(head) :])


def _is_thing(question: Question, slot: Sequence[Word], opens: bool) -> bool:
    keys, first = [word.key for word in slot], slot[0]
    if "," in keys or set(keys) & (AUXILIARIES | SUPPORTS | RELATIVES | {"that", "than", "but", "if", "or"}):
        return False
    if question.noun:
        noun = question.noun[0].key
        if noun in ("colour", "color"):
            return len(keys) == 1 and keys[0] in COLOURS
        return keys[-1] == noun and not PREPOSITIONS & set(keys)
    definite = first.key == "the" or (first.is_capital and first.key not in DETERMINERS) or first.is_number
    if (question.kind == "who" and first.is_number) or keys[0] in SUBORDINATORS or _is_said(slot):
        return False
    indefinite = first.key in DETERMINERS
    if opens:
        return definite or indefinite
    if question.auxiliary in COPULAS and not is_participle(question.asked[-1]):
        return definite or (indefinite and question.asked[0] != "the")
    if question.kind == "who":
        return definite or indefinite
    return first.key not in PREPOSITIONS and first.key not in PLACES and not first.key.endswith("ly")


def _is_said(slot: Sequence[Word]) -> bool:
    """Whether a name stands behind a word that may be a verb: "Bob says Ann" is not one thing."""
    common = False
    for word in slot[1:]:
        if word.is_capital and common:
            return True
        common = common or not (word.is_capital or word.key in FUNCTION or not word.is_word)
    return False
