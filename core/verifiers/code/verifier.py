"""Judges programs by running them in a sandbox: examples, check(candidate) texts, doctests, stdin programs, properties.

The sandbox never says the verdict: it gives back values, and they are compared here. What a program prints without being run (a task with
a reference and no tests) is compared as text.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from core.answers import final_answer
from core.errors import SandboxError
from core.types import Evidence, Outcome, Task
from core.verifiers.base import Finding, abstained, broken, failed, passed, short, verifier
from core.verifiers.code.examples import check_examples
from core.verifiers.code.programs import check_programs, printed_same
from core.verifiers.code.properties import check_properties
from core.verifiers.code.solution import Solution
from core.verifiers.code.task import BrokenTask, CodeTask, read_code_task
from core.verifiers.code.tester import Part, Tester
from core.verifiers.code.text import MAX_CODE, MAX_TEXT, completed, find_code

WORST_FIRST = (Outcome.FAIL, Outcome.ERROR, Outcome.ABSTAIN)
WRAPPERS = ("```", "**", "`", "$", '"', "'")
MAX_OUTPUT = 20_000


@verifier("code", "1")
def verify(task: Task, text: str, *, sandbox: str = "strongest") -> Finding:
    """The verdict on what a model wrote. All kinds of tests that the metadata names must hold; `score` is the share of tests that do.

    `sandbox` is the tier that is asked for; when it can't be had the verdict is ERROR, and never one from a weaker tier. A task without
    tests is judged by its reference, what a program prints, and ABSTAINs without one.
    """
    try:
        asked = read_code_task(task)
    except BrokenTask as error:
        return broken(f"this task can't be judged: {error}")
    if asked is None:
        return _against_reference(task, text)
    code = find_code(text, asked.language, asked.entry_point)
    if len(text) > MAX_TEXT or len(code) > MAX_CODE:
        return failed(f"{max(len(code), len(text))} characters are too many: a solution has at most {MAX_CODE}", Evidence.EXECUTION)
    if not code.strip():
        return failed(f"no code found: write it in a ```{asked.language} block", Evidence.EXECUTION)
    if asked.entry_point:
        code = completed(task.prompt, code, asked.entry_point)
    try:
        parts, isolation = _judge(asked, code, random.Random(_seed(task, text)), sandbox)
    except BrokenTask as error:
        return broken(f"this task can't be judged: {error}")
    except SandboxError as error:
        return broken(f"no sandbox: {error}")
    return _combined(parts).replace(isolation=isolation)


def _judge(asked: CodeTask, code: str, rng: random.Random, tier: str) -> tuple[list[Part], str]:
    """All parts of the verdict, and the tier in which the solution ran."""
    parts: list[Part] = []
    isolation = ""
    if asked.entry_point and (asked.examples or asked.test.strip() or asked.doctest or asked.properties):
        with Solution(code, asked, tier) as solution:
            parts += _judge_function(solution, asked, rng, tier)
            if solution.unsteady:
                parts.append(Part("steadiness", Outcome.FAIL, 0, 0, solution.unsteady))
            isolation = solution.isolation()
    if asked.programs:
        order = list(range(len(asked.programs)))
        rng.shuffle(order)
        part, isolation = check_programs(code, asked, order, tier)
        parts.append(part)
    return parts, isolation


def _judge_function(solution: Solution, asked: CodeTask, rng: random.Random, tier: str) -> Iterator[Part]:
    if asked.examples:
        yield check_examples(solution, asked, rng)
    if asked.test.strip() or asked.doctest:
        with Tester(solution, asked, tier) as tester:
            solution.session.loaded()
            if asked.doctest:
                yield tester.doctests()
            if asked.test.strip():
                yield tester.check()
    if asked.properties:
        yield check_properties(solution, asked, tier, rng)


def _combined(parts: Sequence[Part]) -> Finding:
    """One finding: what fails outweighs what broke, that outweighs what can't be checked."""
    if not parts:
        return abstained("nothing was run")
    held, of = sum(part.held for part in parts), sum(part.of for part in parts)
    details = {"held": held, "tests": of, "parts": [part.as_dict() for part in parts]}
    for outcome in WORST_FIRST:
        part = next((part for part in parts if part.outcome is outcome), None)
        if part is None:
            continue
        if outcome is Outcome.FAIL:
            return failed(f"{part.reason} ({held} of {of} tests hold)", Evidence.EXECUTION, held / of if of else 0.0, **details)
        return (broken if outcome is Outcome.ERROR else abstained)(part.reason, **details)
    return passed(f"{held} of {of} tests hold", Evidence.EXECUTION, **details)


def _seed(task: Task, text: str) -> int:
    """The same for the same task and text; the solution can't know it."""
    return int.from_bytes(hashlib.sha256(f"{task.id}\0{text}".encode("utf-8", "replace")).digest()[:8], "big")


def _against_reference(task: Task, text: str) -> Finding:
    """What a program prints, as text: 6.0 is not 6. A reference that is itself a program says nothing about another program."""
    reference = task.reference
    if reference is None or not reference.strip() or task.family == "function" or "def " in reference or "import " in reference:
        return abstained('no tests: put "tests", "test", "doctest", "stdin" or "properties" into the metadata')
    if len(reference) > MAX_OUTPUT:
        return abstained(f"the reference has {len(reference)} characters: printed texts are compared up to {MAX_OUTPUT}")
    answer = _printed_answer(text, "\n" in reference.strip()) if len(text) <= MAX_TEXT else None
    if not answer:
        return failed("no answer found: end with 'Answer: ...'", Evidence.REFERENCE)
    if printed_same(reference.strip("\n"), answer) or printed_same(reference.strip(), _bare(answer)):
        return passed(f"{short(answer)} equals the reference", Evidence.REFERENCE)
    return failed(f"{short(answer)} does not equal the reference {short(reference)}", Evidence.REFERENCE)


def _printed_answer(text: str, lines: bool) -> str | None:
    """Of one line, the final answer; of several, the last fenced block or what follows the last "Answer:"."""
    return find_code(text, "python") if lines else final_answer(text)


def _bare(answer: str) -> str:
    text = answer.strip().replace("−", "-")
    for _ in range(len(WRAPPERS)):
        for mark in WRAPPERS:
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
        if text.endswith(".") and text[:-1].lstrip("-").isdigit():
            text = text[:-1]
    return text
