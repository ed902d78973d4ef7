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
from typing import Literal

from core.answers import final_answer, normalise, plain
from core.types import Evidence, Outcome, Record, Task, Verdict
from core.verifiers import symbolic
from core.verifiers.formula import (
    Equation,
    FormulaError,
    Linear,
    Rational,
    UndefinedError,
    finished_number,
    parse,
    parse_equation,
    show,
)
from core.verifiers.symbolic import Reply

NAME = "math"
VERSION = "1"
MAX_TEXT = 20_000
MAX_LINE = 1_000
MAX_PROMPT = 300
MAX_VALUE = 200
SHOWN = 80

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

ASK = re.compile(r"(?:please )?(?:solve|what is|what's|compute|calculate|evaluate|find|work out)\b[: ]*", re.IGNORECASE)
ASK_FOR = re.compile(
    r"(?:for )?(?:the value of )?([A-Za-z])(?: ?[:,] ?| (?:if|when|where|such that|in)[: ]+)|for ([A-Za-z]) in[: ]+", re.IGNORECASE
)
ASK_FOR_LAST = re.compile(r"(.*\S) for ([A-Za-z])")
LEADING_ZERO = re.compile(r"(?<![\d.,])(?<![\d.,] )0\d", re.ASCII)

IMPLIES = re.compile(r"=+>|->|[⇒→⟹]|\\(?:implies|Rightarrow|to)(?![A-Za-z])")
INEXACT = re.compile(r"[<>≤≥≠≈~!:?±]|\\(?:ne|neq|le|leq|ge|geq|approx|pm)(?![A-Za-z])")
SUPPOSED = re.compile(r"\b(?:if|suppose|assume|assuming|try|let|unless|not|wrong|guess)\b", re.IGNORECASE)
DRESS = re.compile(r"\\[()\[\]]|[$&`]")
BOX = re.compile(r"\\boxed\{([^{}]*)\}")
HEADING = re.compile(r"[^=:]*[A-Za-z][^=:]*(?<! ): ?(.*)")
NUMBERED = re.compile(r"\(?\d{1,2}[.)] +(?=\S)", re.ASCII)
BULLET = re.compile(r"[-•+*] +")
PIECES = re.compile(r"; ?|, |\. (?=[A-Z])|\b(?:and|so|then|thus|hence|therefore)\b", re.IGNORECASE)
LEAD = re.compile(
    r"(?:(?:so|then|thus|hence|therefore|now|we|get|have|first|next|finally|that|compute|calculate|since|because|answer|is|it|this"
    r"|gives|means|check|total|result|value|the|final|know|also|again)\b[ ,]*)+",
    re.IGNORECASE,
)
TAIL = re.compile(r"(.*[\d)%]) ((?:[A-Za-z]{2,}(?: |$)){1,3})")
COUNTING = re.compile(
    r"\b(?:times|plus|minus|over|divided|by|of|percent|hundreds?|thousands?|million|billion|dozens?|half|halves|thirds?|quarters?|tens"
    r"|squared|cubed|more|less|than|mod|modulo|remainder|each|per|if|or|not|cents)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class StepCheck(Record):
    """Of the lines with an equals sign, how many could be checked and how many hold. `first_wrong` is the first that doesn't."""

    checked: int
    right: int
    first_wrong: str | None = None

    @property
    def share(self) -> float | None:
        """Right ones among the checked; None when nothing could be checked."""
        return self.right / self.checked if self.checked else None


@dataclass(frozen=True, slots=True)
class Value(Record):
    """A finished answer: a number, its unit ("" for none) and the unknown it was given for."""

    number: Rational
    unit: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Question(Record):
    """What a prompt states formally: the value asked for and, for an equation, its unknown."""

    value: Rational
    unknown: str | None = None


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
        outcome, score, reason, evidence = Outcome.ERROR, None, f"the check broke: {_short(repr(error))}", Evidence.NONE
    return Verdict(outcome, score, reason, evidence, NAME, VERSION, (perf_counter() - start) * 1000)


def check_steps(task: Task, text: str) -> StepCheck:
    """Every line with an equals sign as a chain whose neighbours must be equal; a line that no one can read doesn't count.

    Terms in the question's unknown must agree where the question's equation is solved. Reads the last 20,000 characters.
    """
    lines = _checked_lines(task, text)
    wrong = [shown for right, shown in lines if not right]
    return StepCheck(len(lines), len(lines) - len(wrong), wrong[0] if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """How well the whole lines so far hold: the share that does, 0 when the last one checked doesn't, None when none can be checked."""
    lines = _checked_lines(task, partial_text)
    if not lines:
        return None
    return sum(right for right, _ in lines) / len(lines) if lines[-1][0] else 0.0


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


def read_question(prompt: str) -> Question | None:
    """The formal question of a prompt, when the prompt holds nothing else: "Solve 17*6+23", "Solve for x: 3x + 7 = 25"."""
    return _read_question(prompt) if len(prompt) <= MAX_PROMPT else None


Judgement = tuple[Outcome, float | None, str, Evidence]


def _judge(task: Task, text: str) -> Judgement:
    answer = final_answer(text)
    steps = check_steps(task, text)
    if task.reference is None:
        return _recomputed(task, text, answer, steps)
    if answer is None:
        return Outcome.FAIL, 0.0, "no answer found: end with 'Answer: ...'", Evidence.REFERENCE
    return _against_reference(task, task.reference, answer, steps)


def _against_reference(task: Task, reference: str, answer: str, steps: StepCheck) -> Judgement:
    shown, wrong = _short(answer), f"; wrong step: {steps.first_wrong}" if steps.first_wrong else ""
    reply = compare(reference, answer)
    if reply is Reply.SAME and normalise(answer) != normalise(reference):
        if _repeats(task.prompt, answer):
            return Outcome.FAIL, 0.0, f"{shown} repeats the question{wrong}", Evidence.REFERENCE
        if not _asked_for(task.prompt, reference, answer):
            return Outcome.ABSTAIN, steps.share, f"{shown}: the question names other letters too{wrong}", Evidence.NONE
    if reply is Reply.SAME:
        return Outcome.PASS, 1.0, f"{shown} equals the reference{wrong}", Evidence.REFERENCE
    if reply in (Reply.DIFFERENT, Reply.UNREADABLE_ANSWER):
        return Outcome.FAIL, 0.0, f"{shown} does not equal the reference {_short(reference)}{wrong}", Evidence.REFERENCE
    if reply in (Reply.TIMEOUT, Reply.BROKEN):
        return Outcome.ERROR, None, f"comparing {shown} with {_short(reference)} ended in: {reply}{wrong}", Evidence.NONE
    why = MISSING if reply is Reply.MISSING else f"{shown} can't be compared with the reference {_short(reference)}: {reply}"
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
        return Outcome.FAIL, 0.0, f"recomputed: {show(question.value)}, and not {_short(answer)}", Evidence.RECOMPUTATION
    return Outcome.PASS, 1.0, f"recomputed: {show(question.value)}", Evidence.RECOMPUTATION


@lru_cache(maxsize=4096)
def _read_question(prompt: str) -> Question | None:
    text = normalise(prompt).rstrip("? ")
    verb = ASK.match(text)
    text = text[verb.end() :] if verb else text
    asked = ASK_FOR.match(text) or ASK_FOR_LAST.fullmatch(text.rstrip("."))
    name = None
    if asked is not None and asked.re is ASK_FOR_LAST:
        text, name = asked[1], asked[2]
    elif asked is not None:
        text, name = text[asked.end() :], asked[1] or asked[2]
    text = normalise(text)
    if LEADING_ZERO.search(text):
        return None
    try:
        if text.rstrip("= ") != text or "=" not in text:
            return _expression(text.rstrip("= ")) if name is None else None
        equation = parse_equation(text)
    except FormulaError:
        return None
    if equation.solution is None or equation.unknown is None or name not in (None, equation.unknown):
        return None
    return None if _answered(equation) else Question(equation.solution, equation.unknown)


def _expression(text: str) -> Question | None:
    term = parse(text)
    if term.unknown is not None or (finished_number(text) is not None and "^" not in text and "**" not in text):
        return None
    return Question(term.constant)


def _answered(equation: Equation) -> bool:
    """`x = 6` asks for nothing."""
    sides = (equation.left, equation.right)
    return any(a.unknown and a.slope == 1 and not a.constant and not b.unknown for a, b in (sides, sides[::-1]))


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
        term = _term(side)
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
    term = _term(text)
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


def _checked_lines(task: Task, text: str) -> list[tuple[bool, str]]:
    """For each line that can be checked: whether it holds, and its first wrong part."""
    if "=" not in text:
        return []
    question = read_question(task.prompt)
    unknown, value = (question.unknown, question.value) if question is not None and question.unknown else (None, 0)
    checked, before = [], ""
    tail = text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition("\n")[2]
    for line in tail.splitlines():
        bare = line.strip(" \t&")
        if bare.startswith("=") and before:
            bare = f"{before} {bare}"
        before = bare.rpartition("=")[2].strip() if len(bare) <= MAX_LINE else ""
        if "=" in bare and len(bare) <= MAX_LINE:
            found = _check_line(bare, unknown, value)
            if found is not None:
                checked.append(found)
    return checked


@lru_cache(maxsize=8192)
def _check_line(line: str, unknown: str | None, value: Rational) -> tuple[bool, str] | None:
    text = BOX.sub(r"\1", DRESS.sub("", plain(line))).strip(" \\*_#>.")
    marked = BULLET.match(line.strip()) or NUMBERED.match(text)
    without = text[marked.end() :] if marked and marked.re is NUMBERED else text
    found = _check_pieces(without, unknown, value)
    if found is None or not line.strip().startswith("-"):
        return found
    as_minus = _check_pieces("-" + text.lstrip("- "), unknown, value)
    as_bullet = _check_pieces(text.lstrip("- "), unknown, value)
    agreed = as_minus is not None and as_bullet is not None and as_minus[0] == as_bullet[0]
    return as_bullet if agreed else None


def _check_pieces(text: str, unknown: str | None, value: Rational) -> tuple[bool, str] | None:
    if SUPPOSED.search(text):
        return None
    heading = HEADING.fullmatch(text)
    text = IMPLIES.sub(";", heading[1] if heading else text)
    pieces = PIECES.split(text)
    checked, loose = False, False
    for piece in pieces:
        if "=" not in piece:
            loose = loose or any(sign.isdigit() for sign in piece)
            continue
        sides = ["?", *piece.split("=")[1:]] if loose else piece.split("=")
        found = None if INEXACT.search(piece) else _check_chain(sides, unknown, value)
        if found:
            return False, found
        checked, loose = checked or found is not None, False
    return (True, "") if checked else None


def _check_chain(sides: list[str], unknown: str | None, value: Rational) -> str | None:
    """None: nothing to check; "": all neighbours agree; otherwise the first pair that doesn't."""
    sides[0] = LEAD.sub("", sides[0].strip(), count=1) if sides[0].strip() else ""
    sides[-1] = _without_unit(sides[-1].strip())
    terms = [_term(side.strip()) for side in sides]
    checked = None
    for i in range(len(sides) - 1):
        holds = _holds(terms[i], terms[i + 1], unknown, value)
        if holds is False:
            return _short(f"{sides[i].strip()} = {sides[i + 1].strip()}")
        checked = "" if holds else checked
    return checked


def _holds(
    left: Linear | Literal["undefined"] | None, right: Linear | Literal["undefined"] | None, unknown: str | None, value: Rational
) -> bool | None:
    if left is None or right is None:
        return None
    if not isinstance(left, Linear) or not isinstance(right, Linear):
        return False
    letters = {left.unknown, right.unknown} - {None}
    if not letters:
        return left.constant == right.constant
    if letters == {unknown}:
        return left.at(value) == right.at(value)
    return True if left == right else None


def _without_unit(side: str) -> str:
    match = TAIL.fullmatch(side)
    return side if match is None or COUNTING.search(match[2]) else match[1]


def _term(text: str) -> Linear | Literal["undefined"] | None:
    try:
        return parse(text)
    except UndefinedError:
        return "undefined"
    except FormulaError:
        return None


def _short(text: str) -> str:
    """For a reason: one short line that any store and terminal can take."""
    line = " ".join(text[: SHOWN * 2].split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."
