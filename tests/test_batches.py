"""Many questions side by side: none waits while there is room, none stops the others, and a batch that was broken off goes on."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.apps.cli import main
from core.batches import alike
from core.config import Settings
from core.errors import ConfigError, ProviderError, StoreError
from core.orchestrator import Orchestrator
from core.providers.scripted import ScriptedModel
from core.types import Completion, Domain, Outcome, Reply, Task, Usage, Verdict
from logs.lookup import read_finished
from logs.reading import read_runs, read_traces

ROOT = Path(__file__).parent.parent
TASKS = [Task(f"Solve 17*{n}+23", Domain.MATH, key=str(n)) for n in range(4, 10)]


def guesses(request, index):
    """Now and then right, depending on the question, on the seed, and on nothing else."""
    rng = random.Random(f"{request.messages[-1].content} {request.sampling.seed} {index}")
    factor = int(re.search(r"17\*(\d+)", request.messages[1].content)[1])
    sums = [17 * factor + 23 + rng.choice((0, 1, 2)) for _ in range(2)]
    lines = [f"17*{factor} = {17 * factor}\n", f"{17 * factor} + 23 = {sums[0]}\n", f"Answer: {sums[1]}"]
    return "".join(lines[request.prefix.count("\n") :])


def abstain(task, text):
    return Verdict(Outcome.ABSTAIN, None, "not checked")


@pytest.fixture
def house(monkeypatch, tmp_path):
    """An orchestrator that logs, whose workers are one model or answer by a function."""
    opened = []

    def build(say=guesses, *, log=True, verify=None, **changes):
        model = say if hasattr(say, "complete") else ScriptedModel(say)
        monkeypatch.setattr("core.orchestrator.connect", lambda spec, settings: model)
        settings = Settings(_env_file=None, **{"SEARCH_CALLS": 6, **changes})
        opened.append(Orchestrator(settings, enable_logging=log, log_dir=tmp_path, verify=verify))
        return opened[-1], model

    yield build
    for orchestrator in opened:
        orchestrator.close()


def timeless(results):
    return [r.replace(seconds=0.0, verdict=r.verdict.replace(milliseconds=0.0, details={})) for r in results]


class Meeting(ScriptedModel):
    """Answers nobody before so many requests are with it at once."""

    def __init__(self, width):
        super().__init__(lambda request, index: "Answer: 4")
        self.barrier = asyncio.Barrier(width)

    async def complete(self, request):
        async with asyncio.timeout(60):
            await self.barrier.wait()
        return await super().complete(request)


@pytest.mark.parametrize("width", [1, 7, 48])
def test_as_many_requests_as_may_be_are_with_the_model_while_tasks_last(house, width):
    orchestrator, model = house(Meeting(width), log=False)

    results = orchestrator.infer_many([f"Solve {n}+1" for n in range(3 * width)], strategy="single", concurrency=width)

    assert {result.error for result in results} == {None}
    assert len(model.requests) == 3 * width


class Counted(ScriptedModel):
    """Knows how many requests are with it, and the most there were."""

    now = most = 0

    async def complete(self, request):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(random.random() / 500)
        try:
            return await super().complete(request)
        finally:
            self.now -= 1


def test_never_more_searches_are_under_way_than_was_said(house):
    orchestrator, model = house(Counted(guesses), log=False, SEARCH_CONCURRENCY=1)

    orchestrator.infer_many([f"Solve 17*{n}+23" for n in range(30)], concurrency=5)

    assert model.most == 5


def test_one_that_fails_does_not_stop_the_rest(house):
    def say(request, index):
        if "*6+" in request.messages[1].content:
            raise ProviderError("the server is on fire")
        return guesses(request, index)

    orchestrator, _ = house(say)

    results = orchestrator.infer_many(TASKS)

    assert [result.error for result in results] == [None, None, "the server is on fire", None, None, None]
    assert [result.answer is None for result in results] == [False, False, True, False, False, False]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_how_far_it_is_in_a_terminal_and_only_there(house, monkeypatch, capsys):
    orchestrator, _ = house()
    heard = []

    orchestrator.infer_many(TASKS, progress=True, on_result=heard.append)
    assert capsys.readouterr() == ("", "")

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    results = orchestrator.infer_many(TASKS, progress=True, on_result=heard.append)

    assert f"{sum(result.verified for result in results)} verified" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()
    assert capsys.readouterr().out == ""
    assert len(heard) == 12


@pytest.mark.parametrize("strategy", ["lats", "levels", "best_of_n", "self_consistency", "single"])
@pytest.mark.parametrize("verify", [None, abstain])
def test_what_stands_in_the_log_is_not_searched_again(house, tmp_path, strategy, verify):
    orchestrator, model = house(verify=verify)
    first = orchestrator.infer_many(TASKS, strategy=strategy)
    asked = len(model.requests)

    again = orchestrator.infer_many(TASKS, strategy=strategy, resume=True)
    orchestrator.close()
    other, fresh = house(verify=verify)
    later = other.infer_many(TASKS, strategy=strategy, resume=True)

    assert timeless(again) == timeless(later) == timeless(first)
    assert (len(model.requests), len(fresh.requests)) == (asked, 0)
    assert len(list(read_runs(tmp_path))) == len(TASKS)


@pytest.mark.parametrize(
    "change",
    [{"SEED": 1}, {"TEMPERATURE": 0.5}, {"SEARCH_CALLS": 5}, {"VERIFIED_BY": ("reference",)}, {"SEARCH_SIGNALS": {"steps": 1.0}}],
)
def test_another_seed_or_setting_is_another_search(house, tmp_path, change):
    house()[0].infer_many(TASKS, resume=True)
    orchestrator, model = house(**change)

    orchestrator.infer_many(TASKS, resume=True)
    orchestrator.flush()

    assert model.requests
    assert len(list(read_runs(tmp_path))) == 2 * len(TASKS)


@pytest.mark.parametrize("change", [{"reference": "91"}, {"metadata": {"unit": "m"}}, {"prompt": "Please solve 17*4+23"}])
def test_a_task_that_was_changed_is_another_task(house, change):
    orchestrator, model = house()
    orchestrator.infer_many(TASKS[:1])
    asked = len(model.requests)

    orchestrator.infer_many([TASKS[0].replace(**change)], resume=True)

    assert len(model.requests) > asked


def test_other_weights_search_for_themselves(house):
    orchestrator, model = house()
    orchestrator.infer_many(TASKS)
    asked = len(model.requests)
    model.fingerprint = "new adapter"

    orchestrator.infer_many(TASKS, resume=True)

    assert len(model.requests) == 2 * asked


def test_a_search_that_failed_is_made_again(house, tmp_path):
    def say(request, index):
        if broken:
            raise ProviderError("down")
        return guesses(request, index)

    broken = ["yes"]
    orchestrator, _ = house(say)
    assert {result.error for result in orchestrator.infer_many(TASKS)} == {"down"}
    broken.clear()

    results = orchestrator.infer_many(TASKS, resume=True)
    orchestrator.flush()

    assert {result.error for result in results} == {None}
    assert sorted(run.error or "" for run in read_runs(tmp_path)) == [""] * 6 + ["down"] * 6


class CutOffAndDown(ScriptedModel):
    """Its first answer is right and cut off; then it is gone."""

    async def complete(self, request):
        if self.requests:
            raise ProviderError("down")
        self.requests.append(request)
        return Reply((Completion("17*4 = 68\n68 + 23 = 91\nAnswer: 91", "length"),) * request.n, Usage(1))


def test_what_was_cut_off_stays_a_failure_when_its_search_goes_on(house, tmp_path):
    orchestrator, _ = house(CutOffAndDown([]))
    orchestrator.infer_many(TASKS[:1], strategy="best_of_n")
    orchestrator.close()
    gone, _ = house(lambda request, index: "Answer: 0")

    result = gone.infer_many(TASKS[:1], strategy="best_of_n", resume=True)[0]
    gone.flush()

    assert not result.verified
    assert {trace.verified for trace in read_traces(tmp_path)} == {False}
    assert any("MAX_TOKENS" in trace.verdict.reason for trace in read_traces(tmp_path))


def test_a_log_of_another_search_is_told_and_nothing_of_it_is_used(house, tmp_path, caplog):
    orchestrator, _ = house()
    (expected,) = orchestrator.infer_many(TASKS[:1])
    orchestrator.flush()
    (run,) = read_runs(tmp_path)
    log = tmp_path / "searches" / f"{run.key}.jsonl"
    ask = {"kind": "ask", "number": 0, "path": "", "data": {"n": 4, "first": 0, "whole": False, "reflect": False}}
    rows = [{"version": 1, "key": run.key}, ask, {**ask, "number": 7, "path": "3.3"}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))

    (again,) = orchestrator.infer_many(TASKS[:1])

    assert "can't be resumed" in caplog.text
    assert timeless([again.replace(run_id="")]) == timeless([expected.replace(run_id="")])


def test_a_task_that_stands_there_twice_is_searched_once(house, tmp_path):
    orchestrator, _ = house()
    heard = []

    results = orchestrator.infer_many([*TASKS, *TASKS, TASKS[0]], resume=True, on_result=heard.append)
    orchestrator.flush()

    assert len(results) == len(heard) == 13
    assert results[:6] == results[6:12]
    assert results[12] == results[0]
    assert len(list(read_runs(tmp_path))) == 6


def test_places_of_one_key_come_together():
    assert alike(["a", None, "b", "a", None]) == [[0, 3], [1], [2], [4]]
    assert alike([]) == []


def test_nothing_to_answer_is_no_error(house):
    assert house()[0].infer_many([], resume=True, progress=True) == []


def test_resuming_needs_a_log(house):
    with pytest.raises(ConfigError, match="enable_logging=True"):
        house(log=False)[0].infer_many(TASKS, resume=True)


def test_where_the_log_can_not_be_opened_everything_is_answered(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("core.orchestrator.connect", lambda spec, settings: ScriptedModel(guesses))

    with Orchestrator(Settings(_env_file=None), enable_logging=True, log_dir=tmp_path / "file") as orchestrator:
        assert all(result.answer for result in orchestrator.infer_many(TASKS, resume=True))


def test_a_task_without_a_model_still_tells_why(monkeypatch, tmp_path):
    def connect(spec, settings):
        raise ConfigError("no such model")

    monkeypatch.setattr("core.orchestrator.connect", connect)
    with Orchestrator(Settings(_env_file=None), enable_logging=True, log_dir=tmp_path) as orchestrator:
        results = orchestrator.infer_many([TASKS[0], TASKS[0]], resume=True)

    assert [result.error for result in results] == ["no such model"] * 2


def test_metadata_that_nobody_can_spell_are_never_the_same_task(house):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    orchestrator, _ = house(log=False)

    assert orchestrator.infer(TASKS[0].replace(metadata={1: "mixed", "keys": 2})).answer
    assert orchestrator.infer(TASKS[0].replace(metadata={"deep": deep})).answer
    while deep:
        deep = deep.pop()  # so that freeing it does not nest either


def test_runs_are_found_by_their_keys(house, tmp_path):
    with pytest.raises(StoreError):
        list(read_finished(tmp_path / "nowhere", ["key"]))
    orchestrator, _ = house()
    orchestrator.infer_many(TASKS)
    orchestrator.flush()
    runs = {run.key: run for run in read_runs(tmp_path)}

    found = {run.key: run for run in read_finished(tmp_path, [*runs, "", "unknown", *(f"key {n}" for n in range(1_000))])}

    assert found.keys() == runs.keys()
    assert all(found[key].traces == runs[key].traces and found[key].task == runs[key].task for key in runs)


BATCH = """
import asyncio, sys, random
from pathlib import Path
import core.orchestrator
from core.config import Settings
from core.orchestrator import Orchestrator
from core.providers.scripted import ScriptedModel
from core.types import Domain, Task
from tests.test_batches import abstain, guesses

class Slow(ScriptedModel):
    async def complete(self, request):
        with open(sys.argv[2], "a") as calls:
            calls.write(repr((request.messages[-1].content, request.sampling.seed, request.prefix)) + "\\n")
        await asyncio.sleep(0.01)
        return await super().complete(request)

core.orchestrator.connect = lambda spec, settings: Slow(guesses)
settings = Settings(_env_file=None, SEARCH_CALLS=6, SEARCH_CONCURRENCY=2, CONCURRENCY=4)
with Orchestrator(settings, enable_logging=True, log_dir=sys.argv[1]) as orchestrator:
    tasks = [Task(f"Solve 17*{n}+23", Domain.MATH) for n in range(4, 44)]
    results = orchestrator.infer_many(tasks, resume=True)
print(len(results), {result.error for result in results})
"""


def batch(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BATCH, str(folder), str(folder) + ".calls"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(folder):
    try:
        return sum(1 for _ in read_runs(folder))
    except StoreError:
        return 0


def found(folder):
    runs = list(read_runs(folder))
    return {run.key: (run.nodes, sorted(t.text for t in run.traces), run.usage, run.stopped, run.error) for run in runs}, len(runs)


def calls(folder):
    return sorted(Path(f"{folder}.calls").read_text().splitlines())


@pytest.mark.parametrize("least", [1, 20])
def test_a_batch_that_was_killed_goes_on_and_ends_as_if_nothing_had_been(tmp_path, least):
    assert batch(tmp_path / "whole").communicate()[0] == "40 {None}\n"
    killed = batch(tmp_path / "killed")
    while stored(tmp_path / "killed") < least and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert least <= stored(tmp_path / "killed") < 40

    said, _ = batch(tmp_path / "killed").communicate()

    assert said == "40 {None}\n"
    assert found(tmp_path / "killed") == found(tmp_path / "whole")
    assert not list((tmp_path / "killed" / "searches").iterdir())
    # what was under way when it was killed may be asked once more, and nothing else
    again = len(calls(tmp_path / "killed")) - len(calls(tmp_path / "whole"))
    assert 0 <= again <= 4 * 2
    assert set(calls(tmp_path / "killed")) == set(calls(tmp_path / "whole"))


@pytest.fixture
def task_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATCHET_SEARCH_CALLS", "2")
    monkeypatch.setenv("RATCHET_MATH_WORKER_MODEL", "scripted:replies.jsonl")
    (tmp_path / "replies.jsonl").write_text('"Answer: 6"\n' * 100)
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"Solve {n}+{n}", "reference": str(2 * n)}) for n in range(3, 7)))
    return str(file)


def test_collecting_a_file_again_searches_nothing_unless_it_is_to(task_file, tmp_path, capsys):
    def collect(*options):
        assert main(["collect", task_file, "--log-dir", "logs", *options]) == 0
        return capsys.readouterr().err, len(list(read_runs(tmp_path / "logs")))

    first, runs = collect()
    assert (runs, "stood in the log" in first) == (4, False)
    with open(task_file, "a") as file:
        file.write('\n{"prompt": "Solve 8+8", "reference": "16"}')
    again, runs = collect()
    assert (runs, "4 of them stood in the log" in again) == (5, True)
    other, runs = collect("--again")
    assert runs == 10
    seed = other.partition("seed ")[2].partition(":")[0]
    assert collect("--seed", seed)[1] == 10
    assert {run.seed for run in read_runs(tmp_path / "logs", limit=5)}


def test_collecting_logs_every_task_whatever_the_cache_holds(task_file, tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_CACHE", "exact")

    assert main(["collect", task_file, "--log-dir", "logs"]) == 0
    assert main(["collect", task_file, "--log-dir", "logs", "--seed", "5"]) == 0

    assert len(list(read_runs(tmp_path / "logs"))) == 8
    assert len({trace.run_id for trace in read_traces(tmp_path / "logs")}) == 8
    assert not (tmp_path / "logs" / "cache.sqlite").exists()


def test_a_seed_below_zero_is_an_error_that_says_so(task_file, capsys):
    assert main(["collect", task_file, "--seed", "-1"]) == 1
    assert "SEED" in capsys.readouterr().err
