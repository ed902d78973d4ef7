"""The whole loop on one laptop: baseline, rounds of collect, train and gate, then the report split, once.

The report split is looked at before the first round and after the last, nowhere between; what is decided is decided on the gate split.
Everything that was measured goes to `report.json`; core.apps.report makes the page and the picture from it.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.workers import hire
from core.apps.control import ShuffledVerdicts
from core.apps.report import interval_of, write_report
from core.attempts import derive
from core.config import Settings
from core.errors import ConfigError
from core.orchestrator import Orchestrator
from core.providers.local import LocalModel
from core.tasks.draw import draw
from core.types import Domain, Record, Result, Split, Task, Trace
from logs.export import export_csv
from logs.reading import read_traces

DATABASE = ("traces.sqlite", "traces.sqlite-wal", "traces.sqlite-shm")
ANSWER = "Answer"


@dataclass(frozen=True, slots=True)
class Sizes(Record):
    """How much of everything. `collect` tasks, their `levels` and the `attempts` at each have an entry for each round."""

    collect: tuple[int, ...] = (750, 750)
    levels: tuple[tuple[int, ...], ...] = ((4, 3, 2), (4, 3, 2, 1))
    attempts: tuple[int, ...] = (16, 8)
    gate: int = 800
    report: int = 1200
    search: int = 240


@dataclass(frozen=True, slots=True)
class Options(Record):
    """What the command line chose."""

    out: Path
    seed: int = 0
    control: str | None = None
    threads: int = 1
    sizes: Sizes = Sizes()


def run_demo(options: Options, console: Console) -> dict[str, Any]:
    """Run it and return what went to report.json. Raises ConfigError when the folder can't be used."""
    started = time.monotonic()
    _prepare(options.out)
    return _Demo(options, console, started).run()


class _Demo:
    def __init__(self, options: Options, console: Console, started: float) -> None:
        self.options, self.console, self.started = options, console, started
        self.settings = Settings(
            SEED=options.seed, THREADS=1, DEVICE="cpu", MAX_TOKENS=160, SEARCH_CALLS=12, CONCURRENCY=48, BATCH_ROWS=160
        )
        self.rng = random.Random(derive(options.seed, "tasks"))
        self.gate_tasks = draw("math", options.sizes.gate, Split.GATE, self.rng)
        self.report_tasks = draw("math", options.sizes.report, Split.REPORT, self.rng)
        self.used: set[str] = set()
        self.past: list[Trace] = []
        self.verify = ShuffledVerdicts(options.seed) if options.control == "shuffled" else None

    def run(self) -> dict[str, Any]:
        import torch

        torch.set_num_threads(self.options.threads)
        before = self._look_at_report("before")
        forced = self._evaluate("embedded", self.report_tasks, "report split, steps forced", banned_start=ANSWER)
        self._say(f"report split, {'steps forced':<14} {forced.overall}")
        searched = self._search_report("before")
        champion, best = "embedded", self._evaluate("embedded", self.gate_tasks, "gate split, baseline")
        baseline = _interval(best.overall)
        self._say(f"gate split, {'baseline':<16} {best.overall}")
        rounds: list[dict[str, Any]] = []
        for number in range(1, len(self.options.sizes.collect) + 1):
            turn, seconds = self._round(number, champion, best)
            rounds.append(_round_record(number, turn, seconds, best))
            self._say(_round_line(rounds[-1]))
            if turn.promoted and turn.evaluation is not None:
                champion, best = str(turn.adapter), turn.evaluation
                self.settings = self._deployed(champion)
        after = self._look_at_report("after")
        searched_after = self._search_report("after")
        question = self._one_question(before, after)
        export_csv(self.options.out)
        report = {
            "seed": self.options.seed,
            "control": self.options.control,
            "report": {
                "before": _evaluation_record(before),
                "steps_forced": _evaluation_record(forced),
                "after": _evaluation_record(after),
                "p_value": _p(before, after),
                "p_value_against_steps_forced": _p(forced, after),
                "ways_of_working": {name: _ways(e) for name, e in (("before", before), ("steps_forced", forced), ("after", after))},
            },
            "baseline": baseline,
            "rounds": rounds,
            "promotions": sum(r["promoted"] for r in rounds),
            "search": {"before": searched, "after": searched_after},
            "question": question,
            "champion": champion,
            "seconds": round(time.monotonic() - self.started, 1),
            "peak_memory_mb": _peak_memory_mb(),
            "threads": self.options.threads,
            "sizes": self.options.sizes.as_dict(),
        }
        write_report(report, self.options.out)
        return report

    def _round(self, number: int, champion: str, best: Any) -> tuple[Any, float]:
        from finetune.turn import TurnPlan, turn

        count = self.options.sizes.collect[number - 1]
        tasks = draw("math", count, Split.TRAIN, self.rng, self.options.sizes.levels[number - 1], known=self.used)
        self.used |= {task.key for task in tasks}
        collecting = time.monotonic()
        fresh = self._collect(number, tasks)
        collected = time.monotonic() - collecting
        with self._bar(f"round {number}: train") as advance:

            def on_step(phase: str) -> Callable[[int, int], None]:
                return lambda step, total: advance(step, total, f"round {number}: train {phase}")

            done = turn(
                fresh,
                self.past,
                champion,
                best,
                lambda adapter: self._evaluate(adapter, self.gate_tasks, f"round {number}: evaluate"),
                self.options.out / "adapters" / f"math-{number}",
                TurnPlan(device="cpu", looks=len(self.options.sizes.collect)),
                derive(self.options.seed, "turn", number) % 2**31,
                on_step,
            )
        self.past += [trace for trace in fresh if trace.verified]
        return done, collected

    def _collect(self, number: int, tasks: Sequence[Task]) -> list[Trace]:
        """Search for verified answers with the champion; what the store then holds of these runs is what there is to learn from.

        By best-of-n and not by LATS: a tree explores what the worker would not do by itself, and so would teach something even if its
        verdicts were worthless. Independent attempts teach by their verdicts alone, and the control can show it.
        """
        settings = self.settings.changed(SEARCH_WIDTH=self.options.sizes.attempts[number - 1], SEARCH_CALLS=1)
        with (
            Orchestrator(settings, enable_logging=True, log_dir=self.options.out, verify=self.verify) as orchestrator,
            self._bar(f"round {number}: collect", len(tasks)) as advance,
        ):
            results = orchestrator.infer_many(tasks, strategy="best_of_n", on_result=lambda _: advance(None, None, None))
            orchestrator.flush()
        wanted = {result.run_id for result in results}
        order = {task.id: place for place, task in enumerate(tasks)}
        traces = [trace for trace in read_traces(self.options.out, domain="math") if trace.run_id in wanted]
        return sorted(traces, key=lambda t: (order[t.task.id], t.node, t.text))

    def _deployed(self, adapter: str) -> Settings:
        """The swap: settings that name the adapter, and proof that what then answers is the adapter."""
        from finetune.adapters import prove

        settings = self.settings.with_worker_model(Domain.MATH, adapter)
        with Orchestrator(settings) as orchestrator:
            model = orchestrator.model_for(Domain.MATH)
            assert isinstance(model, LocalModel)
            prove(model, adapter)
        return settings

    def _evaluate(self, worker_model: str, tasks: Sequence[Task], label: str, banned_start: str | None = None) -> Any:
        from finetune.evaluation import evaluate

        settings = self.settings.with_worker_model(Domain.MATH, worker_model)
        with Orchestrator(settings) as orchestrator, self._bar(label, len(tasks)) as advance:
            return asyncio.run(
                evaluate(
                    orchestrator.model_for(Domain.MATH),
                    hire(Domain.MATH, settings),
                    tasks,
                    banned_start=banned_start,
                    max_tokens=settings.MAX_TOKENS,
                    on_answer=lambda: advance(None, None, None),
                )
            )

    def _look_at_report(self, when: str) -> Any:
        found = self._evaluate(self.settings.MATH_WORKER_MODEL, self.report_tasks, f"report split, {when}")
        self._say(f"report split, {when:<14} {found.overall}")
        return found

    def _search_report(self, when: str) -> dict[str, Any]:
        """With search and without the reference answers: only what the worker can check by itself ends a search."""
        tasks = [task.replace(reference=None) for task in self.report_tasks[: self.options.sizes.search]]
        with Orchestrator(self.settings) as orchestrator, self._bar(f"report split, {when}, with search", len(tasks)) as advance:
            results = orchestrator.infer_many(tasks, on_result=lambda _: advance(None, None, None))
        right = [_agrees(result, task) for result, task in zip(results, self.report_tasks, strict=False)]
        tokens = sum(result.usage.completion_tokens for result in results)
        return {**interval_of(right), "tokens_per_task": round(tokens / len(right), 1)}

    def _one_question(self, before: Any, after: Any) -> dict[str, Any] | None:
        """A problem of the report split that the first worker got wrong and the last one solves, asked once more of both."""
        learnt = [t for t, a, b in zip(self.report_tasks, before.right, after.right, strict=True) if b and not a]
        if not learnt:
            return None
        task = max(learnt, key=lambda t: (t.level or 0, len(t.prompt)))
        answers = {}
        for when, settings in (("before", self.settings.with_worker_model(Domain.MATH, "embedded")), ("after", self.settings)):
            with Orchestrator(settings) as orchestrator:
                result = orchestrator.infer(task.prompt, domain="math", expected=task.reference, strategy="single")
            answers[when] = {"text": result.text, "answer": result.answer, "verified": result.verified, "verdict": result.verdict.reason}
        self._show_question(task, answers)
        return {"prompt": task.prompt, "reference": task.reference, **answers}

    def _show_question(self, task: Task, answers: dict[str, dict[str, Any]]) -> None:
        table = Table(title=task.prompt, title_justify="left", show_lines=True)
        table.add_column("before")
        table.add_column("after")
        table.add_row(*(answers[when]["text"] for when in ("before", "after")))
        table.add_row(*("right" if answers[when]["verified"] else "wrong" for when in ("before", "after")))
        self.console.print(table)

    def _say(self, line: str) -> None:
        self.console.print(f"{time.monotonic() - self.started:5.0f} s  {line}", highlight=False)

    @contextmanager
    def _bar(self, label: str, total: int | None = None) -> Iterator[Callable[[int | None, int | None, str | None], None]]:
        columns = (
            TextColumn("        {task.description:<36}"),
            BarColumn(30),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(label, total=total)

            def advance(done: int | None, of: int | None, text: str | None) -> None:
                if done is None:
                    progress.advance(task)
                else:
                    progress.update(task, completed=done, total=of, description=text or label)

            yield advance


def _prepare(out: Path) -> None:
    """An empty demo folder. What an earlier demo left is replaced; a folder with anything else in it is not touched."""
    ours = {*DATABASE, "report.md", "report.json", "accuracy.png", "adapters", "traces.csv", "seeds.md", "seeds.json"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = [path.name for path in out.iterdir() if path.name not in ours and not path.name.startswith("seed-")]
        if strangers:
            raise ConfigError(f"{out} holds {strangers[0]}, which no demo wrote: choose an empty folder with --out")
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (out / "report.md").touch()
    except OSError as error:
        raise ConfigError(f"can't write to {out}: {error.strerror}; choose another folder with --out") from error


def _agrees(result: Result, task: Task) -> bool:
    from core.verifiers import verify

    return verify(task, result.text).passed


def _evaluation_record(evaluation: Any) -> dict[str, Any]:
    by_level = {level: _interval(i) for level, i in evaluation.by(lambda t: t.level).items()}
    by_family = {family: _interval(i) for family, i in evaluation.by(lambda t: t.family).items()}
    by_domain = {domain: _interval(i) for domain, i in evaluation.by(lambda t: t.domain).items()}
    return {**_interval(evaluation.overall), "by_level": by_level, "by_family": by_family, "by_domain": by_domain}


def _interval(interval: Any) -> dict[str, Any]:
    return {
        "accuracy": round(interval.accuracy, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        "n": interval.n,
    }


def _round_record(number: int, turn: Any, collected: float, champion: Any) -> dict[str, Any]:
    overall = turn.evaluation.overall if turn.evaluation else champion.overall
    return {
        "round": number,
        **_interval(overall),
        "promoted": turn.promoted,
        "p_value": turn.decision.p_value if turn.decision else None,
        "gained": turn.decision.gained if turn.decision else 0,
        "lost": turn.decision.lost if turn.decision else 0,
        "reason": turn.reason,
        "phases": {"collect": round(collected, 2), **turn.phases},
        "rows": turn.rows,
        "pairs": turn.pairs,
        "funnel": [{"filter": s.name, "came": s.came, "dropped": s.dropped} for s in turn.funnel.sieves],
        "fingerprint": turn.metrics.get("fingerprint"),
    }


def _round_line(record: dict[str, Any]) -> str:
    low, high = record["interval"]
    shown = f"round {record['round']:<22} {record['accuracy']:6.1%} [{low:.1%}, {high:.1%}]"
    if record["promoted"]:
        return f"{shown}  promoted, p = {record['p_value']:.1g}"
    return f"{shown}  kept the old one: {record['reason']}"


def _p(first: Any, second: Any) -> float:
    from finetune.gate import decide

    return decide(first.right, second.right).p_value


def _ways(evaluation: Any) -> dict[str, float]:
    """Shares of answers by how they are worked out: no steps, steps, or steps of which one at least is taken apart (`a = b = c`)."""
    direct = sum("\n" not in text for text in evaluation.texts)
    worked = sum(any(line.count("=") > 1 for line in text.split("\n")) for text in evaluation.texts)
    n = len(evaluation.texts)
    return {"direct": round(direct / n, 3), "short": round((n - direct - worked) / n, 3), "worked": round(worked / n, 3)}


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))
