"""Judges answers to questions of logic: by proof where the task states its problem formally, by its reference where it doesn't.

The formal statement stands in `metadata["logic"]`, with a `kind` of KINDS; ordering puzzles and syllogisms of one fixed form are read from
the prompt. Where there is a statement and a reference, both must agree, or the task is wrong. What is undecided is ABSTAIN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from core.answers import final_answer, normalise
from core.types import Evidence, Outcome, Task
from core.verifiers.base import Finding, abstained, broken, failed, passed, short, verifier
from core.verifiers.logic import claims, puzzles
from core.verifiers.logic.fields import Fields, StatementError, UndecidedError
from core.verifiers.logic.ordering import Ordering, read_ordering, read_person

Judge = Callable[[Fields, str], Finding]
CLAIM_FIELDS = ("premises", "conclusion", "answers", "three_valued", "explosion")
KINDS: Mapping[str, tuple[Judge, tuple[str, ...]]] = {
    "entailment": (claims.entailment, (*CLAIM_FIELDS, "domain")),
    "syllogism": (claims.syllogism, (*CLAIM_FIELDS, "existential_import")),
    "consistency": (claims.consistency, ("premises", "answers", "domain")),
    "equivalence": (claims.equivalence, ("formulas", "answers", "domain")),
    "formula": (claims.formula, ("formula", "connectives", "domain")),
    "formalise": (claims.formula, ("formula", "connectives", "domain")),
    "model": (puzzles.model, ("premises",)),
    "knights": (puzzles.knights, ("people", "statements", "facts", "asked")),
    "puzzle": (puzzles.puzzle, ("variables", "domain", "constraints", "asked", "asked_value")),
}
NO_ANSWER = "no answer found: end with 'Answer: ...'"
SHORT_WORDS = 3
OPTION = re.compile(r"(?:(?:option|choice|answer) )?\(?([a-z0-9])\)?")
HEDGE = re.compile(r"(?<!\w)(?:or|not|no|and|but|maybe|perhaps|either|neither|nor|never|unless|except|isn|if)(?!\w)|[,;/?|&]")


@verifier("logic", "1")
def verify(task: Task, text: str) -> Finding:
    """PASS by proof or by reference, FAIL with a counter-model where there is one, ERROR for a task that contradicts itself."""
    answer = final_answer(text)
    try:
        judge = judge_of(task)
        if judge is None:
            return _by_reference(task.reference, answer)
        if task.reference is not None:
            known = judge(task.reference)
            if known.outcome is not Outcome.PASS:
                return broken(f"task {task.id}: its reference {short(task.reference)!r} is not what its statement says: {known.reason}")
        if answer is None:
            return failed(NO_ANSWER, Evidence.PROOF)
        return judge(answer)
    except StatementError as error:
        return broken(f"task {task.id}: {error}")
    except UndecidedError as error:
        return abstained(str(error))


def judge_of(task: Task) -> Callable[[str], Finding] | None:
    """How answers to a task are judged by its formal statement; None when it states nothing formal. Raises StatementError."""
    fields = statement_of(task)
    if fields is not None:
        judge, _ = KINDS[fields.values["kind"]]
        return lambda answer: judge(fields, answer)
    ordering = read_ordering(task.prompt)
    return (lambda answer: _ordered(ordering, answer)) if ordering else None


def statement_of(task: Task) -> Fields | None:
    """The formal statement in a task's metadata, or that of a prompt that is a plain syllogism. Raises StatementError."""
    given = task.metadata.get("logic") if isinstance(task.metadata, Mapping) else None
    if given is None:
        given = claims.read_syllogism(task.prompt)
    if given is None:
        return None
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(kind, str) or kind not in KINDS:
        raise StatementError(f"metadata['logic'] must be a mapping with a 'kind', one of {', '.join(KINDS)}; it is {short(repr(given))}")
    _, known = KINDS[kind]
    strange = [name for name in given if name not in ("kind", *known)]
    if strange:
        raise StatementError(f"kind {kind!r} has no field {short(repr(strange[0]))}: there are {', '.join(known)}")
    return Fields(given, task.prompt)


def same_answer(one: str, other: str) -> bool:
    """Whether two short answers are the same but for case, spaces, quotes, a full stop, and "(b)" for "b". Symmetric."""
    return _canonical(one) == _canonical(other)


def _by_reference(reference: str | None, answer: str | None) -> Finding:
    if reference is None:
        return abstained("no reference, and no formal statement in metadata['logic']")
    wanted = _canonical(reference)
    if not wanted:
        return broken(f"the reference {short(reference)!r} is empty: give one, or leave it out")
    if answer is None:
        return failed(NO_ANSWER, Evidence.REFERENCE)
    if same_answer(reference, answer):
        return passed(f"{short(answer)!r} is the reference", Evidence.REFERENCE)
    given = _canonical(answer)
    phrase = given.startswith(f"{wanted} ") and not HEDGE.search(given)
    if len(wanted.split()) > SHORT_WORDS or phrase:
        return abstained(f"{short(answer)!r} is not the reference to the letter, and could still mean it")
    return failed(f"{short(answer)!r} is not {short(reference)!r}", Evidence.REFERENCE)


def _canonical(answer: str) -> str:
    text = " ".join(normalise(answer).split()).casefold()
    option = OPTION.fullmatch(text)
    return option[1] if option else text


def _ordered(ordering: Ordering, answer: str) -> Finding:
    if ordering.contradictory:
        raise StatementError("its facts contradict each other: somebody stands above himself")
    forced = ordering.forced
    if forced is None:
        raise UndecidedError("the facts leave open who stands at that end")
    if read_person(ordering, normalise(answer)) == forced:
        return passed(f"the facts put {forced} at that end", Evidence.PROOF, forced=forced)
    return failed(f"the facts put {forced} at that end, and not {short(answer)}", Evidence.PROOF, forced=forced)
