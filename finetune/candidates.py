"""The first half of a build: attempts stream by, each falls at a named filter or becomes a candidate of its task, on disk."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from core.types import Evidence, Outcome, Record
from finetune.funnel import Tally
from finetune.heldout import ALIKE, HELD_OUT, QUOTED, SAME, HeldOut
from finetune.likeness import loosened
from finetune.mixing import draw
from finetune.plan import Plan
from finetune.rules import Attempt, bad_rules, common_rules, first_broken, good_rules
from finetune.spool import Spool

SAID_BEFORE, CONTRADICTED, SOLVED, NEVER = "said before", "same words, other verdict", "always solved", "never solved"
TOKENS, COPY, UNCONFIRMED, ALONE = "more tokens than allowed", "nearly said before", "not confirmed on re-check", "without a partner"
SHARE, LIMIT, NEITHER = "over its domain's share", "over the limit", "neither good nor bad"
AGAINST, REWRITTEN = "people are against it", "rewritten by a person"
HELD = 32  # candidates of a task and kind that are kept for the second half
LEAKS = (HELD_OUT, SAME, ALIKE, QUOTED)
KINDS_OF_LEAK = {kind: number for number, kind in enumerate(LEAKS, 2)}


@dataclass(frozen=True, slots=True)
class Group(Record):
    """The candidates of one task: places in the spool, in the order of their draw. `pass_rate` is None where nothing was judged."""

    task_id: str
    domain: str
    good: tuple[int, ...]
    bad: tuple[int, ...]
    passed: int
    failed: int

    @property
    def pass_rate(self) -> float | None:
        """Of its different answers."""
        judged = self.passed + self.failed
        return self.passed / judged if judged else None


class Candidates:
    """Takes attempts one by one. Memory grows with tasks and candidates by some hundred bytes each, never with what they say."""

    def __init__(self, plan: Plan, fence: HeldOut, spool: Spool, thumbs: Mapping[str, bool], edits: Mapping[str, str]) -> None:
        self.plan, self.spool = plan, spool
        self._fence, self._thumbs, self._edits = fence, thumbs, edits
        common, good, self._bad = common_rules(plan.rules), good_rules(plan.rules), bad_rules(plan.rules)
        self._only_good = plan.kind == "sft"
        self._good = good
        self._before, self._after = common[:3], common[3:]
        judged = [*(name for name, _ in good), AGAINST, REWRITTEN] if self._only_good else [NEITHER, AGAINST]
        judged = [] if plan.kind == "prompts" else judged
        self.crowded = f"more than {plan.per_task} of a task"
        ends = {
            "sft": (CONTRADICTED, SOLVED, TOKENS, COPY, UNCONFIRMED, self.crowded),
            "kto": (CONTRADICTED, TOKENS, COPY, UNCONFIRMED, self.crowded),
            "dpo": (CONTRADICTED, TOKENS, UNCONFIRMED, self.crowded, ALONE),
            "prompts": (SOLVED, NEVER, TOKENS),
        }[plan.kind]
        names = [*(n for n, _ in self._before), *judged, *(n for n, _ in self._after), *LEAKS[1:], SAID_BEFORE, *ends, SHARE, LIMIT]
        self.tally = Tally(names)
        self._numbers: dict[str, int] = {}
        self._domains: list[str] = []
        self._passed, self._failed, self._leak, self._asked = array("I"), array("I"), array("B"), array("q")
        self._held: dict[int, list[tuple[float, int]]] = {}
        self._last = ("", "")
        self._said: set[int] = set()
        self._said_wrong: set[int] = set()
        self._said_right: set[int] = set()
        self._two_faced: set[int] | None = None  # known when all have been taken

    def take(self, attempt: Attempt, extra: Callable[[], Mapping[str, Any]]) -> None:
        """One attempt; `extra` gives what else of it the second half needs."""
        if self._edits and self.plan.kind in ("sft", "dpo") and self._rewritten(attempt):
            gold = attempt._replace(
                text=self._edits[attempt.id], outcome=Outcome.PASS, evidence=Evidence.REFERENCE, score=1.0, reward=1.0, complete=True
            )
            self._take(gold, extra, attempt.text if attempt.complete else "")  # what was cut off is never the worse one of a pair
        self._take(attempt, extra, None)

    def groups(self) -> Iterator[Group]:
        """The candidates by task, in the order in which tasks first came."""
        for task_id, number in self._numbers.items():
            good, bad = (tuple(place for _, place in sorted(self._held.get(2 * number + side, ()), reverse=True)) for side in (0, 1))
            if good or bad:
                yield Group(task_id, self._domains[number], good, bad, self._passed[number], self._failed[number])

    def contradicted(self, values: Mapping[str, Any]) -> bool:
        """Whether the same words to the same prompt had another verdict elsewhere."""
        if self._two_faced is None:
            self._two_faced = self._said_wrong & self._said_right
        return bool(self._two_faced) and _key(self._loose(values["query"]), values["loose"]) in self._two_faced

    def _take(self, attempt: Attempt, extra: Callable[[], Mapping[str, Any]], edited: str | None) -> None:
        self.tally.came += 1
        fell = first_broken(attempt, self._before)
        if fell is None:
            number = self._number(attempt)
            text = loosened(attempt.text)
            key = _key(self._loose(attempt.query), text)
            fresh = key not in self._said
            label, fell = self._judged(attempt, edited is not None)
            if edited is None:
                self._count(attempt, number, key)
            fell = fell or first_broken(attempt, self._after) or self._leaked(attempt, number, text)
            if fell is None and not fresh:
                fell = SAID_BEFORE
            if fell is None:
                self._said.add(key)
                self._hold(attempt, extra, number, text, label, edited)
        if fell is not None:
            self.tally.drop(fell, attempt.id, attempt.text)

    def _rewritten(self, attempt: Attempt) -> bool:
        edit = self._edits.get(attempt.id)
        return edit is not None and edit.split() != attempt.text.split()

    def _judged(self, attempt: Attempt, edited: bool) -> tuple[bool, str | None]:
        """(whether it is good, the filter it falls at). A thumb decides where no check did; one against a check takes both away."""
        if edited or self.plan.kind == "prompts":
            return True, None
        broken, thumb = first_broken(attempt, self._good), self._thumbs.get(attempt.id)
        if self._only_good:
            return True, broken or (AGAINST if thumb is False else REWRITTEN if self._edits and self._rewritten(attempt) else None)
        if broken is None:
            return True, AGAINST if thumb is False else None
        if first_broken(attempt, self._bad) is None:
            return False, AGAINST if thumb is True else None
        if thumb is not None and self.plan.kind == "kto" and attempt.outcome in (Outcome.ABSTAIN, Outcome.ERROR):
            return thumb, None
        return False, NEITHER

    def _count(self, attempt: Attempt, number: int, key: int) -> None:
        """Verdicts by task, each text once, so that copies don't make a task look solved."""
        right = attempt.outcome == Outcome.PASS
        if not right and attempt.outcome != Outcome.FAIL:
            return
        said = self._said_right if right else self._said_wrong
        if key not in said:
            said.add(key)
            (self._passed if right else self._failed)[number] += 1

    def _loose(self, query: str) -> str:
        """Attempts at one question come one after the other."""
        if self._last[0] != query:
            self._last = (query, loosened(query))
        return self._last[1]

    def _number(self, attempt: Attempt) -> int:
        number = self._numbers.get(attempt.task_id)
        if number is None:
            number = self._numbers[attempt.task_id] = len(self._numbers)
            self._domains.append(attempt.domain)
            for numbers in (self._passed, self._failed, self._leak, self._asked):
                numbers.append(0)
        return number

    def _leaked(self, attempt: Attempt, number: int, text: str) -> str | None:
        asked = hash(attempt.query)
        if not self._leak[number] or self._asked[number] != asked:
            leak = self._fence.leak_of(attempt.asked)
            self._leak[number] = KINDS_OF_LEAK[leak.kind] if leak else 1
            self._asked[number] = asked
        if self._leak[number] > 1:
            return LEAKS[self._leak[number] - 2]
        return QUOTED if self._fence.quoted_in(text) else None

    def _hold(
        self, attempt: Attempt, extra: Callable[[], Mapping[str, Any]], number: int, loose: str, good: bool, edited: str | None
    ) -> None:
        values = {
            "id": attempt.id,
            "task_id": attempt.task_id,
            "domain": attempt.domain,
            "directive": attempt.directive,
            "query": attempt.query,
            "text": attempt.text,
            "loose": loose,
            "reward": attempt.reward,
            "edited": edited,
            "by_thumb": attempt.outcome in (Outcome.ABSTAIN, Outcome.ERROR),
            **extra(),
        }
        place = self.spool.put(values)
        held = self._held.setdefault(2 * number + (not good), [])
        drawn = 0.0 if edited is not None else draw(self.plan.seed, attempt.id)  # what a person wrote comes first
        if self.plan.kind == "prompts":
            most, name = 1, SAID_BEFORE
        else:
            most, name = max(HELD, self.plan.per_task), self.crowded
        if len(held) < most:
            heapq.heappush(held, (-drawn, place))
        else:
            _, out = heapq.heappushpop(held, (-drawn, place))
            gone = self.spool.get(out) if self.tally.wants(name) else values
            self.tally.drop(name, gone["id"], gone["text"])


def _key(query: str, text: str) -> int:
    """Of loosened texts."""
    return int.from_bytes(blake2b(f"{query}\0{text}".encode(), digest_size=8).digest(), "big")
