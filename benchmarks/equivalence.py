"""V1: our labelled pairs of answers, judged in both orders, beside plain Math-Verify (boxed and bare) and a last-number regex."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

from benchmarks.record import Figure, figure, machine
from core.types import Domain, Task
from core.verifiers.math import symbolic, verifier

PAIRS = Path(verifier.__file__).parents[1] / "cases" / "math_pairs.jsonl"
PASSES = 3
KEPT_WARM = ("_registry", "_of_pint")

Pair = tuple[str, str, bool]
Judge = Callable[[str, str], bool]


def measure(ids: Sequence[str]) -> list[Figure]:
    """Three passes with warm workers and pint, and with all that the host has remembered of the pairs forgotten before each."""
    pairs = read_pairs()
    ours("x + 1", "1 + x")
    ours("1 m", "100 cm")
    passes = [_judged(pairs, ours) for _ in range(PASSES)]
    others = {name: _counted(pairs, judge) for name, judge in RIVALS.items()}
    right, wrong = ([count(pairs, found) for found, _ in passes] for count in (_share_right, _false_positives))
    times = [[1000 * seconds for seconds in lasted] for _, lasted in passes]
    setup = f"{len(pairs)} judgements, {sum(same for *_, same in pairs)} of them on answers that are the same; {machine()}"
    p50, p95, most = [median(t) for t in times], [quantiles(t, n=20)[-1] for t in times], [max(t) for t in times]
    share = {name: counts[0] for name, counts in others.items()}
    false = {name: counts[1] for name, counts in others.items()}
    one = ids[0]
    return [
        figure(one, "equivalence pairs judged right", right, "%", "at least 95", min(right) >= 95, share, setup),
        figure(one, "equivalence, false positives", wrong, "pairs", "0", max(wrong) == 0, false, setup),
        figure(one, "equivalence, p50", p50, "ms", "2", max(p50) <= 2, {}, setup),
        figure(one, "equivalence, p95", p95, "ms", "30", max(p95) <= 30, {}, setup),
        figure(one, "equivalence, slowest", most, "ms", "1000", max(most) <= 1000, {}, setup),
    ]


def read_pairs() -> list[Pair]:
    """Each line in both orders; a pair that is the same one way only is not the same the other way round."""
    pairs: list[Pair] = []
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        one_way = row.get("note", "").startswith("one way")
        pairs.append((row["reference"], row["answer"], row["same"]))
        pairs.append((row["answer"], row["reference"], row["same"] and not one_way))
    return pairs


def ours(reference: str, answer: str) -> bool:
    return verifier.verify(Task("What is it?", Domain.MATH, reference), f"Answer: {answer}").passed


def boxed(reference: str, answer: str) -> bool:
    return _math_verify(f"\\boxed{{{reference}}}", f"\\boxed{{{answer}}}")


def bare(reference: str, answer: str) -> bool:
    return _math_verify(reference, answer)


def last_number(reference: str, answer: str) -> bool:
    found = [re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", "")) for text in (reference, answer)]
    return bool(found[0] and found[1]) and float(found[0][-1]) == float(found[1][-1])


RIVALS: dict[str, Judge] = {"Math-Verify boxed": boxed, "Math-Verify bare": bare, "last number": last_number}


def _math_verify(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return bool(verify(parse(reference, parsing_timeout=5), parse(answer, parsing_timeout=5), timeout_seconds=5))


def _judged(pairs: Sequence[Pair], judge: Judge) -> tuple[list[bool], list[float]]:
    _forget()
    found, lasted = [], []
    for reference, answer, _ in pairs:
        started = time.perf_counter()
        found.append(judge(reference, answer))
        lasted.append(time.perf_counter() - started)
    return found, lasted


def _counted(pairs: Sequence[Pair], judge: Judge) -> tuple[float, int]:
    found, _ = _judged(pairs, judge)
    return _share_right(pairs, found), _false_positives(pairs, found)


def _share_right(pairs: Sequence[Pair], found: Sequence[bool]) -> float:
    return round(100 * sum(passed == same for passed, (*_, same) in zip(found, pairs, strict=True)) / len(pairs), 2)


def _false_positives(pairs: Sequence[Pair], found: Sequence[bool]) -> int:
    return sum(passed and not same for passed, (*_, same) in zip(found, pairs, strict=True))


def _forget() -> None:
    """Empty every cache of the verifier, so that no pass profits from the one before."""
    modules = [module for name, module in sys.modules.items() if name.startswith("core.verifiers.")]
    for function in (value for module in modules for name, value in vars(module).items() if name not in KEPT_WARM):
        clear = getattr(function, "cache_clear", None)
        if clear is not None:
            clear()


if __name__ == "__main__":
    for row in measure(["V1"]):
        print(row)
    symbolic.close()
