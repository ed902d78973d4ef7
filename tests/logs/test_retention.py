from __future__ import annotations

import json

import pytest
from sample_runs import a_run, a_trace
from sqlalchemy import func, select
from test_databases import stored, with_split

from core.errors import ConfigError, StoreError
from core.rewards import reward
from core.types import Domain, Outcome, Task
from logs.database import existing, reading
from logs.reading import read_run, read_runs, read_sums, read_traces, summary
from logs.retention import delete_trace, delete_traces, mark_holders, prune
from logs.tables import NODE, RUN, TALLY, TASK, TRACE, VERDICT
from logs.verdicts import rescore

HOUR = 3600.0


def counts(where) -> dict[str, int]:
    with reading(existing(where)) as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (TASK, RUN, NODE, TRACE, VERDICT)
        }


def test_a_deleted_trace_is_gone_from_everything(where):
    stored(where, a_run(1), a_run(2, traces=(a_trace("run-000002", text="a canary sang"),)))
    list(rescore(where, lambda t: t.verdict.replace(version="2"), lambda t, v: reward(v)))

    removed = delete_trace(where, "run-000002-0")

    assert (removed.traces, removed.runs) == (1, 1)
    assert [run.id for run in read_runs(where)] == ["run-000001"]
    assert list(read_traces(where, text="canary")) == []
    assert summary(where) == {"math": {"pass": 1, "fail": 1}}
    assert counts(where) == {"task": 1, "run": 1, "node": 3, "trace": 2, "verdict": 4}


def test_a_run_stays_while_it_has_another_trace(where):
    stored(where, a_run(1, attempts=2))

    assert delete_trace(where, "run-000001-0").runs == 0

    left = with_split(a_run(1, attempts=2))
    assert read_run(where, "run-000001") == left.replace(traces=left.traces[1:])


def test_the_text_is_gone_from_the_file(tmp_path):
    task = Task("Where does the canary nest?", Domain.FACTUAL)
    stored(tmp_path, *(a_run(n) for n in range(50)))
    stored(tmp_path, a_run(99, task=task, traces=(a_trace("run-000099", task=task, text="canary " * 2000),)))
    assert b"canary" in (tmp_path / "traces.sqlite").read_bytes()

    delete_trace(tmp_path, "run-000099-0")

    assert not [path for path in tmp_path.iterdir() if b"canary" in path.read_bytes()]
    assert len(list(read_traces(tmp_path))) == 100


def test_a_reader_that_holds_on_to_what_was_deleted_is_told_of(tmp_path, caplog):
    stored(tmp_path, *(a_run(n) for n in range(600)))
    reader = read_traces(tmp_path)
    next(reader)

    delete_trace(tmp_path, "run-000001-0")

    assert "another program still reads what was deleted" in caplog.text
    assert len(list(reader)) == 1199


def test_all_are_there_or_none_is_deleted(where):
    stored(where, a_run(1))

    with pytest.raises(StoreError, match=r"no trace 'nope' in .*: see `ratchet traces list`"):
        delete_traces(where, ["run-000001-0", "nope"])

    assert len(list(read_traces(where))) == 2


def test_old_runs_go_whole(where):
    stored(where, *(a_run(n, created=n * HOUR) for n in range(10)))

    removed = prune(where, older_than=3 * HOUR, now=10 * HOUR)

    assert (removed.runs, removed.traces) == (7, 14)
    assert [run.seed for run in read_runs(where)] == [7, 8, 9]


def test_the_oldest_go_until_the_rest_fits(where):
    stored(where, *(a_run(n, nodes=40) for n in range(400)))
    before = prune(where, older_than=1e12)
    size = sized(where)

    removed = prune(where, max_bytes=size // 2)

    left = [run.seed for run in read_runs(where)]
    assert (before.runs, removed.runs) == (0, 400 - len(left))
    assert 50 < len(left) < 350
    assert left == list(range(400 - len(left), 400))
    assert sized(where) <= size // 2


def sized(where) -> int:
    from logs.retention import _bytes

    with reading(existing(where)) as connection:
        return _bytes(connection)


def test_sums_stay_true_whatever_happens(where):
    stored(where, *(a_run(n, created=n * HOUR) for n in range(8)))
    list(rescore(where, lambda t: t.verdict.replace(outcome=Outcome.FAIL, score=0.0, version="2"), lambda t, v: reward(v)))
    delete_trace(where, "run-000003-1")
    prune(where, older_than=6 * HOUR, now=8 * HOUR)
    stored(where, a_run(50, created=3 * HOUR))

    with reading(existing(where)) as connection:
        counted = connection.execute(
            select(TRACE.c.domain, TRACE.c.outcome, func.count(), func.sum(TRACE.c.reward), func.sum(TRACE.c.calls)).group_by(
                TRACE.c.domain, TRACE.c.outcome
            )
        ).all()
        kept = connection.execute(
            select(TALLY.c.domain, TALLY.c.outcome, func.sum(TALLY.c.traces), func.sum(TALLY.c.reward), func.sum(TALLY.c.calls)).group_by(
                TALLY.c.domain, TALLY.c.outcome
            )
        ).all()
    assert sorted((d, o, n, round(r, 6), c) for d, o, n, r, c in counted) == sorted(
        (d, o, int(n), round(r, 6), int(c)) for d, o, n, r, c in kept
    )
    assert sum(each.traces for each in read_sums(where, "hour")) == len(list(read_traces(where)))


@pytest.mark.parametrize("wrong", [{}, {"older_than": -1}, {"max_bytes": -1}])
def test_a_prune_that_says_nothing_or_nonsense_is_an_error(tmp_path, wrong):
    with pytest.raises(ConfigError):
        prune(tmp_path, **wrong)


def test_adapters_and_datasets_that_hold_a_deleted_trace_are_found_and_marked(tmp_path):
    stored(tmp_path / "logs", a_run(1), a_run(2))
    for name, ids in (
        ("champion", ["run-000001-0", "x"]),
        ("sets/other", ["run-000002-0"]),
        ("broken", None),
        ("deep/er/twin", ["run-000001-0"]),
    ):
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"trace_ids": ids}) if ids else "{")

    removed = delete_trace(tmp_path / "logs", "run-000001-0", holders=[tmp_path / "adapters"])

    assert {path.name for path in removed.holders} == {"champion", "twin"}
    assert json.loads((tmp_path / "adapters/champion/deleted_traces.json").read_text()) == ["run-000001-0"]
    assert mark_holders(["x"], [tmp_path / "adapters"]) == (tmp_path / "adapters/champion",)
    assert json.loads((tmp_path / "adapters/champion/deleted_traces.json").read_text()) == ["run-000001-0", "x"]


def test_a_folder_of_adapters_that_is_not_there_is_told(tmp_path):
    stored(tmp_path, a_run())

    with pytest.raises(StoreError, match="there is no folder"):
        delete_trace(tmp_path, "run-000001-0", holders=[tmp_path / "nowhere"])
