"""Runs to put into a store: each is made of its number alone, so that a reader can know what the writer wrote."""

from __future__ import annotations

from typing import Any

from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Task, Trace, Usage, Verdict


def a_run(number: int = 1, *, task: Task | None = None, nodes: int = 3, attempts: int = 2, **changes: Any) -> Run:
    task = task or Task(f"What is {number}+1?", Domain.MATH, reference=str(number + 1), key=f"math:{number}+1", level=1, family="sum")
    run_id = f"run-{number:06d}"
    tree = tuple(NodeRecord("0." * i, f"step {i} of {number}", nodes - i, 1 / (i + 1), i == nodes - 1) for i in range(nodes))
    traces = tuple(a_trace(run_id, rank, task=task, created=float(number)) for rank in range(attempts))
    usage = Usage(calls=4, prompt_tokens=10, completion_tokens=20)
    run = Run(run_id, task, "math", "embedded", "f1", "lats", number, 0.9, tree, traces, usage, 0.5, float(number))
    return run.replace(**changes)


def a_trace(run_id: str = "run-000001", rank: int = 0, **changes: Any) -> Trace:
    passed = rank == 0
    trace = Trace(
        id=f"{run_id}-{rank}",
        run_id=run_id,
        task=Task("What is 1+1?", Domain.MATH),
        worker="math",
        directive="Solve it.",
        model="embedded",
        fingerprint="f1",
        text="1+1=2\nso 2",
        answer="2",
        steps=("1+1=2", "so 2"),
        verdict=Verdict(Outcome.PASS if passed else Outcome.FAIL, float(passed), "equal", Evidence.REFERENCE, "math", milliseconds=0.5),
        reward=1.0 if passed else 0.25,
        reward_parts={"correct": float(passed)},
        node="0.0",
        usage=Usage(1, 5, 10, 0.001),
        seconds=0.25,
    )
    return trace.replace(**changes)
