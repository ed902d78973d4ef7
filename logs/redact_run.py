"""Every text of a run through one function, and keys that hold no secret yet leave a task on the side of the split where it stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from core.tasks.splits import KEPT_SPLIT, split_of
from core.types import NodeRecord, Run, Split, Task, Trace, Verdict, normalise_prompt

FIELD_PLACEHOLDER = "[redacted:field]"

Clean = Callable[[str], str]
IsSecret = Callable[[str], bool]


def texts_of(run: Run) -> Iterator[str]:
    """All texts of a run that somebody wrote or said."""
    yield from _texts_of_task(run.task)
    yield from (node.text for node in run.nodes)
    yield from (text for text in (run.model, run.worker, run.error, run.stopped) if text)
    yield from strings_of(run.events)
    for trace in run.traces:
        if trace.task is not run.task:
            yield from _texts_of_task(trace.task)
        yield from (trace.text, trace.answer or "", trace.directive, *trace.steps, trace.worker, trace.model)
        yield trace.verdict.reason
        yield from strings_of(trace.verdict.details)


def redacted_run(run: Run, clean: Clean, is_secret: IsSecret) -> Run:
    """A copy with every text through `clean`, and placeholders for what stands in JSON under a secret's name."""
    tasks: dict[int, Task] = {}

    def task_of(task: Task) -> Task:
        if id(task) not in tasks:
            tasks[id(task)] = _redacted_task(task, clean, is_secret)
        return tasks[id(task)]

    return run.replace(
        task=task_of(run.task),
        worker=clean(run.worker),
        model=clean(run.model),
        nodes=tuple(_redacted_node(node, clean) for node in run.nodes),
        traces=tuple(_redacted_trace(trace, task_of(trace.task), clean, is_secret) for trace in run.traces),
        error=_or_none(run.error, clean),
        stopped=_or_none(run.stopped, clean),
        events=tuple(redacted_plain(event, clean, is_secret) for event in run.events),
    )


def redacted_plain(value: Any, clean: Clean, is_secret: IsSecret, secret: bool = False) -> Any:
    """The texts in JSON through `clean`; foreign objects as their text, which is what would be stored of them."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {clean(str(key)): redacted_plain(each, clean, is_secret, secret or is_secret(str(key))) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted_plain(each, clean, is_secret, secret) for each in value]
    return FIELD_PLACEHOLDER if secret and str(value) else clean(str(value))


def kept_split(task: Task) -> Split | None:
    """The side on which a task stood before its key was redacted; None for a key that never was."""
    mark = KEPT_SPLIT.search(task.key)
    return Split(mark[1]) if mark else None


def _redacted_task(task: Task, clean: Clean, is_secret: IsSecret) -> Task:
    """Two questions that differ in their secrets alone become one task, unless they stood on different sides of the split."""
    prompt = clean(task.prompt)
    derived = task.key == normalise_prompt(task.prompt)
    key = normalise_prompt(prompt) if derived and prompt != task.prompt else _clean_key(task, clean)
    if key != task.key:
        key += f" [redacted:split-{split_of(task).value}]"
    return task.replace(
        prompt=prompt,
        key=key,
        reference=_or_none(task.reference, clean),
        family=_or_none(task.family, clean),
        metadata=redacted_plain(task.metadata, clean, is_secret),
    )


def _clean_key(task: Task, clean: Clean) -> str:
    """A key may be a part of the prompt in small letters, in which a secret has lost its form."""
    key = clean(task.key)
    small = task.key.casefold()
    for word in re.findall(r"\S{8,}", task.prompt):
        cleaned = clean(word)
        if cleaned != word and word.casefold() in small:
            key = re.sub(re.escape(word), lambda _, to=cleaned: to, key, flags=re.IGNORECASE)  # type: ignore[misc]
    return key


def _redacted_node(node: NodeRecord, clean: Clean) -> NodeRecord:
    text = clean(node.text)
    return node if text == node.text else node.replace(text=text)


def _redacted_trace(trace: Trace, task: Task, clean: Clean, is_secret: IsSecret) -> Trace:
    return trace.replace(
        task=task,
        worker=clean(trace.worker),
        directive=clean(trace.directive),
        model=clean(trace.model),
        text=clean(trace.text),
        answer=_or_none(trace.answer, clean),
        steps=tuple(clean(step) for step in trace.steps),
        verdict=redacted_verdict(trace.verdict, clean, is_secret),
    )


def redacted_verdict(verdict: Verdict, clean: Clean, is_secret: IsSecret) -> Verdict:
    """A verdict quotes what it judged."""
    return verdict.replace(reason=clean(verdict.reason), details=redacted_plain(verdict.details, clean, is_secret))


def _texts_of_task(task: Task) -> Iterator[str]:
    yield from (task.prompt, task.key, task.reference or "", task.family or "")
    yield from strings_of(task.metadata)


def strings_of(value: Any) -> Iterator[str]:
    """All texts in JSON, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from strings_of(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from strings_of(each)
    elif value is not None and not isinstance(value, bool | int | float):
        yield str(value)


def _or_none(text: str | None, clean: Clean) -> str | None:
    return None if text is None else clean(text)
