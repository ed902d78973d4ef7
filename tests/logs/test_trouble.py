"""What goes wrong around a store: it is told once, it is counted, and nothing half-written is read later."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from sample_runs import a_run
from test_databases import start_python, stored, with_split

from core.errors import StoreError
from logs import leaving
from logs.reading import read_runs
from logs.store import TraceStore


def told_to(store: TraceStore, statement: str) -> None:
    """To the very connection that writes."""
    driver = store._writer._engine.raw_connection().driver_connection
    driver.execute(statement)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("PRAGMA max_page_count = 1", "can't grow, the disk is full: make room"),
        ("PRAGMA query_only = ON", "may not be written to: change its permissions"),
    ],
)
def test_a_disk_that_is_full_and_a_file_that_is_read_only_cost_traces_and_nothing_else(tmp_path, caplog, statement, told):
    stored(tmp_path, a_run(0))
    with TraceStore(tmp_path) as store:
        told_to(store, statement)
        assert all(store.put(a_run(number, nodes=500)) for number in range(1, 6))

        with pytest.raises(StoreError, match=told):
            store.flush()

        assert (store.dropped, store.losses) == (5, {"not written": 5})
        told_to(store, statement.replace("= 1", "= 1000000000").replace("ON", "OFF"))
        store.put(a_run(9))
        store.flush()
    assert [run.seed for run in read_runs(tmp_path)] == [0, 9]
    assert len(caplog.records) == 1


def test_a_file_that_is_damaged_while_it_is_open_is_told(tmp_path):
    stored(tmp_path, *(a_run(number) for number in range(100)))
    with TraceStore(tmp_path) as store:
        content = store.path.read_bytes()  # type: ignore[union-attr]
        store.path.write_bytes(b"\xff" * len(content))  # type: ignore[union-attr]
        for number in range(200, 205):
            store.put(a_run(number))

        with pytest.raises(StoreError, match="runs could not be written"):
            store.flush()

        assert store.dropped == 5


def test_more_runs_than_the_queue_holds_are_counted_by_reason(tmp_path):
    store = TraceStore(tmp_path, queue_size=0)

    assert store.put(a_run()) is False
    store.close()
    assert store.put(a_run()) is False
    assert store.put("run") is False  # type: ignore[arg-type]

    assert store.losses == {"queue full": 1, "closed": 1, "no run": 1}
    assert store.dropped == 3


WRITER = """
    import signal, sys, time
    from logs.store import TraceStore
    from sample_runs import a_run
    {before}
    store = TraceStore(sys.argv[1])
    for number in range(300):
        store.put(a_run(number))
    {after}
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGTERM to catch")
def test_sigterm_writes_what_is_queued_and_still_ends_the_process(tmp_path):
    with start_python(textwrap.dedent(WRITER).format(before="", after=""), tmp_path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()

        writer.send_signal(signal.SIGTERM)

        assert writer.wait(30) == -signal.SIGTERM
    assert [run.seed for run in read_runs(tmp_path)] == list(range(300))


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGTERM to catch")
def test_a_program_that_handles_sigterm_itself_is_left_to_it(tmp_path):
    mine = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    for before, after in ((mine, ""), ("", mine)):
        with start_python(textwrap.dedent(WRITER).format(before=before, after=after), tmp_path / str(bool(before))) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()

            writer.send_signal(signal.SIGTERM)

            assert writer.wait(30) == 7
        assert len(list(read_runs(tmp_path / str(bool(before))))) == 300


def test_a_store_opened_by_another_thread_sets_no_handler(tmp_path):
    program = """
        import signal, sys, threading
        from logs.store import TraceStore
        thread = threading.Thread(target=lambda: TraceStore(sys.argv[1]).close())
        thread.start()
        thread.join()
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """

    assert start_python(program, tmp_path).communicate()[0].strip() == "True"


def test_a_forgotten_store_is_not_kept_by_the_handler(tmp_path):
    with TraceStore(tmp_path) as store:
        assert store._writer in leaving._open
        writer = store._writer
    store.put(a_run())
    del store

    assert sys.getrefcount(writer) < 10


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_writer_killed_beside_a_server_leaves_no_partial_run(postgres_url):
    program = """
        import sys
        from logs.store import TraceStore
        from sample_runs import a_run
        store = TraceStore(sys.argv[1])
        number = int(sys.argv[2])
        while True:
            for _ in range(3):
                store.put(a_run(number, nodes=200))
                number += 1
            store.flush()
            print(number, flush=True)
    """
    for life in range(4):
        writer = start_python(program, postgres_url, life * 10_000)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        for _ in range(life):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        writer.communicate()

        found = {run.seed: run for run in read_runs(postgres_url)}
        assert set(range(life * 10_000, acknowledged)) <= found.keys()
        assert all(run == with_split(a_run(number, nodes=200)) for number, run in found.items())


def test_a_store_is_named_without_its_password_when_it_can_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as told:
        TraceStore(f"postgresql://me:hunter2@/x?host={tmp_path}")

    assert "hunter2" not in str(told.value)
