"""The rules a trace must pass before anything is made of it, in their order, each under the name that the funnel shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from core.errors import TrainingError
from core.types import Domain, Evidence, Outcome, Record, Split, Trace
from finetune.heldout import HELD_OUT, Question, question, trainable

INDEPENDENT = (Evidence.REFERENCE, Evidence.EXECUTION, Evidence.RECOMPUTATION, Evidence.PROOF, Evidence.SOURCE)
MAX_CHARACTERS = 32_000
# What chat templates put between turns: in an answer or a question it would be trained as a turn that nobody took.
CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>", re.IGNORECASE
)
# Text that a reader doesn't see: null, reversed direction, the tag block.
HIDDEN = re.compile("[\x00\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")

NOT_INDEPENDENT, FORGED, TOO_LONG, CONTROLS, UNSEEN = (
    "verified by no evidence",
    "verdict does not add up",
    "too long",
    "holds control tokens",
    "holds hidden characters",
)


class Attempt(NamedTuple):
    """What the rules look at in a trace, and no more, so that a million can pass."""

    id: str
    run_id: str
    task_id: str
    domain: str
    split: str
    query: str
    text: str
    directive: str
    outcome: str
    score: float | None
    evidence: str
    reward: float | None
    complete: bool
    model: str
    fingerprint: str | None
    node: str
    asked: Question
    right_side: bool


@dataclass(frozen=True, slots=True)
class Rules(Record):
    """What may be trained on. `evidence` are the kinds that verify independently; `models` are names or fingerprints, empty for all.

    `special` are the control tokens of the tokenizer that will be used, beside those of the known chat templates.
    """

    min_reward: float = 0.7
    domain: str | None = None
    evidence: tuple[str, ...] = INDEPENDENT
    models: tuple[str, ...] = ()
    max_characters: int = MAX_CHARACTERS
    special: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_min_reward(self.min_reward)
        if self.domain is not None and self.domain not in list(Domain):
            raise TrainingError(f"there is no domain {self.domain!r}: choose one of {', '.join(Domain)}, or leave it out for all")
        for kind in self.evidence:
            if kind not in list(Evidence):
                raise TrainingError(f"there is no evidence {kind!r}: choose from {', '.join(Evidence)}")
        if self.max_characters < 1:
            raise TrainingError(f"max_characters is {self.max_characters}: it must be greater than 0")


Rule = tuple[str, Callable[[Attempt], bool]]


def check_min_reward(min_reward: float) -> None:
    """Raises TrainingError unless it is a reward."""
    if not 0 <= min_reward <= 1:
        raise TrainingError(f"min_reward is {min_reward}, but rewards lie between 0 and 1: the default is 0.7")


def attempt_of(trace: Trace) -> Attempt:
    """A trace as the rules see it."""
    verdict, task = trace.verdict, trace.task
    return Attempt(
        trace.id,
        trace.run_id,
        task.id,
        task.domain,
        trace.split,
        task.prompt,
        trace.text,
        trace.directive,
        verdict.outcome,
        verdict.score,
        verdict.evidence,
        trace.reward,
        trace.complete is True,
        trace.model,
        trace.fingerprint,
        trace.node,
        question(task),
        trainable(task, trace.split),
    )


def common_rules(rules: Rules) -> list[Rule]:
    """What holds for good and for bad examples alike."""
    domain, models, longest = rules.domain, frozenset(rules.models), rules.max_characters
    control = _control(rules.special)
    found: list[Rule] = [
        (HELD_OUT, lambda a: a.right_side and a.split == Split.TRAIN),
        ("incomplete", lambda a: a.complete is True and bool(a.text) and not a.text.isspace()),
        (FORGED, adds_up),
        ("other domain", lambda a: domain is None or a.domain == domain),
        (TOO_LONG, lambda a: len(a.text) + len(a.query) + len(a.directive) <= longest),
        (CONTROLS, lambda a: not (control(a.text) or control(a.query))),
        (UNSEEN, lambda a: (a.text.isascii() and "\0" not in a.text) or not HIDDEN.search(a.text)),
    ]
    if models:
        found.insert(4, ("other weights", lambda a: a.model in models or a.fingerprint in models))
    return found


def good_rules(rules: Rules) -> list[Rule]:
    """What an example to follow must have: a PASS on independent evidence, and a known reward above the bar."""
    evidence, least = frozenset(str(e) for e in rules.evidence), rules.min_reward
    return [
        ("not verified", lambda a: a.outcome == Outcome.PASS),
        (NOT_INDEPENDENT, lambda a: a.evidence in evidence),
        ("reward unknown", lambda a: a.reward is not None),
        (f"reward below {least:g}", lambda a: a.reward is not None and a.reward >= least),
    ]


def bad_rules(rules: Rules) -> list[Rule]:
    """What an example to avoid must have: a FAIL that is not only an opinion, and a known reward."""
    del rules
    return [
        ("not judged wrong", lambda a: a.outcome == Outcome.FAIL and a.evidence not in OPINIONS),
        ("reward unknown", lambda a: a.reward is not None),
    ]


def in_order(rules: Rules) -> list[Rule]:
    """All rules of an example to follow, in the order of the funnel: the side, the state, the verdict, the reward, the rest."""
    common = common_rules(rules)
    return [*common[:3], *good_rules(rules), *common[3:]]


def first_broken(attempt: Attempt, rules: Sequence[Rule]) -> str | None:
    """The name of the first rule that an attempt breaks."""
    for name, holds in rules:
        if not holds(attempt):
            return name
    return None


def adds_up(attempt: Attempt) -> bool:
    """Whether the verdict's fields can be of one verdict: numbers in their range, no PASS that scored nothing, nothing half-written."""
    reward, score = attempt.reward, attempt.score
    for number in (reward, score):
        if number is not None and (isinstance(number, bool) or not isinstance(number, NUMBERS) or not 0 <= number <= 1):
            return False
    if attempt.outcome not in OUTCOMES or attempt.evidence not in EVIDENCE:
        return False
    return not (attempt.outcome == Outcome.PASS and score == 0)


NUMBERS = (int, float)
OPINIONS = (Evidence.JUDGE, Evidence.CONSISTENCY)
OUTCOMES, EVIDENCE = frozenset(map(str, Outcome)), frozenset(map(str, Evidence))


def _control(special: Sequence[str]) -> Callable[[str], object]:
    if not special:
        return lambda text: ("<" in text or "[" in text) and CONTROL.search(text)
    known = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
    return lambda text: known.search(text) or CONTROL.search(text)
