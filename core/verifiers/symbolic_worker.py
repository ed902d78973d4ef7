"""The child process of `symbolic`: one JSON line in, one out, until its input ends. Runs in the main thread, where SIGALRM works."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, TextIO

SECONDS = 2
MEMORY = 2 * 1024**3
WARM_UP = (
    ("x+1", "1+x"),
    (r"\frac{\sqrt{2}}{2}", "sqrt(2)/2"),
    (r"\sin(x)^2", "x^2"),
    (r"\{1,2\}", "(1,2)"),
    ("x>2", "2<x"),
    ("y=2x", "y=x"),
)
DECIMAL = re.compile(r"(\d*)\.(\d+)", re.ASCII)


def main() -> None:
    """Serve until the input ends. Whatever the libraries print goes to stderr."""
    replies, sys.stdout = sys.stdout, sys.stderr
    _limit()
    for one, other in WARM_UP:
        same(one, other)
    _say(replies, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        _say(replies, {"id": request["id"], "reply": same(request["reference"], request["answer"])})


def same(reference: str, answer: str) -> str:
    """One of the values of `symbolic.Reply`."""
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


def _limit() -> None:
    """Memory is bounded and no file can be written, where the system offers it."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _say(replies: TextIO, response: dict[str, Any]) -> None:
    replies.write(json.dumps(response) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
