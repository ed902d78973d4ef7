"""A run as one line of JSON, and back: how stores are moved and kept, and how tasks and traces of other programs come in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from core.errors import StoreError
from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Split, Task, Trace, Usage, Verdict

FORMAT = "ratchet.run/1"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def line_of(run: Run) -> str:
    """A run as it was read from a store, with the line's end. What is not finite is null."""
    values = run.as_dict()
    for node in values["nodes"]:
        node["value"] = node["value"] if math.isfinite(node["value"]) else None
    for place, trace in enumerate(run.traces):
        if trace.task == run.task:
            del values["traces"][place]["task"]
    return _encode({"format": FORMAT, **values}) + "\n"


def run_from(values: Any) -> Run:
    """The run of a line. Raises StoreError that says what is missing or wrong."""
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise StoreError(f"it is no run of ours: its format is not {FORMAT!r}")
    try:
        task = _task(values["task"])
        nodes = tuple(_node(node) for node in values["nodes"])
        traces = tuple(_trace(trace, task) for trace in values["traces"])
        rest = {k: v for k, v in values.items() if k not in ("format", "task", "nodes", "traces", "usage", "events")}
        run = Run(task=task, nodes=nodes, traces=traces, usage=Usage(**values["usage"]), events=tuple(values["events"]), **rest)
    except KeyError as error:
        raise StoreError(f"{error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreError(str(error)) from error
    return run


def _task(values: Mapping[str, Any]) -> Task:
    return Task(**{**values, "domain": Domain(values["domain"])})


def _node(values: Mapping[str, Any]) -> NodeRecord:
    value = math.nan if values["value"] is None else float(values["value"])
    outcome = None if values["outcome"] is None else Outcome(values["outcome"])
    return NodeRecord(**{**values, "value": value, "outcome": outcome})


def _trace(values: Mapping[str, Any], task: Task) -> Trace:
    verdict = values["verdict"]
    return Trace(
        **{
            **values,
            "task": _task(values["task"]) if "task" in values else task,
            "steps": tuple(values["steps"]),
            "verdict": Verdict(**{**verdict, "outcome": Outcome(verdict["outcome"]), "evidence": Evidence(verdict["evidence"])}),
            "usage": Usage(**values["usage"]),
            "split": Split(values["split"]),
        }
    )
