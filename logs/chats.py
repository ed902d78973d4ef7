"""A line of a chat log as a run: the last question is the task, each answer to it a trace without a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.answers import final_answer
from core.errors import StoreError, TaskError
from core.tasks.splits import split_of
from core.types import Domain, Outcome, Run, Task, Trace, Usage, Verdict

UNJUDGED = Verdict(Outcome.ABSTAIN, None, "imported and not judged yet: run `ratchet audit --rescore`", verifier="import")
SYSTEM = ("system", "developer")
KNOWN = ("id", "created", "model", "reference", "expected", "domain", "key", "family")


def runs_of_chat(values: Any, line_id: str, route: Callable[[str], Domain], now: float) -> list[Run]:
    """None or one. Raises StoreError when the line is no chat, and TaskError when it is one that nothing can be learnt from."""
    if not isinstance(values, Mapping):
        raise StoreError('a line is a JSON object: {"messages": [...]}')
    request, response = _parts(values)
    turns = _turns(request.get("messages"))
    answers = _answers(response) if response is not None else []
    if not answers:
        if not turns or turns[-1][0] != "assistant":
            raise TaskError("no answer in it")
        answers = [(turns.pop()[1], True)]
    directive = "\n\n".join(text for role, text in turns if role in SYSTEM)
    task = _task([(role, text) for role, text in turns if role not in SYSTEM], values, route)
    return [_run(task, directive, answers, values, request, response or {}, line_id, now)]


def _run(
    task: Task,
    directive: str,
    answers: list[tuple[str, bool]],
    values: Mapping[str, Any],
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    line_id: str,
    now: float,
) -> Run:
    run_id = f"import-{line_id}"
    model = _first_text(response.get("model"), request.get("model"), values.get("model")) or "unknown"
    told: list[Any] = [c for c in (response.get("created"), values.get("created")) if _is_number(c)]
    created = float(told[0]) if told else now
    usage = _usage(response.get("usage"))
    traces = tuple(
        Trace(
            id=f"{run_id}-{place}",
            run_id=run_id,
            task=task,
            worker=task.domain.value,
            directive=directive,
            model=model,
            fingerprint=None,
            text=text,
            answer=final_answer(text),
            steps=tuple(line for line in text.splitlines() if line.strip()),
            verdict=UNJUDGED,
            reward=None,
            complete=complete,
            usage=usage if place == 0 else Usage(),
            created=created,
            split=split_of(task),
        )
        for place, (text, complete) in enumerate(answers)
    )
    return Run(run_id, task, task.domain.value, model, None, "imported", 0, 1.0, (), traces, usage, 0.0, created)


def _parts(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The request and the response, wherever a log keeps them; a batch has each in a `body`."""
    request, response = values.get("request", values.get("body", values)), values.get("response")
    if isinstance(request, Mapping) and isinstance(request.get("body"), Mapping):
        request = request["body"]
    if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
        response = response["body"]
    if not isinstance(request, Mapping) or not isinstance(request.get("messages"), list):
        raise StoreError('it has no "messages": a line is {"messages": [...]} or {"request": {"messages": ...}, "response": ...}')
    if response is not None and not isinstance(response, Mapping):
        raise StoreError(f"its response is no JSON object but {type(response).__name__}")
    return request, response


def _turns(messages: Any) -> list[tuple[str, str]]:
    turns = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise StoreError('a message is {"role": ..., "content": ...}')
        turns.append((message["role"], _said(message)))
    return turns


def _said(message: Mapping[str, Any]) -> str:
    """What a message says, and what tools it calls: a line for each, as our own workers write them, with the arguments as they came."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise StoreError("tool_calls is no list")
    lines = [_content(message.get("content")), *map(_called, calls)]
    return "\n".join(line for line in lines if line)


def _called(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise StoreError('a call of a tool is {"function": {"name": ..., "arguments": ...}}')
    arguments = function.get("arguments") or "{}"
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"Action: {function['name']}({' '.join(told.splitlines())})"


def _content(content: Any) -> str:
    """A text, or the texts among its parts. What is no text, an image or a call, can't be learnt from here."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
        raise TaskError("a message that is not text")
    return "\n".join(part["text"] for part in parts)


def _answers(response: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Texts, and whether each came to its end."""
    choices = response.get("choices")
    if not isinstance(choices, list):
        raise StoreError('its response has no "choices"')
    found = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(message, Mapping):
            raise StoreError('a choice is {"message": {"content": ...}, "finish_reason": ...}')
        found.append((_said(message), choice.get("finish_reason") in (None, "stop", "tool_calls")))
    return [(text, complete) for text, complete in found if text.strip()]


def _task(turns: Sequence[tuple[str, str]], values: Mapping[str, Any], route: Callable[[str], Domain]) -> Task:
    """One question is asked as it was; a conversation is told turn by turn."""
    if not turns or turns[-1][0] != "user" or not turns[-1][1].strip():
        raise TaskError("no question before the answer")
    question = turns[-1][1]
    prompt = question if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)
    more = values.get("metadata")
    more = more if isinstance(more, Mapping) else {}
    reference = _first_text(*(source.get(name) for source in (values, more) for name in ("reference", "expected")))
    domain = _first_text(values.get("domain"), more.get("domain")) or route(question)
    if domain not in list(Domain):
        raise StoreError(f"there is no domain {domain!r}: choose one of {', '.join(Domain)}, or leave it out")
    metadata = {name: value for name, value in more.items() if name not in KNOWN}
    key = _first_text(values.get("key"), more.get("key")) or ""
    return Task(prompt, Domain(domain), reference, key, family=_first_text(values.get("family"), more.get("family")), metadata=metadata)


def _usage(values: Any) -> Usage:
    values = values if isinstance(values, Mapping) else {}
    prompt, completion = (values.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(1, int(prompt) if _is_number(prompt) else 0, int(completion) if _is_number(completion) else 0)


def _first_text(*values: Any) -> str | None:
    return next((str(v) for v in values if (isinstance(v, str) and v.strip()) or _is_number(v)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
