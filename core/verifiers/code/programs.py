"""Whole programs: what they print for an input, compared line by line."""

from __future__ import annotations

import re
import shutil

from core.sandbox import Limits, run_program, same
from core.types import Outcome
from core.verifiers.base import short
from core.verifiers.code.solution import cut
from core.verifiers.code.task import CodeTask
from core.verifiers.code.tester import Part

NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][+-]?\d{1,3})?")


def check_programs(code: str, asked: CodeTask, order: list[int], tier: str) -> tuple[Part, str]:
    """Run a program once for each input, in the order given; also names the tier."""
    if asked.language == "javascript" and shutil.which("node") is None:
        return Part("stdin", Outcome.ABSTAIN, 0, len(order), "node is not installed, so JavaScript can't be run"), ""
    held, reasons, isolation = 0, {}, ""
    for place in order:
        given, wanted = asked.programs[place]
        report = run_program(asked.language, code, given, Limits(wall=max(asked.seconds, 0.1), cpu=max(asked.seconds, 0.1)), tier)
        isolation = str(report.isolation)
        if report.stopped:
            reasons[place] = f"input {cut(given)}: stopped, {short(report.stopped)}"
        elif report.exit_code != 0:
            last = report.stderr.strip().rsplit("\n", 1)[-1]
            reasons[place] = f"input {cut(given)}: it ended with code {report.exit_code}: {short(last)}"
        elif not printed_same(wanted, report.stdout, asked.tolerance):
            reasons[place] = f"input {cut(given)}: printed {cut(report.stdout)}, expected {cut(wanted)}"
        else:
            held += 1
    outcome = Outcome.FAIL if reasons else Outcome.PASS
    return Part("stdin", outcome, held, len(order), reasons[min(reasons)] if reasons else ""), isolation


def printed_same(wanted: str, got: str, tolerance: float = 0.0) -> bool:
    """Line by line, spaces at line ends and empty lines at the end ignored; numbers within the tolerance where there is one."""
    left, right = _lines(wanted), _lines(got)
    if left == right or tolerance <= 0 or len(left) != len(right):
        return left == right
    return all(_close(one, other, tolerance) for one, other in zip(left, right, strict=True))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _close(wanted: str, got: str, tolerance: float) -> bool:
    left, right = wanted.split(), got.split()
    if len(left) != len(right):
        return False
    for one, other in zip(left, right, strict=True):
        numbers = NUMBER.fullmatch(one) and NUMBER.fullmatch(other)
        if one != other and not (numbers and same(float(one), float(other), tolerance)):
            return False
    return True
