"""The worker process of `symbolic`: one JSON line in, one out, until its input ends. Runs in the main thread, where SIGALRM works."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

from core.verifiers.child import begin, serve

SECONDS = 2
CPU_SECONDS = 5.0
WARM_UP = (("x+1", "1+x"), (r"\frac{\sqrt{2}}{2}", "sqrt(2)/2"), ("y=2x", "y=x"))
WARM_UP_ALGEBRA = (
    ("x^2+2x+1", "(x+1)^2"),
    (r"\sin(2x)", r"2\sin(x)\cos(x)"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("y=2x+1", "2y=4x+2"),
    ("x>2", r"(2, \infty)"),
)
DECIMAL = re.compile(r"(\d*)\.(\d+)", re.ASCII)


def main() -> None:
    """Serve until the input ends. Whatever the libraries print goes to stderr.

    A warm process forks the one that serves: when that is stopped by SIGUSR1, or killed, the next is there within milliseconds. It ends
    with its input, with its host, and with any error of its own.
    """
    replies = begin()
    _warm_up()
    if not hasattr(os, "fork"):
        serve(replies, answer, CPU_SECONDS)
        return
    child, host = 0, os.getppid()

    def stop(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGUSR1, stop)
    while True:
        child = os.fork()
        if not child:
            serve(replies, answer, CPU_SECONDS)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        child = 0
        if not os.WIFSIGNALED(status) or os.getppid() != host:
            return


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What one request asks for: `{"reply": one of the values of symbolic.Reply}`, with `shown` where a value was computed."""
    from core.verifiers.math import algebra, recompute

    try:
        if request["op"] == "math_verify":
            return {"reply": math_verify(request["left"], request["right"])}
        if request["op"] == "same":
            found = {algebra.same(left, right) for left in request["left"] for right in request["right"]}
            return {"reply": _reply(found.pop() if len(found) == 1 else None)}
        return recompute.answer(request)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError, RecursionError, MemoryError) as error:
        return {"reply": "disagreed", "shown": type(error).__name__}


def math_verify(reference: str, answer: str) -> str:
    """One of the values of `symbolic.Reply`, from Math-Verify, asked in both orders."""
    from math_verify import verify

    left, right = _parsed(reference), _parsed(answer)
    if left is None:
        return "unreadable reference"
    if right is None:
        return "unreadable answer"
    forth = bool(verify(left, right, timeout_seconds=SECONDS)) and _proved(left[0], right[0])
    back = bool(verify(right, left, timeout_seconds=SECONDS)) and _proved(left[0], right[0])
    if forth != back:
        return "disagreed"
    return "same" if forth else "different"


def _reply(found: bool | None) -> str:
    return {True: "same", False: "different", None: "disagreed"}[found]


def _parsed(text: str) -> list[Any] | None:
    from math_verify.parser import LatexExtractionConfig, NormalizationConfig, parse

    exact = DECIMAL.sub(lambda match: rf"{{\frac{{{int(match[1] + match[2])}}}{{{10 ** len(match[2])}}}}}", text)
    config = LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        )
    )
    found = parse(f"${exact}$", [config], fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=SECONDS)
    return found[:1] or None


def _proved(left: Any, right: Any) -> bool:
    """Math-Verify calls numbers equal that agree to 15 digits; two constants must be equal for a reason."""
    from sympy import Expr

    if not (isinstance(left, Expr) and isinstance(right, Expr)) or left.free_symbols or right.free_symbols:
        return True
    return (left - right).equals(0) is True


def _warm_up() -> None:
    """What the first question would wait for: imports and SymPy's caches."""
    from core.verifiers.math import algebra, expression, recompute

    for one, other in WARM_UP:
        math_verify(one, other)
    for one, other in WARM_UP_ALGEBRA:
        algebra.same(expression.read(one)[0], expression.read(other)[0])
    recompute.warm_up()


if __name__ == "__main__":
    main()
