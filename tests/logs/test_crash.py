"""What survives `kill -9`. Run as a program, this file is the writer that gets killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sample_runs import a_run

from core.tasks.splits import split_of
from core.types import Run
from logs.database import FILE
from logs.reading import read_run, read_runs
from logs.store import TraceStore

ROOT = Path(__file__).parents[2]
RUNS_PER_LIFE = 100_000
NODES = 60


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_no_partial_tree(tmp_path: Path) -> None:
    rng = random.Random(os.urandom(8))
    acknowledged: set[int] = set()

    for life in range(3):
        acknowledged |= write_until_killed(tmp_path, life, rng.uniform(0.0, 0.1))

    found = {run.seed: run for run in read_runs(tmp_path)}
    assert acknowledged
    assert acknowledged <= found.keys()
    assert all(run == as_stored(number) for number, run in found.items())
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_store_is_written_on_after_a_kill(tmp_path: Path) -> None:
    acknowledged = write_until_killed(tmp_path, 0, 0.05)

    with TraceStore(tmp_path) as store:
        store.put(a_run(RUNS_PER_LIFE))
        store.flush()

    for number in (min(acknowledged), max(acknowledged)):
        assert read_run(tmp_path, a_run(number).id) == as_stored(number)
    assert read_run(tmp_path, a_run(RUNS_PER_LIFE).id)


def write_until_killed(log_dir: Path, life: int, seconds: float) -> set[int]:
    """The numbers that a writer called durable in so many seconds after the first of them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(log_dir), str(life * RUNS_PER_LIFE)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(seconds)
        writer.kill()
        lines = first + writer.stdout.read()
    return {int(number) for line in lines.splitlines(keepends=True) if line.endswith(b"\n") for number in line.split()}


def as_stored(number: int) -> Run:
    run = a_run(number, nodes=NODES)
    return run.replace(traces=tuple(trace.replace(split=split_of(run.task)) for trace in run.traces))


def write_for_ever(log_dir: str, number: int) -> None:
    """Groups of one to five runs, each group told on a line of its own once it is durable."""
    store = TraceStore(log_dir)
    while True:
        group = range(number, number + 1 + number % 5)
        for each in group:
            assert store.put(a_run(each, nodes=NODES))
        store.flush()
        sys.stdout.write(" ".join(map(str, group)) + "\n")
        sys.stdout.flush()
        number = group.stop


if __name__ == "__main__":
    write_for_ever(sys.argv[1], int(sys.argv[2]))
