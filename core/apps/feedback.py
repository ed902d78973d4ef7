"""`ratchet traces feedback`: say what you think of an answer, see what was said, list the verdicts that people disagree with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError

if TYPE_CHECKING:
    from logs.feedback import Feedback

SHOWN = 60


def add_feedback_command(actions: Any) -> None:
    """Among the actions of `ratchet traces`."""
    feedback = actions.add_parser("feedback", help="say what you think of an answer or a step, or see what was said")
    feedback.add_argument("id", nargs="?", help="of a trace or a run; without one, the latest feedback is listed")
    feedback.add_argument("--log-dir", default="./logs", help="folder or URL of the store (default: %(default)s)")
    feedback.add_argument("--step", metavar="PATH", help="of one step of the run, such as 0.2")
    thumb = feedback.add_mutually_exclusive_group()
    thumb.add_argument("--up", dest="thumb", action="store_const", const="up", help="thumb up")
    thumb.add_argument("--down", dest="thumb", action="store_const", const="down", help="thumb down")
    feedback.add_argument("--rating", type=int, metavar="N", help="1 to 5")
    feedback.add_argument("--comment", metavar="TEXT")
    feedback.add_argument("--edit", metavar="FILE", help="the text as it should have been; - reads it from standard input")
    feedback.add_argument("--domain", help="where the question belongs")
    feedback.add_argument("--withdraw", action="store_true", help="take back what you said of it")
    feedback.add_argument("--who", default="", help="your name: your later feedback goes over your earlier")
    feedback.add_argument("--disagreements", action="store_true", help="list the verdicts that people disagree with")
    feedback.add_argument("-n", type=int, default=20, help="how many are listed (default: %(default)s)")
    feedback.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Give feedback if any option says some; list otherwise."""
    said = {"thumb": args.thumb, "rating": args.rating, "comment": args.comment, "edit": _edit(args.edit), "domain": args.domain}
    said = {name: value for name, value in said.items() if value is not None}
    if args.disagreements and (said or args.withdraw or args.id):
        raise ConfigError("--disagreements stands alone: list them first, then say what you think")
    if args.disagreements:
        return _disagreements(args)
    if said or args.withdraw:
        return _give(args, said)
    return _show(args)


def _give(args: argparse.Namespace, said: dict[str, Any]) -> int:
    from logs.feedback import Feedback, give, thing

    if args.id is None:
        raise ConfigError("feedback on what? give the id of a trace or a run: ratchet traces list")
    run_id, trace_id, node = thing(args.log_dir, args.id, args.step)
    kept = give(args.log_dir, Feedback(run_id, trace_id, node, withdrawn=args.withdraw, who=args.who, **said))
    print(f"kept as {kept.id}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from collections import deque

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from logs.feedback import feedback_for, iter_feedback, opinion

    given = feedback_for(args.log_dir, args.id, args.step) if args.id else list(deque(iter_feedback(args.log_dir), max(args.n, 0)))
    if not given:
        print("nobody has said anything yet: ratchet traces feedback ID --up, --down, --rating, --comment or --edit")
        return 0
    table = Table("when", "who", "of", "said")
    for feedback in given:
        table.add_row(_when(feedback), Text(feedback.who), Text(_of(feedback)), Text(_told(feedback)))
    Console().print(table)
    if args.id:
        sum_ = opinion(given)
        rating = f", rated {sum_.rating:.1f} by {sum_.ratings}" if sum_.rating is not None else ""
        print(f"what stands: {sum_.up} up, {sum_.down} down{rating}, {sum_.comments} comments, {sum_.edits} edits")
    return 0


def _disagreements(args: argparse.Namespace) -> int:
    from itertools import islice

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from logs.corrections import disagreements

    found = list(islice(disagreements(args.log_dir), max(args.n, 0)))
    if not found:
        print("no verdict that anybody disagrees with")
        return 0
    table = Table("trace", "verdict", "why", "comment")
    for each in found:
        verdict = each.trace.verdict
        told = f"{verdict.outcome} by {verdict.verifier} {verdict.version}"
        table.add_row(each.trace.id, told, each.why, Text(_short(each.feedback.comment or "")))
    Console().print(table)
    return 0


def _edit(source: str | None) -> str | None:
    if source is None:
        return None
    if source == "-":
        return sys.stdin.read().rstrip("\n")
    try:
        return Path(source).read_text(encoding="utf-8").rstrip("\n")  # editors end a file with one
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the edit from {source} ({error}): give a text file in UTF-8, or - for standard input") from error


def _when(feedback: Feedback) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(feedback.created, UTC).strftime("%Y-%m-%d %H:%M")


def _of(feedback: Feedback) -> str:
    if feedback.node is not None:
        return f"{feedback.run_id} step {feedback.node}"
    return feedback.trace_id or feedback.run_id


def _told(feedback: Feedback) -> str:
    if feedback.withdrawn:
        return "withdrawn"
    parts = [f"thumb {feedback.thumb}" if feedback.thumb else "", f"rated {feedback.rating}" if feedback.rating else ""]
    parts += [f"belongs to {feedback.domain}" if feedback.domain else "", _short(feedback.comment or "")]
    parts += [f"edit: {_short(feedback.edit)}" if feedback.edit else ""]
    return "; ".join(part for part in parts if part)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
