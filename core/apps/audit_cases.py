"""What an audit asks verifiers: the cases that ship, a user's own, junk for the task of every case, and draws from the generators."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import core.verifiers
from core.answers import final_answer, normalise
from core.errors import TaskError
from core.registry import SOURCES, VERIFIERS, resolve
from core.tasks import gym
from core.tasks.gym_families import RECOMPUTED
from core.tasks.problem import Problem
from core.types import Domain, Outcome, Record, Task

SHIPPED = Path(core.verifiers.__file__).with_name("cases")
PAIRS = SHIPPED / "math_pairs.jsonl"
KINDS = ("gold", "junk", "near-miss", "impossible", "unsupported")
FIELDS = {"kind", "prompt", "reference", "metadata", "text", "expect", "domain", "verifier"}
LEVELS = (1, 2, 3, 4)

PASS_OR_ABSTAIN = frozenset((Outcome.PASS, Outcome.ABSTAIN))
NEVER_PASS = frozenset(Outcome) - {Outcome.PASS}
NOTHING = ("", "banana", "\x00")
CONSTANTS = ("0", "1", "True", "False", "None", "yes", "no", "[]")
HUGE = ("banana " * 150_000, "(" * 10_000, "[" * 10_000)
SAME_WORDS = ({"yes", "true", "1"}, {"no", "false", "0"})
SHORT = 40
LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class Case(Record):
    """A text that a verifier judges, and the outcomes that are right. `origin` says where it comes from."""

    verifier: str
    kind: str
    task: Task
    text: str
    expect: frozenset[Outcome]
    origin: str


def shipped_cases() -> list[Case]:
    """Every file beside the verifiers: one a verifier, named after it, and the pairs of answers that mean the same or don't."""
    files = sorted(path for path in SHIPPED.glob("*.jsonl") if path != PAIRS)
    return [case for path in files for case in read_cases(path, path.stem)] + list(_pairs())


def read_cases(path: Path, verifier: str | None = None) -> list[Case]:
    """The cases of a file, one JSON object a line: kind, prompt, text, expect, and if needed reference, metadata, domain, verifier.

    `verifier` judges those that name none; without it, the one that their metadata or their domain leads to. Raises TaskError with the
    line that can't be used.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"can't read cases from {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_case(json.loads(line), verifier, f"{path.name}:{number}"))
            except (ValueError, TypeError, TaskError) as error:
                raise TaskError(f"{path}, line {number}: {error}") from error
    if not found:
        raise TaskError(
            f'{path} holds no cases: write one a line, such as {{"kind": "gold", "prompt": "1+1", "text": "2", "expect": ["pass"]}}'
        )
    return found


def junk_for(cases: Iterable[Case]) -> Iterator[Case]:
    """For the task of every case what must never pass: nothing, constants, the question, wrong answers with the right one inside, bombs.

    The pairs are left out: each stands beside others of its kind that are wrong.
    """
    golds: dict[str, list[str]] = {}
    tasks: dict[str, Case] = {}
    for case in cases:
        if case.origin.startswith(PAIRS.name):
            continue
        name = repr((case.verifier, case.task.prompt, case.task.reference, sorted(case.task.metadata.items(), key=str)))
        tasks.setdefault(name, case)
        if Outcome.PASS in case.expect:
            golds.setdefault(name, []).append(case.text)
    for name, case in tasks.items():
        right = [case.task.reference, *golds.get(name, [])]
        for text in _junk(case.task, [answer for answer in right if answer is not None]):
            yield Case(case.verifier, "junk", case.task, text, NEVER_PASS, f"junk for {case.origin}")


def drawn(count: int, seed: int = 0) -> Iterator[Case]:
    """`count` tasks of each level from each generator: the answer must not fail, nor must another task's answer pass unless it is equal.

    Of reasoning-gym's families, where it is installed, one task each.
    """
    for source in SOURCES:
        generate, rng = resolve(SOURCES, source), random.Random(seed)
        if generate is not gym.source:
            yield from _from_problems(source, [generate(rng, level) for level in LEVELS for _ in range(count)])
    if count and "gym" in VERIFIERS and find_spec("reasoning_gym") is not None:
        for family in gym.families():
            generate, rng = gym.source(family), random.Random(seed)
            yield from _from_problems(f"gym:{family}", [generate(rng, 1) for _ in range(2)])


def _from_problems(source: str, problems: Sequence[Problem]) -> Iterator[Case]:
    for number, problem in enumerate(problems):
        task = problem.task
        verifier = str(task.metadata.get("verifier", task.domain.value))
        origin = f"{source}, level {task.level}"
        yield Case(verifier, "gold", task, problem.solution("direct"), PASS_OR_ABSTAIN, origin)
        other = problems[number - 1]
        if _has_one_answer(task) and not _equal(problem.answer, other.answer):
            yield Case(verifier, "near-miss", task, other.solution("direct"), NEVER_PASS, f"{origin}, the answer of another task")
        for text in _junk(task, [problem.answer]):
            yield Case(verifier, "junk", task, text, NEVER_PASS, f"junk for {origin}")


def _has_one_answer(task: Task) -> bool:
    """What is judged by more than its reference may be right in the words of another task."""
    return task.reference is not None and task.domain is not Domain.CREATIVE and task.family not in RECOMPUTED


def _case(row: Any, verifier: str | None, origin: str) -> Case:
    if not isinstance(row, Mapping):
        raise TaskError("a case is a JSON object")
    if unknown := sorted(set(row) - FIELDS):
        raise TaskError(f"unknown field {unknown[0]!r}, the fields are {', '.join(sorted(FIELDS))}")
    kind, text, expect = row.get("kind", "gold"), row.get("text"), row.get("expect")
    if kind not in KINDS:
        raise TaskError(f"kind is {kind!r}: choose one of {', '.join(KINDS)}")
    if not isinstance(text, str) or not isinstance(expect, list) or not expect or not set(map(str, expect)) <= set(Outcome):
        raise TaskError(f'a case needs a text, and what it expects as a list of {", ".join(Outcome)}, such as "expect": ["fail"]')
    metadata, reference = row.get("metadata") or {}, row.get("reference")
    if not isinstance(metadata, dict):
        raise TaskError(f"metadata is {metadata!r}: write a JSON object")
    name = row.get("verifier", verifier)
    domain = row.get("domain", name if name in list(Domain) else Domain.MATH)
    task = Task(row.get("prompt", ""), domain, reference=None if reference is None else str(reference), metadata=metadata)
    judge = name or str(task.metadata.get("verifier", task.domain.value))
    return Case(judge, kind, task, text, frozenset(Outcome(one) for one in expect), origin)


def _pairs() -> Iterator[Case]:
    """Each pair in both orders: equality is symmetric, unless its note says that it holds one way."""
    for number, line in enumerate(PAIRS.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        one_way = row.get("note", "").startswith("one way")
        for reference, answer, same in (
            (row["reference"], row["answer"], row["same"]),
            (row["answer"], row["reference"], row["same"] and not one_way),
        ):
            task = Task("What is it?", Domain.MATH, reference)
            expect = frozenset((Outcome.PASS,)) if same else NEVER_PASS
            kind = "gold" if same else "near-miss"
            yield Case("math", kind, task, f"Answer: {answer}", expect, f"{PAIRS.name}:{number}")


def _junk(task: Task, right: list[str]) -> Iterator[str]:
    """Where a right answer is known, what contains it without being it; where none is, only what is right nowhere."""
    golds = [answer for text in right if (answer := final_answer(text)) is not None]
    for text in (*NOTHING, *HUGE, task.prompt, f"Answer: {task.prompt}"):
        if not any(_equal(text, gold) for gold in golds):
            yield text
    if not golds:
        return
    for constant in CONSTANTS:
        if not any(_equal(constant, gold) for gold in golds):
            yield f"Answer: {constant}"
    gold = golds[0]
    if len(gold) <= SHORT and "\n" not in gold and task.domain is not Domain.CREATIVE:
        yield f"Answer: not {gold}"
        yield f"Answer: {gold} or banana"
        yield f"Answer: banana, {gold}, 41, 42"
        yield "Answer: 41=42"
        yield f"Answer: {gold}\nAnswer: banana"


def _equal(left: str, right: str) -> bool:
    """Whether two answers may be one, with doubt on their side."""
    if max(len(left), len(right)) > LONGEST:
        return left == right
    one, other = normalise(left).casefold(), normalise(right).casefold()
    if one == other or any({one.split(",")[0].split(" ")[0], other.split(",")[0].split(" ")[0]} <= words for words in SAME_WORDS):
        return True
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False
