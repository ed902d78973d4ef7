"""Agents asked side by side: what a trace holds, what becomes of rewards that are none, what is kept and what is told."""

from __future__ import annotations

import asyncio
import csv
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents import NPC
from core.config import Settings
from core.errors import ConfigError, ProviderError, RatchetError, StoreError, TaskError, TrainingError
from core.providers.scripted import ScriptedModel
from core.tasks.splits import split_of
from core.types import Domain, Model, Reply, Request, Split, Task
from finetune import rollouts
from finetune.rl import RLConfig, collect_traces
from finetune.rollouts import COLUMNS, known_reward

TASKS = [{"prompt": "Solve 2+2", "expected": "4"}, {"prompt": "Solve 10*5", "expected": "50", "source": "book"}]
MATHBOT = NPC("mathbot", "Be concise.", "qwen3:0.6b", "ollama")
SETTINGS = Settings(_env_file=None)

Say = Callable[[Request, int], str]


def by_seed(request: Request, index: int) -> str:
    """Right or wrong, as the seed of the request decides."""
    right = {"Solve 2+2": "4", "Solve 10*5": "50"}[request.messages[-1].content]
    return right if random.Random(request.sampling.seed).random() < 0.5 else "7"


def correct(trace: dict[str, Any]) -> float:
    return 1.0 if trace["task_metadata"]["expected"] in trace["final_output"] else 0.0


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Say | ScriptedModel], ScriptedModel]:
    """Every agent's model from now on."""

    def set_to(script: Say | ScriptedModel) -> ScriptedModel:
        model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
        monkeypatch.setattr(rollouts, "connect", lambda spec, settings: model)
        return model

    return set_to


def config(tmp_path: Path, **changes: Any) -> RLConfig:
    return RLConfig(max_iterations=4, log_dir=tmp_path / "logs").replace(**changes)


def collected(tmp_path: Path, reward_fn: Any = correct, agents: Any = MATHBOT, tasks: Any = TASKS, **changes: Any) -> list[dict[str, Any]]:
    return collect_traces(tasks, agents, reward_fn, config(tmp_path, **changes), settings=SETTINGS)


def test_every_agent_answers_every_task_as_often_as_is_asked_and_each_answer_is_scored(says: Any, tmp_path: Path):
    says(by_seed)
    second = MATHBOT.replace(name="other", primary_directive="Think.")

    traces = collected(tmp_path, agents=[MATHBOT, second])

    assert [(t["agent_name"], t["prompt"], t["sample"]) for t in traces] == [
        (agent, task["prompt"], sample) for agent in ("mathbot", "other") for task in TASKS for sample in range(4)
    ]
    assert all(t["reward"] == correct(t) for t in traces)
    assert {t["reward"] for t in traces} == {0.0, 1.0}
    assert traces[-1]["task_metadata"] == {"expected": "50", "source": "book"}
    assert traces[-1]["directive"] == "Think."


def test_the_reward_function_sees_what_the_manual_names(says: Any, tmp_path: Path):
    says(lambda request, index: "4")
    seen: list[dict[str, Any]] = []

    collected(tmp_path, lambda trace: seen.append(dict(trace)) or 1.0, tasks=TASKS[:1], max_iterations=1)

    assert seen[0]["task_metadata"]["expected"] == "4"
    assert seen[0]["final_output"] == "4"


def test_the_same_seed_asks_for_the_same_samples_and_another_for_others(says: Any, tmp_path: Path):
    model = says(by_seed)

    def seeds(**changes: Any) -> list[int | None]:
        model.requests.clear()
        collected(tmp_path, **changes)
        return sorted(request.sampling.seed or 0 for request in model.requests)

    assert seeds() == seeds(concurrency=1)
    assert len(set(seeds())) == 8
    assert not set(seeds()) & set(seeds(seed=1))


def test_an_agent_keeps_its_own_temperature_and_length(says: Any, tmp_path: Path):
    model = says(by_seed)

    collected(tmp_path, agents=[MATHBOT, MATHBOT.replace(name="cool", temperature=0.2, max_tokens=7)], temperature=0.9, max_tokens=64)

    assert {(r.sampling.temperature, r.sampling.max_tokens) for r in model.requests} == {(0.9, 64), (0.2, 7)}


def test_a_model_of_this_process_reads_a_prompt_once_for_all_its_samples(says: Any, tmp_path: Path):
    model = says(lambda request, index: str(index))
    model.in_process = True

    traces = collected(tmp_path)

    assert [request.n for request in model.requests] == [4, 4]
    assert [t["final_output"] for t in traces] == ["0", "1", "2", "3"] * 2


class Counting(ScriptedModel):
    """Counts how many calls are under way; each waits until as many are there as may be."""

    def __init__(self, most: int) -> None:
        super().__init__(by_seed)
        self.under_way = self.peak = 0
        self.full: asyncio.Event | None = None
        self.most = most

    async def complete(self, request: Request) -> Reply:
        self.full = self.full or asyncio.Event()
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        if self.under_way == self.most:
            self.full.set()
        await asyncio.wait_for(self.full.wait(), 20)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().complete(request)


def test_as_many_calls_are_under_way_as_may_be_and_no_more(says: Any, tmp_path: Path):
    model = says(Counting(5))

    collected(tmp_path, concurrency=5)

    assert model.peak == 5


def test_it_works_where_a_loop_is_running_already(says: Any, tmp_path: Path):
    says(by_seed)

    async def notebook() -> int:
        return len(collected(tmp_path))

    assert asyncio.run(notebook()) == 8


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "returned None"),
        (float("nan"), "returned nan"),
        (float("inf"), "returned inf"),
        ("0.5", "returned the text '0.5': return a number"),
        ([1], "return a number"),
    ],
)
def test_a_reward_that_is_no_number_is_unknown_and_not_zero(given: object, told: str):
    value, why = known_reward(given)

    assert value is None
    assert told in str(why)


def test_numbers_of_any_kind_are_rewards():
    import numpy

    assert [known_reward(given)[0] for given in (True, 2, -1.5, numpy.float32(0.5), numpy.bool_(True))] == [1.0, 2.0, -1.5, 0.5, 1.0]


def test_a_reward_function_that_raises_leaves_the_reward_unknown_and_is_told(says: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    says(by_seed)

    traces = collected(tmp_path, lambda trace: 1.0 if trace["prompt"] == "Solve 2+2" else trace["nope"])

    assert [t["reward"] for t in traces] == [1.0] * 4 + [None] * 4
    assert traces[-1]["reward_error"] == "reward_fn raised KeyError('nope')"
    assert "the rewards of 4 of 8 traces are unknown, mostly: reward_fn raised KeyError('nope')" in caplog.text


class Failing(ScriptedModel):
    async def complete(self, request: Request) -> Reply:
        if request.messages[-1].content == "Solve 10*5":
            raise ProviderError("no Ollama at 127.0.0.1: start it")
        return await super().complete(request)


def test_an_answer_that_does_not_come_is_a_trace_that_says_why(says: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    says(Failing(by_seed))

    traces = collected(tmp_path)

    assert [t["error"] for t in traces] == [None] * 4 + ["no Ollama at 127.0.0.1: start it"] * 4
    assert [t["reward"] for t in traces[4:]] == [None] * 4
    assert "4 of 8 attempts were not answered: no Ollama at 127.0.0.1" in caplog.text


def test_nothing_answered_at_all_is_an_error_with_its_reason(says: Any, tmp_path: Path):
    says(Failing(by_seed))

    with pytest.raises(ProviderError, match=r"none of the 4 attempts was answered: no Ollama at 127\.0\.0\.1: start it"):
        collected(tmp_path, tasks=TASKS[1:])


class CutOff(ScriptedModel):
    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        return reply.replace(completions=tuple(c.replace(finish="length") for c in reply.completions))


def test_an_answer_that_was_cut_off_says_so(says: Any, tmp_path: Path):
    says(CutOff(by_seed))

    assert {t["complete"] for t in collected(tmp_path)} == {False}


def rows_of(tmp_path: Path) -> list[dict[str, str]]:
    (path,) = (tmp_path / "logs").iterdir()
    assert path.name.startswith("rl_traces_20")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_traces_lie_in_a_csv_with_a_timestamp(says: Any, tmp_path: Path):
    says(by_seed)

    traces = collected(tmp_path)

    rows = rows_of(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert [(r["id"], r["final_output"], float(r["reward"])) for r in rows] == [(t["id"], t["final_output"], t["reward"]) for t in traces]
    assert rows[4]["task_metadata"] == '{"expected": "50", "source": "book"}'


def test_a_spreadsheet_runs_nothing_that_a_model_wrote_and_secrets_are_not_kept(says: Any, tmp_path: Path):
    secret = "sk-" + "a1" * 20
    says(lambda request, index: f"=HYPERLINK({secret})")

    traces = collected(tmp_path, tasks=TASKS[:1], max_iterations=1)

    said = rows_of(tmp_path)[0]["final_output"]
    assert said.startswith("'=HYPERLINK(")
    assert secret not in said
    assert secret in traces[0]["final_output"]


def test_no_csv_is_written_where_none_is_wanted(says: Any, tmp_path: Path):
    says(by_seed)

    collected(tmp_path, log_dir=None)

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_loses_the_csv_and_not_the_traces(
    says: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    says(by_seed)

    def full(*_: object) -> None:
        raise StoreError("can't write the file: no space left on device")

    monkeypatch.setattr(rollouts, "write_csv", full)

    assert len(collected(tmp_path)) == 8
    assert "the traces are not kept: can't write the file" in caplog.text


def test_what_was_answered_before_an_interruption_is_kept(says: Any, tmp_path: Path):
    says(by_seed)

    def stops(trace: dict[str, Any]) -> float:
        if trace["sample"] == 2:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path, stops)

    assert [row["reward"] for row in rows_of(tmp_path)] == ["1.0", "1.0", *[""] * 6]


def test_a_log_folder_that_cannot_be_made_is_told_before_anything_is_asked(says: Any, tmp_path: Path):
    model = says(by_seed)
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="can't make the log folder"):
        collected(tmp_path, log_dir=tmp_path / "file" / "logs")

    assert model.requests == []


def test_a_task_of_ours_brings_its_reference_and_the_side_it_stands_on(says: Any, tmp_path: Path):
    says(lambda request, index: "4")
    tasks = [Task(f"Solve {i}+1", Domain.MATH, str(i + 1), metadata={"unit": "m"}) for i in range(40)]

    traces = collected(tmp_path, tasks=tasks, max_iterations=1)

    assert traces[3]["task_metadata"] == {"expected": "4", "unit": "m"}
    assert [t["split"] for t in traces] == [split_of(task) for task in tasks]
    assert {Split.TRAIN.value, Split.GATE.value} <= {t["split"] for t in traces}


def test_tools_are_not_offered_and_that_is_told(says: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = says(by_seed)

    collected(tmp_path, agents=MATHBOT.replace(tools=("calculator",)))

    assert {request.messages[-1].content for request in model.requests} == {task["prompt"] for task in TASKS}
    assert "mathbot: tools are not offered" in caplog.text


async def asynchronous(trace: dict[str, Any]) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ({"tasks": []}, TaskError, "there are no tasks"),
        ({"tasks": "Solve 2+2"}, TaskError, "tasks is a list"),
        ({"tasks": TASKS[0]}, TaskError, "tasks is a list"),
        ({"tasks": [TASKS[0], {"expected": "4"}]}, TaskError, "task 2 is"),
        ({"tasks": [{"prompt": " "}]}, TaskError, "task 1 is"),
        ({"agents": []}, ConfigError, "there are no agents"),
        ({"agents": ["mathbot"]}, ConfigError, "'mathbot' is no agent"),
        ({"reward_fn": asynchronous}, ConfigError, "reward_fn is asynchronous"),
    ],
)
def test_what_can_not_be_collected_is_told_before_anything_is_asked(
    given: dict[str, Any], kind: type[RatchetError], told: str, says: Any, tmp_path: Path
):
    model = says(by_seed)

    with pytest.raises(kind, match=told):
        collected(tmp_path, **given)

    assert model.requests == []


def test_an_unknown_provider_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="no provider 'olama'"):
        collected(tmp_path, agents=NPC("bot", "Answer.", "qwen3:0.6b", "olama"))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("max_iterations", 0, ConfigError),
        ("concurrency", 0, ConfigError),
        ("min_reward_gap", 0.0, ConfigError),
        ("min_reward_gap", float("nan"), ConfigError),
        ("temperature", 3.0, ConfigError),
        ("length_ratio", 0.5, ConfigError),
        ("beta", 0.0, ConfigError),
        ("learning_rate", 0.0, TrainingError),
        ("num_train_epochs", 0, TrainingError),
    ],
)
def test_an_option_out_of_range_is_refused(option: str, value: float, kind: type[RatchetError]):
    with pytest.raises(kind, match=f"{option}|epochs"):
        RLConfig(**{option: value})


def test_agents_with_one_model_share_it_and_it_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    made: list[ScriptedModel] = []
    closed: list[ScriptedModel] = []

    class Closing(ScriptedModel):
        async def close(self) -> None:
            closed.append(self)

    def connect(spec: str, settings: Settings) -> Model:
        assert spec == "ollama:qwen3:0.6b"
        assert settings.REQUEST_CONCURRENCY == 40
        made.append(Closing(by_seed, name=spec))
        return made[-1]

    monkeypatch.setattr(rollouts, "connect", connect)

    collected(tmp_path, agents=[MATHBOT, MATHBOT.replace(name="other")], concurrency=40)

    assert len(made) == 1
    assert closed == made


def test_the_number_of_traces_is_logged_with_the_file(says: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "finetune.rollouts")
    says(by_seed)

    collected(tmp_path)

    (path,) = (tmp_path / "logs").iterdir()
    assert f"8 traces in {path}" in caplog.text


@pytest.mark.slow
def test_a_model_of_this_process_answers_the_same_again_for_the_same_seed(tmp_path: Path):
    agent = NPC("mathbot", "Be concise.", "embedded", "embedded", max_tokens=24)
    settings = Settings(_env_file=None, DEVICE="cpu", THREADS=1)

    first, again, other = (
        [t["final_output"] for t in collect_traces(TASKS, agent, correct, config(tmp_path, seed=seed), settings=settings)]
        for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other
    assert len(set(first)) > 2


def test_models_that_were_connected_are_closed_when_another_can_not_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    closed: list[str] = []

    class Closing(ScriptedModel):
        async def close(self) -> None:
            closed.append(self.name)

    def connect(spec: str, settings: Settings) -> Model:
        if spec == "ollama:missing":
            raise ProviderError("no such model")
        return Closing(by_seed, name=spec)

    monkeypatch.setattr(rollouts, "connect", connect)

    with pytest.raises(ProviderError, match="no such model"):
        collected(tmp_path, agents=[MATHBOT, MATHBOT.replace(model="missing")])

    assert closed == ["ollama:qwen3:0.6b"]
