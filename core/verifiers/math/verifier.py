"""Judges answers to mathematical questions: against a reference, or by recomputing what the question formally states."""

from __future__ import annotations

import re

from core.answers import final_answer, normalise, plain
from core.types import Evidence, Task
from core.verifiers.base import Finding, StepCheck, abstained, broken, failed, passed, short, verifier
from core.verifiers.math.calculus import FormalTask, check_answer, read_task
from core.verifiers.math.equivalence import compare, spelled
from core.verifiers.math.formula import show
from core.verifiers.math.quantity import Value, value_of
from core.verifiers.math.question import Question, read_question
from core.verifiers.math.steps import MAX_TEXT, check_steps, follows
from core.verifiers.math.symbolic import WALL, Reply
from core.verifiers.math.units import MONEY, can_scale, read_unit, scale_of

MAX_VALUE = 200
COMPARE_WALL, FORM_WALL = 0.5, 0.25  # where the form is checked too
MISSING = 'this answer needs Math-Verify to be compared: pip install "ratchet-agents[math]"'
NO_PINT = 'these units need pint to be compared: pip install "ratchet-agents[verify]"'
NO_ANSWER = "no answer found: end with 'Answer: ...'"
NO_FORMULA = "no reference, and the question states no formula to recompute"
LETTERS_ALONE = re.compile(r"(?<![A-Za-z'’\\])(?:[B-HJ-Zb-z]|a(?! +(?!(?:and|or|if|when|such|in)\b)[A-Za-z]{2}))(?![A-Za-z'’])", re.ASCII)
UNIT_ASKED = re.compile(r"\b(?i:in|into|to|how many|number of) ((?:[A-Za-z°µ]+(?:\^-?\d)?(?:/| per )?){1,4})")

__all__ = ["compare", "verify"]


@verifier("math", "2")
def verify(task: Task, text: str) -> Finding:
    """The verdict on a finished text.

    With a reference the answer decides, and a wrong step is named in the reason. Without one, PASS needs a question that states formally
    what is to be computed, an answer that equals its recomputed value and follows from the steps, and no wrong step; a wrong step
    anywhere is FAIL; everything else is ABSTAIN. A text without an answer is FAIL when an answer was checkable or the text is empty.
    """
    return _judge(task, text)


def _judge(task: Task, text: str) -> Finding:
    answer = final_answer(text)
    steps = check_steps(task, text)
    if task.reference is None:
        return _recomputed(task, text, answer, steps)
    if answer is None:
        return failed(NO_ANSWER, Evidence.REFERENCE)
    return _against_reference(task, task.reference, answer, steps)


def _against_reference(task: Task, reference: str, answer: str, steps: StepCheck) -> Finding:
    shown, wrong = short(answer), f"; wrong step: {steps.first_wrong}" if steps.first_wrong else ""
    formal = read_task(task.prompt)
    reply = compare(reference, answer, COMPARE_WALL if formal is not None and formal.form else WALL)
    if reply is Reply.SAME:
        if normalise(answer) != normalise(reference):
            objection = _objection(task.prompt, reference, answer)
            if objection is not None:
                return objection.replace(reason=objection.reason + wrong)
        return passed(f"{shown} equals the reference{wrong}", Evidence.REFERENCE)
    if reply in (Reply.DIFFERENT, Reply.UNREADABLE_ANSWER):
        return failed(f"{shown} does not equal the reference {short(reference)}{wrong}", Evidence.REFERENCE)
    if reply in (Reply.TIMEOUT, Reply.BROKEN):
        return broken(f"comparing {shown} with {short(reference)} ended in: {reply}{wrong}")
    missing = {Reply.MISSING: MISSING, Reply.NO_PINT: NO_PINT}
    why = missing.get(reply) or f"{shown} can't be compared with the reference {short(reference)}: {reply}"
    return abstained(why + wrong).replace(score=steps.share)


def _objection(prompt: str, reference: str, answer: str) -> Finding | None:
    """Why an answer that equals the reference is still none: it repeats the question, or has not the form or unit that was asked for."""
    shown = short(answer)
    if _repeats(prompt, answer):
        return failed(f"{shown} repeats the question", Evidence.REFERENCE)
    if _states(prompt, answer):
        return abstained(f"{shown} stands in the question already")
    if not _asked_for(prompt, reference, answer):
        return abstained(f"{shown}: the question names other letters too")
    unit = _other_unit(prompt, answer)
    if unit:
        return failed(f"{shown} is right, but the question asks for it in {unit}", Evidence.REFERENCE)
    task = read_task(prompt)
    if task is None or task.form is None:
        return None
    reply, why = check_answer(task, answer, FORM_WALL)
    if reply in (Reply.SAME, Reply.TIMEOUT, Reply.BROKEN):
        return None if reply is Reply.SAME else broken(f"checking the form of {shown} ended in: {reply}")
    if reply is Reply.UNFINISHED:
        return failed(f"{shown} equals the reference, but {why}", Evidence.REFERENCE)
    return abstained(f"{shown} equals the reference, but it is not sure that it has the form asked for")


def _recomputed(task: Task, text: str, answer: str | None, steps: StepCheck) -> Finding:
    question = read_question(task.prompt)
    formal = read_task(task.prompt) if question is None else None
    if steps.first_wrong:
        return failed(f"wrong step: {steps.first_wrong}", Evidence.RECOMPUTATION)
    if not text.strip() or (answer is None and (question is not None or formal is not None)):
        return failed(NO_ANSWER, Evidence.RECOMPUTATION)
    if (question is None and formal is None) or answer is None:
        return abstained(NO_FORMULA).replace(score=steps.share)
    if len(text) > MAX_TEXT:
        return abstained(f"{len(text)} characters: steps are checked up to {MAX_TEXT}").replace(score=steps.share)
    if _repeats(task.prompt, answer):
        return failed(f"{short(answer)} repeats the question", Evidence.RECOMPUTATION)
    if question is None:
        assert formal is not None
        return _recomputed_formally(formal, answer, steps)
    return _recomputed_value(task, text, question, answer, steps)


def _recomputed_value(task: Task, text: str, question: Question, answer: str, steps: StepCheck) -> Finding:
    value = value_of(spelled(answer))
    right = value is not None and value.number == question.value and not value.unit
    named = value is not None and value.name is not None and question.unknown not in (None, value.name)
    if not right or named:
        return failed(f"recomputed: {show(question.value)}, and not {short(answer)}", Evidence.RECOMPUTATION)
    if not follows(task, text):
        return abstained(f"{show(question.value)} is right, but it does not follow from the steps: there is a gap").replace(
            score=steps.share
        )
    return passed(f"recomputed: {show(question.value)}", Evidence.RECOMPUTATION)


def _recomputed_formally(formal: FormalTask, answer: str, steps: StepCheck) -> Finding:
    shown = short(answer)
    reply, computed = check_answer(formal, answer)
    if reply is Reply.SAME:
        return passed(f"recomputed: {computed or shown}", Evidence.RECOMPUTATION)
    if reply in (Reply.DIFFERENT, Reply.UNREADABLE_ANSWER):
        return failed(f"recomputed: {computed or 'it is no answer'}, and not {shown}", Evidence.RECOMPUTATION)
    if reply is Reply.UNFINISHED:
        return failed(f"{shown} is not worked out: {computed}", Evidence.RECOMPUTATION)
    if reply in (Reply.TIMEOUT, Reply.BROKEN):
        return broken(f"recomputing {shown} ended in: {reply}")
    why = MISSING if reply is Reply.MISSING else f"{shown} can't be recomputed: {computed or reply}"
    return abstained(why).replace(score=steps.share)


def _repeats(prompt: str, answer: str) -> bool:
    """Whether the answer is a formula that the question holds already: that is no work. A reduced fraction needs none."""
    text = normalise(answer)
    bare, value = _bare(text), value_of(text)
    if len(bare) > MAX_VALUE or not any(sign in bare[1:] for sign in "+-*/^=") or (value and bare == show(value.number)):
        return False
    return re.search(rf"(?<![\d.]){re.escape(bare)}(?![\d.])", _bare(plain(prompt))) is not None


def _states(prompt: str, answer: str) -> bool:
    """Whether a quantity stands in the question already: "What is 100 cm in metres?" """
    text = normalise(answer)
    value = value_of(text)
    if value is None or not value.unit or len(text) > MAX_VALUE:
        return False
    pattern = re.escape(text.replace(" ", "")).replace(re.escape(value.unit.replace(" ", "")), " ?" + re.escape(value.unit))
    return re.search(rf"(?<![\d.]){pattern}(?![A-Za-z\d^])", plain(prompt)) is not None


def _bare(text: str) -> str:
    return text.replace("**", "^").translate({ord(sign): None for sign in " (){}$\\"})


def _asked_for(prompt: str, reference: str, answer: str) -> bool:
    """`y = 6` is no answer to a question about x, even where the reference is a mere 6."""
    value = value_of(spelled(answer))
    if value is None or value.name is None or "=" in reference:
        return True
    return set(LETTERS_ALONE.findall(prompt)) <= {value.name}


def _other_unit(prompt: str, answer: str) -> str:
    """The unit that the question asks for, where the answer is given in another one of its kind."""
    value: Value | None = value_of(spelled(answer))
    given = read_unit(value.unit) if value is not None and value.unit else None
    if given is None or not can_scale(given) or given[0][0] in MONEY:
        return ""
    names = [match[1].strip() for match in UNIT_ASKED.finditer(prompt[:MAX_TEXT])]
    asked = {name: unit for name in names if (unit := read_unit(name)) is not None and can_scale(unit)}
    if given in asked.values():
        return ""
    ours = scale_of(given)
    return next((name for name, unit in asked.items() if (scale := scale_of(unit)) and ours and scale.dimension == ours.dimension), "")
