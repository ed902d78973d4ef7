"""`ratchet data`: datasets of logged traces and what people said of them, their cards, what a trace went into, what to ask next."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

KINDS = ("sft", "dpo", "steps", "kto", "prompts")
STRATEGIES = ("mixed", "uncertainty", "diversity", "error", "complexity", "difficulty")


def add_command(commands: Any) -> None:
    """`ratchet data build | show | holding | next | routing`, among the commands of the command line."""
    data = commands.add_parser("data", help="datasets from logged traces: build, show, trace back, choose what to ask next")
    actions = data.add_subparsers(required=True, metavar="ACTION")

    build = actions.add_parser("build", help="filter traces into rows; the funnel accounts for every one")
    build.add_argument("--log-dir", default="./logs", help="folder or URL of the store (default: %(default)s)")
    build.add_argument("--out", type=Path, required=True, help="folder for the dataset; it must be empty or not there")
    build.add_argument("--kind", choices=KINDS, default="sft", help="what the rows are (default: %(default)s)")
    build.add_argument("--domain", help="only this one (default: all)")
    build.add_argument("--min-reward", type=float, default=0.7, help="of an answer to follow (default: %(default)s)")
    build.add_argument("--per-task", type=int, default=4, help="most rows of a task (default: %(default)s)")
    build.add_argument("--max-share", type=float, default=1.0, help="most of one domain among the rows (default: %(default)s)")
    build.add_argument("--limit", type=int, help="most rows in all")
    build.add_argument("--hard-first", action="store_true", help="with --limit: tasks that often fail come sooner")
    build.add_argument("--held-out", type=Path, action="append", default=[], metavar="FILE", help="tasks (JSON lines) not to be learnt")
    build.add_argument("--no-feedback", action="store_true", help="leave out what people said of traces: thumbs, ratings, edits")
    build.add_argument("--recheck", action="store_true", help="judge every answer again before it goes in")
    build.add_argument("--tokenizer", metavar="MODEL", help="count tokens and show which are trained, by this model's ('embedded' works)")
    build.add_argument("--max-tokens", type=int, help="of a prompt with its answer; needs --tokenizer")
    build.add_argument("--seed", type=int, default=0)
    build.set_defaults(command=_build)

    show = actions.add_parser("show", help="the card of a dataset: funnel, lengths, rows; its hash is checked")
    show.add_argument("folder", type=Path)
    show.set_defaults(command=_show)

    held = actions.add_parser("holding", help="the datasets below a folder, and the registered adapters, that hold a trace")
    held.add_argument("folder", type=Path)
    held.add_argument("trace", nargs="+", help="ids of traces")
    held.set_defaults(command=_holding)

    following = actions.add_parser("next", help="tasks worth asking again, as JSON lines for `ratchet collect`")
    following.add_argument("--log-dir", default="./logs", help="folder or URL of the store (default: %(default)s)")
    following.add_argument("--strategy", choices=STRATEGIES, default="mixed", help="what makes a task worthwhile (default: %(default)s)")
    following.add_argument("-n", type=int, default=100, help="tasks (default: %(default)s)")
    following.add_argument("--seed", type=int, default=0)
    following.set_defaults(command=_next)

    routing = actions.add_parser("routing", help="the domains that people named, as examples for the router")
    routing.add_argument("--log-dir", default="./logs", help="folder or URL of the store (default: %(default)s)")
    routing.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines: query, domain, weight")
    routing.add_argument("--weights", type=Path, metavar="FILE", help="fit a router to them too; name it in ROUTER to use it")
    routing.set_defaults(command=_routing)


def _build(args: argparse.Namespace) -> int:
    from core.tasks.files import read_tasks
    from finetune.build import build_dataset
    from finetune.pairs import PairRules
    from finetune.plan import Plan
    from finetune.rules import Rules

    plan = Plan(
        kind=args.kind,
        rules=Rules(min_reward=args.min_reward, domain=args.domain),
        pairs=PairRules(per_task=args.per_task),
        per_task=args.per_task,
        max_share=args.max_share,
        limit=args.limit,
        hard_first=args.hard_first,
        max_tokens=args.max_tokens,
        seed=args.seed,
    )
    held_out = [task for path in args.held_out for task in read_tasks(path)]
    recheck = _recheck() if args.recheck else None
    tokenizer = _tokenizer(args.tokenizer) if args.tokenizer else None
    build_dataset(args.log_dir, args.out, plan, held_out=held_out, recheck=recheck, tokenizer=tokenizer, feedback=not args.no_feedback)
    print((args.out / "card.txt").read_text(encoding="utf-8"), end="")
    print(f"\nthe dataset is in {args.out}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from finetune.datacard import page
    from finetune.dataset import load

    dataset = load(args.folder)
    for _ in dataset:
        pass
    print(page(dataset.kind, dataset.rows, dataset.sha256, dataset.funnel, dataset.facts), end="")
    return 0


def _holding(args: argparse.Namespace) -> int:
    from core.config import Settings
    from finetune.lineage import holding, learners

    found = holding(args.folder, args.trace)
    for each in found:
        print(f"{each.folder}: rows {', '.join(map(str, each.rows))}")
    if not found:
        print(f"no dataset below {args.folder} holds {', '.join(args.trace)}", file=sys.stderr)
    for learner in learners(Settings().REGISTRY, args.trace, found):
        print(f"{learner.version.reference}, {learner.version.state}: has learnt from {', '.join(learner.trace_ids) or learner.dataset}")
    return 0


def _next(args: argparse.Namespace) -> int:
    import random

    from finetune.selection import choose, experiences
    from logs.reading import read_traces

    for task in choose(experiences(read_traces(args.log_dir)), args.n, args.strategy, random.Random(args.seed)):
        values = {k: v for k, v in task.as_dict().items() if v not in (None, {})}
        print(json.dumps(values, ensure_ascii=False))
    return 0


def _routing(args: argparse.Namespace) -> int:
    from core.errors import TrainingError
    from logs.corrections import routing_feedback

    rows = list(routing_feedback(args.log_dir))
    if not rows:
        raise TrainingError(f"nobody named a domain in {args.log_dir}: ratchet traces feedback ID --domain DOMAIN")
    lines = (json.dumps({"query": q, "domain": d, "weight": round(w, 4)}, ensure_ascii=False) + "\n" for q, d, w in rows)
    try:
        args.out.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"can't write {args.out} ({error}): choose another file") from error
    print(f"{len(rows)} questions with the domain that people named: {args.out}")
    if args.weights:
        from core.routing.train import update

        done = update(args.weights, feedback=rows)
        print(f"{done.accuracy:.1%} right on the examples, {done.accuracy_before:.1%} before; use it with ROUTER={done.path}")
    return 0


def _recheck() -> Any:
    from core.config import Settings
    from core.verifiers import Verifiers

    settings = Settings()
    return Verifiers(settings.VERIFIERS, sandbox=settings.SANDBOX, corpus=settings.CORPUS)


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    from core.providers.local import EMBEDDED_DIRECTORY

    return AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY if model == "embedded" else model)
