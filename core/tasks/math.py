"""Arithmetic chains and linear equations, four levels, any number of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.tasks.problem import Problem
from core.types import Domain, Task

LEVELS = (1, 2, 3, 4)
ASK_FOR_VALUE = ("Solve {}", "What is {}?", "Compute {}", "Calculate {}")
ASK_FOR_X = ("Solve {}", "Solve for x: {}", "Find x: {}")
SPACED = 0.2

Lines = list[str]
Operation = tuple[int, str, int]
Shape = tuple[str, Lines, Lines, int, str]


def generate(rng: random.Random, level: int) -> Problem:
    """One problem. Level 1 has one operation, level 4 four, or an equation with the unknown on both sides."""
    key, careful, terse, answer, family = rng.choice(SHAPES[level])(rng)
    wordings = ASK_FOR_X if family == "equation" else ASK_FOR_VALUE
    shown = _spaced(key) if rng.random() < SPACED else key
    task = Task(
        prompt=rng.choice(wordings).format(shown),
        domain=Domain.MATH,
        reference=str(answer),
        key=f"math:{key}",
        level=level,
        family=family,
    )
    return Problem(task, str(answer), tuple(careful), tuple(terse))


def _one_operation(rng: random.Random) -> Shape:
    kind = rng.choice("++--*/")
    if kind == "+":
        return _arithmetic("{}+{}", (rng.randint(2, 60), "+", rng.randint(2, 60)))
    if kind == "-":
        a, b = sorted((rng.randint(2, 90), rng.randint(2, 90)))
        return _arithmetic("{}-{}", (b, "-", a))
    if kind == "*":
        return _arithmetic("{}*{}", (rng.randint(2, 29), "*", rng.randint(2, 9)))
    b = rng.randint(2, 9)
    return _arithmetic("{}/{}", (b * rng.randint(2, 19), "/", b))


def _two_operations(rng: random.Random) -> Shape:
    a, b, c = rng.randint(3, 19), rng.randint(3, 9), rng.randint(3, 60)
    kind = rng.randrange(4)
    if kind == 0:
        return _arithmetic("{}*{}+{}", (a, "*", b), (a * b, "+", c))
    if kind == 1 and a * b > c:
        return _arithmetic("{}*{}-{}", (a, "*", b), (a * b, "-", c))
    if kind == 2:
        c = rng.randint(3, 19)
        return _arithmetic("({}+{})*{}", (a, "+", c), (a + c, "*", b), shown=(a, c, b))
    return _arithmetic("{}+{}*{}", (a, "*", b), (c, "+", a * b), shown=(c, a, b))


def _three_operations(rng: random.Random) -> Shape:
    a, b, c, d = rng.randint(3, 19), rng.randint(3, 9), rng.randint(3, 19), rng.randint(3, 9)
    e = rng.randint(3, 60)
    kind = rng.randrange(3)
    if kind == 0:
        return _arithmetic("{}*{}+{}*{}", (a, "*", b), (c, "*", d), (a * b, "+", c * d), shown=(a, b, c, d))
    if kind == 1 and a * b + c > e:
        return _arithmetic("{}*{}+{}-{}", (a, "*", b), (a * b, "+", c), (a * b + c, "-", e), shown=(a, b, c, e))
    steps = ((a, "+", c), (a + c, "*", b))
    if (a + c) * b > e:
        return _arithmetic("({}+{})*{}-{}", *steps, ((a + c) * b, "-", e), shown=(a, c, b, e))
    return _arithmetic("({}+{})*{}+{}", *steps, ((a + c) * b, "+", e), shown=(a, c, b, e))


def _four_operations(rng: random.Random) -> Shape:
    a, b, c, d = rng.randint(3, 19), rng.randint(3, 9), rng.randint(3, 19), rng.randint(3, 9)
    e = rng.randint(3, 60)
    kind = rng.randrange(3)
    if kind == 0 and a * b + c * d > e:
        steps = ((a, "*", b), (c, "*", d), (a * b, "+", c * d), (a * b + c * d, "-", e))
        return _arithmetic("{}*{}+{}*{}-{}", *steps, shown=(a, b, c, d, e))
    if kind == 1:
        e = rng.randint(3, 19)
        steps = ((a, "+", c), (a + c, "*", b), (e, "*", d), ((a + c) * b, "+", e * d))
        return _arithmetic("({}+{})*{}+{}*{}", *steps, shown=(a, c, b, e, d))
    a, c = rng.randint(3, 9), rng.randint(3, 9)
    steps = ((a, "+", b), (c, "+", d), (a + b, "*", c + d), ((a + b) * (c + d), "+", e))
    return _arithmetic("({}+{})*({}+{})+{}", *steps, shown=(a, b, c, d, e))


def _equation_one_step(rng: random.Random) -> Shape:
    x = rng.randint(2, 40)
    if rng.random() < 0.7:
        a = rng.randint(2, 60)
        return f"x+{a}={a + x}", [f"x={a + x}-{a}={x}"], [], x, "equation"
    k = rng.randint(2, 9)
    return f"{k}x={k * x}", [f"x={k * x}/{k}={x}"], [], x, "equation"


def _equation_two_steps(rng: random.Random) -> Shape:
    x, k, a = rng.randint(2, 20), rng.randint(2, 9), rng.randint(2, 60)
    if rng.random() < 0.5:
        key, first = f"{k}x+{a}={k * x + a}", f"{k}x={k * x + a}-{a}={k * x}"
    else:
        a = min(a, k * x - 1)
        key, first = f"{k}x-{a}={k * x - a}", f"{k}x={k * x - a}+{a}={k * x}"
    return key, [first, f"x={k * x}/{k}={x}"], [f"{k}x={k * x}"], x, "equation"


def _equation_brackets(rng: random.Random) -> Shape:
    x, k, a = rng.randint(2, 20), rng.randint(2, 9), rng.randint(2, 20)
    inner = f"x+{a}={k * (x + a)}/{k}={x + a}"
    return f"{k}(x+{a})={k * (x + a)}", [inner, f"x={x + a}-{a}={x}"], [f"x+{a}={x + a}"], x, "equation"


def _equation_both_sides(rng: random.Random) -> Shape:
    x, low, extra = rng.randint(2, 20), rng.randint(2, 6), rng.randint(2, 6)
    high, a = low + extra, rng.randint(2, 60)
    b = extra * x - a
    if b == 0:
        return _equation_both_sides(rng)
    if b > 0:
        key, collect = f"{high}x-{a}={low}x+{b}", f"{high}x-{low}x={b}+{a}"
    else:
        key, collect = f"{high}x+{-b}={low}x+{a}", f"{high}x-{low}x={a}-{-b}"
    isolate = f"{extra}x={extra * x}"
    return key, [collect, isolate, f"x={extra * x}/{extra}={x}"], [isolate], x, "equation"


SHAPES: dict[int, tuple[Callable[[random.Random], Shape], ...]] = {
    1: (_one_operation, _one_operation, _one_operation, _equation_one_step),
    2: (_two_operations, _two_operations, _equation_two_steps),
    3: (_three_operations, _three_operations, _equation_brackets),
    4: (_four_operations, _four_operations, _equation_both_sides),
}


def _arithmetic(template: str, *operations: Operation, shown: tuple[int, ...] | None = None) -> Shape:
    """A chain of operations. `shown` are the numbers of the question, by default those that no operation has made."""
    numbers = shown or (operations[0][0], *(b for _, _, b in operations))
    results = [_apply(*operation) for operation in operations]
    careful = [_worked(*operation) for operation in operations]
    terse = [f"{a}{op}{b}={result}" for (a, op, b), result in zip(operations, results, strict=True)]
    return template.format(*numbers), careful, terse, results[-1], "arithmetic"


def _apply(a: int, op: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[op]


def _worked(a: int, op: str, b: int) -> str:
    """A product by its tens and ones, as one does on paper; anything else in one go."""
    line, result = f"{a}{op}{b}", _apply(a, op, b)
    if op != "*":
        return f"{line}={result}"
    parts = [(a, b // 10 * 10), (a, b % 10)] if b > 10 else [(a // 10 * 10, b), (a % 10, b)]
    if any(0 in part for part in parts):
        return f"{line}={result}"
    (p, q), (r, s) = parts
    return f"{line}={p}*{q}+{r}*{s}={p * q}+{r * s}={result}"


def _spaced(expression: str) -> str:
    for sign in "+-*/=":
        expression = expression.replace(sign, f" {sign} ")
    return expression
