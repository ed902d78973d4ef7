"""Small Python: what a program prints, and functions to write from a description, with tests in the metadata."""

from __future__ import annotations

import random

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)


def generate(rng: random.Random, level: int) -> Problem:
    """Half of the tasks are read (`output`), half are written (`function`); `level` is the number of operations."""
    return _output(rng, level) if rng.random() < 0.5 else _function(rng, level)


def _operations(rng: random.Random, count: int) -> list[tuple[str, int]]:
    return [(op, rng.randint(2, 3) if op == "*" else rng.randint(2, 12)) for op in rng.choices("++-*", k=count)]


def _apply(value: int, op: str, number: int) -> int:
    return value + number if op == "+" else value - number if op == "-" else value * number


def _output(rng: random.Random, level: int) -> Problem:
    name, start = rng.choice("abnxy"), rng.randint(2, 20)
    program, trace, value = [f"{name} = {start}"], [], start
    for op, number in _operations(rng, level):
        program.append(f"{name} = {name} {op} {number}")
        after = _apply(value, op, number)
        trace.append(f"{name}={value}{op}{number}={after}")
        value = after
    text = "\n".join([*program, f"print({name})"])
    task = Task(
        f"What does this program print?\n{text}",
        Domain.CODE,
        reference=str(value),
        key="code:" + "; ".join(program).replace(name, "x"),
        level=level,
        family="output",
    )
    return Problem(task, str(value), careful=tuple(trace), terse=tuple(line.rsplit("=", 1)[1] for line in trace))


WORDS = {"+": "adds {}", "-": "subtracts {}", "*": "multiplies by {}"}


def _function(rng: random.Random, level: int) -> Problem:
    operations = _operations(rng, level)
    told = ", then ".join(WORDS[op].format(number) for op, number in operations)
    inputs = [0, 1, *rng.sample(range(2, 50), 3)]
    tests = []
    for given in inputs:
        value = given
        for op, number in operations:
            value = _apply(value, op, number)
        tests.append({"input": [given], "output": value})
    inline = "x"
    for i, (op, number) in enumerate(operations):
        inline = f"({inline}) {op} {number}" if op == "*" and i else f"{inline} {op} {number}"
    answer = f"def f(x):\n    return {inline}"
    lines = ["def f(x):", *(f"    x = x {op} {number}" for op, number in operations)]
    task = Task(
        f"Write a Python function f(x) that {told}.",
        Domain.CODE,
        reference=answer,
        key=f"code:f:{told}",
        level=level,
        family="function",
        metadata={"entry_point": "f", "tests": tests},
    )
    return Problem(task, answer, careful=(*lines, "    return x"), terse=())
