"""Asks Math-Verify, in a process of its own that is killed at the wall, whether two answers mean the same.

Nothing but the letters, words and signs of plain mathematics is let through, within limits; the host process parses none of it.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WALL = 1.0
START_WALL = 60.0
MAX_LENGTH = 200
MAX_DEPTH = 8
MAX_DIGITS = 20
MAX_EXPONENT_DIGITS = 2

ALLOWED = re.compile(r"[A-Za-z0-9 \\{}()\[\]+\-*/^_=<>.,|√π∞≤≥±∪∩]*", re.ASCII)
PLAIN_WORD = re.compile(r"(?<!\\)(?<![A-Za-z\\])([A-Za-z]{2,})", re.ASCII)
COMMAND = re.compile(r"\\([A-Za-z]+)", re.ASCII)
TOO_MANY_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1}}}", re.ASCII)
LARGE_POWER = re.compile(rf"(?:\^|\*\*)[ {{(+-]{{0,8}}\d{{{MAX_EXPONENT_DIGITS + 1}}}", re.ASCII)
TOWER = re.compile(r"(?:\^|\*\*)[^\^+\-*/=,<>]{0,40}(?:\^|\*\*)", re.ASCII)
LOGARITHM = re.compile(r"\\log_(?:\d|\{\d+\})", re.ASCII)
READ_IN_TWO_WAYS = re.compile(r"(?<![A-Za-z])_|[})\]] *\d|\d +\d", re.ASCII)
PRODUCT_OF_LETTERS = re.compile(r"[abcxyzn]{2,3}", re.ASCII)
WORDS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "exp", "sqrt", "pi"]
)
COMMANDS = WORDS - {"exp", "sqrt"} | frozenset(
    [
        "frac",
        "sqrt",
        "pi",
        "theta",
        "alpha",
        "beta",
        "gamma",
        "lambda",
        "mu",
        "infty",
        "pm",
        "mp",
        "le",
        "leq",
        "ge",
        "geq",
        "lt",
        "gt",
        "in",
        "cup",
        "cap",
        "emptyset",
        "exp",
        "circ",
        "begin",
        "end",
        "pmatrix",
        "bmatrix",
        "mathbb",
        "ldots",
    ]
)
MATRIX_WORDS = frozenset(("pmatrix", "bmatrix"))

log = logging.getLogger(__name__)


class Reply(StrEnum):
    """What came of a comparison. Only SAME may lead to a PASS."""

    SAME = "same"
    DIFFERENT = "different"
    UNREADABLE_REFERENCE = "unreadable reference"
    UNREADABLE_ANSWER = "unreadable answer"
    DISAGREED = "disagreed"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    MISSING = "missing"


def compare(reference: str, answer: str, wall: float = WALL) -> Reply:
    """Whether both mean the same, asked in both orders. Each question may take `wall` seconds once the worker has started.

    A list without brackets in another order is DISAGREED: it could be a set, it could be a point.
    """
    if not allowed(reference):
        return Reply.UNREADABLE_REFERENCE
    if not allowed(answer):
        return Reply.UNREADABLE_ANSWER
    if find_spec("math_verify") is None:
        return Reply.MISSING
    if not (_is_list(reference) or _is_list(answer)):
        return _worker.ask(reference, answer, wall)
    in_order = _worker.ask(f"({reference})", f"({answer})", wall)
    if in_order is Reply.DIFFERENT and _worker.ask(rf"\{{{reference}\}}", rf"\{{{answer}\}}", wall) is not Reply.DIFFERENT:
        return Reply.DISAGREED
    return in_order


def allowed(text: str) -> bool:
    """Whether a text is short, shallow, small in its numbers and made of mathematics alone."""
    if not text.strip() or len(text) > MAX_LENGTH or not ALLOWED.fullmatch(text) or "__" in text:
        return False
    if TOO_MANY_DIGITS.search(text) or LARGE_POWER.search(text) or TOWER.search(text):
        return False
    if READ_IN_TWO_WAYS.search(LOGARITHM.sub(r"\\log", text)):
        return False
    words = PLAIN_WORD.findall(text)
    if not all(word in WORDS or word in MATRIX_WORDS or PRODUCT_OF_LETTERS.fullmatch(word) for word in words):
        return False
    return set(COMMAND.findall(text)) <= COMMANDS and _depth(text) <= MAX_DEPTH


def close() -> None:
    """End the worker process; the next comparison starts a new one."""
    _worker.close()


def _is_list(text: str) -> bool:
    return "," in text and text[0] not in "([{\\"


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest


class _Worker:
    """One child process and one question at a time; lines of JSON both ways."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()
        self.asked = 0

    def ask(self, reference: str, answer: str, wall: float) -> Reply:
        with self.lock:
            try:
                if self.process is None or self.process.poll() is not None:
                    self._start()
                return self._asked(reference, answer, wall)
            except queue.Empty:
                self._end()
                return Reply.TIMEOUT
            except (OSError, ValueError) as error:
                log.warning("the symbolic checker broke and is started again: %s", error)
                self._end()
                return Reply.BROKEN

    def close(self) -> None:
        with self.lock:
            self._end()

    def _asked(self, reference: str, answer: str, wall: float) -> Reply:
        assert self.process is not None
        assert self.process.stdin is not None
        self.asked += 1
        request = {"id": self.asked, "reference": reference, "answer": answer}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        response = self._line(wall)
        if response.get("id") != self.asked:
            raise ValueError(f"it answered question {response.get('id')!r}, and {self.asked} was asked")
        return Reply(response["reply"])

    def _start(self) -> None:
        self._end()
        lines: queue.Queue[str] = queue.Queue()
        process = subprocess.Popen(
            [sys.executable, "-m", "core.verifiers.symbolic_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.process, self.lines = process, lines
        threading.Thread(target=_pump, args=(process, lines), daemon=True, name="symbolic-checker").start()
        if self._line(START_WALL).get("ready") is not True:
            raise ValueError("it did not say that it is ready")

    def _line(self, wall: float) -> dict[str, Any]:
        line = self.lines.get(timeout=wall)
        response = json.loads(line) if line else {}
        if not isinstance(response, dict) or not response:
            raise ValueError("it ended without an answer")
        return response

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            try:
                process.stdin.close()
            except BrokenPipeError:
                log.debug("the symbolic checker had closed its input")


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Lines from the child into the queue; an empty one at its end. Closes the pipe it reads."""
    assert process.stdout is not None
    with process.stdout as stdout:
        for line in stdout:
            lines.put(line)
    lines.put("")


def _forget() -> None:
    """A forked child must not share its parent's pipe."""
    global _worker
    _worker = _Worker()


_worker = _Worker()
atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
