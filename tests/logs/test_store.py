from __future__ import annotations

import logging
import math
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_runs import a_run, a_trace

import logs.database
import logs.sqlite
from core.errors import ConfigError, StoreError
from core.tasks.splits import split_of
from core.types import Domain, NodeRecord, Outcome, Run, Split, Task
from logs.reading import read_run, read_runs, read_traces, summary
from logs.store import TraceStore
from logs.tables import SCHEMA_VERSION, TABLES

ROOT = Path(__file__).parents[2]


def stored(log_dir: Path, *runs: Run) -> None:
    with TraceStore(log_dir) as store:
        for run in runs:
            assert store.put(run)
        store.flush()


def with_split(run: Run) -> Run:
    """As it reads back: the caller's split gives way to the task's."""
    return run.replace(traces=tuple(t.replace(split=split_of(t.task)) for t in run.traces))


def a_key_in(split: Split) -> str:
    return next(key for key in map(str, range(1000)) if split_of(Task("?", Domain.MATH, key=key)) is split)


def test_a_run_reads_back_whole(tmp_path: Path) -> None:
    run = a_run(nodes=7, attempts=3, error="the last request timed out")

    stored(tmp_path, run)

    assert read_run(tmp_path, run.id) == with_split(run)
    assert list(read_traces(tmp_path)) == list(with_split(run).traces)


def test_what_flush_returned_for_is_seen_by_another_process(tmp_path: Path) -> None:
    with TraceStore(tmp_path) as store:
        store.put(a_run())
        store.flush()

        told = run_python("import sys; from logs.reading import read_run; print(read_run(*sys.argv[1:]).id)", tmp_path, "run-000001")

    assert told.strip() == "run-000001"


def test_runs_and_traces_come_oldest_first(tmp_path: Path) -> None:
    stored(tmp_path, a_run(3), a_run(1), a_run(2))

    assert [run.id for run in read_runs(tmp_path)] == ["run-000001", "run-000002", "run-000003"]
    assert [run.id for run in read_runs(tmp_path, limit=2)] == ["run-000001", "run-000002"]
    assert [t.id for t in read_traces(tmp_path, limit=3)] == ["run-000001-0", "run-000001-1", "run-000002-0"]


def test_traces_are_chosen_by_what_is_known_of_them(tmp_path: Path) -> None:
    kept_out = Task("kept out", Domain.LOGIC, key=a_key_in(Split.GATE))
    stored(tmp_path, a_run(1), a_run(2), a_run(3, task=kept_out))

    def ids(**wanted: object) -> list[str]:
        return [t.id for t in read_traces(tmp_path, **wanted)]  # type: ignore[arg-type]

    assert ids(domain="logic") == ["run-000003-0", "run-000003-1"]
    assert ids(domain=Domain.MATH, outcome=Outcome.PASS) == ["run-000001-0", "run-000002-0"]
    assert ids(domain="logic", split="gate", min_reward=0.5) == ["run-000003-0"]
    assert ids(since=2.0, outcome="fail") == ["run-000002-1", "run-000003-1"]
    assert summary(tmp_path) == {"math": {"pass": 2, "fail": 2}, "logic": {"pass": 1, "fail": 1}}


def test_a_filter_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    stored(tmp_path, a_run())

    with pytest.raises(ConfigError, match="no domain 'maths': choose one of math"):
        read_traces(tmp_path, domain="maths")


def test_the_split_of_a_task_is_fixed_at_first_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("What is 2+2?", Domain.MATH, key=a_key_in(Split.REPORT))
    stored(tmp_path, a_run(1, task=task))
    monkeypatch.setattr("logs.rows.split_of", lambda task: Split.TRAIN)

    stored(tmp_path, a_run(2, task=task))

    assert {t.split for t in read_traces(tmp_path)} == {Split.REPORT}


def test_each_run_keeps_the_words_it_was_asked_in(tmp_path: Path) -> None:
    plain = Task("Compute 2+2", Domain.MATH, key="math:2+2")
    known = Task("What is 2+2?", Domain.MATH, reference="4", key="math:2+2", metadata={"source": "book"})

    stored(tmp_path, a_run(1, task=plain), a_run(2, task=known))

    assert [run.task for run in read_runs(tmp_path)] == [plain, known]
    assert [t.task for t in read_traces(tmp_path, outcome="pass")] == [plain, known]


def test_a_trace_may_be_of_another_task_than_its_run(tmp_path: Path) -> None:
    part = Task("What is 1+1?", Domain.LOGIC)
    run = a_run(1, traces=(a_trace(task=part),))

    stored(tmp_path, run)

    assert read_run(tmp_path, run.id) == with_split(run)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_unknown(tmp_path: Path, number: float) -> None:
    trace = a_trace(reward=number, reward_parts={"speed": number, "correct": 1.0})
    trace = trace.replace(verdict=trace.verdict.replace(score=number))
    run = a_run(traces=(trace,), nodes=1).replace(nodes=(NodeRecord("", "start", 1, number, False),))

    stored(tmp_path, run)

    (found,) = read_traces(tmp_path)
    assert found.reward is None
    assert found.verdict.score is None
    assert found.reward_parts == {"correct": 1.0}
    assert math.isnan(read_run(tmp_path, run.id).nodes[0].value)


def test_text_that_utf8_cannot_hold_is_mended_and_kept(tmp_path: Path) -> None:
    broken = "half \ud83d, whole \ud83d\ude00"
    task = Task(broken, Domain.MATH, metadata={broken: (broken, {1, 2}, math.nan, Path("x"))})
    run = a_run(1, task=task, error=broken)
    run = run.replace(traces=(run.traces[0].replace(text=broken, steps=(broken,)),))

    stored(tmp_path, run)

    mended = "half \ufffd, whole \U0001f600"
    (trace,) = read_traces(tmp_path)
    assert (trace.query, trace.text, trace.steps) == (mended, mended, (mended,))
    assert trace.task.metadata == {mended: [mended, [1, 2], None, "x"]}
    assert read_run(tmp_path, run.id).error == mended


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=[])), reward=st.none() | st.floats(), seed=st.integers())
def test_anything_that_a_model_writes_is_stored(tmp_path_factory: pytest.TempPathFactory, text: str, reward: float, seed: int) -> None:
    log_dir = tmp_path_factory.mktemp("store")
    run = a_run(1, seed=seed, traces=(a_trace(text=text, answer=text, reward=reward, directive=text),))

    stored(log_dir, run)

    found = read_run(log_dir, run.id)
    assert found.seed == seed
    assert found.traces[0].reward == (reward if reward is not None and math.isfinite(reward) else None)
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert (found.traces[0].text, found.traces[0].answer) == (text, text)


def test_one_bad_run_does_not_cost_its_neighbours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stranger = a_run(2, traces=(a_trace(run_id="another run"),))
    with TraceStore(tmp_path) as store, locked(store.path) as unlock:
        for run in (a_run(1), stranger, a_run(3), a_run(1)):
            assert store.put(run)
        unlock()

        with pytest.raises(StoreError, match="2 runs could not be written"):
            store.flush()

        store.flush()
        assert [run.id for run in read_runs(tmp_path)] == ["run-000001", "run-000003"]
        assert store.dropped == 2
        assert "each run and trace needs an id of its own" in (store.last_error or "")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_thing_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with TraceStore(tmp_path) as store:
        assert store.put("run") is False  # type: ignore[arg-type]
        assert (store.dropped, store.last_error) == (1, "str is not a Run")


def test_a_full_queue_drops_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with TraceStore(tmp_path, queue_size=2) as store, locked(store.path) as unlock:
        taken = [number for number in range(8) if store.put(a_run(number))]

        assert store.dropped == 8 - len(taken) > 0
        assert "the queue of 2 runs is full" in (store.last_error or "")
        with pytest.raises(StoreError, match="another program holds the file"):
            store.flush(timeout=0.05)

        unlock()
        store.flush()
    assert [run.seed for run in read_runs(tmp_path)] == taken
    assert len(caplog.records) == 1


def test_a_close_that_can_not_write_counts_what_it_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.sqlite, "BUSY_MILLISECONDS", 50)
    store = TraceStore(tmp_path)
    with locked(store.path):
        store.put(a_run())
        store.close(timeout=0.1)

    assert store.dropped == 1
    assert list(read_runs(tmp_path)) == []


def test_a_closed_store_takes_nothing_and_closes_again(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.close()
    store.close()

    assert store.put(a_run()) is False
    assert "closed" in (store.last_error or "")


def test_a_file_removed_under_the_writer_is_noticed(tmp_path: Path) -> None:
    with TraceStore(tmp_path) as store:
        store.path.unlink()
        store.put(a_run())

        with pytest.raises(StoreError, match="was removed or replaced"):
            store.flush()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_is_told_at_the_next_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logs.writer.rows_of", lambda run: sys.exit())
    with TraceStore(tmp_path) as store:
        store.put(a_run())

        with pytest.raises(StoreError, match="has stopped with 1 runs unwritten: open a new TraceStore"):
            store.flush()

        assert store.put(a_run()) is False
    assert store.dropped == 2


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "del store", "1/0"])
def test_an_exit_without_close_loses_nothing(tmp_path: Path, ending: str) -> None:
    program = "import sys\nfrom logs.store import TraceStore\nfrom sample_runs import a_run\nstore = TraceStore(sys.argv[1])\n"
    program += f"for number in range(100): store.put(a_run(number))\n{ending}"

    _, said = start_python(program, tmp_path, stderr=subprocess.PIPE).communicate()

    assert len(list(read_runs(tmp_path))) == 100, said


def test_an_exit_loses_nothing_when_the_hook_of_all_finalizers_gives_up(tmp_path: Path) -> None:
    """It does when another thread makes or drops one while it walks through them; here it always does."""
    program = """
        import sys, weakref
        from logs.store import TraceStore
        from sample_runs import a_run

        class Changing(dict):
            def items(self):
                raise RuntimeError("dictionary changed size during iteration")

        store = TraceStore(sys.argv[1])
        weakref.finalize._registry = Changing(weakref.finalize._registry)
        for number in range(100): store.put(a_run(number))
    """

    _, said = start_python(program, tmp_path, stderr=subprocess.PIPE).communicate()

    assert "dictionary changed size" in said
    assert len(list(read_runs(tmp_path))) == 100, said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_store_carried_over_a_fork_refuses_and_does_not_hang(tmp_path: Path) -> None:
    program = """
        import os, sys
        from logs.store import TraceStore
        from sample_runs import a_run
        store = TraceStore(sys.argv[1])
        store.put(a_run(1))
        child = os.fork()
        if not child:
            print(store.put(a_run(2)))
            store.close()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
    """

    assert run_python(program, tmp_path).strip() == "False"
    assert [run.id for run in read_runs(tmp_path)] == ["run-000001"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_eight_processes_write_one_file_and_none_is_locked_out(tmp_path: Path) -> None:
    program = """
        import os, sys
        from logs.store import TraceStore
        from sample_runs import a_run
        def write(first):
            with TraceStore(sys.argv[1]) as store:
                for number in range(first, first + 20):
                    store.put(a_run(number))
                    store.flush()
            os.write(1, f"{store.dropped} {store.last_error}\\n".encode())
            os._exit(0)
        writers = []
        for first in range(0, 8000, 1000):
            if (writer := os.fork()) == 0:
                write(first)
            writers.append(writer)
        for writer in writers:
            os.waitpid(writer, 0)
    """

    assert run_python(program, tmp_path).splitlines() == ["0 None"] * 8
    assert len(list(read_runs(tmp_path))) == 160
    assert read_run(tmp_path, "run-007019") == with_split(a_run(7019))


def test_reading_goes_on_while_another_writes(tmp_path: Path) -> None:
    with TraceStore(tmp_path) as store:
        store.put(a_run(1, attempts=2))
        store.flush()
        reader = read_traces(tmp_path)
        first = next(reader)
        store.put(a_run(2))
        store.flush()

        assert [first.id, *(t.id for t in reader)] == ["run-000001-0", "run-000001-1"]
        assert len(list(read_traces(tmp_path))) == 4


def test_a_store_is_durable_in_the_way_it_promises(tmp_path: Path) -> None:
    with TraceStore(tmp_path) as store, store._writer._engine.connect() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS]

    assert told == ["wal", FULL, ON, 5000, SCHEMA_VERSION]


PRAGMAS, FULL, ON = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "user_version"), 2, 1


def test_the_usual_query_goes_by_an_index(tmp_path: Path) -> None:
    stored(tmp_path, a_run())

    with closing(sqlite3.connect(tmp_path / logs.database.FILE)) as connection:
        query = "EXPLAIN QUERY PLAN SELECT * FROM trace WHERE domain='math' AND reward>0.7 ORDER BY created DESC, id DESC LIMIT 50"
        plan = str(connection.execute(query).fetchall())

    assert "ix_trace_domain (domain=?)" in plan
    assert "TEMP B-TREE" not in plan


def test_our_tables_stay_out_of_an_applications_own() -> None:
    from sqlmodel import SQLModel

    assert not set(SQLModel.metadata.tables) & {table.name for table in TABLES}


def test_a_file_that_is_still_empty_holds_no_traces(tmp_path: Path) -> None:
    (tmp_path / logs.database.FILE).touch()

    with pytest.raises(StoreError, match="no traces in"):
        read_traces(tmp_path)


def test_a_folder_may_have_any_name_and_the_program_may_leave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TraceStore("50% of #1? é/logs") as store:
        monkeypatch.chdir("/")
        store.put(a_run())
        store.flush()

    assert read_run(tmp_path / "50% of #1? é/logs", "run-000001")


@pytest.mark.parametrize("read", [read_traces, read_runs, summary, lambda log_dir: read_run(log_dir, "x")])
def test_reading_where_nothing_is_says_what_to_do(tmp_path: Path, read: object) -> None:
    with pytest.raises(StoreError, match=f"no traces in {tmp_path}: create the Orchestrator with enable_logging=True"):
        read(tmp_path)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    stored(tmp_path, a_run())

    with pytest.raises(StoreError, match="no run 'nope' in"):
        read_run(tmp_path, "nope")


def test_a_store_in_a_folder_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for log_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"can't make the folder .*: choose another log_dir"):
            TraceStore(log_dir)


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / logs.database.FILE).mkdir()

    with pytest.raises(StoreError, match=r"can't be opened: .* choose another log_dir"):
        TraceStore(tmp_path)


def test_a_damaged_file_is_named_to_writers_and_readers(tmp_path: Path) -> None:
    (tmp_path / logs.database.FILE).write_bytes(b"this was a database once" * 1000)

    for use in (TraceStore, read_traces, read_runs, summary):
        with pytest.raises(StoreError, match=r"traces\.sqlite is damaged or no trace store: move it away"):
            use(tmp_path)


def test_damage_inside_a_file_is_named_to_readers(tmp_path: Path) -> None:
    stored(tmp_path, *(a_run(number) for number in range(200)))
    path = tmp_path / logs.database.FILE
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))

    with pytest.raises(StoreError, match=r"traces\.sqlite is damaged"):
        list(read_traces(tmp_path))


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Another program holds the file's write lock, until the function it gives is called or the block ends."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection.rollback


def start_python(program: str, *arguments: object, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)


def run_python(program: str, *arguments: object) -> str:
    return start_python(program, *arguments).communicate()[0]
