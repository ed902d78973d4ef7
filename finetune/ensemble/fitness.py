"""What a genome is worth on test cases: right answers first; between as many of them, speed and the share of the fast path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.answers import MARKER, final_answer, plain
from core.errors import TaskError
from core.types import Domain, Record, Task
from core.verifiers import Verifier, verify
from core.verifiers.math.equivalence import spelled
from core.verifiers.math.quantity import value_of
from finetune.ensemble.answers import Lately
from finetune.ensemble.genes import Genome
from finetune.ensemble.voting import equivalent

ALMOST = 0.999  # a tie is worth less than a right answer
TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:/\d+)?")
NEGATIONS = frozenset(("not", "no", "never", "nor", "isn", "wasn", "aren", "neither"))
REACH = 3  # words before an answer that can deny it

Case = Mapping[str, Any] | Task


class Routes(Protocol):
    """What is needed of a router."""

    def route_query(self, query: str, genome: Genome) -> Mapping[str, Any]:
        """A result with `response`, `used_fast_path` and `model_seconds`."""
        ...


@dataclass(frozen=True, slots=True)
class Score(Record):
    """How many answers were right, of how many; the mean seconds that models took, and the share that the fast path answered."""

    right: int
    n: int
    seconds: float
    fast: float

    @property
    def fitness(self) -> float:
        """In [0, 1]: one right answer more always weighs more than all the speed there is."""
        tie = (1 / (1 + max(self.seconds, 0.0)) + self.fast) / 2
        return (self.right + ALMOST * tie) / (self.n + 1)


def evaluate_model_genome(genome: Genome, test_cases: Sequence[Case], router: Routes) -> float:
    """Fitness in [0, 1]. A test case is a Task, or `{"query": ..., "ground_truth": ...}` and, if wanted, its `domain`.

    With a domain its verifier judges the answer, otherwise see `is_right`. Raises TaskError for cases that can't be used.
    """
    return score(genome, test_cases, router).fitness


def score(genome: Genome, test_cases: Sequence[Case], router: Routes, *, verifier: Verifier = verify) -> Score:
    """The parts of the fitness."""
    cases = [_case(case) for case in test_cases]
    if not cases:
        raise TaskError('there are no test cases: give one or more, such as {"query": "What is 2+2?", "ground_truth": "4"}')
    queries = [case.prompt if isinstance(case, Task) else case[0] for case in cases]
    many = getattr(router, "route_many", None)
    routed = many(queries, genome) if many else [router.route_query(query, genome) for query in queries]
    right = sum(_judged(case, str(each["response"]), verifier) for case, each in zip(cases, routed, strict=True))
    seconds = sum(each.get("model_seconds", each.get("seconds", 0.0)) for each in routed) / len(routed)
    return Score(right, len(cases), seconds, sum(bool(each["used_fast_path"]) for each in routed) / len(routed))


def is_right(response: str, ground_truth: str) -> bool:
    """Whether a response gives an answer that is known.

    Its final answer means the same, by the verifiers' equivalence. A number that no marker announces is the last of the text. Other
    answers, such as the beginning of a program, must stand in the text as whole words: "def hello" in "def hello_world():", but not "4"
    in "14", and nothing that is denied.
    """
    answer = final_answer(response)
    if answer is not None and equivalent(ground_truth, answer):
        return True
    markers = list(MARKER.finditer(response))
    if value_of(spelled(ground_truth)) is not None:
        numbers = NUMBER.findall(plain(response))
        return not markers and bool(numbers) and equivalent(ground_truth, numbers[-1])
    stated = response[markers[-1].end() :] if markers else response
    return _states(TOKEN.findall(stated.casefold()), TOKEN.findall(ground_truth.casefold()))


_verdicts: Lately[tuple[bool]] = Lately(10_000)


def _case(case: Case) -> Task | tuple[str, str]:
    if isinstance(case, Task):
        return case
    try:
        query, truth, domain = case["query"], case["ground_truth"], case.get("domain")
    except (KeyError, TypeError, AttributeError) as error:
        raise TaskError(f'{case!r} is no test case: write {{"query": "What is 2+2?", "ground_truth": "4"}}') from error
    if not isinstance(query, str) or not query.strip() or not str(truth).strip():
        raise TaskError(f"{case!r} is no test case: query is a text, and neither it nor ground_truth is empty")
    if domain is None:
        return query, str(truth).strip()
    if domain not in list(Domain):
        raise TaskError(f"{case!r}: there is no domain {domain!r}: choose one of {', '.join(Domain)}, or leave it out")
    return Task(query, Domain(domain), str(truth))


def _judged(case: Task | tuple[str, str], response: str, verifier: Verifier) -> bool:
    """Judged once for many genomes that give the same response."""
    key = (verifier, repr(case), response)
    known = _verdicts.get(key)
    if known is None:
        known = (verifier(case, response).passed if isinstance(case, Task) else is_right(response, case[1]),)
        _verdicts.put(key, known)
    return known[0]


def _states(text: list[str], wanted: list[str]) -> bool:
    """Whether the words stand in the text one right after the other, and no denial right before them."""
    count = len(wanted)
    for place in range(len(text) - count + 1 if wanted else 0):
        if text[place : place + count] == wanted and not NEGATIONS.intersection(text[max(0, place - REACH) : place]):
            return True
    return False
