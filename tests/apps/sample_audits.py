"""A sound and a careless verifier as a user would write them, cases for both, and a run whose verdict was wrong."""

from __future__ import annotations

from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Task, Trace, Usage, Verdict

EXACT = """
from core.answers import final_answer
from core.types import Evidence
from core.verifiers.base import failed, passed, verifier


@verifier("exact", "1")
def exact(task, text):
    if final_answer(text) == task.reference:
        return passed("word for word", Evidence.REFERENCE)
    return failed("other words", Evidence.REFERENCE)
"""

CARELESS = """

@verifier("careless", "1")
def careless(task, text):
    if task.reference in text:
        return passed("the right words are in it", Evidence.REFERENCE)
    return failed("other words", Evidence.REFERENCE)
"""

HONEST_CASES = [
    {"kind": "gold", "prompt": "What is 6*7?", "reference": "42", "text": "Answer: 42", "expect": ["pass"]},
    {"kind": "near-miss", "prompt": "What is 6*7?", "reference": "42", "text": "Answer: 41", "expect": ["fail"]},
]


def run_with_a_false_pass() -> Run:
    task = Task("Solve 6*7", Domain.MATH, reference="42", key="math:6*7")
    verdict = Verdict(Outcome.PASS, 1.0, "an older verifier took it", Evidence.REFERENCE, "math", "0")
    trace = Trace("t1", "r1", task, "math", "Solve.", "embedded", "f", "Answer: 41", "41", ("Answer: 41",), verdict, 1.0, usage=Usage(1))
    nodes = (NodeRecord("", "", 1, 1.0, False), NodeRecord("0", "Answer: 41", 1, 1.0, True, Outcome.PASS))
    return Run("r1", task, "math", "embedded", "f", "lats", 0, 1.0, nodes, (trace,), Usage(1), 0.1, 1.0)
