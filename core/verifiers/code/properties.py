"""Property tests: on drawn arguments a solution has to do as a reference solution does; a small counter-example stands in the reason."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from core.types import Outcome
from core.verifiers.code.draw import Strategy, strategy
from core.verifiers.code.examples import mismatch
from core.verifiers.code.solution import Lost, Solution, Threw, written
from core.verifiers.code.task import BrokenTask, CodeTask, Example, shape
from core.verifiers.code.tester import Part

DEFAULT_CASES = 100
MAX_CASES = 500
MAX_SHRINKS = 500


def check_properties(solution: Solution, asked: CodeTask, tier: str, rng: random.Random) -> Part:
    """PASS when the solution does as the reference on all arguments drawn; ERROR when the reference can't be used.

    Where the reference raises, nothing is asked, or by "raises": true the same exception. Raises BrokenTask for senseless strategies.
    """
    cases = _cases(asked.properties)
    drawn = strategy({"tuple": list(asked.properties["args"])})
    with Solution(asked.reference_solution, asked.replace(stateful=False, pure=False), tier) as reference:
        trial = _Trial(solution, reference, asked)
        for _ in range(cases):
            args = drawn.draw(rng)
            why = trial.difference(args)
            if trial.broken:
                return Part("properties", Outcome.ERROR, 0, 1, trial.broken)
            if why:
                return Part("properties", Outcome.FAIL, 0, 1, _shrunk(trial, drawn, args, why))
        if not trial.agreed:
            return Part("properties", Outcome.ABSTAIN, 0, 1, "the reference solution raised on all arguments that were drawn")
        return Part("properties", Outcome.PASS, 1, 1)


class _Trial:
    """One pair of solutions, and what is known of where they differ."""

    def __init__(self, solution: Solution, reference: Solution, asked: CodeTask) -> None:
        self.solution, self.reference, self.asked = solution, reference, asked
        self.known: dict[Any, str] = {}
        self.agreed = 0
        self.broken = ""

    def difference(self, args: tuple[Any, ...]) -> str:
        """What the solution does otherwise than the reference, "" for nothing. What was asked once is not asked again."""
        key = shape(args)
        if key not in self.known:
            self.known[key] = self._asked_both(args)
        return self.known[key]

    def _asked_both(self, args: tuple[Any, ...]) -> str:
        name = self.asked.entry_point
        wanted = self.reference.call(name, args, {})
        if isinstance(wanted, Lost) or self.reference.unsteady:
            why = self.reference.unsteady or (wanted.why if isinstance(wanted, Lost) else "")
            self.broken = f"the reference solution can't be used: {written(name, args)}: {why}"
            return ""
        if isinstance(wanted, Threw):
            if self.asked.properties.get("raises") is not True:
                return ""
            example = Example(args, {}, compared=False, raises=wanted.kinds[0])
        else:
            example = Example(args, {}, wanted.value)
        why = mismatch(example, self.solution.call(name, args, {}, watched=self.asked.pure), self.asked)
        self.agreed += not why
        return f"{written(name, args)}: {why}" if why else ""


def _shrunk(trial: _Trial, drawn: Strategy, args: tuple[Any, ...], why: str) -> str:
    """The same failure with smaller arguments, as long as smaller ones are found."""
    left = MAX_SHRINKS
    found = True
    while found:
        found = False
        for other in drawn.smaller(args):
            if trial.solution.stopped or trial.broken or left <= 0:
                return why
            left -= 1
            if shape(other) != shape(args) and _size_of(other) < _size_of(args) and (told := trial.difference(other)):
                args, why, found = other, told, True
                break
    return why


def _size_of(args: tuple[Any, ...]) -> tuple[int, str]:
    text = repr(args)
    return len(text), text


def _cases(properties: Mapping[str, Any]) -> int:
    if unknown := sorted(str(key) for key in properties if key not in ("args", "cases", "raises")):
        raise BrokenTask(f"properties has an unknown field {unknown[0][:40]!r}: the fields are args, cases, raises")
    cases = properties.get("cases", DEFAULT_CASES)
    if type(cases) is not int or not 1 <= cases <= MAX_CASES:
        raise BrokenTask(f"properties asks for {str(cases)[:20]} cases: write a number from 1 to {MAX_CASES}")
    return cases
