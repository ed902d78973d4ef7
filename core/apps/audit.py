"""`ratchet audit`: what verifiers make of gold, junk, near-misses and impossible tasks; and stored verdicts made again by today's."""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from core.apps.audit_cases import Case, drawn, junk_for, read_cases, shipped_cases
from core.config import Settings
from core.errors import ConfigError
from core.judging import Judging
from core.types import Outcome, Record, Task, Trace, Verdict
from core.verifiers import Verifiers
from core.verifiers.base import short

if TYPE_CHECKING:
    from rich.console import Console

    from logs.verdicts import Change

SHOWN = 200  # mistakes that are listed; the file has them all

log = logging.getLogger(__name__)

Judge = Callable[[str, Task, str], Verdict]


@dataclass(frozen=True, slots=True)
class Judged(Record):
    """A case with its verdict, and the milliseconds it took from outside."""

    case: Case
    verdict: Verdict
    milliseconds: float

    @property
    def right(self) -> bool:
        """Whether the outcome is one of those expected."""
        return self.verdict.outcome in self.case.expect

    @property
    def false_pass(self) -> bool:
        """The worst there is."""
        return self.verdict.passed and not self.right

    def as_row(self) -> dict[str, Any]:
        """Plain JSON for the file."""
        case, verdict = self.case, self.verdict
        return {
            "verifier": case.verifier,
            "kind": case.kind,
            "origin": case.origin,
            "prompt": case.task.prompt,
            "reference": case.task.reference,
            "text": case.text[:1_000],
            "expect": sorted(case.expect),
            "outcome": verdict.outcome.value,
            "reason": verdict.reason,
            "milliseconds": round(self.milliseconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Summary(Record):
    """How one verifier did. `false_pass`, `false_fail`, `false_error` count mistakes; `abstain` and `error` count all such verdicts."""

    verifier: str
    cases: int
    false_pass: int
    false_fail: int
    false_error: int
    abstain: int
    error: int
    gold_passed: int
    gold: int
    median_ms: float
    p95_ms: float


def judge_cases(cases: Iterable[Case], judge: Judge, on_case: Callable[[], None] = lambda: None) -> Iterator[Judged]:
    """Each case with its verdict. A verifier that raises has made an ERROR."""
    for case in cases:
        started = perf_counter()
        try:
            verdict = judge(case.verifier, case.task, case.text)
        except ConfigError:
            raise
        except Exception as error:
            log.exception("the %s verifier raised", case.verifier)
            verdict = Verdict(Outcome.ERROR, None, f"it raised {type(error).__name__}: {short(str(error))}")
        yield Judged(case, verdict, 1000 * (perf_counter() - started))
        on_case()


def summarise(found: Sequence[Judged]) -> list[Summary]:
    """One row a verifier, sorted by name."""
    return [_summary(name, [one for one in found if one.case.verifier == name]) for name in sorted({one.case.verifier for one in found})]


def rescored(log_dir: Path, judging: Judging, *, dry_run: bool, on_trace: Callable[[Trace], None] = lambda trace: None) -> Iterator[Change]:
    """Changes of stored verdicts under today's verifiers; `dry_run` writes nothing. Raises StoreError when there is no store."""
    from logs.reading import read_traces
    from logs.verdicts import Change, rescore

    def judge(trace: Trace) -> Verdict:
        return judging.verdict(trace.task, trace.text, complete=trace.complete)

    if not dry_run:
        yield from rescore(log_dir, judge, lambda t, v: judging.reward(t.task, t.text, v, max(t.usage.calls, 1)), on_trace=on_trace)
        return
    for trace in read_traces(log_dir):
        verdict = judge(trace)
        on_trace(trace)
        if (trace.verdict.outcome, trace.verdict.score) != (verdict.outcome, verdict.score):
            yield Change(trace, trace.verdict, verdict)


def run(args: argparse.Namespace) -> int:
    """The command. 1 when anything passed that must not."""
    from rich.console import Console

    settings, console = Settings(), Console()
    verifiers = Verifiers(settings.VERIFIERS, sandbox=settings.SANDBOX, corpus=settings.CORPUS)
    if args.rescore is not None:
        return _rescore(args, Judging(verifiers, settings), console)
    if args.dry_run:
        raise ConfigError("--dry-run goes with --rescore LOG_DIR")
    cases = _asked(args, verifiers)
    found = _with_bar(cases, lambda name, task, text: verifiers.named(name)(task, text), console)
    rows = summarise(found)
    _print(rows, found, console)
    if args.json:
        report = {"verifiers": [row.as_dict() for row in rows], "mistakes": [one.as_row() for one in found if not one.right]}
        args.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(one.false_pass for one in found))


def _asked(args: argparse.Namespace, verifiers: Verifiers) -> list[Case]:
    """The cases of the command, of the verifiers that it names. Raises ConfigError for one that isn't there."""
    only = set(args.verifier or ())
    for name in only:
        verifiers.named(name)
    if args.draws < 0:
        raise ConfigError(f"--draws is {args.draws}: give 0 or more")
    if args.cases:
        name = args.verifier[0] if args.verifier and len(args.verifier) == 1 else None
        cases = [case for path in args.cases for case in read_cases(path, name)]
    else:
        cases = shipped_cases()
    wanted = [case for case in cases if not only or case.verifier in only]
    extra = [] if args.cases else [case for case in drawn(args.draws, args.seed) if not only or case.verifier in only]
    whole = [*wanted, *junk_for(wanted), *extra]
    if not whole:
        raise ConfigError(f"there are no cases for {', '.join(sorted(only))}: write some and give them with --cases FILE")
    return whole


def _with_bar(cases: Sequence[Case], judge: Judge, console: Console) -> list[Judged]:
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("audit", total=len(cases))
        return list(judge_cases(cases, judge, lambda: progress.advance(bar)))


def _summary(name: str, found: Sequence[Judged]) -> Summary:
    outcomes = Counter(one.verdict.outcome for one in found)
    wrong = Counter(one.verdict.outcome for one in found if not one.right)
    gold = [one for one in found if one.case.kind == "gold"]
    return Summary(
        name,
        len(found),
        wrong[Outcome.PASS],
        wrong[Outcome.FAIL],
        wrong[Outcome.ERROR],
        outcomes[Outcome.ABSTAIN],
        outcomes[Outcome.ERROR],
        sum(one.verdict.passed for one in gold),
        len(gold),
        median(one.milliseconds for one in found),
        sorted(one.milliseconds for one in found)[int(0.95 * len(found))],
    )


def _print(rows: Sequence[Summary], found: Sequence[Judged], console: Console) -> None:
    from rich.table import Table

    table = Table("verifier", "cases", "false PASS", "false FAIL", "ABSTAIN", "ERROR", "gold passed", "median ms", "95 % ms")
    for row in rows:
        shares = [f"{count} ({count / row.cases:.1%})" for count in (row.false_pass, row.false_fail, row.abstain, row.error)]
        gold = f"{row.gold_passed} of {row.gold}"
        table.add_row(row.verifier, str(row.cases), *shares, gold, f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}")
    console.print(table)
    mistakes = sorted((one for one in found if not one.right), key=lambda one: (not one.false_pass, one.case.verifier))
    for one in mistakes[:SHOWN]:
        said = f"{one.verdict.outcome.upper()} instead of {' or '.join(sorted(one.case.expect))}"
        console.print(f"{one.case.verifier}: {said} ({one.case.kind}, {one.case.origin})", markup=False, highlight=False)
        console.print(f"    task:   {short(one.case.task.prompt)}", markup=False, highlight=False)
        console.print(f"    text:   {short(repr(one.case.text[:400]))}", markup=False, highlight=False)
        console.print(f"    reason: {short(one.verdict.reason, 200)}", markup=False, highlight=False)
    if len(mistakes) > SHOWN:
        console.print(f"and {len(mistakes) - SHOWN} more: --json FILE has them all")
    console.print(f"{len(found)} cases, {sum(row.false_pass for row in rows)} false PASS", highlight=False)


def _rescore(args: argparse.Namespace, judging: Judging, console: Console) -> int:
    from rich.progress import Progress
    from rich.table import Table

    from logs.reading import summary

    total = sum(sum(counts.values()) for counts in summary(args.rescore).values())
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("rescore", total=total)
        changes = list(rescored(args.rescore, judging, dry_run=args.dry_run, on_trace=lambda _: progress.advance(bar)))
    table = Table("task", "was", "is", "reason")
    for change in changes:
        table.add_row(short(change.trace.query), _told(change.before), _told(change.after), short(change.after.reason, 200))
    if changes:
        console.print(table, markup=False)
    kinds = Counter((change.before.outcome.value, change.after.outcome.value) for change in changes)
    parts = [f"{count} {before} -> {after}" for (before, after), count in sorted(kinds.items())]
    console.print(f"{total} traces judged again, {len(changes)} changed{': ' if parts else ''}{', '.join(parts)}", highlight=False)
    if args.dry_run and changes:
        console.print("nothing was written: leave --dry-run out to add the new verdicts", highlight=False)
    return 0


def _told(verdict: Verdict) -> str:
    return verdict.outcome.value if verdict.score is None else f"{verdict.outcome.value} {verdict.score:.2g}"
