"""Stores of older and later Ratchets."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from sample_runs import a_run
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool
from test_databases import start_python, stored

import logs.schema
from core.errors import StoreError
from core.types import Outcome
from logs import sqlite
from logs.database import FILE
from logs.place import place_of
from logs.reading import read_run, read_runs, read_traces, summary
from logs.schema import MIGRATIONS, revision_of, upgrade
from logs.tables import SCHEMA_VERSION, Base

OLD_TASK = {"id": "t1", "domain": "math", "key": "1+1", "prompt": "What is 1+1?", "reference": "2", "level": 1, "family": "sum"}
OLD_USAGE = {"calls": 1, "prompt_tokens": 2, "completion_tokens": 3, "cost": None, "seconds": 0.5, "created": 7200.0}
OLD_RUN = {"id": "r1", "task_id": "t1", "worker": "math", "model": "embedded", "fingerprint": None, "strategy": "lats", "seed": "7"}
OLD_TRACE = {
    "id": "r1-0",
    "run_id": "r1",
    "task_id": "t1",
    "domain": "math",
    "place": 0,
    "worker": "math",
    "directive": "Solve it.",
    "model": "embedded",
    "fingerprint": None,
    "text": "the sum is 2",
    "answer": "2",
    "steps": '["the sum is 2"]',
    "outcome": "pass",
    "score": 1.0,
    "reason": "equal",
    "evidence": "reference",
    "verifier": "math",
    "verifier_version": "1",
    "verdict_ms": 0.1,
    "reward": 1.0,
    "reward_parts": '{"correct": 1.0}',
    "complete": True,
    "node": "0",
}


def raw_engine(where) -> Engine:
    """As a Ratchet of that time would have connected."""
    place = place_of(where)
    return sqlite.writer(place.path) if place.path else create_engine(place.url, poolclass=NullPool)


def an_old_store(where, version: int) -> None:
    """With one run of one trace, as its schema has it, and no alembic in sight."""
    asked = {"prompt": "What is 1+1?", "reference": "2", "level": 1, "family": "sum", "metadata": {}}
    with raw_engine(where).begin() as connection:
        upgrade(connection, 0, to=version)
        insert(connection, "task", {**OLD_TASK, "metadata": "{}", "split": "train", "first_seen": 7200.0})
        insert(connection, "run", {**OLD_RUN, "asked": json.dumps(asked), "routing_confidence": 1.0, **OLD_USAGE, "error": None})
        insert(connection, "node", {"run_id": "r1", "place": 0, "path": "", "text": "", "visits": 1, "terminal": False})
        insert(connection, "trace", {**OLD_TRACE, **OLD_USAGE})
        if place_of(where).path:
            connection.exec_driver_sql("DROP TABLE ratchet_version")
            connection.exec_driver_sql(f"PRAGMA user_version={version}")


def insert(connection, table: str, row: dict[str, object]) -> None:
    connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_is_read_searched_and_written_after_its_upgrade(where, version):
    an_old_store(where, version)

    kept = list(read_traces(where))
    stored(where, a_run(3))

    assert [(t.id, t.query, t.reward, t.verdict.details) for t in kept] == [("r1-0", "What is 1+1?", 1.0, {})]
    assert [t.id for t in read_traces(where, text="sum")] == ["r1-0"]
    assert summary(where) == {"math": {"pass": 2, "fail": 1}}
    assert [run.id for run in read_runs(where)] == ["run-000003", "r1"]
    assert read_run(where, "r1").traces[0].verdict.outcome is Outcome.PASS


def test_an_upgraded_store_has_the_schema_of_a_new_one(where, tmp_path_factory):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    an_old_store(where, 1)
    list(read_traces(where))

    with raw_engine(where).connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        found = set(inspect(connection).get_table_names())
    assert {"searchable", "trace_text"} <= found or "trace_words" in found


def ours(name: str | None, kind: str, parents: object) -> bool:
    """Not the tables of the search, which alembic can't compare."""
    return kind != "table" or name in Base.metadata.tables


def test_the_last_migration_is_the_schema_of_today():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_current_head() == revision_of(SCHEMA_VERSION)


def test_processes_that_open_an_old_store_at_once_upgrade_it_once(where):
    an_old_store(where, 1)
    program = "import sys; from logs.reading import read_traces; print([t.id for t in read_traces(sys.argv[1])])"

    readers = [start_python(program, where) for _ in range(4)]

    assert [reader.communicate()[0].strip() for reader in readers] == ["['r1-0']"] * 4


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    an_old_store(tmp_path, 1)
    stamp = logs.schema._stamp
    monkeypatch.setattr(logs.schema, "_stamp", lambda c, version: stamp(c, version if version < SCHEMA_VERSION else 1 / 0))

    with pytest.raises(ZeroDivisionError):
        read_traces(tmp_path)

    monkeypatch.undo()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert [t.id for t in read_traces(tmp_path)] == ["r1-0"]


def test_a_store_of_a_later_ratchet_is_left_alone(where):
    stored(where, a_run())
    with raw_engine(where).begin() as connection:
        connection.exec_driver_sql(f"UPDATE ratchet_version SET version_num = '{revision_of(SCHEMA_VERSION + 1)}'")

    for use in (stored, read_traces):
        with pytest.raises(StoreError, match=f"has schema {SCHEMA_VERSION + 1}, .*: upgrade Ratchet"):
            use(where)


def test_a_ratchet_from_before_alembic_knows_that_it_is_too_old(tmp_path):
    stored(tmp_path, a_run())

    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


@pytest.mark.slow
def test_a_database_of_another_program_is_left_alone(postgres_url):
    with raw_engine(postgres_url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE task (mine INTEGER)")

    with pytest.raises(StoreError, match="holds tables of another program"):
        stored(postgres_url, a_run())
