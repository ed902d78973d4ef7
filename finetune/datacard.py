"""What a person should see before any compute is spent: the funnel, how long and how many, and exactly what is trained of three rows."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import TrainingError
from finetune.funnel import Funnel
from finetune.mixing import draw
from finetune.tokens import Trained, trained

SHOWN_ROWS = 3
WRITTEN = {"sft": ("completion",), "dpo": ("chosen", "rejected"), "steps": ("chosen", "rejected"), "kto": ("completion",), "prompts": ()}


class Facts:
    """Sees the rows of a dataset go by and keeps counts, lengths and three of them, which the seed chooses."""

    def __init__(self, kind: str, held_out: int, tokenizer: Any = None, seed: int = 0, said: Mapping[str, int] | None = None) -> None:
        """`said` counts what people said of the traces."""
        self._kind, self._held_out, self._tokenizer, self._seed, self._said = kind, held_out, tokenizer, seed, dict(said or {})
        self._domains: Counter[str] = Counter()
        self._labels: Counter[bool] = Counter()
        self._tasks: set[str] = set()
        self._traces: set[str] = set()
        self._characters, self._tokens = array("q"), array("q")
        self._trained = self._unstopped = self._count = 0
        self._shown: list[tuple[float, int, Mapping[str, Any]]] = []

    def see(self, values: Mapping[str, Any]) -> None:
        """One row, as it stands in the file."""
        self._domains[values["domain"]] += 1
        self._tasks.add(values["task_id"])
        self._traces.update(values[name] for name in ("trace_id", "chosen_id", "rejected_id") if name in values)
        if "label" in values:
            self._labels[values["label"]] += 1
        for name in WRITTEN[self._kind]:
            self._characters.append(len(values[name]))
            if self._tokenizer is not None:
                self._measure(trained(self._tokenizer, values["directive"], values["prompt"], values[name]))
        entry = (-draw(self._seed, f"shown {self._count}"), self._count, values)
        (heapq.heappush if len(self._shown) < SHOWN_ROWS else heapq.heappushpop)(self._shown, entry)
        self._count += 1

    def plain(self) -> dict[str, Any]:
        """All of it as JSON. Raises TrainingError when the end of a turn is not trained: such a worker would not stop."""
        if self._unstopped:
            raise TrainingError(
                f"in {self._unstopped} of {len(self._tokens)} answers the token that ends a turn is not trained: fix the chat template"
            )
        facts: dict[str, Any] = {
            "tasks": len(self._tasks),
            "traces": len(self._traces),
            "held_out_tasks": self._held_out,
            "domains": dict(sorted(self._domains.items())),
            "characters": quantiles(self._characters),
        }
        if self._said:
            facts["said"] = self._said
        if self._labels:
            facts["labels"] = {"wanted": self._labels[True], "unwanted": self._labels[False]}
        if self._tokenizer is not None:
            facts["tokens"] = {**quantiles(self._tokens), "all": sum(self._tokens), "trained": self._trained}
            facts["stop_token_trained"] = bool(self._tokens)
        facts["shown"] = [self._sample(values) for _, _, values in sorted(self._shown, key=lambda each: each[1])]
        return facts

    def _measure(self, found: Trained) -> None:
        self._tokens.append(found.tokens)
        self._trained += found.trained_tokens
        self._unstopped += not found.stops

    def _sample(self, values: Mapping[str, Any]) -> dict[str, Any]:
        sample = {"task_id": values["task_id"], "domain": values["domain"], "prompt": values["prompt"]}
        for name in WRITTEN[self._kind]:
            sample[name] = values[name]
            if self._tokenizer is not None:
                found = trained(self._tokenizer, values["directive"], values["prompt"], values[name])
                sample[f"{name}_not_trained"], sample[f"{name}_trained"] = found.prompt, found.trained
        return sample


def quantiles(numbers: Sequence[int]) -> dict[str, int]:
    """Least, middle, 95 of 100, greatest; all 0 when there are none."""
    ordered = sorted(numbers) or [0]
    places = {"least": 0, "median": len(ordered) // 2, "p95": int(0.95 * len(ordered)), "greatest": len(ordered) - 1}
    return {name: ordered[min(place, len(ordered) - 1)] for name, place in places.items()}


def page(kind: str, rows: int, sha256: str, funnel: Funnel, facts: Mapping[str, Any]) -> str:
    """The card as a page of text."""
    lines = [
        f"{rows} rows of kind {kind}, of {facts['tasks']} tasks and {facts['traces']} traces",
        f"sha256 {sha256}",
        "",
        funnel.told(),
        "",
    ]
    domains = ", ".join(f"{name} {count}" for name, count in facts["domains"].items())
    lines.append(f"domains: {domains}")
    lines.append(f"held-out tasks that every row was compared with: {facts['held_out_tasks']}")
    if "said" in facts:
        lines.append(f"said by people: {', '.join(f'{name} {count}' for name, count in facts['said'].items())}")
    if "labels" in facts:
        lines.append(f"labels: {facts['labels']['wanted']} wanted, {facts['labels']['unwanted']} unwanted")
    lines.append(f"characters of an answer: {_told(facts['characters'])}")
    if "tokens" in facts:
        tokens = facts["tokens"]
        lines.append(f"tokens of a row: {_told(tokens)}; {tokens['all']} in all, {tokens['trained']} of them trained")
        if tokens["all"]:
            lines.append("the token that ends a turn is trained in every answer")
    for number, sample in enumerate(facts["shown"], 1):
        lines += ["", f"--- row {number} of {len(facts['shown'])}, drawn at random: task {sample['task_id']}, {sample['domain']}"]
        for name in WRITTEN[kind] or ("prompt",):
            if f"{name}_trained" in sample:
                lines += [f"[not trained] {sample[f'{name}_not_trained']!r}", f"[trained: {name}] {sample[f'{name}_trained']!r}"]
            else:
                lines += [f"[prompt] {sample['prompt']!r}"] + ([f"[{name}] {sample[name]!r}"] if name != "prompt" else [])
    return "\n".join(lines) + "\n"


def _told(found: Mapping[str, int]) -> str:
    return f"least {found['least']}, median {found['median']}, 95 % up to {found['p95']}, greatest {found['greatest']}"
