"""From an adapter to its rows, their traces and their tasks, and back: who deletes a trace is told which adapters learnt from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_adapters import make_registered
from sample_traces import problems, run_of, solved

from core.apps.cli import main
from core.errors import TrainingError
from finetune.adapters import Registry, Version
from finetune.build import build_dataset
from finetune.lineage import dataset_of, holding, learners, origins
from finetune.plan import Plan
from logs.reading import read_traces
from logs.store import TraceStore

PROBLEMS = problems(6)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, two datasets of it, and an adapter of each: the first names its traces, the second only its dataset."""
    folder = tmp_path_factory.mktemp("house")
    with TraceStore(folder / "logs", redact=None) as store:
        for number, problem in enumerate(PROBLEMS):
            store.put(run_of(solved(problem).replace(run_id=f"run {number}")).replace(id=f"run {number}"))
        store.flush()
    all_of_it = build_dataset(folder / "logs", folder / "data" / "all", Plan(kind="sft"))
    one = build_dataset(folder / "logs", folder / "data" / "one", Plan(kind="sft", limit=1))
    registry = Registry(folder / "adapters", who="test")
    registry.add(
        make_registered(folder / "run", 1, trace_ids=[t for o in origins(all_of_it) for t in o.trace_ids]), "math", dataset=all_of_it
    )
    registry.add(make_registered(folder / "run 2", 2, trace_ids=[]), "math", dataset=one)
    return folder


def adapter(house: Path, number: int) -> Version:
    return Registry(house / "adapters").get(f"math@{number}")


@pytest.mark.parametrize(("number", "rows"), [(1, 6), (2, 1)])
def test_an_adapter_leads_to_its_rows_their_traces_and_their_tasks(number: int, rows: int, house: Path):
    dataset = dataset_of(adapter(house, number), house)
    traces = {trace.id: trace for trace in read_traces(house / "logs")}

    found = list(origins(dataset))

    assert len(found) == rows
    for origin in found:
        assert origin.trace_ids
        assert {traces[trace_id].task.id for trace_id in origin.trace_ids} == {origin.task_id}
    manifest = adapter(house, number).manifest
    assert manifest is not None
    assert set(manifest.trace_ids) == {trace_id for origin in found for trace_id in origin.trace_ids}


def test_a_trace_leads_to_every_adapter_that_learnt_from_it(house: Path):
    manifest = adapter(house, 2).manifest
    assert manifest is not None
    shared = manifest.trace_ids[0]
    alone = next(trace.id for trace in read_traces(house / "logs") if trace.id != shared)

    assert [learner.version.reference for learner in learners(house / "adapters", [shared])] == ["math@1", "math@2"]
    assert [learner.trace_ids for learner in learners(house / "adapters", [alone])] == [(alone,)]
    assert [learner.version.reference for learner in learners(house / "adapters", [alone], holding(house / "data", [alone]))] == ["math@1"]
    assert learners(house / "adapters", ["nobody's"]) == []
    assert learners(house / "none", [shared]) == []


def test_what_holds_a_trace_is_listed_with_its_adapters(house: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATCHET_REGISTRY", str(house / "adapters"))
    manifest = adapter(house, 2).manifest
    assert manifest is not None

    assert main(["data", "holding", str(house / "data"), manifest.trace_ids[0]]) == 0

    told = capsys.readouterr().out
    assert f"{house / 'data' / 'one'}: rows 0" in told
    for number in (1, 2):
        assert f"math@{number}, candidate: has learnt from {manifest.trace_ids[0]}" in told


def test_a_dataset_that_is_gone_is_told(house: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"no dataset below .* is the one of math@1"):
        dataset_of(adapter(house, 1), tmp_path)


def test_deleting_a_trace_lists_and_marks_the_adapters_of_the_registry(house: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATCHET_REGISTRY", str(house / "adapters"))
    manifest = adapter(house, 2).manifest
    assert manifest is not None

    assert main(["traces", "delete", manifest.trace_ids[0], "--yes", "--log-dir", str(house / "logs")]) == 0

    told = capsys.readouterr().out
    assert "1 traces and 1 runs deleted" in told
    for number in (1, 2):
        assert f"{adapter(house, number).folder} was made with some of them" in told
        Registry(house / "adapters").check(f"math@{number}")
    assert main(["adapters", "show", "math@1"]) == 0
    assert "some of its traces were deleted since" in capsys.readouterr().out
