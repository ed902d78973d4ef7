"""Checks the steps of a solution to a question of logic: each line that states something must follow from what the task gives."""

from __future__ import annotations

import re
from functools import lru_cache

from core.types import Task
from core.verifiers.base import StepCheck, short
from core.verifiers.logic.claims import SENTENCE, categorical, formal_premises
from core.verifiers.logic.fields import Fields, StatementError, UndecidedError, ask
from core.verifiers.logic.formula import FormulaError, parse
from core.verifiers.logic.ordering import Ordering, read_chain, read_ordering
from core.verifiers.logic.process import OPEN
from core.verifiers.logic.puzzles import knight_claims
from core.verifiers.logic.structure import signature
from core.verifiers.logic.verifier import statement_of

MAX_TEXT = 20_000
MAX_LINE = 500
MAX_LINES = 40
MAX_READ = 200
SUPPOSED = re.compile(r"\b(?:suppose|assume|assuming|if|case|let|imagine|say|were|otherwise|contradiction)\b", re.IGNORECASE)
ANSWER = re.compile(r"[\s*_#>]*(?:(?:the |my |final |our )*answer\b|\\boxed|####)", re.IGNORECASE)
DRESS = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.):]\)?\s+)?(?:(?:so|thus|hence|therefore|then|and|∴)[,:]?\s+)?", re.IGNORECASE)
REASON = re.compile(r"\s+(?:\((?:[^()]|\([^()]{0,40}\)){0,80}\)|\[[^\[\]]{0,80}\]|(?:by|from|since|because)\s.{0,120})\s*$", re.IGNORECASE)
Checked = list[tuple[bool, str]]


def check_steps(task: Task, text: str) -> StepCheck:
    """How many of the lines that state something follow from the task, each statement counted once.

    Lines are `Ann>Bob>Cid` or "Ann is taller than Bob" in ordering puzzles, formulas in the task's own names where it gives premises,
    "Bob is a knave" in puzzles of knights. What stands after a supposition is not checked.
    """
    lines = _checked(task, text)
    wrong = [shown for right, shown in lines if not right]
    return StepCheck(len(lines), len(lines) - len(wrong), wrong[0] if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """The share of the statements so far that follow, 0 when the last one doesn't, None when nothing can be checked."""
    lines = _checked(task, partial_text)
    if not lines:
        return None
    return sum(right for right, _ in lines) / len(lines) if lines[-1][0] else 0.0


def _checked(task: Task, text: str) -> Checked:
    """For each statement that can be checked: whether it follows, and how it reads."""
    tail = text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition("\n")[2]
    every = dict.fromkeys(line for line in tail.splitlines() if line.strip() and len(line) <= MAX_LINE and not ANSWER.match(line))
    lines = list(every)[:MAX_READ]
    try:
        fields = statement_of(task)
    except StatementError:
        return []
    ordering = read_ordering(task.prompt) if fields is None else None
    found: dict[object, tuple[bool, str]] = {}
    for line in lines:
        if SUPPOSED.search(line) or len(found) == MAX_LINES:
            break
        checked = _in_order(ordering, line) if ordering else _from_premises(fields, line) if fields else None
        if checked is not None:
            key, right = checked
            found.setdefault(key, (right, short(line.strip())))
    return list(found.values())


def _in_order(ordering: Ordering, line: str) -> tuple[object, bool] | None:
    pairs = read_chain(ordering, line)
    if pairs is None or ordering.contradictory:
        return None
    return tuple(pairs), all(ordering.follows(upper, lower) for upper, lower in pairs)


def _from_premises(fields: Fields, line: str) -> tuple[object, bool] | None:
    """A formula, or who is what, that must follow; None for any other line, for what is always true, and where nobody can tell."""
    text = DRESS.sub("", line).strip().rstrip(".,;")
    try:
        if fields.values["kind"] == "knights":
            claims = knight_claims(fields, text)
            return (claims[0], ask(claims[1], claims[0]).state == "unsat") if claims else None
        premises = formal_premises(fields)
        if premises is None:
            return None
        sentence = fields.values["kind"] == "syllogism" and SENTENCE.fullmatch(text)
        statement = _statement(categorical(text) if sentence else REASON.sub("", text), premises)
        if statement is None:
            return None
        setting = fields.setting((*premises, statement)) if "domain" in fields.values else OPEN
        if ask((), statement, setting).state == "unsat":
            return None
        return parse(statement), ask(premises, statement, setting).state == "unsat"
    except (StatementError, UndecidedError):
        return None


@lru_cache(maxsize=4096)
def _statement(text: str, premises: tuple[str, ...]) -> str | None:
    """The line, when it is a formula in no other names than those of the premises."""
    try:
        given = parse(text)
        names = signature([parse(premise) for premise in premises])
        signature([*(parse(premise) for premise in premises), given])
        own = signature([given])
    except FormulaError:
        return None
    known = {*names.statements, *names.things, *(name for name, _ in names.predicates)}
    used = {*own.statements, *own.things, *(name for name, _ in own.predicates)}
    return text if used and used <= known else None
