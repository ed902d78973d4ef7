"""Finds a sentence that may take back, outdate or contradict what another states. Being wrong costs an ABSTAIN, never a PASS."""

from __future__ import annotations

from collections.abc import Sequence

from core.verifiers.factual.frames import Slot, is_participle
from core.verifiers.factual.passages import Sentence, Source, content, sentences_of
from core.verifiers.factual.question import Question
from core.verifiers.factual.words import CHANGING, NEGATIONS, PRONOUNS, RETRACTING

BEFORE, AFTER = 6, 2
SHORT_REPLY = 5
REFERRING = PRONOUNS | {"so", "which", "both"}
CHANGES = CHANGING | RETRACTING | NEGATIONS


def doubt_about(question: Question, slots: Sequence[Slot], sources: Sequence[Source]) -> Sentence | None:
    """A sentence that may take back or outdate what another states: it speaks of the same and does not say the same."""
    stating = {id(slot.sentence): slot for slot in slots}
    verb = slots[0].verb
    for source in sources:
        run = sentences_of(source)
        places = [i for i in range(len(run)) if id(run[i]) in stating]
        near = {i + j for i in places for j in range(-BEFORE, AFTER + 1)}
        for i, sentence in enumerate(run):
            slot = stating.get(id(sentence))
            if slot is not None:
                doubtful = _adds_a_change(question, slot)
            else:
                doubtful = (i in near and _takes_back(sentence)) or _may_outdate(question, verb, sentence)
            if doubtful:
                return sentence
    return None


def _adds_a_change(question: Question, slot: Slot) -> bool:
    """ "Ann lives in Oslo; she leaves it now." """
    beside = {word.key for word in slot.sentence.words if word.end <= slot.start or word.start >= slot.end}
    return bool((beside - set(question.asked)) & CHANGES)


def _takes_back(sentence: Sentence) -> bool:
    """ "That is a lie.", "It is not so.", "She moved in 1990.", "Or does she?" """
    keys = {word.key for word in sentence.words}
    brief = len(sentence.words) <= SHORT_REPLY
    if keys & RETRACTING or (brief and (keys & NEGATIONS or "?" in keys)):
        return True
    return bool(keys & REFERRING) and bool(keys & CHANGES)


def _may_outdate(question: Question, verb: str, sentence: Sentence) -> bool:
    """Another statement with the verb that was asked about, or a change or a denial of something in the question."""
    keys, stems = {word.key for word in sentence.words}, content(sentence.words)
    same_verb = verb or question.auxiliary in keys or any(is_participle(key) for key in question.asked)
    if same_verb and question.stems <= stems:
        return True
    return bool((question.stems - {verb}) & stems) and bool(keys & CHANGES)
