"""What survives `kill -9`. Run as a program, this file starts the writers that get killed, one for each line it is sent."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

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
LIVES = 200


needs_a_unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and no SIGKILL")


@pytest.mark.slow
@needs_a_unix
def test_two_hundred_killed_writers_lose_nothing_acknowledged_and_leave_no_partial_tree(tmp_path: Path) -> None:
    rng = random.Random(os.urandom(8))
    acknowledged: set[int] = set()

    with writers(tmp_path) as (ask, told):
        for life in range(LIVES):
            acknowledged |= written_until_killed(ask, told, life, rng.uniform(0.0, 0.05), at_work=life % 4 == 0)

    found = {run.seed: run for run in read_runs(tmp_path)}
    assert acknowledged
    assert acknowledged <= found.keys()
    assert all(run == as_stored(number) for number, run in found.items())
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@needs_a_unix
def test_a_store_is_written_on_after_a_kill(tmp_path: Path) -> None:
    with writers(tmp_path) as (ask, told):
        acknowledged = written_until_killed(ask, told, 0, 0.05, at_work=True)

    with TraceStore(tmp_path) as store:
        store.put(a_run(LIVES * RUNS_PER_LIFE))
        store.flush()

    for number in (min(acknowledged), max(acknowledged)):
        assert read_run(tmp_path, a_run(number).id) == as_stored(number)
    assert read_run(tmp_path, a_run(LIVES * RUNS_PER_LIFE).id)


@contextmanager
def writers(log_dir: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """Where to ask for a writer, and what the writers say."""
    command = [sys.executable, __file__, str(log_dir)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        yield program.stdin, program.stdout
        program.stdin.close()


def written_until_killed(ask: IO[str], told: IO[str], life: int, seconds: float, at_work: bool) -> set[int]:
    """The numbers that a writer called durable in so many seconds of its life, or after the first of them."""
    ask.write(f"{life * RUNS_PER_LIFE}\n")
    ask.flush()
    writer = int(told.readline())
    first = told.readline() if at_work else ""
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    return {int(number) for line in (first, *iter(told.readline, "dead\n")) for number in line.split()}


def as_stored(number: int) -> Run:
    run = a_run(number, nodes=NODES)
    return run.replace(traces=tuple(trace.replace(split=split_of(run.task)) for trace in run.traces))


def write_for_ever(log_dir: str, number: int) -> None:
    """Groups of one to five runs, each group told on a line of its own once it is durable."""
    os.write(1, f"{os.getpid()}\n".encode())
    store = TraceStore(log_dir)
    while True:
        group = range(number, number + 1 + number % 5)
        for each in group:
            assert store.put(a_run(each, nodes=NODES))
        store.flush()
        os.write(1, (" ".join(map(str, group)) + "\n").encode())
        number = group.stop


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            write_for_ever(sys.argv[1], int(line))
        os.waitpid(child, 0)
        os.write(1, b"dead\n")
