"""Step pairs of a whole store, run by run, with an account of every trace that stands in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from core.types import Run
from finetune.candidates import ALONE, LEAKS, LIMIT, NEITHER, SHARE, TOKENS
from finetune.data import leak_of
from finetune.funnel import Tally
from finetune.heldout import HeldOut, Leak
from finetune.pairs import pairs_of_tree, path_texts
from finetune.plan import Plan
from finetune.rows import Pair
from finetune.rules import attempt_of, bad_rules, common_rules, first_broken, good_rules
from logs.place import Place
from logs.reading import read_runs

OFF_TREE = "not what its tree says"
Count = Callable[[str, str, str], int]


def step_portions(
    where: str | Path | Place, plan: Plan, fence: HeldOut, count: Count | None, on_trace: Callable[[], None]
) -> tuple[Tally, list[tuple[str, str, tuple[Pair, ...], tuple[str, ...]]]]:
    """(the account, for each task: id, domain, pairs, traces in them), tasks in the order in which they first came."""
    return gather(read_runs(where), plan, fence, count, on_trace)


def gather(
    runs: Iterable[Run], plan: Plan, fence: HeldOut, count: Count | None = None, on_trace: Callable[[], None] = lambda: None
) -> tuple[Tally, list[tuple[str, str, tuple[Pair, ...], tuple[str, ...]]]]:
    """The same, of runs."""
    common, good, bad = common_rules(plan.rules), good_rules(plan.rules), bad_rules(plan.rules)
    full = f"more than {plan.pairs.per_task} of a task"
    tally = Tally([*(name for name, _ in common), *LEAKS[1:], NEITHER, OFF_TREE, TOKENS, ALONE, full, SHARE, LIMIT])
    domains: dict[str, str] = {}
    found: dict[str, list[Pair]] = {}
    used: dict[str, list[str]] = {}
    leaks: dict[tuple[str, str], Leak | None] = {}
    for run in runs:
        texts = path_texts(run.nodes)
        pairs = [p for p in pairs_of_tree(run, plan.rules, plan.pairs, fence) if not _too_long(p, plan, count)]
        task_id = run.task.id
        room = plan.pairs.per_task - len(found.get(task_id, ()))
        taken, left = pairs[: max(room, 0)], {i for pair in pairs[max(room, 0) :] for i in pair.trace_ids}
        inside = Counter(i for pair in taken for i in pair.trace_ids)
        if taken:
            domains[task_id] = run.task.domain
            found.setdefault(task_id, []).extend(taken)
        for trace in run.traces:
            on_trace()
            tally.came += 1
            attempt = attempt_of(trace)
            fell = first_broken(attempt, common)
            if fell is None and (leak := leak_of(attempt, fence, leaks)):
                fell = leak.kind
            if fell is None and first_broken(attempt, good) and first_broken(attempt, bad):
                fell = NEITHER
            if fell is None and texts.get(trace.node) != trace.text:
                fell = OFF_TREE
            if fell is None and trace.id not in inside:
                fell = full if trace.id in left else ALONE
            if fell is None:
                used.setdefault(task_id, []).append(trace.id)
            else:
                tally.drop(fell, trace.id, trace.text)
    return tally, [(task_id, domains[task_id], tuple(pairs), tuple(used[task_id])) for task_id, pairs in found.items()]


def _too_long(pair: Pair, plan: Plan, count: Count | None) -> bool:
    if count is None or plan.max_tokens is None:
        return False
    return any(count(pair.directive, pair.prompt, text) > plan.max_tokens for text in pair.written)
