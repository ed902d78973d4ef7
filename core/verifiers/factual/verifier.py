"""Judges answers to questions of fact: against a reference, or against the sources that come with the task or stand in a corpus.

By source, PASS needs a question whose form can be read, one sentence that states the answer in that very form, and an answer that is
those words. A sentence that merely mentions everything proves nothing: it ABSTAINS. Paraphrase is beyond this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from core.answers import final_answer, normalise
from core.corpus import Corpus
from core.errors import ConfigError, TaskError
from core.types import Evidence, Task
from core.verifiers.base import Finding, abstained, broken, failed, passed, verifier
from core.verifiers.factual.brief import Brief, read_brief
from core.verifiers.factual.doubts import doubt_about
from core.verifiers.factual.frames import Slot, answers_in, variants
from core.verifiers.factual.passages import Sentence, Source, Span, content, holding, sentences_of, shown, words_of
from core.verifiers.factual.question import Question, read_question
from core.verifiers.factual.quotes import lost_quotes
from core.verifiers.factual.wording import Likeness, compare, words
from core.verifiers.factual.words import FUNCTION, HEDGES, NEGATIONS

MAX_CLAIM = 600
MAX_CHARACTERS = 100_000
RETRIEVED = 20
ALONE = 12
ENTAILED = 0.9
CONTRADICTED = 0.5
CITED = 8
UNKNOWN = re.compile(
    r"(?:(?:the )?answer is |it is |it's |this is |that is )?"
    r"(?:unknown|unstated|unanswerable|not answerable|not (?:stated|given|mentioned|specified|known|said|provided|told))"
    r"(?: (?:in|by|from) (?:the |this )?(?:text|context|passage|source|document)s?)?"
    r"|not in the (?:text|context|passage|source|document)s?"
    r"|(?:the |this )?(?:text|context|passage|source|document)s? (?:does not|doesn't|do not|don't) (?:say|state|tell|mention it)"
    r"|(?:it |this )?(?:cannot|can not|can't) be (?:determined|known|answered|told)"
    r"(?: from the (?:text|context|passage|source|document)s?)?"
    r"|not enough information|no answer|none given"
)
NO_KNOWLEDGE = re.compile(r"i (?:do not|don't|cannot|can't) (?:know|tell|say)|(?:i am|i'm) not sure|\?+|n/?a|none")
YES_NO = frozenset(("yes", "no", "true", "false", "yes it is", "no it is not", "maybe", "both", "neither", "all", "none"))
FEW_WORDS = 5


@verifier("factual", "1")
def verify(task: Task, text: str, *, corpus: Path | None = None, entails: Callable[[str, str], float] | None = None) -> Finding:
    """The verdict on a finished text.

    With a reference (or `answers`) the answer decides, and a quote that the sources don't hold is named in the reason. Without one the
    sources decide; what none of them supports is FAIL where the task says `complete`, else ABSTAIN. "Not stated" passes only where the
    task says `answerable: false`. `corpus` is an index made by `core.corpus.build`; a task can't name one. `entails(premise,
    hypothesis)` is a probability: below 0.5 it turns a PASS by source into ABSTAIN; from 0.9 on it turns partial support into a PASS
    whose evidence is JUDGE, which does not count as verified unless the settings say so.
    """
    try:
        brief = read_brief(task)
    except TaskError as error:
        return broken(str(error))
    answer = final_answer(text)
    if brief.answerable is False:
        return _unanswerable(brief, answer)
    if brief.references:
        return _by_reference(brief, text, answer)
    if answer is None and 0 < len(text.strip()) <= MAX_CLAIM:
        answer = text.strip()
    if answer is None:
        return failed("no answer found: end with 'Answer: ...'", Evidence.SOURCE)
    if corpus is not None:
        try:
            brief = brief.replace(sources=(*brief.sources, *_retrieved(corpus, brief.question, answer)))
        except ConfigError as error:
            return broken(str(error))
    if (size := sum(len(source.text) for source in brief.sources)) > MAX_CHARACTERS:
        return abstained(f"the sources have {size} characters, {MAX_CHARACTERS} are read: build a corpus of them")
    if not brief.sources:
        return abstained('no reference and no sources: put "context" into the task\'s metadata, or give the verifier a corpus')
    return _by_source(brief, text, answer, entails)


def _unanswerable(brief: Brief, answer: str | None) -> Finding:
    """The task says that its sources don't hold the answer: that is what an answer has to say."""
    if answer is None:
        return failed("no answer found: end with 'Answer: not stated'", Evidence.REFERENCE)
    stated = _slots(read_question(brief.question), brief.sources)
    if stated:
        return broken(f'the task says "answerable": false, but a source states {shown(stated[0].sentence.text)!r}: correct one of them')
    if _says_unknown(answer):
        return passed("rightly says that the sources don't tell", Evidence.REFERENCE)
    if NO_KNOWLEDGE.fullmatch(_spoken(answer)):
        return abstained(f"{shown(answer)!r} does not say whether the sources tell: write 'Answer: not stated'")
    return failed(f"{shown(answer)} is not in the sources, and the task says that no answer is", Evidence.REFERENCE)


def _by_reference(brief: Brief, text: str, answer: str | None) -> Finding:
    lost, spans = lost_quotes(brief, text)
    wrong = f"; not in the sources: {shown(lost[0])!r}" if lost else ""
    citations = _citations(spans)
    if answer is None:
        return failed(f"no answer found: end with 'Answer: ...'{wrong}", Evidence.REFERENCE)
    replies = [compare(reference, answer) for reference in brief.references]
    if Likeness.SAME in replies:
        return passed(f"{shown(answer)} equals the reference{wrong}", Evidence.REFERENCE, citations=citations)
    against = f"{shown(answer)} against the reference {shown(brief.references[0])}"
    if Likeness.UNCLEAR in replies:
        return abstained(f"{against}: nearly the same, and a strict reader would tell them apart{wrong}", citations=citations)
    if any(_restates(reference, answer, brief.question) for reference in brief.references):
        return abstained(f"{against}: it restates the question; answer with the words asked for alone{wrong}", citations=citations)
    return failed(f"{shown(answer)} does not equal the reference {shown(brief.references[0])}{wrong}", Evidence.REFERENCE)


def _restates(reference: str, answer: str, question: str) -> bool:
    """Whether an answer is the reference within words of the question: who did what to whom is then a matter of order, and unchecked."""
    said, wanted = list(words(answer)), list(words(reference))
    if not wanted or len(said) > 60:
        return False
    for i in range(len(said) - len(wanted) + 1):
        if said[i : i + len(wanted)] == wanted:
            rest = {word for word in said[:i] + said[i + len(wanted) :] if word[0].isalnum()}
            known = content(words_of(question[:MAX_CLAIM]))
            return bool(rest) and not rest & (NEGATIONS | {"or"}) and content(words_of(" ".join(rest - FUNCTION))) <= known
    return False


def _by_source(brief: Brief, text: str, answer: str, entails: Callable[[str, str], float] | None) -> Finding:
    lost, spans = lost_quotes(brief, text)
    if lost:
        reason = f"not in the sources to the character: {shown(lost[0])!r}"
        return failed(reason, Evidence.SOURCE, citations=_citations(spans)) if brief.complete else abstained(reason)
    spoken = _spoken(answer)
    if len(answer) > MAX_CLAIM:
        return abstained(f"the answer has {len(answer)} characters: answers of up to {MAX_CLAIM} are checked")
    if spoken == _spoken(brief.question) or not any(sign.isalnum() for sign in spoken):
        return failed(f"{shown(answer)!r} answers nothing", Evidence.SOURCE)
    question = read_question(brief.question)
    slots = _slots(question, brief.sources)
    if question is None or not slots:
        return _without_statement(brief, answer, spans, entails)
    return _with_statement(brief, question, slots, answer, spans, entails)


def _with_statement(
    brief: Brief, question: Question, slots: Sequence[Slot], answer: str, spans: list[Span], entails: Callable[[str, str], float] | None
) -> Finding:
    """A sentence states what was asked for: the answer is that, or it is something else."""
    slot = slots[0]
    stated = f"{shown(slot.sentence.text)!r} in {slot.sentence.source.id}"
    citations = _citations([slot.sentence.span(), slot.sentence.span(slot.start, slot.end), *spans])
    others = [other for other in slots[1:] if compare(slot.text, other.text) is not Likeness.SAME]
    if others:
        return abstained(f"the sources state two things: {stated}, and {shown(others[0].sentence.text)!r}", citations=citations)
    if _says_unknown(answer):
        return failed(f"the sources do tell: {stated}", Evidence.SOURCE, citations=citations)
    likeness = _likeness(question, slot, answer)
    if likeness is Likeness.SAME:
        doubt = doubt_about(question, slots, brief.sources)
        if doubt is not None:
            return abstained(f"stated by {stated}, but look at {shown(doubt.text)!r}", citations=citations)
        return _confirmed(slot, answer, f"stated by {stated}", citations, entails)
    if likeness is Likeness.UNCLEAR:
        return abstained(f"{shown(answer)} is not quite what is stated by {stated}", citations=citations)
    supported = _elsewhere(question, slot, answer, brief.sources)
    if supported is not None:
        return abstained(f"{stated} says otherwise, but look at {shown(supported.text)!r}", citations=citations)
    reason = f"{shown(answer)} is not what the sources state: {stated}"
    return failed(reason, Evidence.SOURCE, citations=citations) if brief.complete else abstained(reason, citations=citations)


def _without_statement(brief: Brief, answer: str, spans: list[Span], entails: Callable[[str, str], float] | None) -> Finding:
    """No sentence can be read as the answer's proof: at most the answer can be missing from the sources."""
    if _says_unknown(answer):
        if brief.answerable and brief.complete:
            return failed("the task says that the sources do tell", Evidence.SOURCE)
        return abstained("whether the sources tell can't be checked for this form of question")
    if _spoken(answer) in YES_NO or NO_KNOWLEDGE.fullmatch(_spoken(answer)):
        return abstained(f"{shown(answer)!r} states nothing that could be looked up")
    claim = content(words_of(answer))
    near = next(holding(claim, brief.sources), None)
    if near is None:
        unheard = _unheard(answer, brief.sources)
        told = f"no source holds {unheard!r}" if unheard else f"no passage holds all of {shown(answer)!r}"
        decided = unheard or (0 < len(claim) <= FEW_WORDS and not claim & HEDGES)
        return failed(told, Evidence.SOURCE) if brief.complete and decided else abstained(told)
    citations = _citations([near.span(), *spans])
    mentioned = f"{shown(near.text)!r} mentions it, and does not prove that it answers the question"
    if entails is not None:
        probability = _probability(entails, _around(near), f"{brief.question} {answer}")
        if probability is None:
            return broken("the entailment model gave no probability in [0, 1]")
        if probability >= ENTAILED:
            reason = f"{shown(near.text)!r} entails it with a probability of {probability:.2f}"
            return passed(reason, Evidence.JUDGE, citations=citations, entailment=probability)
        return abstained(mentioned, citations=citations, entailment=probability)
    return abstained(mentioned, citations=citations)


def _confirmed(
    slot: Slot, answer: str, reason: str, citations: list[dict[str, object]], entails: Callable[[str, str], float] | None
) -> Finding:
    if entails is None:
        return passed(reason, Evidence.SOURCE, citations=citations)
    statement = slot.sentence.text
    bare = answer if compare(answer, slot.text) is Likeness.SAME else slot.text
    probability = _probability(entails, _around(slot.sentence), statement[: slot.start] + bare + statement[slot.end :])
    if probability is None:
        return broken("the entailment model gave no probability in [0, 1]")
    if probability < CONTRADICTED:
        return abstained(f"{reason}, but the entailment model gives it {probability:.2f}", citations=citations, entailment=probability)
    return passed(reason, Evidence.SOURCE, citations=citations, entailment=probability)


def _likeness(question: Question, slot: Slot, answer: str) -> Likeness:
    """An answer against what a sentence states: the words in the slot, or a whole statement with the same words in it."""
    replies = [compare(said, answer) for said in variants(question, slot)]
    if Likeness.SAME in replies:
        return Likeness.SAME
    if _states(question, slot, normalise(answer)):
        return Likeness.SAME
    said, stated = content(words_of(answer)), content(words_of(slot.text))
    keys = {word.key for word in words_of(answer)}
    if keys & (NEGATIONS | {"or"}) and stated < said:
        return Likeness.DIFFERENT
    partly = bool(said) and (said <= stated or stated <= said)
    return Likeness.UNCLEAR if Likeness.UNCLEAR in replies or partly else Likeness.DIFFERENT


def _states(question: Question, slot: Slot, answer: str) -> bool:
    """Whether an answer is one statement of what the slot says, with no other claim beside it."""
    claim = sentences_of(Source("answer", answer))
    told = list(answers_in(question, claim[0])) if len(claim) == 1 else []
    if len(told) != 1 or compare(told[0].text, slot.text) is not Likeness.SAME:
        return False
    beside = f"{told[0].sentence.text[: told[0].start]} {told[0].sentence.text[told[0].end :]}"
    return content(words_of(beside)) <= question.stems


def _slots(question: Question | None, sources: Sequence[Source]) -> list[Slot]:
    if question is None:
        return []
    return [slot for source in sources for sentence in sentences_of(source) for slot in answers_in(question, sentence)]


def _elsewhere(question: Question, slot: Slot, answer: str, sources: Sequence[Source]) -> Sentence | None:
    """Another sentence that speaks of the same things as the question, if not by the same verb, and of the answer."""
    wanted = (question.stems - {slot.verb}) | content(words_of(answer))
    return next((sentence for sentence in holding(wanted, sources, reach=1) if sentence.start != slot.sentence.start), None)


def _unheard(answer: str, sources: Sequence[Source]) -> str:
    """The first number or name of an answer that no source holds at all."""
    for word in words_of(answer):
        telling = word.is_word and (word.is_number or word.is_capital) and word.key not in FUNCTION
        if telling and not any(word.key in _vocabulary(source) for source in sources):
            return word.text
    return ""


@lru_cache(maxsize=64)
def _vocabulary(source: Source) -> frozenset[str]:
    return frozenset(word.key for sentence in sentences_of(source) for word in sentence.words)


def _retrieved(index: Path, question: str, answer: str) -> list[Source]:
    """Passages that speak of the question, passages that hold all words of the answer, and one for each of its words alone."""
    corpus = _opened(index, *_stamp(index))
    passages = [*corpus.search(question, RETRIEVED), *corpus.search(answer, RETRIEVED, every=True)]
    for word in words_of(answer)[:ALONE]:
        passages += corpus.search(word.text, 1)
    return list({(p.source, p.start): Source(p.source, p.text, p.start, p.cut) for p in passages}.values())


def _stamp(index: Path) -> tuple[int, int]:
    try:
        status = index.stat()
    except OSError as error:
        raise ConfigError(f"there is no corpus at {index}: make one with core.corpus.build(folder, index)") from error
    return status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=4)
def _opened(index: Path, modified: int, inode: int) -> Corpus:
    """One connection an index; an index that was built anew is another one."""
    return Corpus.open(index)


def _probability(entails: Callable[[str, str], float], premise: str, hypothesis: str) -> float | None:
    value = float(entails(premise, hypothesis))
    return value if math.isfinite(value) and 0 <= value <= 1 else None


def _around(sentence: Sentence) -> str:
    run = sentences_of(sentence.source)
    place = next(i for i, one in enumerate(run) if one.start == sentence.start)
    return " ".join(one.text for one in run[max(0, place - 1) : place + 2])


def _says_unknown(answer: str) -> bool:
    return UNKNOWN.fullmatch(_spoken(answer)) is not None


def _spoken(text: str) -> str:
    return normalise(text[: 2 * MAX_CLAIM]).casefold().replace("’", "'").rstrip("!")


def _citations(spans: Sequence[Span]) -> list[dict[str, object]]:
    unique = dict.fromkeys(spans)
    return [span.as_dict() for span in list(unique)[:CITED]]
