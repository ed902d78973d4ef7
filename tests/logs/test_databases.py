"""What holds for SQLite and for PostgreSQL alike."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_runs import a_run, a_trace
from sqlalchemy import func, select

from core.errors import ConfigError, StoreError
from core.rewards import reward
from core.tasks.splits import split_of
from core.types import Domain, Evidence, Outcome, Run, Task, Usage, Verdict
from logs.database import existing, reading
from logs.place import place_of
from logs.reading import read_run, read_runs, read_sums, read_traces, summary
from logs.store import TraceStore
from logs.tables import NODE, TRACE
from logs.verdicts import rescore, verdicts_of

ROOT = Path(__file__).parents[2]


def stored(where: str | Path, *runs: Run) -> None:
    with TraceStore(where) as store:
        for run in runs:
            assert store.put(run)
        store.flush()


def with_split(run: Run) -> Run:
    return run.replace(traces=tuple(t.replace(split=split_of(t.task)) for t in run.traces))


def test_a_run_reads_back_whole(where):
    run = a_run(nodes=7, attempts=3, error="the last request timed out", events=({"kind": "ended", "n": 1},))

    stored(where, run)

    assert read_run(where, run.id) == with_split(run)
    assert list(read_traces(where)) == list(with_split(run).traces)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=[])), value=st.floats(), seed=st.integers(), level=st.integers(-(2**63), 2**63 - 1))
def test_anything_that_a_model_writes_is_stored(where, text, value, seed, level):
    task = Task(f"? {text}", Domain.MATH, metadata={text: [text, value]}, level=level)
    run = a_run(seed, task=task, seed=seed, id=f"{os.urandom(8).hex()}", error=text)
    run = run.replace(traces=(a_trace(run.id, task=task, text=text, answer=text, reward=value, steps=(text,)),))

    stored(where, run)

    found = read_run(where, run.id)
    assert (found.seed, found.task.level) == (seed, level)
    assert found.traces[0].reward == (value if math.isfinite(value) else None)
    if not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        assert (found.traces[0].text, found.error, found.traces[0].steps) == (text, text, (text,))
        assert found.task.metadata == {text: [text, value if math.isfinite(value) else None]}


def test_numbers_that_no_sum_could_hold_cost_no_run(where):
    huge = {"reward": 1.7e308, "seconds": 1.7e308, "usage": Usage(2**62, 2**62, 2**62, -1.7e308)}

    for number in range(3):
        run = a_run(number)
        stored(where, run.replace(traces=(a_trace(run.id, **huge),)))

    assert [trace.reward for trace in read_traces(where)] == [1.7e308] * 3
    assert sum(each.traces for each in read_sums(where)) == 3


def test_a_bad_run_and_one_that_is_there_cost_no_other(where):
    with TraceStore(where) as store:
        for run in (a_run(1), a_run(2, traces=(a_trace("another run"),)), a_run(3), a_run(1)):
            store.put(run)

        with pytest.raises(StoreError, match="2 runs could not be written"):
            store.flush()

        assert store.losses == {"not written": 2}
        assert "each run and trace needs an id of its own" in (store.last_error or "")
    assert [run.id for run in read_runs(where)] == ["run-000001", "run-000003"]
    assert summary(where) == {"math": {"pass": 2, "fail": 2}}


def test_a_newer_verdict_is_shown_and_the_first_one_kept(where):
    stored(where, a_run(1), a_run(2))
    stricter = Verdict(Outcome.FAIL, 0.0, "it only repeats the question", Evidence.REFERENCE, "math", "9", details={"rule": "repeats"})

    changes = list(rescore(where, lambda trace: stricter, lambda trace, verdict: reward(verdict)))

    assert {change.trace.id for change in changes} == {"run-000001-0", "run-000002-0"}
    assert {t.verdict.version for t in read_traces(where)} == {"9"}
    assert [v.outcome for v in verdicts_of(where, "run-000001-0")] == [Outcome.PASS, Outcome.FAIL]
    assert summary(where) == {"math": {"fail": 4}}


def test_several_processes_open_a_new_store_at_once_and_write_it(where):
    program = """
        import sys
        from logs.store import TraceStore
        from sample_runs import a_run
        from core.types import Domain, Task
        shared = [Task(f"shared {n}", Domain.MATH) for n in range(20)]
        with TraceStore(sys.argv[1]) as store:
            for number in range(20):
                store.put(a_run(int(sys.argv[2]) + number, task=shared[(number * 7 + int(sys.argv[2])) % 20]))
                store.flush()
            print(store.dropped, store.last_error)
    """
    writers = [start_python(program, where, first) for first in (0, 1000, 2000, 3000)]

    assert [writer.communicate()[0].strip() for writer in writers] == ["0 None"] * 4
    assert len(list(read_runs(where))) == 80
    assert summary(where) == {"math": {"pass": 80, "fail": 80}}


def test_no_reader_sees_half_a_run(where):
    stored(where, a_run(0, nodes=50))
    with TraceStore(where) as store:
        for number in range(1, 60):
            store.put(a_run(number, nodes=50))
            with reading(existing(where)) as connection:
                nodes = connection.execute(select(NODE.c.run_id, func.count()).group_by(NODE.c.run_id)).all()
                traces = connection.execute(select(TRACE.c.run_id, func.count()).group_by(TRACE.c.run_id)).all()
            assert {count for _, count in nodes} == {50}
            assert {count for _, count in traces} == {2}
            assert len(nodes) == len(traces)


def test_reading_goes_on_while_another_writes(where):
    with TraceStore(where) as store:
        store.put(a_run(1, attempts=2))
        store.flush()
        reader = read_traces(where)
        first = next(reader)
        store.put(a_run(2))
        store.flush()

        assert [first.id, *(t.id for t in reader)] == ["run-000001-0", "run-000001-1"]
        assert len(list(read_traces(where))) == 4


@pytest.mark.slow
def test_a_server_that_vanishes_is_waited_for_and_told_of_once(postgres_server, postgres_url, caplog):
    from pgserver import pg_ctl

    user = postgres_server.system_user
    with TraceStore(postgres_url, queue_size=50) as store:
        store.put(a_run(1))
        store.flush()
        pg_ctl(["stop", "-m", "fast"], pgdata=postgres_server.pgdata, user=user)
        taken = [number for number in range(2, 600) if store.put(a_run(number))]
        with pytest.raises(StoreError, match=r"runs are not yet in .*: .* can't be reached: see that the server runs"):
            store.flush(timeout=1.5)

        postgres_server.ensure_postgres_running()
        store.flush()

        assert store.losses == {"queue full": 598 - len(taken)}
    assert [run.seed for run in read_runs(postgres_url)] == [1, *taken]
    assert all(run == with_split(a_run(run.seed)) for run in read_runs(postgres_url))
    assert len([r for r in caplog.records if "traces wait in memory" in r.message]) == 1


@pytest.mark.slow
def test_a_server_that_is_not_there_or_has_no_such_database_is_told(postgres_server, tmp_path):
    with pytest.raises(StoreError, match="can't be reached: see that the server runs and that STORE_URL"):
        TraceStore(f"postgresql://someone:hunter2@/x?host={tmp_path}")
    with pytest.raises(StoreError, match="nowhere"):
        TraceStore(postgres_server.get_uri("nowhere"))


@pytest.mark.slow
def test_an_empty_database_holds_no_traces_and_is_left_empty(postgres_server, postgres_url):
    with pytest.raises(StoreError, match=r"no traces in postgresql.*enable_logging=True"):
        read_traces(postgres_url)


def test_a_password_is_never_told():
    told = place_of("postgresql://me:hunter2@db/traces")

    assert "hunter2" not in f"{told}"
    assert f"{told}" == "postgresql://me:***@db/traces"


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://x:port/y", "sqlite://", "sqlite:///:memory:", "://"])
def test_an_address_that_is_no_store_is_told(url):
    with pytest.raises(ConfigError, match=r"sqlite:///"):
        TraceStore(url)


def test_a_url_names_a_file_of_any_name(tmp_path):
    stored(f"sqlite:///{tmp_path}/mine.db", a_run())

    assert (tmp_path / "mine.db").exists()
    assert len(list(read_traces(f"sqlite:///{tmp_path}/mine.db"))) == 2


def start_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
