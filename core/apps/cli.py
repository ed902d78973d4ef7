"""The command line: `ratchet ask | collect | evaluate | demo | audit | traces | adapters ...`. An error is one line and exit code 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.apps.adapters import add_adapters
from core.apps.commands import add_commands
from core.apps.corpus import add_corpus
from core.apps.datasets import add_command as add_datasets
from core.apps.evolve import add_evolve
from core.apps.loop import add_command as add_loop
from core.apps.traces import add_traces
from core.errors import RatchetError

if TYPE_CHECKING:
    from rich.console import Console

    from core.search.events import Event
    from core.types import Result, Task


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 on success, 1 on an error that was told, 130 when interrupted."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        return command(args)
    except RatchetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was logged so far is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ratchet", description="Agents that get better at your tasks by training on their own verified work."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ask = commands.add_parser("ask", help="answer one question")
    ask.add_argument("question")
    ask.add_argument("--domain", help="skip routing")
    ask.add_argument("--expected", help="the reference answer, if you know it")
    ask.add_argument("--strategy", help="lats, best_of_n or single (default: SEARCH_STRATEGY)")
    ask.add_argument("--log-dir", help="log the search there")
    ask.add_argument("--watch", action="store_true", help="show the search as it goes")
    ask.set_defaults(command=_ask)

    collect = commands.add_parser("collect", help="answer a file of tasks with search and log everything")
    collect.add_argument("tasks", type=Path, help='JSON lines: {"prompt": ..., "reference": ..., "domain": ...}')
    collect.add_argument("--log-dir", default="./logs", help="where traces go (default: %(default)s)")
    collect.add_argument("--strategy", help="lats, best_of_n or single")
    seeds = collect.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, help="of all searches (default: SEED); what was searched with it before is not searched again")
    seeds.add_argument("--again", action="store_true", help="search every task once more, with a seed that is drawn and told")
    collect.set_defaults(command=_collect)

    evaluate = commands.add_parser("evaluate", help="compare two workers on held-out tasks")
    evaluate.add_argument(
        "champion", help="embedded, a model or adapter directory, a hub id, adapter:NAME@VERSION, slot:NAME, or PROVIDER:NAME"
    )
    evaluate.add_argument("candidate", help="the same")
    evaluate.add_argument("--tasks", type=Path, help="JSON lines with prompt and reference (default: generated math of the report split)")
    evaluate.add_argument("-n", type=int, default=400, help="generated tasks, if no file is given (default: %(default)s)")
    evaluate.add_argument("--split", choices=("gate", "report"), default="report", help="of generated tasks (default: %(default)s)")
    evaluate.add_argument("--domain", default="math", help="whose worker is compared (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.set_defaults(command=_evaluate)

    demo = commands.add_parser("demo", help="watch the embedded model get better: baseline, rounds, held-out report")
    demo.add_argument(
        "--out", type=Path, default=Path("ratchet-demo"), help="folder for report, picture, traces, adapters (default: %(default)s)"
    )
    demo.add_argument("--seeds", default="0", help="comma-separated, a run for each (default: %(default)s)")
    demo.add_argument("--control", choices=("shuffled",), help="shuffle the verdicts: nothing may improve")
    demo.add_argument("--quick", action="store_true", help="a tenth of everything: a check that it runs, not a result")
    demo.set_defaults(command=_demo)

    add_commands(commands)
    add_corpus(commands)
    add_datasets(commands)
    add_evolve(commands)
    add_loop(commands)

    add_traces(commands)
    add_adapters(commands)
    return parser


def _console() -> Console:
    from rich.console import Console

    return Console()


def _ask(args: argparse.Namespace) -> int:
    from core.orchestrator import Orchestrator

    with Orchestrator(enable_logging=args.log_dir is not None, log_dir=args.log_dir or "./logs") as orchestrator:
        if args.watch:
            result = _watched(orchestrator.stream(args.question, args.domain, args.expected, strategy=args.strategy))
        else:
            result = orchestrator.infer(args.question, args.domain, args.expected, strategy=args.strategy)
    print(result.text)
    state = "verified" if result.verified else "not verified"
    state += ", an earlier answer" if result.cached else ""
    print(f"\n{state}: {result.verdict.reason}", file=sys.stderr)
    print(f"{result.domain} worker {result.worker} ({result.model}), {result.usage.calls} calls, {result.seconds:.1f} s", file=sys.stderr)
    return 0


def _watched(events: Iterator[Event | Result]) -> Result:
    from core.apps.watch import line
    from core.types import Result

    for event in events:
        if isinstance(event, Result):
            return event
        print(line(event), file=sys.stderr)
    raise AssertionError("a stream ends with its result")


def _collect(args: argparse.Namespace) -> int:
    import random

    from core.attempts import new_id
    from core.config import Settings
    from core.orchestrator import Orchestrator
    from core.tasks.files import read_tasks

    tasks, settings, began = read_tasks(args.tasks), Settings(), new_id()
    seed = random.SystemRandom().randrange(2**31) if args.again else settings.SEED if args.seed is None else args.seed
    if args.again:
        print(f"seed {seed}: if this is interrupted, go on with --seed {seed}", file=sys.stderr)
    settings = settings.changed(SEED=seed, CACHE="off")  # every task is to leave a search in the log
    with Orchestrator(settings, enable_logging=True, log_dir=args.log_dir) as orchestrator:
        results = orchestrator.infer_many(tasks, strategy=args.strategy, progress=True, resume=True)
        orchestrator.flush()
    failed = [result.error for result in results if result.error]
    verified = sum(result.verified for result in results)
    print(f"{len(results)} tasks, {verified} verified, {len(failed)} without an answer; traces in {args.log_dir}")
    if before := sum("" < result.run_id < began for result in results):
        print(f"{before} of them stood in the log and were not searched again: --again does that, with another seed", file=sys.stderr)
    print(f"next: python finetune_setup.py --model MODEL --log-dir {args.log_dir} --output-dir ./finetuned_models")
    if failed:
        print(f"first error: {failed[0]}", file=sys.stderr)
    return 1 if len(failed) == len(results) else 0


def _evaluate(args: argparse.Namespace) -> int:
    import asyncio

    from rich.table import Table

    from agents.workers import hire
    from core.config import Settings
    from core.errors import TaskError
    from core.orchestrator import Orchestrator
    from core.types import Domain
    from finetune.evaluation import Evaluation, evaluate
    from finetune.gate import decide

    if args.domain not in list(Domain):
        raise TaskError(f"there is no domain {args.domain!r}: choose one of {', '.join(Domain)}")
    domain = Domain(args.domain)
    tasks = [task for task in _tasks_to_evaluate(args) if task.domain is domain]
    console = _console()
    found: list[Evaluation] = []
    for model in (args.champion, args.candidate):
        settings = Settings().with_worker_model(domain, model)
        with Orchestrator(settings) as orchestrator, console.status(f"{model} on {len(tasks)} tasks"):
            found.append(
                asyncio.run(evaluate(orchestrator.model_for(domain), hire(domain, settings), tasks, verifier=orchestrator.verifiers))
            )
    decision = decide(found[0].right, found[1].right)
    table = Table("worker", "right", "of", "accuracy", "95 % interval")
    for name, share in ((args.champion, decision.champion), (args.candidate, decision.candidate)):
        table.add_row(name, str(share.right), str(share.n), f"{share.accuracy:.1%}", f"{share.low:.1%} to {share.high:.1%}")
    console.print(table)
    console.print(f"{decision.gained} gained, {decision.lost} lost; exact McNemar, one-sided: p = {decision.p_value:.3g}")
    console.print(f"the candidate is {decision.reason}" if decision.promoted else decision.reason)
    return 0


def _tasks_to_evaluate(args: argparse.Namespace) -> list[Task]:
    import random

    from core.tasks.draw import draw
    from core.tasks.files import read_tasks
    from core.types import Split

    if args.tasks:
        return read_tasks(args.tasks)
    return draw(args.domain, args.n, Split(args.split), random.Random(args.seed))


def _demo(args: argparse.Namespace) -> int:
    import json
    import warnings

    from core.apps.demo import Options, Sizes, run_demo
    from core.apps.report import seeds_page, told
    from core.errors import ConfigError

    try:
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds is {args.seeds!r}: give whole numbers with commas between them, such as 0,1,2") from None
    warnings.simplefilter("ignore", FutureWarning)  # the training libraries announce renamed options to their callers, not to ours
    console = _console()
    quick = Sizes(collect=(120, 130, 130), gate=80, report=120, search=24)
    reports = []
    for seed in seeds:
        out = args.out if len(seeds) == 1 else args.out / f"seed-{seed}"
        options = Options(out, seed, args.control, sizes=quick if args.quick else Sizes())
        reports.append(run_demo(options, console))
        split = reports[-1]["report"]
        console.print(
            f"\nheld out: {told(split['before'])} -> {told(split['after'])}; forced to write steps: {told(split['steps_forced'])}"
        )
        console.print(f"report: {out / 'report.md'}   picture: {out / 'accuracy.png'}", highlight=False)
    if len(seeds) > 1:
        (args.out / "seeds.json").write_text(json.dumps(reports, indent=2, default=str) + "\n", encoding="utf-8")
        (args.out / "seeds.md").write_text(seeds_page(reports), encoding="utf-8")
        console.print(f"\n{seeds_page(reports)}", highlight=False)
    else:
        console.print(
            f'next: use it with Settings(MATH_WORKER_MODEL="{reports[0]["champion"]}"), '
            "or start on your own tasks: ratchet collect tasks.jsonl",
            highlight=False,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
