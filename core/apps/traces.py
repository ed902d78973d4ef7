"""`ratchet traces`: look through what was logged, take it out, bring it in, delete it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from core.apps.feedback import add_feedback_command
from core.errors import ConfigError, StoreError
from core.types import Domain, Outcome, Split

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from core.types import Run, Trace
    from logs.chosen import Wanted

SPANS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SHOWN = 400
COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.ABSTAIN: "yellow", Outcome.ERROR: "magenta"}


def add_traces(commands: Any) -> None:
    """The command and all below it."""
    traces = commands.add_parser("traces", help="look through logged traces, export, import and delete them")
    actions = traces.add_subparsers(required=True, metavar="ACTION")
    _add_reading(actions)
    _add_moving(actions)
    _add_removing(actions)
    add_feedback_command(actions)


def _add_reading(actions: Any) -> None:
    listed = _action(actions, "list", "traces, newest first", _list)
    _choosing(listed)
    _paging(listed)
    found = _action(actions, "search", "traces that hold all of some words", _list)
    found.add_argument("text", help='words; "words in quotes" stand together, run* is all that begins so')
    _choosing(found)
    _paging(found)
    show = _action(actions, "show", "one trace or one run, whole", _show)
    show.add_argument("id", help="of a trace or a run")
    show.add_argument("--tree", action="store_true", help="the search tree of its run")
    show.add_argument("--json", action="store_true", help="as JSON")
    stats = _action(actions, "stats", "counts, rewards and usage", _stats)
    stats.add_argument("--by", choices=_sums(), default="domain", help="what to add up by (default: %(default)s)")
    stats.add_argument("--since", help="a date, a time, or an age such as 7d")
    stats.add_argument("--until", help="the same")


def _add_moving(actions: Any) -> None:
    export = _action(actions, "export", "write CSV, Parquet or JSON lines", _export)
    kinds = export.add_mutually_exclusive_group()
    kinds.add_argument("--csv", type=Path, help="one row a trace (default: traces.csv in the log folder)")
    kinds.add_argument("--parquet", type=Path, help="one row a trace; needs pyarrow")
    kinds.add_argument("--jsonl", type=Path, help="one line a run with its tree, to be imported elsewhere")
    _choosing(export)
    bring = _action(actions, "import", "read JSON lines: an export, or chat logs of an application", _import)
    bring.add_argument("file", type=Path, help='of an export, or lines with {"messages": [...]}, or requests with responses')


def _add_removing(actions: Any) -> None:
    delete = _action(actions, "delete", "delete traces, and mark what was trained on them", _delete)
    delete.add_argument("ids", nargs="+", metavar="ID", help="of traces")
    prune = _action(actions, "prune", "delete the oldest runs", _prune)
    prune.add_argument("--older-than", metavar="AGE", help="such as 90d, 12h or 2w")
    prune.add_argument("--max-size", metavar="SIZE", help="such as 500MB or 20GB")
    for action in (delete, prune):
        action.add_argument(
            "--adapters",
            type=Path,
            action="append",
            default=[],
            help="a folder of adapters or datasets to look through; the registry always is",
        )
        action.add_argument("--yes", action="store_true", help="don't ask")


def _action(actions: Any, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about)
    parser.add_argument("--log-dir", metavar="WHERE", help="log folder or URL of the store (default: STORE_URL, or ./logs)")
    parser.set_defaults(command=run)
    return parser


def _choosing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", choices=list(Domain))
    parser.add_argument("--outcome", choices=list(Outcome))
    parser.add_argument("--split", choices=list(Split))
    parser.add_argument("--min-reward", type=float)
    parser.add_argument("--max-reward", type=float)
    parser.add_argument("--worker")
    parser.add_argument("--model")
    parser.add_argument("--fingerprint", help="of the weights that answered")
    parser.add_argument("--strategy")
    parser.add_argument("--since", help="a date, a time, or an age such as 7d")
    parser.add_argument("--until", help="the same, not included")


def _paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--after", help="what the last page named as its next")
    parser.add_argument("--json", action="store_true", help="as JSON lines")


def _sums() -> tuple[str, ...]:
    return ("hour", "day", "domain", "worker", "model", "fingerprint", "outcome")


def _store(args: argparse.Namespace) -> str:
    if args.log_dir:
        return str(args.log_dir)
    from core.config import Settings

    return getattr(Settings(), "STORE_URL", None) or "./logs"


def _wanted(args: argparse.Namespace) -> Wanted:
    plain = ("domain", "outcome", "split", "min_reward", "max_reward", "worker", "model", "fingerprint", "strategy")
    wanted: dict[str, Any] = {name: getattr(args, name) for name in plain if getattr(args, name) is not None}
    wanted |= {name: _moment(getattr(args, name)) for name in ("since", "until") if getattr(args, name)}
    if getattr(args, "text", None):
        wanted["text"] = args.text
    return wanted  # type: ignore[return-value]


def _moment(text: str) -> float:
    """Seconds since 1970; a date without a zone is local."""
    if re.fullmatch(r"\d+(\.\d+)?[smhdw]", text):
        return time.time() - float(text[:-1]) * SPANS[text[-1]]
    try:
        return float(text) if re.fullmatch(r"\d{9,}(\.\d+)?", text) else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{text!r} is no time: write 2026-11-22, 2026-11-22T08:00, or an age such as 7d or 12h") from None


def _span(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?[smhdw]", text):
        raise ConfigError(f"{text!r} is no age: write a number and s, m, h, d or w, such as 90d")
    return float(text[:-1]) * SPANS[text[-1]]


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", text.upper())
    if match is None:
        raise ConfigError(f"{text!r} is no size: write a number of bytes, or with KB, MB, GB or TB, such as 500MB")
    return int(float(match[1]) * SIZES[match[2]])


def _list(args: argparse.Namespace) -> int:
    from logs.reading import read_page

    page = read_page(_store(args), size=args.n, after=args.after, **_wanted(args))
    if args.json:
        for trace in page.traces:
            print(json.dumps(trace.as_dict(), ensure_ascii=False))
    else:
        _table(page.traces)
    if page.next:
        print(f"more: --after {page.next}", file=sys.stderr)
    return 0


def _table(traces: Iterable[Trace]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "when", "domain", "verdict", "reward", "question", "answer")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for each in traces:
        outcome = each.verdict.outcome
        told = (each.id, _when(each.created), each.domain.value)
        reward = "" if each.reward is None else f"{each.reward:.2f}"
        table.add_row(*told, Text(outcome.value, COLOURS[outcome]), reward, Text(_short(each.query)), Text(_short(each.answer or "")))
    _console().print(table)


def _show(args: argparse.Namespace) -> int:
    from logs.reading import read_run
    from logs.verdicts import verdicts_of

    where, console = _store(args), _console()
    trace, run = _trace_or_run(where, args.id)
    if args.json:
        shown: Any = run or trace
        print(json.dumps(shown.as_dict(), ensure_ascii=False, indent=2))
        return 0
    if run is not None:
        ended = run.error or run.stopped or ""
        console.print(f"run {run.id}: {run.strategy}, {len(run.nodes)} nodes, {len(run.traces)} traces; {ended}", markup=False)
    if trace is not None:
        _tell(console, trace)
        verdicts = verdicts_of(where, trace.id)
        for verdict in verdicts if len(verdicts) > 1 else ():
            console.print(f"  judged by {verdict.verifier} {verdict.version}: {verdict.outcome.value}, {verdict.reason}", markup=False)
    if trace is not None and args.tree:
        run = run or read_run(where, trace.run_id)
    if run is not None and run.nodes:
        console.print(_drawn(run))
    return 0


def _trace_or_run(where: str, name: str) -> tuple[Trace | None, Run | None]:
    """The trace of that id; or else the run, with the best of its traces."""
    from logs.reading import read_run, read_trace

    try:
        return read_trace(where, name), None
    except StoreError as error:
        try:
            run = read_run(where, name)
        except StoreError:
            raise error from None
        return (run.traces[0] if run.traces else None), run


def _tell(console: Console, trace: Trace) -> None:
    reward = (
        "unknown" if trace.reward is None else f"{trace.reward:.3f} ({', '.join(f'{k} {v:.2f}' for k, v in trace.reward_parts.items())})"
    )
    usage = trace.usage
    for name, value in (
        ("trace", f"{trace.id} of run {trace.run_id}, {_when(trace.created)}"),
        ("question", trace.query),
        ("reference", trace.task.reference or "unknown"),
        ("answer", trace.answer or "none"),
        ("verdict", f"{trace.verdict.outcome.value}: {trace.verdict.reason} (evidence: {trace.verdict.evidence.value})"),
        ("reward", reward),
        ("worker", f"{trace.worker}: {trace.model}{f' [{trace.fingerprint}]' if trace.fingerprint else ''}"),
        ("usage", f"{usage.calls} calls, {usage.prompt_tokens} + {usage.completion_tokens} tokens, {trace.seconds:.2f} s"),
        ("task", f"{trace.task.id}, {trace.domain.value}, split {trace.split.value}"),
    ):
        console.print(f"[bold]{name:>9}[/bold]  ", end="")
        console.print(value, markup=False, highlight=False)
    console.print(f"\n{trace.text}\n", markup=False, highlight=False)


def _drawn(run: Run) -> Tree:
    """The tree by its paths; a node whose parent is not there hangs on the root."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(_short(run.task.prompt)))
    drawn: dict[str, Tree] = {"": root}
    for node in sorted(run.nodes, key=lambda n: (n.path.count(".") + bool(n.path), n.path)):
        if node.path:
            told = f"{node.path}  {node.visits} visits, value {node.value:.2f}{f', {node.outcome.value}' if node.outcome else ''}  "
            parent = drawn.get(node.path.rpartition(".")[0], root)
            drawn[node.path] = parent.add(Text(told, "dim").append(_short(node.text), "default"))
    return root


def _stats(args: argparse.Namespace) -> int:
    from rich.table import Table

    from logs.reading import SumsBy, read_sums

    assert _sums() == get_args(SumsBy)
    since, until = (_moment(value) if value else None for value in (args.since, args.until))
    table = Table(args.by, "traces", *Outcome, "mean reward", "calls", "tokens", "cost")
    for each in read_sums(_store(args), args.by, since=since, until=until):
        name = _when(each.name) if isinstance(each.name, float) else each.name or "unknown"
        reward = "" if each.reward is None else f"{each.reward:.3f}"
        counts = (str(each.outcomes.get(outcome, 0)) for outcome in Outcome)
        tokens = each.prompt_tokens + each.completion_tokens
        table.add_row(name, str(each.traces), *counts, reward, str(each.calls), str(tokens), f"{each.cost:.4f}" if each.cost else "")
    _console().print(table)
    return 0


def _export(args: argparse.Namespace) -> int:
    from logs.export import export_csv, export_jsonl, export_parquet

    where, wanted = _store(args), _wanted(args)
    if args.jsonl and wanted:
        raise ConfigError(f"--jsonl takes whole runs, so it can't choose by {next(iter(wanted))}: use --csv or --parquet, or leave it out")
    if args.jsonl:
        print(export_jsonl(where, args.jsonl))
    elif args.parquet:
        print(export_parquet(where, args.parquet, **wanted))
    else:
        print(export_csv(where, args.csv, **wanted))
    return 0


def _import(args: argparse.Namespace) -> int:
    from core.config import Settings
    from core.routing import route
    from logs.imports import import_file

    settings = Settings()
    where = _store(args)

    def domain_of(question: str) -> Domain:
        return route(question, settings.MIN_ROUTING_CONFIDENCE, settings.FALLBACK_DOMAIN).domain

    done = import_file(where, args.file, domain_of)
    print(f"{done.runs} runs with {done.traces} traces imported into {where}; {done.known} were there already")
    for reason, count in done.unusable.items():
        print(f"{count} lines were passed over: {reason}")
    return 0


def _delete(args: argparse.Namespace) -> int:
    from logs.retention import delete_traces

    if not _agreed(args, f"delete {len(args.ids)} traces for good?"):
        return 1
    _tell_removed(delete_traces(_store(args), args.ids, holders=_holders(args)))
    return 0


def _prune(args: argparse.Namespace) -> int:
    from logs.retention import prune

    age = _span(args.older_than) if args.older_than else None
    size = _size(args.max_size) if args.max_size else None
    if not _agreed(args, "delete the oldest runs for good?"):
        return 1
    _tell_removed(prune(_store(args), older_than=age, max_bytes=size, holders=_holders(args)))
    return 0


def _holders(args: argparse.Namespace) -> list[Path]:
    """The folders that were named, and the registry of adapters if there is one."""
    from core.config import Settings

    registry = Settings().REGISTRY
    return [*args.adapters, *([registry] if registry.is_dir() else [])]


def _agreed(args: argparse.Namespace, question: str) -> bool:
    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("this deletes traces for good: say --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _tell_removed(removed: Any) -> None:
    print(f"{removed.traces} traces and {removed.runs} runs deleted")
    for folder in removed.holders:
        print(f"{folder} was made with some of them: it is marked in deleted_traces.json; train it again without them")


def _when(created: float) -> str:
    try:
        return datetime.fromtimestamp(created, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(created)


def _short(text: str) -> str:
    line = " ".join(text[:SHOWN].split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _console() -> Console:
    """As wide as the terminal; wide where nobody looks."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 180)
