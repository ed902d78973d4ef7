"""M1-M4, M7: how fast and how safely traces are kept, how fast a million of them are looked through, and how fast they leave as CSV."""

from __future__ import annotations

import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from statistics import median, quantiles

from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel, create_engine

from benchmarks.record import Figure, figure
from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Task, Trace, Usage, Verdict
from logs.database import FILE
from logs.export import export_csv
from logs.reading import count_traces, read_page, read_runs, read_sums, read_traces
from logs.store import TraceStore

ROUNDS = 3
TREES, NODES = 100, 1_000
SUMMARIES = 4_000
ORM_ROWS = 200
LIVES = 200
WRITERS, EACH = 8, 100
MILLION = 1_000_000
BASE_RUNS, ATTEMPTS = 1_000, 5
QUERIES = 15
EXPORTED, FILES = 100_000, 5_000


def measure(ids: Sequence[str]) -> list[Figure]:
    """Each in a folder of its own that is gone afterwards."""
    figures: list[Figure] = []
    for name, program in {"M1": _writing, "M2": _killing, "M3": _sharing, "M4": _looking, "M7": _leaving}.items():
        if name in ids:
            with tempfile.TemporaryDirectory() as folder:
                figures += program(Path(folder))
    return figures


def a_run(number: int, nodes: int, attempts: int = 1, name: str = "") -> Run:
    """Made of its number alone."""
    rng = random.Random(number)
    domain = rng.choice(list(Domain))
    task = Task(f"What is {number} plus {rng.randrange(1000)}, told as a {domain.value} question?", domain, key=f"{domain}:{number}")
    run_id = f"{name}{number:010d}"
    tree = tuple(NodeRecord(f"{i}", f"step {i}: so it is {rng.random():.6f} and we go on", 1, 0.5, False) for i in range(nodes))
    traces = tuple(_a_trace(run_id, rank, task, rng, number) for rank in range(attempts))
    usage = Usage(4, 100, 50)
    return Run(run_id, task, domain.value, "embedded", "f1", "lats", number, 0.9, tree, traces, usage, 0.5, 1.7e9 + number)


def _a_trace(run_id: str, rank: int, task: Task, rng: random.Random, number: int) -> Trace:
    outcome = rng.choices(list(Outcome), (60, 35, 4, 1))[0]
    words = " ".join(rng.choice(WORDS) for _ in range(30))
    score = float(outcome is Outcome.PASS)
    return Trace(
        id=f"{run_id}-{rank}",
        run_id=run_id,
        task=task,
        worker=task.domain.value,
        directive="Solve it step by step.",
        model="embedded",
        fingerprint=f"f{number % 7}",
        text=f"{words}\nAnswer: {number}",
        answer=str(number),
        steps=(words, f"Answer: {number}"),
        verdict=Verdict(outcome, score, "as it is", Evidence.REFERENCE, task.domain.value),
        reward=round(rng.random(), 2),
        reward_parts={"correct": score},
        usage=Usage(1, 25, 30),
        created=1.7e9 + number,
    )


WORDS = [
    "sum",
    "carry",
    "ten",
    "heron",
    "river",
    "bird",
    "stone",
    "count",
    "twice",
    "left",
    "right",
    "above",
    "below",
    "proof",
    "claim",
    "table",
    "row",
    "cell",
    "word",
    "line",
]


def _writing(folder: Path) -> list[Figure]:
    trees = [a_run(number, NODES) for number in range(TREES)]
    summaries = [a_run(number, 0) for number in range(SUMMARIES)]
    tree_rates, summary_rates, waits = [], [], []
    for turn in range(ROUNDS):
        rate, _ = _written(folder / f"trees{turn}", trees)
        tree_rates.append(rate)
        rate, waited = _written(folder / f"summaries{turn}", summaries)
        summary_rates.append(rate)
        waits.append(quantiles(waited, n=100)[98] * 1e6)
    orm = _orm(folder / "orm.sqlite", journal=False)
    orm_wal = _orm(folder / "orm_wal.sqlite", journal=True)
    versus = {"ORM, one row a commit, rows/s": orm, "the same with WAL and NORMAL": orm_wal}
    return [
        figure("M1", f"trees of {NODES} nodes, durable", tree_rates, "trees/s", "at least 50", median(tree_rates) >= 50, versus),
        figure("M1", "summaries, durable", summary_rates, "runs/s", "at least 2,000", median(summary_rates) >= 2_000, versus),
        figure("M1", "the caller's wait, 99th percentile", waits, "µs", "at most 50", median(waits) <= 50),
    ]


def _written(folder: Path, runs: list[Run]) -> tuple[float, list[float]]:
    """Runs a second until all are on the disk, and how long each call of `put` took."""
    waited = []
    with TraceStore(folder) as store:
        started = time.perf_counter()
        for run in runs:
            before = time.perf_counter()
            store.put(run)
            waited.append(time.perf_counter() - before)
        store.flush(300)
        seconds = time.perf_counter() - started
        assert store.dropped == 0, store.last_error
    return len(runs) / seconds, waited


class Plain(SQLModel, table=True):
    """What one would write first."""

    id: int | None = Field(default=None, primary_key=True)
    run: str
    path: str
    text: str
    value: float


def _orm(path: Path, journal: bool) -> float:
    engine = create_engine(f"sqlite:///{path}")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        if journal:
            session.connection().exec_driver_sql("PRAGMA journal_mode=WAL")
            session.connection().exec_driver_sql("PRAGMA synchronous=NORMAL")
            session.commit()
        started = time.perf_counter()
        for number in range(ORM_ROWS):
            session.add(Plain(run="r", path=str(number), text=f"step {number}: so it is and we go on", value=0.5))
            session.commit()
        seconds = time.perf_counter() - started
    engine.dispose()
    return round(ORM_ROWS / seconds, 1)


def _killing(folder: Path) -> list[Figure]:
    rng = random.Random(0)
    acknowledged: set[int] = set()
    for life in range(LIVES):
        with _start("kill", folder, life * 100_000) as writer:
            assert writer.stdout is not None
            told = writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            writer.kill()
            told += writer.stdout.read()
        acknowledged |= {int(n) for line in told.splitlines(keepends=True) if line.endswith("\n") for n in line.split()}
    found = {run.seed: (len(run.nodes), len(run.traces)) for run in read_runs(folder)}
    lost = len(acknowledged - found.keys())
    partial = sum(sizes != (60, 2) for sizes in found.values())
    setup: dict[str, float] = {"kills": LIVES, "acknowledged": len(acknowledged)}
    return [
        figure("M2", "acknowledged runs lost to kill -9", [lost], "runs", "none", lost == 0, setup),
        figure("M2", "partial trees after kill -9", [partial], "trees", "none", partial == 0, setup),
    ]


def _sharing(folder: Path) -> list[Figure]:
    started = time.perf_counter()
    writers = [_start("share", folder, n * 100_000) for n in range(WRITERS)]
    told = [writer.communicate()[0].split(maxsplit=1) for writer in writers]
    seconds = time.perf_counter() - started
    dropped = sum(int(count) for count, _ in told)
    there = sum(1 for _ in read_runs(folder))
    met = dropped == 0 and there == WRITERS * EACH
    versus = {"runs found": there, "runs/s of all, opening included": round(there / seconds, 1)}
    return [figure("M3", f"runs lost to locks by {WRITERS} writers", [dropped], "runs", "none", met, versus)]


def _start(what: str, folder: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.store", what, str(folder), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)


def _write_until_killed(folder: str, number: int) -> None:
    store = TraceStore(folder)
    while True:
        group = range(number, number + 1 + number % 5)
        for each in group:
            store.put(a_run(each, 60, 2))
        store.flush()
        os.write(1, (" ".join(map(str, group)) + "\n").encode())
        number = group.stop


def _write_beside_others(folder: str, first: int) -> None:
    with TraceStore(folder) as store:
        for number in range(first, first + EACH):
            store.put(a_run(number, 60, 2))
            store.flush(120)
        print(store.dropped, store.last_error)


def _looking(folder: Path) -> list[Figure]:
    _a_million(folder)
    deep = read_page(folder, size=1_000).next
    pages: dict[str, Callable[[], object]] = {
        "newest": lambda: read_page(folder),
        "domain and reward": lambda: read_page(folder, domain="math", min_reward=0.7),
        "domain, verdict and reward": lambda: read_page(folder, domain="code", outcome="pass", min_reward=0.9),
        "a rare verdict": lambda: read_page(folder, outcome="error"),
        "weights": lambda: read_page(folder, fingerprint="f3"),
        "a day": lambda: read_page(folder, since=1.7e9 + 100_000, until=1.7e9 + 186_400),
        "a later page": lambda: read_page(folder, after=deep, domain="logic"),
    }
    sums: dict[str, Callable[[], object]] = {by: lambda by=by: read_sums(folder, by) for by in ("hour", "domain", "worker")}  # type: ignore[misc]
    page_times = {name: _milliseconds(ask) for name, ask in pages.items()}
    sum_times = {name: _milliseconds(ask) for name, ask in sums.items()}
    search = _milliseconds(lambda: read_page(folder, text='"heron heron river"'))
    counted = _milliseconds(lambda: _counted(folder), 3)
    return [
        _slowest("a filtered page of 50", page_times, 10),
        _slowest("an aggregate", sum_times, 200, {"GROUP BY over all traces, ms": round(median(counted), 1)}),
        figure("M4", "a phrase of three words searched for", search, "ms", "reported", None),
    ]


def _slowest(name: str, times: dict[str, list[float]], most: float, versus: dict[str, float] | None = None) -> Figure:
    worst = max(times, key=lambda each: median(times[each]))
    all_of_them = {each: round(median(values), 2) for each, values in times.items()}
    told = f"{name} of a million, the slowest kind: {worst}"
    return figure("M4", told, times[worst], "ms", f"at most {most:g}", median(times[worst]) <= most, {**all_of_them, **(versus or {})})


def _milliseconds(ask: Callable[[], object], times: int = QUERIES) -> list[float]:
    ask()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _leaving(folder: Path) -> list[Figure]:
    with TraceStore(folder, queue_size=EXPORTED) as store:
        for number in range(EXPORTED // ATTEMPTS):
            store.put(a_run(number, 0, ATTEMPTS))
        store.flush(600)
    rates = []
    for turn in range(ROUNDS):
        started = time.perf_counter()
        export_csv(folder, folder / f"{turn}.csv")
        rates.append(EXPORTED / (time.perf_counter() - started))
    versus = _one_file_a_trace(folder) | {"records through csv.DictWriter, rows/s": round(_as_records(folder))}
    return [figure("M7", f"CSV of {EXPORTED:,} traces", rates, "rows/s", "at least 50,000", median(rates) >= 50_000, versus)]


def _one_file_a_trace(folder: Path) -> dict[str, float]:
    """What a public system does: a JSON file for each trace."""
    files = folder / "files"
    files.mkdir()
    traces = list(read_traces(folder, limit=FILES))
    started = time.perf_counter()
    for trace in traces:
        (files / f"{trace.id}.json").write_text(json.dumps(trace.as_dict()), encoding="utf-8")
    written = time.perf_counter() - started
    started = time.perf_counter()
    for path in files.iterdir():
        json.loads(path.read_text(encoding="utf-8"))
    read = time.perf_counter() - started
    return {"JSON files written, not durable, files/s": round(FILES / written), "JSON files read, files/s": round(FILES / read)}


def _as_records(folder: Path) -> float:
    started = time.perf_counter()
    with (folder / "records.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Trace)])
        table.writeheader()
        for trace in read_traces(folder, limit=FILES):
            table.writerow(trace.as_dict())
    return FILES / (time.perf_counter() - started)


def _counted(folder: Path) -> list[object]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute("SELECT CAST(created / 3600 AS INTEGER), outcome, count(*) FROM trace GROUP BY 1, 2").fetchall()


def _a_million(folder: Path) -> None:
    """A thousand runs through the store, and copies of them, at other times, until there are a million traces."""
    with TraceStore(folder) as store:
        for number in range(BASE_RUNS):
            store.put(a_run(number, 0, ATTEMPTS))
        store.flush(300)
    copies = MILLION // (BASE_RUNS * ATTEMPTS) - 1
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        connection.execute(
            f"CREATE TEMP TABLE n AS WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM k WHERE n < {copies}) SELECT n FROM k"
        )
        changed = {"id": "t.id || '-' || n", "run_id": "t.run_id || '-' || n", "created": f"t.created + n * {BASE_RUNS}"}
        for table in ("run", "trace"):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(changed.get(name, f't."{name}"') for name in names)
            connection.execute(f"INSERT INTO {table} SELECT {values} FROM n, (SELECT * FROM {table}) t")
        connection.execute("INSERT INTO searchable (trace_id) SELECT id FROM trace WHERE id NOT IN (SELECT trace_id FROM searchable)")
        connection.execute(
            "INSERT INTO trace_text (rowid, query, text) SELECT s.number, r.asked ->> '$.prompt', t.text FROM searchable s"
            f" JOIN trace t ON t.id = s.trace_id JOIN run r ON r.id = t.run_id WHERE s.number > {BASE_RUNS * ATTEMPTS}"
        )
        connection.execute("DELETE FROM tally")
        connection.execute(
            "INSERT INTO tally SELECT CAST(created / 3600 AS INTEGER), domain, worker, model, coalesce(fingerprint, ''), outcome, count(*),"
            " count(reward), sum(reward), sum(calls), sum(prompt_tokens), sum(completion_tokens), coalesce(sum(cost), 0.0), sum(seconds)"
            " FROM trace GROUP BY 1, 2, 3, 4, 5, 6"
        )
        connection.commit()
    assert count_traces(folder) == sum(each.traces for each in read_sums(folder)) == MILLION


if __name__ == "__main__":
    {"kill": _write_until_killed, "share": _write_beside_others}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
