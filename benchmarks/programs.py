"""V3: how long the verifier takes for the reference solutions of 164 programming problems, against one bare interpreter a problem."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.record import Figure, figure
from core.tasks.programming import Exercise, problems
from core.types import Task
from core.verifiers.code.verifier import verify

RUNS = 5
OF = 164
SECONDS = 1.5
TARGET = f"{OF} pass within {SECONDS} s"


def measure(ids: Sequence[str]) -> list[Figure]:
    """All solutions one after the other from one thread, by the check(candidate) text as HumanEval has it, then by the examples."""
    bare = _seconds(lambda exercise: _bare(exercise))
    return [_by(ids[0], "test", "check(candidate) text", bare), _by(ids[0], "tests", "examples", bare)]


def _by(id: str, kind: str, name: str, bare: float) -> Figure:
    tasks = {exercise.task.id: _with(exercise.task, kind) for exercise in problems()}
    runs, held = [], []
    for _ in range(RUNS + 1):
        passed: list[bool] = []
        runs.append(_seconds(lambda exercise, passed=passed: passed.append(_passes(exercise, tasks[exercise.task.id]))))  # type: ignore[misc]
        held.append(all(passed))
    warm = runs[1:]
    met = all(held) and sorted(warm)[len(warm) // 2] <= SECONDS
    versus = {"python -I, a process each, nothing isolated": round(bare, 3), "first run, with the start of the sandbox": round(runs[0], 3)}
    return figure(id, f"{len(problems())} solutions by {name}, scaled to {OF}", warm, "s", TARGET, met, versus)


def _seconds(judge: Callable[[Exercise], object]) -> float:
    started = time.perf_counter()
    for exercise in problems():
        judge(exercise)
    return (time.perf_counter() - started) * OF / len(problems())


def _with(task: Task, kind: str) -> Task:
    kept = {"entry_point", "setup", kind}
    return task.replace(metadata={name: value for name, value in task.metadata.items() if name in kept})


def _passes(exercise: Exercise, task: Task) -> bool:
    return verify(task, f"```python\n{exercise.solution}```").passed


def _bare(exercise: Exercise) -> None:
    program = f"{exercise.solution}\n{exercise.task.metadata['test']}\ncheck({exercise.task.metadata['entry_point']})"
    subprocess.run([sys.executable, "-I", "-c", program], check=True)
