"""GRPO with the embedded model: which questions, what an answer earns, what stops a run, and the folder that is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, run_of, solved

from core.config import Settings
from core.errors import TrainingError
from core.tasks.problem import Problem
from core.types import Domain, Evidence, Outcome, Split, Task, Verdict
from finetune.adapters import read_manifest
from finetune.grpo import Generation, Scored, grpo_trainer, prompts_of, task_of, train_grpo, verified_reward, whole_groups
from finetune.rows import Prompt
from finetune.trainers import grpo
from finetune.training import TrainConfig
from logs.store import TraceStore

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
slow = pytest.mark.slow
PROBLEMS = problems(6)
PROMPTS = prompts_of([attempt for p in PROBLEMS for attempt in (solved(p), failed(p))])
FEW = Generation(num_generations=4, max_completion_length=24)
SETTINGS = Settings(_env_file=None)
UNKNOWN = Verdict(Outcome.ABSTAIN, None, "no reference")


def config(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig("embedded", folder, epochs=1, batch_size=4, learning_rate=3e-4, device="cpu").replace(**changes)


def test_there_is_one_question_for_each_task_with_what_its_verifier_needs():
    assert [p.task_id for p in PROMPTS] == [p.task.id for p in PROBLEMS]
    assert {p.pass_rate for p in PROMPTS} == {0.5}
    assert [(task_of(p).prompt, task_of(p).reference, task_of(p).domain) for p in PROMPTS] == [
        (p.task.prompt, p.task.reference, p.task.domain) for p in PROBLEMS
    ]


def times(problem: Problem, kind: Any, count: int) -> list[Any]:
    return [kind(problem, id=f"{problem.task.id}{i}", text=f"{kind(problem).text}{' ' * i}{'.' * i}") for i in range(count)]


def test_questions_that_always_or_never_pass_are_left_out():
    always, never, too_few = PROBLEMS[:3]

    found = prompts_of([*times(always, solved, 4), *times(never, failed, 4), *times(too_few, solved, 3)])

    assert [p.task_id for p in found] == [too_few.task.id]


def test_what_nobody_can_judge_and_what_is_held_out_is_no_question():
    held_out = problems(3, split=Split.GATE)

    found = prompts_of([solved(PROBLEMS[0], verdict=UNKNOWN), solved(PROBLEMS[1]), *map(solved, held_out)])

    assert [p.task_id for p in found] == [PROBLEMS[1].task.id]


def test_an_answer_earns_what_its_verifier_finds():
    reward = verified_reward(SETTINGS)
    prompt, problem = PROMPTS[0], PROBLEMS[0]

    right, wrong = (reward(prompt, kind(problem).text, True) for kind in (solved, failed))
    cut_off = reward(prompt, solved(problem).text, False)

    assert right == 1.0
    assert wrong is not None
    assert wrong < 0.5
    assert cut_off is not None
    assert cut_off < 0.5


def test_what_can_not_be_judged_earns_nothing_known_and_not_zero():
    story = Prompt("Write.", "Tell me something nice.", "t", "i", "creative", None, "{}", None)

    assert verified_reward(SETTINGS)(story, "Once upon a time.", True) is None


def test_the_whole_task_is_asked_where_it_is_known():
    prompt = PROMPTS[0].replace(reference="wrong")

    assert verified_reward(SETTINGS, {prompt.task_id: PROBLEMS[0].task})(prompt, solved(PROBLEMS[0]).text, True) == 1.0


def scored(values: Sequence[float | None]) -> Scored:
    return Scored(PROMPTS, lambda prompt, text, complete: values[int(text)])


def test_rewards_come_in_the_order_of_the_answers_and_unknown_ones_stay_so():
    found = scored([1.0, None, float("nan"), 0.5])(completions=["0", "1", "2", "3"], completion_ids=[[1]] * 4, place=[0] * 4)

    assert found == [1.0, None, None, 0.5]


def test_a_batch_of_which_nothing_is_known_stops_the_run():
    with pytest.raises(TrainingError, match=r"none of 2 answers could be judged, the first of them to"):
        scored([None, None])(completions=["0", "1"], completion_ids=[[1], [1]], place=[0, 0])


def test_an_answer_is_whole_when_it_ends_with_a_stop_token():
    seen: list[bool] = []
    reward = Scored(PROMPTS, lambda prompt, text, complete: float(seen.append(complete) or 1.0))
    reward.ends = frozenset({7})

    reward(completions=["a"], completion_ids=[[5, 7]], place=[0])
    reward(completions=["a"], completion_ids=[[7, 5]], place=[0])
    reward(completions=[[{"role": "assistant", "content": ""}]], completion_ids=[[]], place=[0])

    assert seen == [True, False, False]


@pytest.mark.parametrize(
    ("batch", "gathered", "group", "expected"), [(4, 1, 8, 2), (8, 1, 8, 1), (16, 1, 8, 1), (3, 1, 8, 8), (4, 3, 8, 4), (6, 1, 4, 2)]
)
def test_a_step_holds_whole_groups(batch: int, gathered: int, group: int, expected: int):
    assert whole_groups(batch, gathered, group) == expected
    assert batch * expected % group == 0


@pytest.mark.parametrize(
    "wrong", [{"num_generations": 1}, {"max_completion_length": 0}, {"temperature": 0.0}, {"top_p": 0.0}, {"kl": -1.0}]
)
def test_an_option_out_of_range_is_refused(wrong: dict[str, Any]):
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        Generation(**wrong)


def test_no_question_is_told(tmp_path: Path):
    with pytest.raises(TrainingError, match="no questions to train on"):
        train_grpo([], config(tmp_path))


def test_traces_of_tasks_that_are_always_solved_are_no_questions(tmp_path: Path):
    traces = [trace for p in PROBLEMS for trace in times(p, solved, 4)]

    with pytest.raises(TrainingError, match="no questions to train on"):
        grpo(traces, traces, config(tmp_path), None, 0.7)


@slow
@pytest.mark.parametrize(
    ("changes", "generation", "told"),
    [
        ({"batch_size": 40}, FEW, "a step takes 10 questions and there are 6"),
        ({"max_length": 30}, FEW, "there is room for 30"),
        ({}, FEW.replace(max_completion_length=500), "there is room for 512 .*the model takes 512"),
    ],
)
def test_what_does_not_fit_is_told_before_training(changes: dict[str, Any], generation: Generation, told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        grpo_trainer(PROMPTS, [], config(tmp_path, **changes), lambda *_: 1.0, generation)


@slow
def test_unknown_rewards_stop_the_run_of_the_library_too(tmp_path: Path):
    with pytest.raises(TrainingError, match="none of 4 answers could be judged"):
        train_grpo(PROMPTS, config(tmp_path), lambda *_: None, FEW)

    assert not (tmp_path / "adapter_model.safetensors").exists()


@slow
def test_rewards_that_never_differ_teach_nothing_and_that_is_told(tmp_path: Path):
    with pytest.raises(TrainingError, match="all answers to a question earned the same reward"):
        train_grpo(PROMPTS[:3], config(tmp_path), lambda *_: 0.5, FEW)


@slow
def test_the_model_learns_what_is_rewarded(tmp_path: Path):
    def short(prompt: Prompt, text: str, complete: bool) -> float:
        return -len(text) / 50

    metrics = train_grpo(PROMPTS, config(tmp_path, epochs=6, learning_rate=3e-3), short, FEW.replace(kl=0.01))

    assert metrics["reward_last"] > metrics["reward_first"]
    assert metrics["prompts"] + metrics["held"] == len(PROMPTS)
    assert not (tmp_path / "ref").exists()


@slow
def test_logged_traces_train_an_adapter_which_says_what_it_was_made_of(tmp_path: Path):
    from finetune_setup import finetune_worker

    asked = {"num_generations": 4, "max_completion_length": 60}
    with TraceStore(tmp_path / "logs") as store:
        for problem in PROBLEMS:
            store.put(run_of(solved(problem), failed(problem)))
        store.flush()

    place = tmp_path / "adapter", tmp_path / "logs"
    with pytest.raises(TrainingError, match="num_generations is 1"):
        finetune_worker("embedded", "math", *place, 0.7, 1, 4, 1e-3, trainer="grpo", device="cpu", num_generations=1)
    folder = Path(finetune_worker("embedded", "math", *place, 0.7, 1, 4, 1e-3, trainer="grpo", device="cpu", **asked))

    manifest = read_manifest(folder)
    assert manifest.trainer == "grpo"
    assert set(manifest.trace_ids) == {p.trace_id for p in PROMPTS}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("rewards/verified/mean" in line for line in lines)
    assert any("eval_loss" in line for line in lines)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert not [name for name in names if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl") or name.startswith("ref")]


def test_a_row_knows_its_task_as_far_as_a_row_can():
    task = Task("Sort it.", Domain.CODE, metadata={"entry_point": "f", "tests": ["assert f() == 1"]})
    verdict = Verdict(Outcome.PASS, 1.0, "ran", Evidence.EXECUTION)

    (prompt,) = prompts_of([solved(PROBLEMS[0], task=task, verdict=verdict)])

    assert task_of(prompt).metadata == task.metadata
