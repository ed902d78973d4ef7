"""Arithmetic chains and linear equations, four levels, any number of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
ASK_FOR_VALUE = ("Solve {}", "What is {}?", "Compute {}", "Calculate {}")
ASK_FOR_X = ("Solve {}", "Solve for x: {}", "Find x: {}")

Lines = list[str]


def generate(rng: random.Random, level: int) -> Problem:
    """One problem. Level 1 has one operation, level 4 four, or an equation with the unknown on both sides."""
    key, careful, terse, answer, family = rng.choice(SHAPES[level])(rng)
    wordings = ASK_FOR_X if family == "equation" else ASK_FOR_VALUE
    shown = key if family == "equation" or rng.random() < 0.7 else _spaced(key)
    task = Task(
        prompt=rng.choice(wordings).format(shown),
        domain=Domain.MATH,
        reference=str(answer),
        key=f"math:{key}",
        level=level,
        family=family,
    )
    return Problem(task, str(answer), tuple(careful), tuple(terse))


Shape = tuple[str, Lines, Lines, int, str]


def _one_operation(rng: random.Random) -> Shape:
    kind = rng.choice("+-*/")
    if kind == "+":
        a, b = rng.randint(2, 99), rng.randint(2, 99)
    elif kind == "-":
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        a, b = max(a, b), min(a, b)
    elif kind == "*":
        a, b = rng.randint(2, 99), rng.randint(2, 9)
    else:
        b, c = rng.randint(2, 9), rng.randint(2, 40)
        a = b * c
    return _arithmetic(f"{a}{kind}{b}", [(a, kind, b)])


def _two_operations(rng: random.Random) -> Shape:
    a, b, c = rng.randint(11, 59), rng.randint(3, 9), rng.randint(11, 99)
    kind = rng.randrange(4)
    if kind == 0:
        return _arithmetic(f"{a}*{b}+{c}", [(a, "*", b), (a * b, "+", c)])
    if kind == 1 and a * b > c:
        return _arithmetic(f"{a}*{b}-{c}", [(a, "*", b), (a * b, "-", c)])
    if kind == 2:
        return _arithmetic(f"({a}+{c})*{b}", [(a, "+", c), (a + c, "*", b)])
    return _arithmetic(f"{c}+{a}*{b}", [(a, "*", b), (c, "+", a * b)])


def _three_operations(rng: random.Random) -> Shape:
    a, b, c, d = rng.randint(11, 59), rng.randint(3, 9), rng.randint(11, 59), rng.randint(3, 9)
    e = rng.randint(11, 99)
    kind = rng.randrange(3)
    if kind == 0:
        return _arithmetic(f"{a}*{b}+{c}*{d}", [(a, "*", b), (c, "*", d), (a * b, "+", c * d)])
    if kind == 1 and a * b + c > e:
        return _arithmetic(f"{a}*{b}+{c}-{e}", [(a, "*", b), (a * b, "+", c), (a * b + c, "-", e)])
    if (a + c) * b > e:
        return _arithmetic(f"({a}+{c})*{b}-{e}", [(a, "+", c), (a + c, "*", b), ((a + c) * b, "-", e)])
    return _arithmetic(f"({a}+{c})*{b}+{e}", [(a, "+", c), (a + c, "*", b), ((a + c) * b, "+", e)])


def _four_operations(rng: random.Random) -> Shape:
    a, b, c, d = rng.randint(11, 59), rng.randint(3, 9), rng.randint(11, 59), rng.randint(3, 9)
    e = rng.randint(11, 99)
    kind = rng.randrange(3)
    if kind == 0 and a * b + c * d > e:
        steps = [(a, "*", b), (c, "*", d), (a * b, "+", c * d), (a * b + c * d, "-", e)]
        return _arithmetic(f"{a}*{b}+{c}*{d}-{e}", steps)
    if kind == 1:
        steps = [(a, "+", c), (a + c, "*", b), (e, "*", d), ((a + c) * b, "+", e * d)]
        return _arithmetic(f"({a}+{c})*{b}+{e}*{d}", steps)
    return _arithmetic(f"{a}*{c}+{e}", [(a, "*", c), (a * c, "+", e)])


def _equation_one_step(rng: random.Random) -> Shape:
    x, a = rng.randint(2, 60), rng.randint(11, 99)
    if rng.random() < 0.5:
        return f"x + {a} = {a + x}", [f"x = {a + x} - {a} = {x}"], [], x, "equation"
    k = rng.randint(2, 9)
    return f"{k}x = {k * x}", [f"x = {k * x}/{k} = {x}"], [], x, "equation"


def _equation_two_steps(rng: random.Random) -> Shape:
    x, k, a = rng.randint(2, 60), rng.randint(2, 9), rng.randint(3, 99)
    if rng.random() < 0.5:
        key, first = f"{k}x + {a} = {k * x + a}", f"{k}x = {k * x + a} - {a} = {k * x}"
    else:
        a = min(a, k * x - 1)
        key, first = f"{k}x - {a} = {k * x - a}", f"{k}x = {k * x - a} + {a} = {k * x}"
    return key, [first, f"x = {k * x}/{k} = {x}"], [f"{k}x = {k * x}"], x, "equation"


def _equation_brackets(rng: random.Random) -> Shape:
    x, k, a = rng.randint(2, 60), rng.randint(2, 9), rng.randint(3, 60)
    inner = f"x + {a} = {k * (x + a)}/{k} = {x + a}"
    return f"{k}(x + {a}) = {k * (x + a)}", [inner, f"x = {x + a} - {a} = {x}"], [f"x + {a} = {x + a}"], x, "equation"


def _equation_both_sides(rng: random.Random) -> Shape:
    x, low, extra = rng.randint(2, 40), rng.randint(2, 6), rng.randint(2, 6)
    high, a = low + extra, rng.randint(3, 60)
    b = extra * x - a
    if b > 0:
        key, collect = f"{high}x - {a} = {low}x + {b}", f"{high}x - {low}x = {b} + {a}"
    elif b < 0:
        key, collect = f"{high}x + {-b} = {low}x + {a}", f"{high}x - {low}x = {a} - {-b}"
    else:
        return _equation_both_sides(rng)
    isolate = f"{extra}x = {extra * x}"
    return key, [collect, isolate, f"x = {extra * x}/{extra} = {x}"], [isolate], x, "equation"


SHAPES: dict[int, tuple[Callable[[random.Random], Shape], ...]] = {
    1: (_one_operation, _one_operation, _one_operation, _equation_one_step),
    2: (_two_operations, _two_operations, _equation_two_steps),
    3: (_three_operations, _three_operations, _equation_brackets),
    4: (_four_operations, _four_operations, _equation_both_sides),
}


def _arithmetic(key: str, operations: list[tuple[int, str, int]]) -> Shape:
    results = [_apply(*operation) for operation in operations]
    careful = [_worked(a, op, b) for a, op, b in operations]
    terse = [f"{_plain(a, op, b)} = {result}" for (a, op, b), result in zip(operations, results, strict=True)]
    return key, careful, terse, results[-1], "arithmetic"


def _apply(a: int, op: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[op]


def _plain(a: int, op: str, b: int) -> str:
    return f"{a}{op}{b}" if op in "*/" else f"{a} {op} {b}"


def _worked(a: int, op: str, b: int) -> str:
    """A product by its tens and ones, as one does on paper; anything else in one go."""
    line, result = _plain(a, op, b), _apply(a, op, b)
    if op != "*" or min(a, b) < 2:
        return f"{line} = {result}"
    if a < 10 <= b:
        tens, ones = b // 10 * 10, b % 10
        parts = [(a, tens), (a, ones)]
    else:
        tens, ones = a // 10 * 10, a % 10
        parts = [(tens, b), (ones, b)]
    if b >= 10 and a >= 10:
        parts = [(a, b // 10 * 10), (a, b % 10)]
        tens, ones = b // 10 * 10, b % 10
    if not tens or not ones:
        return f"{line} = {result}"
    (p, q), (r, s) = parts
    return f"{line} = {p}*{q} + {r}*{s} = {p * q} + {r * s} = {result}"


def _spaced(expression: str) -> str:
    for op in "+-*/":
        expression = expression.replace(op, f" {op} ")
    return expression
