"""Judges answers to mathematical questions: against a reference, or by recomputing what the question formally states.

Exact throughout: 0.333 is not 1/3, and a reference of 0.33 does not accept 1/3. Units must match to the letter. What this file can't
decide goes to `symbolic`; what nobody can check is ABSTAIN.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

from core.answers import final_answer, normalise, plain
from core.types import Evidence, Outcome, Record, Task, Verdict
from core.verifiers import symbolic
from core.verifiers.formula import Linear, Rational, finished_number, show
from core.verifiers.question import read_question
from core.verifiers.steps import MAX_TEXT, StepCheck, check_steps, short, term_of
from core.verifiers.symbolic import Reply

NAME = "math"
VERSION = "1"
MAX_VALUE = 200
MISSING = 'this answer needs Math-Verify to be compared: pip install "ratchet-agents[math]"'
NO_REFERENCE_VALUES = frozenset(("", "nan", "null", "n/a", "inf"))
UNIT_WORD = r"[A-Za-z°µΩ]+(?:\^-?\d)?"
QUANTITY = re.compile(rf"([^A-Za-z°µΩ\\]*[^A-Za-z°µΩ\\\s])\s*({UNIT_WORD}(?:[ */]{UNIT_WORD}){{0,4}})")
CURRENCIES = {"$": "dollars", "€": "euros"}
SAME_UNIT = {"dollar": "dollars", "USD": "dollars", "euro": "euros", "EUR": "euros"}
LETTER = re.compile(r"[A-Za-z]", re.ASCII)
UNKNOWN = re.compile(r"[A-DF-HJ-Za-df-hj-z]", re.ASCII)
NAMED = re.compile(r"([A-Za-z](?:\([A-Za-z]\))?) ?= ?([^=]+)", re.ASCII)
LETTERS_ALONE = re.compile(r"(?<![A-Za-z'’\\])(?:[B-HJ-Zb-z]|a(?! +(?!(?:and|or|if|when|such|in)\b)[A-Za-z]{2}))(?![A-Za-z'’])", re.ASCII)
Judgement = tuple[Outcome, float | None, str, Evidence]


@dataclass(frozen=True, slots=True)
class Value(Record):
    """A finished answer: a number, its unit ("" for none) and the unknown it was given for."""

    number: Rational
    unit: str = ""
    name: str | None = None


def verify(task: Task, text: str) -> Verdict:
    """The verdict on a finished text.

    With a reference the answer decides, and a wrong step is named in the reason. Without one, PASS needs a question that states an
    expression or a linear equation formally, an answer that equals its recomputed value, and no wrong step; a wrong step anywhere is
    FAIL; everything else is ABSTAIN. A text without an answer is FAIL when an answer was checkable or the text is empty.
    """
    start = perf_counter()
    try:
        outcome, score, reason, evidence = _judge(task, text)
    except Exception as error:  # whatever breaks inside a check must not end the run, and must not pass
        logging.getLogger(__name__).exception("the math verifier broke")
        outcome, score, reason, evidence = Outcome.ERROR, None, f"the check broke: {short(repr(error))}", Evidence.NONE
    return Verdict(outcome, score, reason, evidence, NAME, VERSION, (perf_counter() - start) * 1000)


def compare(reference: str, answer: str) -> Reply:
    """Whether an answer means the same as a reference. A number must be finished: `102 + 23` is not the same as 125."""
    wanted, given = _spelled(reference), _spelled(answer)
    if wanted.casefold() in NO_REFERENCE_VALUES or ("=" in wanted and not LETTER.search(wanted) and _value(wanted) is None):
        return Reply.UNREADABLE_REFERENCE
    if wanted == given:
        return Reply.SAME
    number = _value(wanted) or _constant(wanted)
    if number is not None:
        found = _value(given)
        if found is not None:
            return Reply.SAME if _agree(number, found) else Reply.DIFFERENT
        if len(number.unit) != 1:
            return Reply.DIFFERENT
    if wanted.replace(" ", "").isalpha() and len(wanted) > 2 and wanted.casefold() == given.casefold():
        return Reply.SAME
    return _compare_symbolically(wanted, given)


def _judge(task: Task, text: str) -> Judgement:
    answer = final_answer(text)
    steps = check_steps(task, text)
    if task.reference is None:
        return _recomputed(task, text, answer, steps)
    if answer is None:
        return Outcome.FAIL, 0.0, "no answer found: end with 'Answer: ...'", Evidence.REFERENCE
    return _against_reference(task, task.reference, answer, steps)


def _against_reference(task: Task, reference: str, answer: str, steps: StepCheck) -> Judgement:
    shown, wrong = short(answer), f"; wrong step: {steps.first_wrong}" if steps.first_wrong else ""
    reply = compare(reference, answer)
    if reply is Reply.SAME and normalise(answer) != normalise(reference):
        if _repeats(task.prompt, answer):
            return Outcome.FAIL, 0.0, f"{shown} repeats the question{wrong}", Evidence.REFERENCE
        if not _asked_for(task.prompt, reference, answer):
            return Outcome.ABSTAIN, steps.share, f"{shown}: the question names other letters too{wrong}", Evidence.NONE
    if reply is Reply.SAME:
        return Outcome.PASS, 1.0, f"{shown} equals the reference{wrong}", Evidence.REFERENCE
    if reply in (Reply.DIFFERENT, Reply.UNREADABLE_ANSWER):
        return Outcome.FAIL, 0.0, f"{shown} does not equal the reference {short(reference)}{wrong}", Evidence.REFERENCE
    if reply in (Reply.TIMEOUT, Reply.BROKEN):
        return Outcome.ERROR, None, f"comparing {shown} with {short(reference)} ended in: {reply}{wrong}", Evidence.NONE
    why = MISSING if reply is Reply.MISSING else f"{shown} can't be compared with the reference {short(reference)}: {reply}"
    return Outcome.ABSTAIN, steps.share, why + wrong, Evidence.NONE


def _recomputed(task: Task, text: str, answer: str | None, steps: StepCheck) -> Judgement:
    question = read_question(task.prompt)
    if steps.first_wrong:
        return Outcome.FAIL, 0.0, f"wrong step: {steps.first_wrong}", Evidence.RECOMPUTATION
    if not text.strip() or (answer is None and question is not None):
        return Outcome.FAIL, 0.0, "no answer found: end with 'Answer: ...'", Evidence.RECOMPUTATION
    if question is None or answer is None:
        return Outcome.ABSTAIN, steps.share, "no reference, and the question states no formula to recompute", Evidence.NONE
    if len(text) > MAX_TEXT:
        return Outcome.ABSTAIN, steps.share, f"{len(text)} characters: steps are checked up to {MAX_TEXT}", Evidence.NONE
    value = _value(_spelled(answer))
    right = value is not None and value.number == question.value and not value.unit
    named = value is not None and value.name is not None and question.unknown not in (None, value.name)
    if not right or named or _repeats(task.prompt, answer):
        return Outcome.FAIL, 0.0, f"recomputed: {show(question.value)}, and not {short(answer)}", Evidence.RECOMPUTATION
    return Outcome.PASS, 1.0, f"recomputed: {show(question.value)}", Evidence.RECOMPUTATION


def _spelled(answer: str) -> str:
    text = normalise(answer)
    for word in (" percent", " per cent"):
        if text.endswith(word):
            return text.removesuffix(word) + "%"
    return text


@lru_cache(maxsize=8192)
def _cached_value(text: str) -> Value | None:
    sides = [side.strip() for side in text.split("=")]
    name = None
    if len(sides) > 1 and UNKNOWN.fullmatch(sides[0]):
        name, sides = sides[0], sides[1:]
    elif len(sides) == 2 and UNKNOWN.fullmatch(sides[1]):
        name, sides = sides[1], sides[:1]
    found = _quantity(sides[-1])
    if found is None or (len(sides) > 1 and found.unit):
        return None
    for side in sides[:-1]:
        term = term_of(side)
        if not isinstance(term, Linear) or term.unknown or term.constant != found.number:
            return None
    return found.replace(name=name)


def _value(text: str) -> Value | None:
    """The finished value that a normalised answer states; of a chain, the last, when all of the chain is equal."""
    return _cached_value(text) if len(text) <= MAX_VALUE else None


def _quantity(text: str) -> Value | None:
    number = finished_number(text)
    if number is not None:
        return Value(number)
    sign = "-" if text[:1] == "-" else ""
    currency = CURRENCIES.get(text[len(sign) : len(sign) + 1])
    if currency:
        number = finished_number(sign + text[len(sign) + 1 :])
        return Value(number, currency) if number is not None else None
    match = QUANTITY.fullmatch(text)
    if match is None:
        return None
    number = finished_number(match[1])
    return Value(number, SAME_UNIT.get(match[2], match[2])) if number is not None else None


def _constant(text: str) -> Value | None:
    """A reference may be unfinished: whoever wrote it knows its value."""
    term = term_of(text)
    return Value(term.constant) if isinstance(term, Linear) and term.unknown is None else None


def _agree(one: Value, other: Value) -> bool:
    named_apart = None not in (one.name, other.name) and one.name != other.name
    return one.number == other.number and one.unit == other.unit and not named_apart


def _compare_symbolically(reference: str, answer: str) -> Reply:
    """Math-Verify, behind guards for what it is known to let through: chains, several answers for one."""
    reference, answer = (text.replace("<=", r"\le ").replace(">=", r"\ge ") for text in (reference, answer))
    if answer.count("=") > reference.count("=") and not ("=" not in reference and NAMED.fullmatch(answer)):
        return Reply.DIFFERENT if symbolic.allowed(reference) else Reply.UNREADABLE_REFERENCE
    left, right = NAMED.fullmatch(reference), NAMED.fullmatch(answer)
    if left and (right[1] == left[1] if right else "=" not in answer):
        reference = left[2]
        answer = right[2] if right else answer
    elif right and "=" not in reference:
        answer = right[2]
    if reference.count(",") != answer.count(","):
        return Reply.DIFFERENT if symbolic.allowed(reference) else Reply.UNREADABLE_REFERENCE
    return symbolic.compare(reference.strip(), answer.strip())


def _repeats(prompt: str, answer: str) -> bool:
    """Whether the answer is a formula that the question holds already: that is no work. A reduced fraction needs none."""
    text = normalise(answer)
    bare, value = _bare(text), _value(text)
    if len(bare) > MAX_VALUE or not any(sign in bare[1:] for sign in "+-*/^=") or (value and bare == show(value.number)):
        return False
    return re.search(rf"(?<![\d.]){re.escape(bare)}(?![\d.])", _bare(plain(prompt))) is not None


def _bare(text: str) -> str:
    return text.replace("**", "^").translate({ord(sign): None for sign in " (){}$\\"})


def _asked_for(prompt: str, reference: str, answer: str) -> bool:
    """`y = 6` is no answer to a question about x, even where the reference is a mere 6."""
    value = _value(_spelled(answer))
    if value is None or value.name is None or "=" in reference:
        return True
    return set(LETTERS_ALONE.findall(prompt)) <= {value.name}
