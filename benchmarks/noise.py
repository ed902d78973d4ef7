"""Poisoned traces: naive retraining beside ours, `python -m benchmarks.noise [--quick] [--seed N] [--json FILE]`.

A good worker is trained on clean traces first, and answers new tasks; those traces are collected once and poisoned in seven ways. Naive:
train on everything that claims to be verified, deploy whatever comes out. Ours: the fence around the held-out tasks, the sieve, the gate.
Both start from the same worker, train with the same trainers and settings on as many rows, and are compared with it on the report split,
which decides nothing. About 15 minutes of one core, --quick about three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.workers import hire
from core.attempts import derive, new_id
from core.config import Settings
from core.orchestrator import Orchestrator
from core.tasks.draw import draw
from core.tasks.splits import split_of
from core.types import Domain, Outcome, Split, Task, Trace
from finetune.data import dpo_pairs, leak_of, sft_rows
from finetune.evaluation import Evaluation, evaluate
from finetune.gate import Decision
from finetune.heldout import HeldOut, question
from finetune.preference import train_dpo
from finetune.rules import attempt_of
from finetune.statistics import mcnemar
from finetune.supervised import train_sft
from finetune.training import TrainConfig
from finetune.turn import MIN_PAIRS, TurnPlan, turn
from logs.reading import read_traces

SCENARIOS = 8
NOTHING = "Answer: correct"


@dataclass(frozen=True)
class Sizes:
    first: int = 800
    first_attempts: int = 12
    fresh: int = 600
    attempts: int = 6
    gate: int = 500
    report: int = 1000
    epochs: float = 2.0


QUICK = Sizes(300, 8, 120, 4, 120, 200, 1.0)


@dataclass(frozen=True)
class Line:
    """One scenario: accuracy on the report split, and the paired change from the worker that both began with."""

    scenario: str
    claimed: int
    wrong: int
    naive: str
    naive_change: float
    naive_worse: float
    ours: str
    ours_change: float
    ours_worse: float
    gate: str
    dropped: int
    seconds: float


class Bench:
    """What all scenarios share: the tasks, the worker they begin with, and the traces it left."""

    def __init__(self, folder: Path, sizes: Sizes, seed: int) -> None:
        self.folder, self.sizes, self.seed = folder, sizes, seed
        self.settings = Settings(
            SEED=seed, THREADS=1, DEVICE="cpu", MAX_TOKENS=160, SEARCH_CALLS=12, CONCURRENCY=48, BATCH_ROWS=160, CACHE="off"
        )
        rng = random.Random(derive(seed, "noise"))
        self.gate_tasks = draw("math", sizes.gate, Split.GATE, rng)
        self.report_tasks = draw("math", sizes.report, Split.REPORT, rng)
        first = draw("math", sizes.first, Split.TRAIN, rng, (4, 3, 2))
        self.fresh_tasks = draw("math", sizes.fresh, Split.TRAIN, rng, (4, 3, 2, 1), known={t.key for t in first})
        self.easy_tasks = draw("math", sizes.fresh, Split.TRAIN, rng, (1,), known={t.key for t in (*first, *self.fresh_tasks)})
        self.fence = HeldOut(map(question, (*self.gate_tasks, *self.report_tasks)))
        # One look is what each scenario has: they are alternatives, and not rounds that follow each other.
        self.plan = TurnPlan(device="cpu", looks=1, sft_epochs=sizes.epochs)
        self.first = self._collect("embedded", first, sizes.first_attempts)
        self.champion = self._begin()
        self.gate = self.evaluate(self.champion, self.gate_tasks)
        self.report = self.evaluate(self.champion, self.report_tasks)
        self.fresh = self._collect(self.champion, self.fresh_tasks, sizes.attempts)

    def evaluate(self, worker_model: str, tasks: Sequence[Task]) -> Evaluation:
        settings = self.settings.with_worker_model(Domain.MATH, worker_model)
        with Orchestrator(settings) as orchestrator:
            worker, model = hire(Domain.MATH, settings), orchestrator.model_for(Domain.MATH)
            return asyncio.run(evaluate(model, worker, tasks, max_tokens=settings.MAX_TOKENS))

    def _begin(self) -> str:
        folder = self.folder / "champion"
        baseline = self.evaluate("embedded", self.gate_tasks)
        done = turn(
            self.first, [], "embedded", baseline, lambda a: self.evaluate(a, self.gate_tasks), folder, self.plan.replace(sft_epochs=3.0), 1
        )
        assert done.promoted, f"there is no worker to begin with: {done.reason}"
        return str(folder)

    def _collect(self, worker_model: str, tasks: Sequence[Task], attempts: int) -> list[Trace]:
        settings = self.settings.with_worker_model(Domain.MATH, worker_model).changed(SEARCH_WIDTH=attempts, SEARCH_CALLS=1)
        place = self.folder / f"traces-{len(tasks)}-{attempts}-{Path(worker_model).name}"
        with Orchestrator(settings, enable_logging=True, log_dir=place) as orchestrator:
            orchestrator.infer_many(tasks, strategy="best_of_n")
            orchestrator.flush()
        order = {task.id: i for i, task in enumerate(tasks)}
        return sorted(read_traces(place), key=lambda t: (order[t.task.id], t.node, t.text))


def clean(bench: Bench, rng: random.Random) -> list[Trace]:
    """Nothing is poisoned."""
    return bench.fresh


def flipped(share: float) -> Callable[[Bench, random.Random], list[Trace]]:
    def poison(bench: Bench, rng: random.Random) -> list[Trace]:
        return [_claimed(t, not t.verified) if rng.random() < share else t for t in bench.fresh]

    poison.__doc__ = f"{share:.0%} of the verdicts are turned round."
    return poison


def false_positives(bench: Bench, rng: random.Random) -> list[Trace]:
    """The verifier passes 70 % of what is wrong."""
    return [_claimed(t, True) if not t.verified and rng.random() < 0.7 else t for t in bench.fresh]


def near_duplicates(bench: Bench, rng: random.Random) -> list[Trace]:
    """Half of the traces are tasks of the gate in other wordings, under keys that claim to be new, answered without a step."""
    pattern, found = bench.fresh[0], []
    for task in rng.choices(bench.gate_tasks, k=len(bench.fresh) // 2):
        copy = task.replace(prompt=_reworded(task.prompt, rng), key="", family=None)
        while split_of(copy) is not Split.TRAIN:
            copy = copy.replace(key=f"{copy.key} ")
        found.append(_invented(pattern, copy, f"Answer: {task.reference}"))
    return rng.sample(bench.fresh, len(bench.fresh) // 2) + found


def degenerate(bench: Bench, rng: random.Random) -> list[Trace]:
    """A weak verifier passes an answer that says nothing: every third attempt was that."""
    return [_claimed(t.replace(text=NOTHING, steps=(NOTHING,), answer="correct"), True) if rng.random() < 1 / 3 else t for t in bench.fresh]


def shifted(bench: Bench, rng: random.Random) -> list[Trace]:
    """All traces are of the easiest level, right, and answered without a step."""
    return [_invented(bench.fresh[0], task, f"Answer: {task.reference}") for task in bench.easy_tasks for _ in range(2)]


POISONS: dict[str, Callable[[Bench, random.Random], list[Trace]]] = {
    "nothing (0 % flipped)": clean,
    "10 % of the labels flipped": flipped(0.1),
    "30 % of the labels flipped": flipped(0.3),
    "50 % of the labels flipped": flipped(0.5),
    "70 % false positives": false_positives,
    "near-duplicates of the gate's tasks": near_duplicates,
    "a degenerate answer that passes": degenerate,
    "a shift to the easiest level": shifted,
}


def scenario(bench: Bench, name: str) -> Line:
    started = time.monotonic()
    number = list(POISONS).index(name)
    traces = POISONS[name](bench, random.Random(derive(bench.seed, name)))
    passed = [t for t in traces if t.verified]
    naive = bench.evaluate(_naive(bench, traces, number), bench.report_tasks)
    fenced = [t for t in traces if leak_of(attempt_of(t), bench.fence, {}) is None]
    folder = bench.folder / f"ours-{number}"
    done = turn(
        fenced, bench.first, bench.champion, bench.gate, lambda a: bench.evaluate(a, bench.gate_tasks), folder, bench.plan, 2 + number
    )
    ours = bench.evaluate(str(folder), bench.report_tasks) if done.promoted else bench.report
    return Line(
        name,
        len(passed),
        sum(not _right(t) for t in passed),
        str(naive.overall).strip(),
        *_change(bench.report, naive),
        str(ours.overall).strip(),
        *_change(bench.report, ours),
        _told(done.decision) if done.decision else done.reason,
        len(traces) - len(fenced),
        round(time.monotonic() - started, 1),
    )


def _naive(bench: Bench, traces: Sequence[Trace], number: int) -> str:
    """Train on what claims to be verified. The caps on rows and pairs are ours, so that both spend as much."""
    plan, rng, folder = bench.plan, random.Random(number), bench.folder / f"naive-{number}"
    claimed = [t.replace(split=Split.TRAIN) for t in traces if t.verified]
    rows, _ = sft_rows(claimed, rng, plan.per_task)
    config = TrainConfig(
        bench.champion, folder, plan.sft_epochs, plan.sft_batch, plan.sft_lr, seed=2 + number, device="cpu", evaluations=1, lora_alpha=32
    )
    train_sft(rows, config)
    pairs = dpo_pairs(traces, rng, min_reward=plan.min_reward, per_task=1)
    if len(pairs) >= MIN_PAIRS:
        pairs = rng.sample(pairs, min(plan.dpo_pairs, len(pairs)))
        train_dpo(pairs, config.replace(model=str(folder), epochs=1.0, batch_size=plan.dpo_batch, learning_rate=plan.dpo_lr))
    return str(folder)


def _claimed(trace: Trace, passed: bool) -> Trace:
    outcome, score = (Outcome.PASS, 1.0) if passed else (Outcome.FAIL, 0.0)
    return trace.replace(verdict=trace.verdict.replace(outcome=outcome, score=score), reward=score)


def _invented(pattern: Trace, task: Task, text: str) -> Trace:
    made = pattern.replace(id=new_id(), task=task, text=text, steps=(text,), answer=task.reference, complete=True, split=Split.TRAIN)
    return _claimed(made, True)


def _reworded(prompt: str, rng: random.Random) -> str:
    """Four of five are near by their letters; "Now ..." is too far from so short a prompt for any fence that goes by likeness."""
    return rng.choice((str.upper, lambda p: f"{p} !", lambda p: f"{p} ?", lambda p: f"Q: {p}", lambda p: f"Now {p}"))(prompt)


def _right(trace: Trace) -> bool:
    from core.verifiers import verify

    return verify(trace.task, trace.text).passed


def _change(before: Evaluation, after: Evaluation) -> tuple[float, float]:
    """(points of accuracy gained, the chance of so great a loss if nothing had changed)."""
    gained = sum(b and not a for a, b in zip(before.right, after.right, strict=True))
    lost = sum(a and not b for a, b in zip(before.right, after.right, strict=True))
    return 100 * (gained - lost) / len(before.right), mcnemar(lost, gained)


def _told(decision: Decision) -> str:
    return f"{decision.verdict} ({100 * decision.gain:+.1f}, p = {decision.p_value:.2g})"


def table(bench: Bench, lines: Sequence[Line]) -> str:
    """Markdown. A fall is beyond chance where its p, shared between the scenarios, is below .05."""
    head = "| poison | claimed (wrong) | naive, report split | change | ours, report split | change | the gate said | fenced off |"
    rows = [
        f"| {each.scenario} | {each.claimed} ({each.wrong / max(1, each.claimed):.0%}) "
        f"| {each.naive} | {_points(each.naive_change, each.naive_worse)} "
        f"| {each.ours} | {_points(each.ours_change, each.ours_worse)} | {each.gate} | {each.dropped} |"
        for each in lines
    ]
    start = f"The worker before: {str(bench.report.overall).strip()} of {len(bench.report.tasks)} (report split), seed {bench.seed}."
    return "\n".join([start, "", head, "|---" * 8 + "|", *rows])


def _points(change: float, worse: float) -> str:
    return f"{change:+.1f}{' **worse beyond chance**' if worse < 0.05 / SCENARIOS else ''}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when ours never fell by more than chance, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: three minutes, wide intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="numbers of the scenarios, from 0, with commas between them")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    started = time.monotonic()
    names = list(POISONS)
    chosen = [names[int(i)] for i in args.only.split(",")] if args.only else names
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), QUICK if args.quick else Sizes(), args.seed)
        print(f"{time.monotonic() - started:.0f} s: the worker before has {bench.report.overall}", file=sys.stderr)
        lines: list[Line] = []
        for name in chosen:
            lines.append(scenario(bench, name))
            print(f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} s of the processor: {lines[-1]}", file=sys.stderr)
        print(table(bench, lines))
    if args.json:
        figures: dict[str, Any] = {
            "seed": args.seed,
            "before": bench.report.overall.as_dict(),
            "scenarios": [asdict(each) for each in lines],
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if any(each.ours_worse < 0.05 / SCENARIOS for each in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
