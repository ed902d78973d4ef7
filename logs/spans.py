"""A run as OpenTelemetry spans: every name and attribute that is sent stands in this file. GenAI semantic conventions, version 1.41.0.

    invoke_workflow ratchet            the run: task, domain, strategy, usage
    └── invoke_agent math              the worker
        └── search lats                why it ended
            ├── chat qwen3:0.6b        one request to the model: n samples from one node
            │   ├── execute_tool calculator
            │   └── verdict math       with the event gen_ai.evaluation.result
            └── ...

Names under `gen_ai.` and `error.` are the convention's, those under `ratchet.` ours. No name of a span holds what was asked or written;
questions, answers, reasons and texts of errors are sent as attributes only where content is switched on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from core.types import Outcome, Record, Run, Trace

CONVENTIONS = "https://opentelemetry.io/schemas/1.41.0"
WORKFLOW = "ratchet"
IN_PROCESS = "ratchet"  # the provider of models that are served by Ratchet itself
MOST_TEXT = 20_000
MOST_SPANS = 2_000
MOST_NAME = 200
CALL = re.compile(r"^[ \t]*Action:[ \t]*([A-Za-z_]\w{0,63})[ \t]*\((.*)\)[ \t]*\n[ \t]*Observation:[ \t]?(.*)$", re.MULTILINE)
HEX_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")

Kind = Literal["internal", "client"]
Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Made(Record):
    """A span. Ids are numbers, times nanoseconds since 1970; `event` is what happened at its end, its name and its attributes."""

    name: str
    id: int
    parent: int | None
    start: int
    end: int
    attributes: Mapping[str, Value]
    kind: Kind = "internal"
    error: str | None = None
    event: tuple[str, Mapping[str, Value]] | None = None


@dataclass(slots=True)
class _Call:
    """One request: what was asked at its beginning, and how it ended."""

    asked: Mapping[str, Any]
    path: str
    start: int
    end: int
    timed: bool
    told: Mapping[str, Any] = field(default_factory=dict)
    failed: str | None = "unanswered"
    reason: str = ""


def trace_id_of(run_id: str) -> int:
    """A run's id is its trace's: 32 hex digits as they are, others by their hash."""
    return (
        int(run_id, 16) if HEX_ID.fullmatch(run_id) else int.from_bytes(blake2b(run_id.encode("utf-8", "replace"), digest_size=16).digest())
    )


def spans_of(run: Run, times: Sequence[int] = (), *, tools: Collection[str] = (), content: bool = False) -> list[Made]:
    """All spans of a run, parents before children, at most 2,000. A run that kept no events shows no requests.

    `times` are the nanoseconds of its events, none where nobody looked at the clock. `tools` are the names of those the worker has: a
    text that only looks like a call of another is none.
    """
    return _Spans(run, times if len(times) == len(run.events) else (), frozenset(tools), content).made()


def redacted(span: Made, clean: Callable[[str], str]) -> Made:
    """With every text through `clean`."""

    def cleaned(values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}

    event = span.event and (span.event[0], cleaned(span.event[1]))
    return span.replace(name=clean(span.name), attributes=cleaned(span.attributes), event=event)


class _Spans:
    def __init__(self, run: Run, times: Sequence[int], tools: frozenset[str], content: bool) -> None:
        self.run, self.times, self.tools, self.content = run, times, tools, content
        self.start = _nanoseconds(run.created)
        self.end = self.start + _nanoseconds(run.seconds)
        self.provider, self.model = _served_by(run.model)

    def made(self) -> list[Made]:
        calls = self._calls()
        top = [self._workflow(), self._agent(), self._search()]
        spans = [span for number, call in calls.items() for span in self._requests(number, call)]
        spans += [self._verdict(place, trace, calls) for place, trace in enumerate(self.run.traces)]
        return (top + spans)[:MOST_SPANS]

    def _id(self, *parts: object) -> int:
        return int.from_bytes(blake2b(repr((self.run.id, *parts)).encode("utf-8", "replace"), digest_size=8).digest()) or 1

    def _workflow(self) -> Made:
        run, best = self.run, next(iter(self.run.traces), None)
        about = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": WORKFLOW,
            "ratchet.run.id": run.id,
            "ratchet.task.id": run.task.id,
            "ratchet.task.domain": run.task.domain.value,
            "ratchet.task.level": run.task.level,
            "ratchet.task.family": run.task.family,
            "ratchet.routing.confidence": run.routing_confidence,
            "ratchet.verified": best is not None and best.verified,
            "ratchet.reward": None if best is None else best.reward,
            **self._used(run.usage.calls, run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.cost),
            **self._asked_and_answered(best),
        }
        return self._span("invoke_workflow " + WORKFLOW, None, about, error=self._error, ended=("workflow",))

    def _agent(self) -> Made:
        run, best = self.run, next(iter(self.run.traces), None)
        about = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": self.provider,
            "gen_ai.agent.name": run.worker,
            "gen_ai.request.model": self.model,
            "ratchet.model.fingerprint": run.fingerprint,
            **self._used(run.usage.calls, run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.cost),
            **self._asked_and_answered(best),
            **({"gen_ai.system_instructions": _json([_part(best.directive)])} if self.content and best else {}),
        }
        return self._span(f"invoke_agent {run.worker}", self._id("workflow"), about, error=self._error, ended=("agent",))

    def _search(self) -> Made:
        run = self.run
        about = {
            "ratchet.search.strategy": run.strategy,
            "ratchet.search.stopped": run.stopped,
            "ratchet.search.key": run.key,
            "ratchet.search.seed": str(run.seed),
            "ratchet.search.nodes": len(run.nodes),
            "ratchet.search.attempts": len(run.traces),
            "ratchet.search.pruned": sum(event["kind"] in ("prune", "cut") for event in run.events),
            "ratchet.error": _short(run.error) if self.content and run.error else None,
        }
        return self._span(f"search {run.strategy}", self._id("agent"), about, error=self._error, ended=("search",))

    @property
    def _error(self) -> str | None:
        return "run_failed" if self.run.error is not None else None

    def _calls(self) -> dict[int, _Call]:
        """Requests by the number of their ticket. Where nobody looked at the clock, all that is known is that they were in the search."""
        calls: dict[int, _Call] = {}
        for place, event in enumerate(self.run.events):
            kind, number, about = event["kind"], event["number"], event["data"]
            if kind == "ask":
                start = self.times[place] if self.times else self.start
                calls[number] = _Call(about, event["path"], start, max(start, self.end), bool(self.times))
            elif kind in ("tell", "fail", "cancel") and number in calls:
                call = calls[number]
                call.end = max(self.times[place], call.start) if self.times else call.end
                call.told = about if kind == "tell" else {}
                call.failed = {"tell": None, "fail": "provider_error", "cancel": "cancelled"}[kind]
                call.reason = str(about.get("reason", ""))
        return calls

    def _requests(self, number: int, call: _Call) -> list[Made]:
        used = call.told.get("usage", {})
        about = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "gen_ai.request.choice.count": call.asked.get("n") if call.asked.get("n") != 1 else None,
            "ratchet.search.ticket": number,
            "ratchet.search.node": call.path,
            "ratchet.search.reflect": True if call.asked.get("reflect") else None,
            "ratchet.cached": True if call.told.get("cached") else None,
            "ratchet.timed": call.timed,
            "ratchet.error": _short(call.reason) if self.content and call.reason else None,
            **self._used(used.get("calls"), used.get("prompt_tokens"), used.get("completion_tokens"), used.get("cost")),
            **self._messages(call),
        }
        kind: Kind = "internal" if self.provider == IN_PROCESS else "client"
        span = self._span(
            f"chat {self.model}",
            self._id("search"),
            about,
            error=call.failed,
            kind=kind,
            times=(call.start, call.end),
            ended=("call", number),
        )
        return [span, *self._tools(number, call)]

    def _tools(self, number: int, call: _Call) -> list[Made]:
        """When within its request a tool was called is not known."""
        found = [match for child in call.told.get("children", ()) for match in CALL.finditer(child["text"]) if match[1] in self.tools]
        spans = []
        for place, (name, arguments, result) in enumerate(match.groups() for match in found):
            about = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.arguments": _short(arguments) if self.content else None,
                "gen_ai.tool.call.result": _short(result) if self.content else None,
                "ratchet.timed": False,
            }
            error = "tool_error" if result.startswith("error:") else None
            times = (call.start, call.end)
            spans.append(
                self._span(f"execute_tool {name}", self._id("call", number), about, error=error, times=times, ended=("tool", number, place))
            )
        return spans

    def _verdict(self, place: int, trace: Trace, calls: Mapping[int, _Call]) -> Made:
        verdict = trace.verdict
        score = verdict.score if verdict.score is not None and math.isfinite(verdict.score) else None
        result = {
            "gen_ai.evaluation.name": verdict.verifier or "none",
            "gen_ai.evaluation.score.value": score,
            "gen_ai.evaluation.score.label": verdict.outcome.value,
            "gen_ai.evaluation.explanation": _short(verdict.reason) if self.content else None,
        }
        about = {
            **result,
            "ratchet.trace.id": trace.id,
            "ratchet.search.node": trace.node,
            "ratchet.evidence": verdict.evidence.value,
            "ratchet.verifier.version": verdict.version,
            "ratchet.isolation": verdict.isolation or None,
            "ratchet.reward": trace.reward,
            "ratchet.complete": trace.complete,
        }
        end = min(max(_nanoseconds(trace.created), self.start), self.end) if trace.created else self.end
        times = (max(end - _nanoseconds(verdict.milliseconds / 1e3), self.start), end)
        return self._span(
            f"verdict {verdict.verifier or 'none'}",
            self._parent(trace, calls),
            about,
            error="verifier_error" if verdict.outcome is Outcome.ERROR else None,
            times=times,
            ended=("verdict", place),
            event=("gen_ai.evaluation.result", _known(result)),
        )

    def _parent(self, trace: Trace, calls: Mapping[int, _Call]) -> int:
        """The request that finished the attempt, where it is known; the search otherwise."""
        path, _, index = trace.node.rpartition(".")
        if index.isdecimal():
            for number, call in calls.items():
                first, n = call.asked.get("first", 0), call.asked.get("n", 0)
                if call.path == path and first <= int(index) < first + n and not call.asked.get("reflect"):
                    return self._id("call", number)
        return self._id("search")

    def _used(self, calls: int | None, prompt: int | None, completion: int | None, cost: float | None) -> dict[str, Value | None]:
        return {
            "gen_ai.usage.input_tokens": prompt,
            "gen_ai.usage.output_tokens": completion,
            "ratchet.usage.requests": calls,
            "ratchet.usage.cost": cost,
        }

    def _asked_and_answered(self, best: Trace | None) -> dict[str, str]:
        if not self.content:
            return {}
        asked = {"gen_ai.input.messages": _json([_message("user", self.run.task.prompt)])}
        return asked | ({"gen_ai.output.messages": _json([_message("assistant", best.text, "stop")])} if best else {})

    def _messages(self, call: _Call) -> dict[str, str]:
        """What the worker had written stands last among the input, as the assistant's own words that are to be continued."""
        if not self.content:
            return {}
        parts = call.path.split(".") if call.path else []
        above = {"", *(".".join(parts[: place + 1]) for place in range(len(parts)))}
        written = "".join(node.text for node in self.run.nodes if node.path in above)
        said = [_message("user", self.run.task.prompt), *([_message("assistant", written)] if written else [])]
        children = call.told.get("children", ())
        answers = [_message("assistant", child["text"], "stop", MOST_TEXT // len(children)) for child in children]
        return {"gen_ai.input.messages": _json(said), "gen_ai.output.messages": _json(answers)}

    def _span(
        self,
        name: str,
        parent: int | None,
        about: Mapping[str, Any],
        *,
        ended: tuple[object, ...],
        error: str | None,
        kind: Kind = "internal",
        times: tuple[int, int] | None = None,
        event: tuple[str, Mapping[str, Value]] | None = None,
    ) -> Made:
        start, end = times or (self.start, self.end)
        attributes = _known({**about, "error.type": error})
        return Made(str(_sendable(name))[:MOST_NAME], self._id(*ended), parent, start, max(start, end), attributes, kind, error, event)


def _served_by(model: str) -> tuple[str, str]:
    """(provider, name) of a model's name: `litellm:openai/gpt-4o-mini` is asked of openai, a directory is served in process."""
    provider, colon, name = model.partition(":")
    if colon and provider == "litellm":
        vendor, slash, short = name.partition("/")
        return (vendor, short) if slash else (provider, name)
    return (provider, name) if colon and provider == "ollama" else (IN_PROCESS, model)


def _known(about: Mapping[str, Any]) -> dict[str, Value]:
    return {name: _sendable(value) for name, value in about.items() if value is not None}


def _sendable(value: Any) -> Value:
    """What the protocol holds: no halves of surrogate pairs, whole numbers of 64 bits. All else would cost a batch."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool | float):
        return value
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else str(value)[:MOST_NAME]


def _short(text: str, most: int = MOST_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} letters)"


def _message(role: str, text: str, finish: str | None = None, most: int = MOST_TEXT) -> dict[str, Any]:
    return {"role": role, "parts": [_part(text, most)], **({"finish_reason": finish} if finish else {})}


def _part(text: str, most: int = MOST_TEXT) -> dict[str, str]:
    return {"type": "text", "content": _short(text, most)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _nanoseconds(seconds: float) -> int:
    """Whole microseconds, so that the same time is the same number; never below zero, nor past the year 2200."""
    return round(min(max(seconds, 0.0), 7.26e9) * 1e6) * 1_000 if math.isfinite(seconds) else 0
