"""From scored answers to preference pairs: one task, one rendered prompt, rewards far enough apart; and an account when there are none."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import TrainingError
from core.types import Domain, Record, Split, Task
from finetune.pairs import Answer, PairRules, match
from finetune.rlconfig import RLConfig
from finetune.rows import Pair
from finetune.rules import CONTROL, HIDDEN

SHORT = 80  # characters up to which the length of an answer says nothing about it

UNANSWERED, UNKNOWN, CUT_OFF, EMPTY, CONTROLS, HELD_OUT = (
    "not answered",
    "reward unknown",
    "cut off at max_tokens",
    "empty",
    "holds control tokens",
    "task held out",
)
SINGLE, SAME, ALIKE, CLOSE, LENGTHS = (
    "a single usable answer",
    "the same text every time",
    "rewards all alike",
    "rewards less than {gap:g} apart",
    "no two of like length",
)


@dataclass(frozen=True, slots=True)
class Pairing(Record):
    """Pairs, and why the other traces and prompts gave none."""

    pairs: tuple[Pair, ...]
    traces: int
    prompts: int
    dropped: Mapping[str, int]
    barren: Mapping[str, int]

    def __str__(self) -> str:
        return f"{len(self.pairs)} pairs from {self.traces} traces{_listed(self.dropped)}; {self.prompts} prompts{_listed(self.barren)}"


def pair_traces(traces: Iterable[Mapping[str, Any] | Record], config: RLConfig) -> Pairing:
    """Pairs within each prompt: the same task, question and directive. Raises TrainingError when there are none, with the account.

    A trace has prompt (or query), final_output and reward; directive, id, task_id, complete, split and error where they are known.
    """
    groups: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    dropped: Counter[str] = Counter()
    barren: Counter[str] = Counter()
    count = 0
    for count, trace in enumerate(traces, 1):
        key, answer, fell = _read(trace, count)
        if fell:
            dropped[fell] += 1
        else:
            groups[key].append(answer)
    pairs: list[Pair] = []
    rng, left = random.Random(config.seed), Counter({task_id: config.pairs_per_task for task_id, _, _ in groups})
    for (task_id, prompt, directive), answers in groups.items():
        found, why = _matched(answers, config, left[task_id], rng)
        left[task_id] -= len(found)
        pairs += [Pair(directive, prompt, a.text, b.text, task_id, a.id, b.id) for a, b in found]
        if why:
            barren[why] += 1
    made = Pairing(tuple(pairs), count, len(groups), dropped, barren)
    if not pairs:
        raise TrainingError(_nothing(made, config))
    return made


def _read(trace: Mapping[str, Any] | Record, number: int) -> tuple[tuple[str, str, str], Answer, str | None]:
    prompt = trace.get("prompt") or trace.get("query")
    text, reward = trace.get("final_output"), trace.get("reward")
    if not isinstance(prompt, str) or not isinstance(text, str):
        raise TrainingError(f"trace {number} has no prompt or no final_output: take the traces that collect_traces returns")
    if reward is not None and (isinstance(reward, str) or not math.isfinite(reward)):
        reward = None
    task = trace.get("task")
    task_id = trace.get("task_id") or (task.id if isinstance(task, Task) else Task(prompt, Domain.ANALYSIS).id)
    answer = Answer(str(trace.get("id") or number), text, 0.0 if reward is None else float(reward))
    return (str(task_id), prompt, str(trace.get("directive") or "")), answer, _unfit(trace, text, reward)


def _unfit(trace: Mapping[str, Any] | Record, text: str, reward: float | None) -> str | None:
    if trace.get("error") is not None:
        return UNANSWERED
    if str(trace.get("split") or Split.TRAIN) != Split.TRAIN:
        return HELD_OUT
    if reward is None:
        return UNKNOWN
    if trace.get("complete", True) is False:
        return CUT_OFF
    if not text.strip():
        return EMPTY
    return CONTROLS if CONTROL.search(text) or HIDDEN.search(text) else None


def _matched(answers: list[Answer], config: RLConfig, most: int, rng: random.Random) -> tuple[list[tuple[Answer, Answer]], str | None]:
    """Pairs of one prompt, or why there are none."""
    rewards = [answer.reward for answer in answers]
    if len(answers) == 1:
        return [], SINGLE
    if len({" ".join(answer.text.split()) for answer in answers}) == 1:
        return [], SAME
    if min(rewards) == max(rewards):
        return [], ALIKE
    if max(rewards) - min(rewards) < config.min_reward_gap:
        return [], CLOSE.format(gap=config.min_reward_gap)
    all_short = all(len(answer.text) <= SHORT for answer in answers)
    rules = PairRules(config.min_reward_gap, math.inf if all_short else config.length_ratio, max(most, 0))
    best, worst = sorted(answers, key=lambda a: -a.reward), sorted(answers, key=lambda a: a.reward)
    found = match(best, worst, rules, rng)
    return found, None if found or most <= 0 else LENGTHS


def _listed(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f" ({told})" if told else ""


def _nothing(made: Pairing, config: RLConfig) -> str:
    if not made.traces:
        return "there are no traces to make pairs of: collect some first"
    advice = []
    if made.dropped.get(UNKNOWN):
        advice.append("look at reward_error in the traces")
    if made.dropped.get(CUT_OFF):
        advice.append(f"raise max_tokens={config.max_tokens}")
    if made.barren.get(SINGLE):
        advice.append(f"raise max_iterations={config.max_iterations}, the answers an agent gives to a task")
    if made.barren.get(SAME):
        advice.append(f"raise temperature={config.temperature:g}")
    if made.barren.get(ALIKE):
        advice.append("take tasks that are sometimes solved, or a reward_fn that tells answers apart")
    if made.barren.get(CLOSE.format(gap=config.min_reward_gap)):
        advice.append(f"lower min_reward_gap={config.min_reward_gap:g}")
    if made.barren.get(LENGTHS):
        advice.append(f"raise length_ratio={config.length_ratio:g}")
    if made.dropped.get(HELD_OUT):
        advice.append("take tasks of the training side")
    return f"no preference pair can be made: {made}. To get some: {'; '.join(advice) or 'collect other answers'}"
