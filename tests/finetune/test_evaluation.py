"""Evaluation: greedy, one shot, right or wrong by the domain's verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agents.workers import hire
from core.config import Settings
from core.errors import TaskError
from core.providers.scripted import ScriptedModel
from core.types import Completion, Domain, Model, Reply, Request, Task, Usage
from finetune.evaluation import Evaluation, evaluate

WORKER = hire(Domain.MATH, Settings(_env_file=None))
TASKS = [
    Task(f"What is {i}+{i}?", Domain.MATH, reference=str(2 * i), level=1 + i % 2, family="small" if i < 5 else "large") for i in range(1, 9)
]


class CutOff:
    """Writes the right answer and is stopped by the token limit."""

    name = "cut off"
    fingerprint = None

    async def complete(self, request: Request) -> Reply:
        return Reply((Completion(in_full(request, 0), "length"),), Usage())

    async def close(self) -> None:
        """There is nothing to give back."""


def in_full(request: Request, index: int) -> str:
    number = int(request.messages[-1].content.split("+")[1].rstrip("?"))
    return f"{number} + {number} = {2 * number}\nAnswer: {2 * number}"


def below_five(request: Request, index: int) -> str:
    text = in_full(request, index)
    return text if int(text.split()[0]) < 5 else "Answer: -1"


def evaluation_of(model: Model, tasks: list[Task] = TASKS, on_answer: Callable[[], None] | None = None) -> Evaluation:
    return asyncio.run(evaluate(model, WORKER, tasks, banned_start="Answer", max_tokens=50, on_answer=on_answer))


def test_right_answers_are_counted_and_texts_kept_in_order():
    found = evaluation_of(ScriptedModel(below_five))

    assert found.right == (True, True, True, True, False, False, False, False)
    assert found.texts[0] == "1 + 1 = 2\nAnswer: 2"
    assert found.tasks == tuple(TASKS)
    assert (found.overall.right, found.overall.n) == (4, 8)


def test_each_task_is_asked_once_greedily_in_the_words_of_the_worker():
    model, told = ScriptedModel(in_full), []

    evaluation_of(model, on_answer=lambda: told.append(1))

    assert [request.messages for request in model.requests] == [WORKER.messages(task.prompt) for task in TASKS]
    assert {(r.n, r.sampling.temperature, r.sampling.max_tokens, r.banned_start) for r in model.requests} == {(1, 0.0, 50, "Answer")}
    assert len(told) == len(TASKS)


def test_an_answer_that_was_cut_off_is_wrong():
    assert not any(evaluation_of(CutOff()).right)


def test_accuracy_is_told_by_level_and_family():
    found = evaluation_of(ScriptedModel(below_five))

    assert {name: (i.right, i.n) for name, i in found.by(lambda task: task.level).items()} == {"1": (2, 4), "2": (2, 4)}
    assert {name: (i.right, i.n) for name, i in found.by(lambda task: task.family).items()} == {"large": (0, 4), "small": (4, 4)}


def test_a_task_without_reference_cannot_be_evaluated():
    with pytest.raises(TaskError, match="1 of 9 tasks have nothing to verify an answer by"):
        evaluation_of(ScriptedModel(in_full), [*TASKS, Task("Why?", Domain.MATH)])


def test_no_tasks_cannot_be_evaluated():
    with pytest.raises(TaskError, match="at least one task"):
        evaluation_of(ScriptedModel([]), [])
