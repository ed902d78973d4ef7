"""Traces for other programs: a CSV file that a spreadsheet can open without running what a model wrote."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.errors import StoreError
from core.types import Trace
from logs.reading import read_traces

RUNS_AS_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_json = json.JSONEncoder(ensure_ascii=False).encode


def export_csv(log_dir: str | Path, path: str | Path | None = None) -> Path:
    """One row a trace, oldest first, into `<log_dir>/traces.csv` or `path`. The file appears when it is whole.

    Text that a spreadsheet would take for a formula gets an apostrophe in front. Raises StoreError when there is no store or the
    file can't be written.
    """
    traces = read_traces(log_dir)
    target = Path(log_dir) / "traces.csv" if path is None else Path(path)
    part = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with part.open("x", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows([_cell(value(trace)) for value in COLUMNS.values()] for trace in traces)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise StoreError(f"can't write {target} ({error}): choose another file") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target


def _cell(value: Any) -> Any:
    """Numbers and blanks stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(RUNS_AS_FORMULA) else value


COLUMNS: dict[str, Callable[[Trace], Any]] = {
    "id": lambda t: t.id,
    "run_id": lambda t: t.run_id,
    "task_id": lambda t: t.task.id,
    "domain": lambda t: t.task.domain.value,
    "split": lambda t: t.split.value,
    "family": lambda t: t.task.family,
    "level": lambda t: t.task.level,
    "query": lambda t: t.task.prompt,
    "reference": lambda t: t.task.reference,
    "answer": lambda t: t.answer,
    "text": lambda t: t.text,
    "steps": lambda t: _json(t.steps),
    "outcome": lambda t: t.verdict.outcome.value,
    "score": lambda t: t.verdict.score,
    "reason": lambda t: t.verdict.reason,
    "evidence": lambda t: t.verdict.evidence.value,
    "verifier": lambda t: t.verdict.verifier,
    "verifier_version": lambda t: t.verdict.version,
    "verdict_ms": lambda t: t.verdict.milliseconds,
    "reward": lambda t: t.reward,
    "reward_parts": lambda t: _json(t.reward_parts),
    "reward_recipe": lambda t: t.reward_recipe,
    "isolation": lambda t: t.verdict.isolation,
    "complete": lambda t: t.complete,
    "worker": lambda t: t.worker,
    "directive": lambda t: t.directive,
    "model": lambda t: t.model,
    "fingerprint": lambda t: t.fingerprint,
    "node": lambda t: t.node,
    "calls": lambda t: t.usage.calls,
    "prompt_tokens": lambda t: t.usage.prompt_tokens,
    "completion_tokens": lambda t: t.usage.completion_tokens,
    "cost": lambda t: t.usage.cost,
    "seconds": lambda t: t.seconds,
    "created": lambda t: t.created,
    "metadata": lambda t: _json(t.task.metadata),
}
