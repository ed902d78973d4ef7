"""Step pairs of a whole store, run by run, with an account of every trace that stands in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from core.types import Evidence, Outcome, Run, Task, Trace, Verdict
from finetune.candidates import AGAINST, ALONE, LEAKS, LIMIT, NEITHER, SHARE, TOKENS, UNCONFIRMED
from finetune.data import leak_of
from finetune.funnel import Tally
from finetune.heldout import HeldOut, Leak
from finetune.pairs import pairs_of_tree, path_texts
from finetune.plan import Plan
from finetune.rows import Pair
from finetune.rules import attempt_of, bad_rules, common_rules, first_broken, good_rules
from logs.corrections import Said

OFF_TREE = "not what its tree says"
Count = Callable[[str, str, str], int]
Portion = tuple[str, str, tuple[Pair, ...], tuple[str, ...]]
"""Of a task: id, domain, pairs, traces in them."""


class Steps:
    """Takes runs one after the other and keeps their pairs; `tally` accounts for their traces.

    A last step that a person rewrote makes a pair of the new answer over the old one, and a thumb against a verdict takes the trace away.
    """

    def __init__(
        self,
        plan: Plan,
        fence: HeldOut,
        count: Count | None = None,
        said: Said = Said(),  # noqa: B008
        recheck: Callable[[Task, str], Verdict] | None = None,
    ) -> None:
        self._plan, self._fence, self._count, self._said, self._recheck = plan, fence, count, said, recheck
        self._common, self._good, self._bad = common_rules(plan.rules), good_rules(plan.rules), bad_rules(plan.rules)
        self._full = f"more than {plan.pairs.per_task} of a task"
        names = [*(name for name, _ in self._common), *LEAKS[1:], NEITHER, AGAINST, OFF_TREE, UNCONFIRMED, TOKENS, ALONE, self._full]
        self.tally = Tally([*names, SHARE, LIMIT])
        self._leaks: dict[tuple[str, str], Leak | None] = {}
        self._confirmed: dict[str, bool] = {}

    def gather(self, runs: Iterable[Run], on_trace: Callable[[], None] = lambda: None) -> list[Portion]:
        """What each task gives, tasks in the order in which they first came."""
        domains: dict[str, str] = {}
        found: dict[str, list[Pair]] = {}
        used: dict[str, list[str]] = {}
        for run in runs:
            self._confirmed.clear()
            texts = path_texts(run.nodes)
            pairs = self._pairs(run, texts)
            task_id = run.task.id
            room = self._plan.pairs.per_task - len(found.get(task_id, ()))
            taken, left = pairs[: max(room, 0)], {i for pair in pairs[max(room, 0) :] for i in pair.trace_ids}
            inside = Counter(i for pair in taken for i in pair.trace_ids)
            if taken:
                domains[task_id] = run.task.domain
                found.setdefault(task_id, []).extend(taken)
            for trace in run.traces:
                on_trace()
                self.tally.came += 1
                fell = None if trace.id in inside else self._fell(trace, texts) or (self._full if trace.id in left else ALONE)
                if fell is None:
                    used.setdefault(task_id, []).append(trace.id)
                else:
                    self.tally.drop(fell, trace.id, trace.text)
        return [(task_id, domains[task_id], tuple(pairs), tuple(used[task_id])) for task_id, pairs in found.items()]

    def _pairs(self, run: Run, texts: dict[str, str]) -> list[Pair]:
        """Those of rewritten last steps, then those of siblings. What the re-check does not confirm is left out, the rest paired again."""
        rewritten = [pair for trace in run.traces if (pair := self._rewritten(trace, texts))]
        out = {trace.id for trace in run.traces if self._against(trace)}
        while True:
            pairs = pairs_of_tree(
                run.replace(traces=tuple(t for t in run.traces if t.id not in out)), self._plan.rules, self._plan.pairs, self._fence
            )
            by_id = {trace.id: trace for trace in run.traces}
            wrong = {i for pair in pairs for i in pair.trace_ids if not self._holds(by_id[i])}
            if not wrong:
                return [pair for pair in (*rewritten, *pairs) if not self._too_long(pair)]
            out |= wrong

    def _fell(self, trace: Trace, texts: dict[str, str]) -> str | None:
        """The filter at which a trace that stands in no pair fell, if any kept it out."""
        attempt = attempt_of(trace)
        fell = first_broken(attempt, self._common)
        if fell is None and (leak := leak_of(attempt, self._fence, self._leaks)):
            fell = leak.kind
        if fell is None and first_broken(attempt, self._good) and first_broken(attempt, self._bad):
            fell = NEITHER
        if fell is None and self._against(trace):
            fell = AGAINST
        if fell is None and texts.get(trace.node) != trace.text:
            fell = OFF_TREE
        return fell or (None if self._confirmed.get(trace.id, True) else UNCONFIRMED)

    def _rewritten(self, trace: Trace, texts: dict[str, str]) -> Pair | None:
        """An answer with another last step over what it was, by the rules for any text."""
        text = self._said.endings.get(trace.id)
        if text is None or text.split() == trace.text.split() or texts.get(trace.node) != trace.text:
            return None
        old = attempt_of(trace)
        new = old._replace(text=text, outcome=Outcome.PASS, evidence=Evidence.REFERENCE, score=1.0, reward=1.0)
        if any(first_broken(each, self._common) or leak_of(each, self._fence, self._leaks) for each in (old, new)):
            return None
        if self._recheck and self._recheck(trace.task, text).outcome is Outcome.FAIL:
            return None
        prefix = texts.get(trace.node.rpartition(".")[0], "")
        return Pair(trace.directive, trace.query, text, trace.text, trace.task.id, trace.id, trace.id, prefix)

    def _against(self, trace: Trace) -> bool:
        thumb = self._said.thumbs.get(trace.id)
        return thumb is not None and thumb is not trace.verified

    def _holds(self, trace: Trace) -> bool:
        """Whether today's verifier says of it what its verdict says."""
        if self._recheck is None:
            return True
        if trace.id not in self._confirmed:
            now: Any = self._recheck(trace.task, trace.text)
            same = now.passed and now.evidence in self._plan.rules.evidence if trace.verified else now.outcome is Outcome.FAIL
            self._confirmed[trace.id] = same
        return self._confirmed[trace.id]

    def _too_long(self, pair: Pair) -> bool:
        if self._count is None or self._plan.max_tokens is None:
            return False
        return any(self._count(pair.directive, pair.prompt, text) > self._plan.max_tokens for text in pair.written)
