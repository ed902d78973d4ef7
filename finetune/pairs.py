"""Preferences: for one prompt, a verified answer over a failed one, and a step of a search tree over its sibling."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from core.types import NodeRecord, Outcome, Record, Run, Split, Trace
from finetune.heldout import HeldOut, question
from finetune.likeness import loosened
from finetune.rows import Opinion, Pair
from finetune.rules import Rules, attempt_of, bad_rules, common_rules, first_broken, good_rules

PER_TEXT = 2  # pairs that one text may stand in
OF_A_GROUP = 64  # answers of each kind that are looked at for one prompt: a thousand copies don't make a million pairs


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """What pairing needs to know of a trace."""

    id: str
    text: str
    reward: float


@dataclass(frozen=True, slots=True)
class PairRules(Record):
    """When two answers can be compared: far enough apart in reward (steps: in value, with visits behind it), alike in length."""

    min_gap: float = 0.4
    length_ratio: float = 2.0
    per_task: int = 2
    min_visits: int = 3
    min_value_gap: float = 0.3


def dpo_pairs(
    traces: Iterable[Trace],
    rng: random.Random,
    *,
    min_reward: float = 0.7,
    min_gap: float = 0.4,
    per_task: int = 2,
    length_ratio: float = 2.0,
    held_out: HeldOut | None = None,
) -> list[Pair]:
    """Verified over failed answers of the same task, prompt and directive; lengths alike, so that length is not what is learnt.

    A cut-off answer is never the worse one: it says nothing about its reasoning. Held-out traces among those given, or `held_out`,
    keep out what is like them.
    """
    given = list(traces)
    groups: dict[tuple[str, str, str], tuple[list[Trace], list[Trace]]] = defaultdict(lambda: ([], []))
    for kind, trace in judged(given, Rules(min_reward=min_reward), held_out):
        groups[trace.task.id, trace.query, trace.directive][0 if kind else 1].append(trace)
    pairs: list[Pair] = []
    rules = PairRules(min_gap, length_ratio, per_task)
    left: Counter[str] = Counter()
    for (task_id, query, directive), (good, bad) in groups.items():
        chosen, rejected = [_answer(t) for t in good], [_answer(t) for t in bad]
        matched = match(chosen, rejected, rules, rng)[: max(per_task - left[task_id], 0)]
        left[task_id] += len(matched)
        pairs += [Pair(directive, query, a.text, b.text, task_id, a.id, b.id) for a, b in matched]
    return pairs


def kto_rows(
    traces: Iterable[Trace],
    *,
    min_reward: float = 0.7,
    per_task: int = 4,
    thumbs: dict[str, bool] | None = None,
    held_out: HeldOut | None = None,
) -> list[Opinion]:
    """Answers that are wanted and answers that are not, at most `per_task` of each of a task, each text once.

    `thumbs` are people's opinions by trace id. A thumb decides where no check did; where one did, a thumb against it takes the row out.
    """
    given, thumbs, rules = list(traces), thumbs or {}, Rules(min_reward=min_reward)
    fence = held_out if held_out is not None else held_out_of(given)
    found = {trace.id: (kind, trace) for kind, trace in judged(given, rules, fence)}
    for trace in _passing(given, rules, fence):
        if trace.id in thumbs and trace.verdict.outcome in (Outcome.ABSTAIN, Outcome.ERROR):
            found[trace.id] = (thumbs[trace.id], trace)
    rows: list[Opinion] = []
    counts: Counter[tuple[str, bool]] = Counter()
    said: set[tuple[str, str]] = set()
    for label, trace in found.values():
        key = (trace.task.id, loosened(trace.text))
        if thumbs.get(trace.id, label) != label or key in said or counts[trace.task.id, label] >= per_task:
            continue
        said.add(key)
        counts[trace.task.id, label] += 1
        rows.append(Opinion(trace.directive, trace.query, trace.text, trace.task.id, trace.id, label))
    return rows


def judged(traces: Sequence[Trace], rules: Rules, held_out: HeldOut | None = None) -> Iterator[tuple[bool, Trace]]:
    """(True, an example to follow) and (False, an example to avoid); what is neither is left out."""
    good, bad = good_rules(rules), bad_rules(rules)
    for trace in _passing(traces, rules, held_out):
        attempt = attempt_of(trace)
        if first_broken(attempt, good) is None:
            yield True, trace
        elif first_broken(attempt, bad) is None:
            yield False, trace


def edits_of(traces: Iterable[Trace], edits: dict[str, str], rules: Rules, held_out: HeldOut | None = None) -> list[tuple[Trace, Pair]]:
    """For each trace that a person has rewritten: the rewritten trace as gold, and the pair of it over the original.

    An edit that changes nothing but spaces, or that breaks a rule of the text itself (control tokens, length, held-out), gives nothing.
    """
    found: list[tuple[Trace, Pair]] = []
    for trace in _passing(list(traces), rules, held_out):
        text = edits.get(trace.id)
        if text is None or text.split() == trace.text.split():
            continue
        gold = trace.replace(text=text)
        if first_broken(attempt_of(gold), common_rules(rules)) is None:
            pair = Pair(trace.directive, trace.query, text, trace.text, trace.task.id, trace.id, trace.id)
            found.append((gold, pair))
    return found


def match(good: Sequence[Answer], bad: Sequence[Answer], rules: PairRules, rng: random.Random) -> list[tuple[Answer, Answer]]:
    """Pairs of one prompt in random order: far enough apart, alike in length, no text in more than two of them."""
    good, bad = fewest(good, OF_A_GROUP), fewest(bad, OF_A_GROUP)
    fitting = [(a, b) for a in good for b in bad if _comparable(a, b, rules)]
    used: Counter[str] = Counter()
    found: list[tuple[Answer, Answer]] = []
    for a, b in rng.sample(fitting, len(fitting)):
        if len(found) >= rules.per_task:
            break
        if used[a.text] < PER_TEXT and used[b.text] < PER_TEXT:
            used.update((a.text, b.text))
            found.append((a, b))
    return found


def fewest(answers: Sequence[Answer], most: int) -> list[Answer]:
    """At most so many with different texts, chosen by a hash of their ids, in the order they came."""
    fresh = list({" ".join(answer.text.split()): answer for answer in reversed(answers)}.values())[::-1]
    chosen = {answer.id for answer in sorted(fresh, key=lambda a: blake2b(a.id.encode()).digest())[:most]}
    return [answer for answer in fresh if answer.id in chosen]


def step_pairs(
    runs: Iterable[Run], rules: Rules | None = None, pair_rules: PairRules | None = None, held_out: HeldOut | None = None
) -> Iterator[Pair]:
    """From each tree, a step that led to a verified answer over a sibling that led to failures only (MCTS-DPO, AlphaLLM-CPL).

    Both were visited often enough for their values to mean something. The answers are whole: the steps before are their prefix. A
    trace whose text is not what its path in the tree says is left out: one of the two was changed.
    """
    rules, pair_rules = rules or Rules(), pair_rules or PairRules()
    counts: Counter[str] = Counter()
    for run in runs:
        for pair in pairs_of_tree(run, rules, pair_rules, held_out):
            if counts[pair.task_id] < pair_rules.per_task:
                counts[pair.task_id] += 1
                yield pair


def pairs_of_tree(run: Run, rules: Rules, pair_rules: PairRules, held_out: HeldOut | None = None) -> list[Pair]:
    """All step pairs of one run, the widest gap in value first, each text in no more than two."""
    texts = path_texts(run.nodes)
    named = [t for t in run.traces if t.node and t.task.id == run.task.id and texts.get(t.node) == t.text]
    ends = {trace.node: (kind, trace) for kind, trace in judged(named, rules, held_out)}
    passed = {node.path for node in run.nodes if node.outcome is Outcome.PASS} | {t.node for t in run.traces if t.verified}
    children: dict[str, list[NodeRecord]] = defaultdict(list)
    for node in run.nodes:
        if node.path:
            children[_parent(node.path)].append(node)
    found: list[tuple[float, str, Pair]] = []
    used: Counter[str] = Counter()
    for parent, siblings in sorted(children.items()):
        known = [n for n in siblings if n.visits >= pair_rules.min_visits and math.isfinite(n.value)]
        for better in known:
            for worse in known:
                gap = better.value - worse.value
                if gap < pair_rules.min_value_gap or any(_below(path, worse.path) for path in passed):
                    continue
                pair = _nearest_in_length(texts.get(parent, ""), better.path, worse.path, ends, pair_rules)
                if pair:
                    found.append((-gap, f"{better.path} {worse.path}", pair))
    chosen = []
    for _, _, pair in sorted(found, key=lambda each: each[:2]):
        if used[pair.chosen] < PER_TEXT and used[pair.rejected] < PER_TEXT:
            used.update((pair.chosen, pair.rejected))
            chosen.append(pair)
    return chosen


def _nearest_in_length(prefix: str, better: str, worse: str, ends: dict[str, tuple[bool, Trace]], rules: PairRules) -> Pair | None:
    good = [t for path, (kind, t) in sorted(ends.items()) if kind and _below(path, better)]
    bad = [t for path, (kind, t) in sorted(ends.items()) if not kind and _below(path, worse)]
    start = len(prefix)
    for a, b in sorted(((a, b) for a in good for b in bad), key=lambda ab: (abs(len(ab[0].text) - len(ab[1].text)), ab[0].id, ab[1].id)):
        rest = sorted((len(a.text) - start, len(b.text) - start))
        same_prompt = (a.query, a.directive) == (b.query, b.directive)
        if same_prompt and rest[1] <= rules.length_ratio * rest[0] and a.text.split() != b.text.split():
            return Pair(a.directive, a.query, a.text, b.text, a.task.id, a.id, b.id, prefix)
    return None


def path_texts(nodes: Sequence[NodeRecord]) -> dict[str, str]:
    """The whole text from the root to each node. A node without its parent has none."""
    texts: dict[str, str] = {}
    for node in sorted(nodes, key=lambda n: (n.path.count(".") + bool(n.path), n.path)):
        if not node.path:
            texts[""] = node.text
        elif (before := texts.get(_parent(node.path))) is not None:
            texts[node.path] = before + node.text
    return texts


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _below(path: str, node: str) -> bool:
    return path == node or path.startswith(f"{node}.")


def _comparable(good: Answer, bad: Answer, rules: PairRules) -> bool:
    longer, shorter = max(len(good.text), len(bad.text)), min(len(good.text), len(bad.text))
    return good.reward - bad.reward >= rules.min_gap and good.text.split() != bad.text.split() and longer <= rules.length_ratio * shorter


def _answer(trace: Trace) -> Answer:
    return Answer(trace.id, trace.text, trace.reward or 0.0)


def _passing(traces: Sequence[Trace], rules: Rules, held_out: HeldOut | None) -> Iterator[Trace]:
    """Those that keep the rules that hold for good and bad examples alike, and that leak nothing."""
    fence = held_out if held_out is not None else held_out_of(traces)
    common = common_rules(rules)
    leaks: dict[tuple[str, str], bool] = {}
    for trace in traces:
        attempt = attempt_of(trace)
        if first_broken(attempt, common) is not None:
            continue
        key = (attempt.task_id, attempt.query)
        if key not in leaks:
            leaks[key] = fence.leak_of(attempt.asked) is not None
        if not leaks[key] and fence.quoted_in(loosened(attempt.text)) is None:
            yield trace


def held_out_of(traces: Iterable[Trace]) -> HeldOut:
    """The held-out side as far as these traces show it."""
    return HeldOut(question(trace.task) for trace in traces if trace.split is not Split.TRAIN)
