"""`ratchet loop`: collect, build, train, evaluate, gate, swap, report, again and again; stopped and started as you like."""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import EMBEDDED, Settings
from core.errors import ConfigError, TaskError
from core.types import Domain, Split, Task

if TYPE_CHECKING:
    from finetune.evaluation import Evaluation
    from finetune.loop import Loop, LoopPlan

LEAST_GATE = 100
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_command(commands: Any) -> None:
    """`ratchet loop`, among the commands of the command line."""
    loop = commands.add_parser("loop", help="the whole loop: collect, build, train, evaluate, gate, swap, report; resumes by itself")
    loop.add_argument("--out", type=Path, default=Path("ratchet-loop"), help="folder of the loop (default: %(default)s)")
    loop.add_argument("--rounds", type=int, default=3, help="rounds in all, those of earlier runs among them (default: %(default)s)")
    given = loop.add_mutually_exclusive_group()
    given.add_argument("--source", default="math", help="generator of tasks, such as math or gym:countdown (default: %(default)s)")
    given.add_argument("--tasks", type=Path, metavar="FILE", help="tasks of your own, JSON lines; a tenth of them decide, a tenth report")
    given.add_argument("--live", action="store_true", help="collect nothing: learn from what others log in --log-dir; needs --gate-tasks")
    loop.add_argument("--gate-tasks", type=Path, metavar="FILE", help="with --live: held-out tasks with references, JSON lines")
    loop.add_argument("--log-dir", help="folder or URL of the store (default: OUT/logs)")
    loop.add_argument("--registry", type=Path, help="folder of the adapters (default: REGISTRY of the settings)")
    loop.add_argument("--slot", default="math", help="the worker that gets better; serve it with slot:NAME (default: %(default)s)")
    loop.add_argument("--domain", choices=list(Domain), default=Domain.MATH, help="which worker answers (default: %(default)s)")
    loop.add_argument("--base", default=EMBEDDED, help="model that adapters are trained from (default: %(default)s)")
    loop.add_argument("--per-round", type=int, default=400, help="tasks of a round (default: %(default)s)")
    loop.add_argument("--gate", type=int, default=400, help="held-out tasks that decide, from a source (default: %(default)s)")
    loop.add_argument("--report", type=int, default=400, help="held-out tasks that are only reported (default: %(default)s)")
    loop.add_argument("--strategy", default="best_of_n", help="how answers are searched for (default: %(default)s)")
    loop.add_argument("--attempts", type=int, default=8, help="samples in one expansion, or attempts of best_of_n (default: %(default)s)")
    loop.add_argument("--min-reward", type=float, default=0.7)
    loop.add_argument("--epochs", type=float, default=3.0)
    loop.add_argument("--batch-size", type=int, default=None, help="rows of an update (default: 8; 32 for the embedded model)")
    loop.add_argument("--lr", type=float, default=None, help="learning rate (default: 2e-4; 4e-3 for the embedded model)")
    loop.add_argument("--dpo-pairs", type=int, default=0, help="preference pairs after the answers (default: none)")
    loop.add_argument("--load-in-4bit", action="store_true", help="QLoRA")
    loop.add_argument("--more-tokens", type=float, help="refuse a worker whose answers grow by more than this share")
    loop.add_argument("--alpha", type=float, default=0.05, help="what the gate may err in all (default: %(default)s)")
    loop.add_argument("--looks", type=int, default=10, help="rounds that share it (default: %(default)s)")
    loop.add_argument("--every", metavar="TIME", help="a round each 30m, 6h or 1d, until stopped or --rounds are done")
    loop.add_argument("--min-new", type=int, default=0, help="with --every or --live: no round before so many new traces")
    loop.add_argument("--device", default="auto")
    loop.add_argument("--seed", type=int, default=0)
    loop.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Rounds until all are done; what was interrupted goes on where it stopped when the same command is given again."""
    from finetune.loop import Loop

    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # peft's, and nothing that a user could act on
    wait = seconds_of(args.every) if args.every else 0.0
    world = Shop(args, Settings())
    loop = Loop(_plan(args), world, args.out, where=world.log_dir, registry=world.settings.REGISTRY)
    for number in range(1, args.rounds + 1):
        if not loop.rounds_done(number):
            _wait_for_traces(loop, world, args, number, wait)
        begun = time.monotonic()
        loop.round(number)
        if wait and number < args.rounds:
            time.sleep(max(0.0, wait - (time.monotonic() - begun)))
    _say(f"report: {args.out / 'report.md'}   adapters: {world.settings.REGISTRY}")
    option, registry = f"{args.domain.upper()}_WORKER_MODEL", world.settings.REGISTRY
    _say(f'next: Settings({option}="slot:{args.slot}", REGISTRY="{registry}"), or go on with --rounds')
    return 0


def seconds_of(text: str) -> float:
    """Of "90s", "30m", "6h" or "1d". Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{text!r} is no time: write a number and s, m, h or d, such as 6h")
    return float(match[1]) * UNITS[match[2]]


class Shop:
    """What the loop works in: tasks, the orchestrator, the console. A `finetune.loop.World`."""

    def __init__(self, args: argparse.Namespace, settings: Settings) -> None:
        self.args = args
        self.log_dir = args.log_dir or settings.STORE_URL or str(args.out / "logs")
        domain = Domain(args.domain)
        changed: dict[str, Any] = {"REGISTRY": args.registry} if args.registry else {}
        self.settings = settings.changed(**changed).with_worker_model(domain, f"slot:{args.slot}")
        self.domain = domain
        self._held = {split: self._held_out(split) for split in (Split.GATE, Split.REPORT)}
        if len(self._held[Split.GATE]) < LEAST_GATE:
            _say(f"{len(self._held[Split.GATE])} tasks decide: with fewer than {LEAST_GATE} the gate will hardly ever promote")

    def tasks(self, split: Split) -> Sequence[Task]:
        """The held-out side, the same in every run."""
        return self._held[split]

    def collect(self, number: int) -> Mapping[str, Any]:
        """This round's tasks, answered by what the slot serves now; those that stand in the log are not searched again."""
        from core.orchestrator import Orchestrator

        if self.args.live:
            return {"traces in the store": self.traces()}
        tasks = self._round_tasks(number)
        seed = self.settings.SEED + number
        settings = self.settings.changed(SEED=seed, SEARCH_WIDTH=self.args.attempts, CACHE="off", **self._where())
        if self.args.strategy == "best_of_n":
            settings = settings.changed(SEARCH_CALLS=1)
        with Orchestrator(settings, enable_logging=True, log_dir=self.log_dir) as orchestrator:
            results = orchestrator.infer_many(tasks, strategy=self.args.strategy, progress=True, resume=True)
            orchestrator.flush()
        costs = [result.usage.cost for result in results if result.usage.cost is not None]
        return {
            "tasks": len(tasks),
            "verified": sum(result.verified for result in results),
            "without an answer": sum(bool(result.error) for result in results),
            "completion tokens": sum(result.usage.completion_tokens for result in results),
            "cost": round(sum(costs), 4) if costs else None,
        }

    def evaluate(self, spec: str, tasks: Sequence[Task]) -> Evaluation:
        """Greedy answers, one attempt each."""
        from agents.workers import hire
        from core.orchestrator import Orchestrator
        from finetune.evaluation import evaluate

        settings = self.settings.with_worker_model(self.domain, spec)
        with Orchestrator(settings) as orchestrator:
            model, npc = orchestrator.model_for(self.domain), hire(self.domain, settings)
            return asyncio.run(evaluate(model, npc, tasks, max_tokens=settings.MAX_TOKENS, verifier=orchestrator.verifiers))

    def tell(self, number: int, step: str, values: Mapping[str, Any]) -> None:
        """One line a step."""
        _say(f"round {number}  {step:<9} {values['seconds']:7.1f} s  {told(step, values)}".rstrip())

    def progress(self, number: int, step: str) -> Callable[[int, int, float | None], None] | None:
        """Nothing: a step tells when it is done, and live figures are in trainer_state.json and metrics.jsonl."""
        return None

    def traces(self) -> int:
        """How many there are to learn from, of the domain."""
        from logs.database import FILE
        from logs.reading import count_traces

        begun = "://" in self.log_dir or (Path(self.log_dir) / FILE).exists()
        return count_traces(self.log_dir, domain=self.domain) if begun else 0

    def _where(self) -> dict[str, Any]:
        return {"STORE_URL": self.log_dir if "://" in self.log_dir else None}

    def _held_out(self, split: Split) -> list[Task]:
        from core.tasks.draw import draw

        count = self.args.gate if split is Split.GATE else self.args.report
        if self.args.live or self.args.tasks:
            return self._from_files(split)[:count]
        return draw(self.args.source, count, split, random.Random(f"{self.args.seed} {split}")) if count else []

    def _from_files(self, split: Split) -> list[Task]:
        """Own tasks are split by their keys; a file of gate tasks is what it says, and nothing is reported from it."""
        from core.tasks.files import read_tasks
        from core.tasks.splits import split_of

        if self.args.live:
            if not self.args.gate_tasks:
                raise ConfigError("--live needs --gate-tasks: without held-out tasks nothing can be promoted")
            return read_tasks(self.args.gate_tasks) if split is Split.GATE else []
        return [task for task in read_tasks(self.args.tasks) if split_of(task) is split]

    def _round_tasks(self, number: int) -> list[Task]:
        """New ones where there are any; own tasks are asked again, with another seed, when all have been asked."""
        from core.tasks.draw import draw

        if self.args.tasks:
            pool = self._from_files(Split.TRAIN)
            if not pool:
                raise TaskError(f"{self.args.tasks} has no tasks to train on: give more")
            start = (number - 1) * self.args.per_round
            return [pool[place % len(pool)] for place in range(start, start + min(self.args.per_round, len(pool)))]
        known: set[str] = set()
        tasks: list[Task] = []
        for each in range(1, number + 1):
            rng = random.Random(f"{self.args.seed} round {each}")
            tasks = draw(self.args.source, self.args.per_round, Split.TRAIN, rng, known=known)
            known |= {task.key for task in tasks}
        return tasks


def told(step: str, values: Mapping[str, Any]) -> str:
    """What a step gave, in a few words."""
    from finetune.round_report import told as share

    if "nothing" in values:
        return str(values["nothing"]).split("\n")[0]
    if step == "collect":
        return ", ".join(f"{value} {name}" for name, value in values.items() if name in ("tasks", "verified", "traces in the store"))
    if step == "build":
        return ", ".join(f"{made['rows']} {kind} rows" for kind, made in values.items() if isinstance(made, Mapping))
    if step == "evaluate":
        return f"{values['champion']} {share(values['champion gate'])}, {values['candidate']} {share(values['candidate gate'])}"
    if step == "gate":
        return f"{values['verdict']}: {values['reason']}"
    return str(values.get("reference") or values.get("serves") or values.get("page") or "")


def _plan(args: argparse.Namespace) -> LoopPlan:
    from finetune.loop import LoopPlan

    toy = args.base == EMBEDDED
    return LoopPlan(
        slot=args.slot,
        base=args.base,
        domain=Domain(args.domain),
        min_reward=args.min_reward,
        epochs=args.epochs,
        batch_size=args.batch_size or (32 if toy else 8),
        learning_rate=args.lr or (4e-3 if toy else 2e-4),
        dpo_pairs=args.dpo_pairs,
        dpo_learning_rate=3e-4 if toy else 2e-5,
        load_in_4bit=args.load_in_4bit,
        alpha=args.alpha,
        looks=args.looks,
        more_tokens=args.more_tokens,
        device=args.device,
        seed=args.seed,
    )


def _wait_for_traces(loop: Loop, world: Shop, args: argparse.Namespace, number: int, wait: float) -> None:
    """Until there are so many new ones since the last round was built."""
    earlier = loop.rounds_done(number - 1).get("build", {}).get("sft", {}).get("funnel", []) if number > 1 else []
    seen = earlier[0]["came"] if earlier else 0
    while args.min_new and (new := world.traces() - seen) < args.min_new:
        if not wait:
            raise TaskError(f"{max(new, 0)} new traces, and --min-new asks for {args.min_new}: collect more, or wait with --every")
        _say(f"round {number}: {max(new, 0)} new traces of {args.min_new}; looking again in {wait:.0f} s")
        time.sleep(wait)


def _say(line: str) -> None:
    print(line, flush=True)
