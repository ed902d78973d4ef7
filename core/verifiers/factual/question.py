"""Reads plain questions: what kind of thing is asked for, about what. What fits no form is not read at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from core.types import Record
from core.verifiers.factual.passages import Word, content, words_of
from core.verifiers.factual.words import (
    AUXILIARIES,
    CONJUNCTIONS,
    COPULAS,
    IRREGULAR,
    MEASURES,
    NEGATIONS,
    PRONOUNS,
    RELATIVES,
    SUPPORTS,
)

Kind = Literal["who", "what", "where", "when", "number", "measure"]
MAX_QUESTION = 300


@dataclass(frozen=True, slots=True)
class Question(Record):
    """What is asked for (`kind`), with which auxiliary ("" for none), about which words; `noun` is what "how many" or "what" counts."""

    kind: Kind
    auxiliary: str
    words: tuple[Word, ...]
    noun: tuple[Word, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The keys of its words."""
        return tuple(word.key for word in self.words)

    @property
    def stems(self) -> frozenset[str]:
        """What a sentence about the same thing speaks of."""
        return content((*self.words, *self.noun))


@lru_cache(maxsize=1024)
def read_question(text: str) -> Question | None:
    """The form of a question, or None: two questions, a relative clause, a pronoun, a negation, or a form that isn't known."""
    bare = text.strip()
    if len(bare) > MAX_QUESTION or bare.count("?") > 1:
        return None
    words = list(words_of(bare.rstrip("?. ")))
    if len(words) < 3 or not all(word.is_word for word in words):
        return None
    keys = [word.key for word in words]
    if any(key in PRONOUNS or key in NEGATIONS or key in CONJUNCTIONS or key.endswith("n't") for key in keys):
        return None
    if keys[0] in ("in", "on") and keys[1] in ("what", "which"):
        words, keys = words[1:], keys[1:]
    question = _read(words, keys)
    if question is None or not question.words or RELATIVES & set(question.asked) or not question.stems:
        return None
    return question


def _read(words: list[Word], keys: list[str]) -> Question | None:
    head, rest, after = keys[0], words[1:], keys[1:]
    kinds: dict[str, Kind] = {"who": "who", "whom": "who", "what": "what", "where": "where", "when": "when"}
    if head == "how" and after[0] == "many":
        return _counted(rest[1:], after[1:])
    if head == "how" and after[0] in MEASURES and after[1:2] and after[1] in COPULAS:
        return Question("measure", after[1], tuple(rest[2:]), (rest[0],))
    if head in ("what", "which") and after[0] in ("year", "month", "day", "date") and after[1] in AUXILIARIES | SUPPORTS:
        return Question("when", after[1], tuple(rest[2:]), (rest[0],))
    if head in ("what", "which") and after[0] in ("colour", "color") and after[1] in COPULAS:
        return Question("what", after[1], tuple(rest[2:]), (rest[0],))
    if head == "which" and after[0] not in AUXILIARIES | SUPPORTS:
        return Question("what", "", tuple(rest[1:]), (rest[0],))
    if head not in kinds:
        return None
    if after[0] in AUXILIARIES | SUPPORTS:
        return Question(kinds[head], after[0], tuple(rest[1:]))
    plain_what = head == "what" and (after[0].endswith("s") or after[0] in IRREGULAR)
    return Question(kinds[head], "", tuple(rest)) if head == "who" or plain_what else None


def _counted(rest: list[Word], keys: list[str]) -> Question | None:
    """How many N does X hold; how many N are in X; how many N live in X."""
    for i in range(1, min(4, len(keys))):
        if keys[i] in SUPPORTS | AUXILIARIES:
            return Question("number", keys[i], tuple(rest[i + 1 :]), tuple(rest[:i]))
    return Question("number", "", tuple(rest[1:]), (rest[0],)) if len(rest) > 1 else None
