"""Telemetry as a collector receives it: OTLP over HTTP, decoded with the protocol's own classes."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_runs import a_run

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason='pip install "ratchet-agents[otel]"')

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from core.config import Settings
from core.errors import ConfigError
from core.inference import Inference, Question
from core.judging import Judging
from core.search.events import Event
from core.types import Domain, Evidence, NodeRecord, Outcome, Run, Task, Usage, Verdict
from logs.otel import Heard, Telemetry
from logs.spans import CONVENTIONS, spans_of, trace_id_of

SECRET = "sk-ant-" + "a1B2c3D4" * 4
TOLD = {"calls": 1, "prompt_tokens": 7, "completion_tokens": 3, "cost": 0.01}


class Collector:
    """Receives traces at a port of this machine. `gate` holds every answer back until it is set; `status` is what it answers."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.scopes: list[Any] = []
        self.resources: list[Any] = []
        self.bodies: list[bytes] = []
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.set()
                collector.gate.wait(30)
                if collector.status == 200 and self.path == "/v1/traces":
                    collector.take(body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(values(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.scopes.append(scope)
                self.spans += scope.spans

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def a_searched_run(**changes: Any) -> tuple[Run, Heard]:
    """Two requests and a reflection: one finished two attempts after calling a tool, one failed."""
    text = 'Action: calculator({"expression": "1+1"})\nObservation: 2\nAnswer: 2\n'
    children = [{"text": text, "terminal": True, "value": 1.0, "outcome": "pass", "key": None, "feedback": ""}] * 2
    events = [
        Event("ask", 0, "", {"n": 2, "first": 0, "whole": True, "reflect": False}),
        Event("ask", 1, "", {"n": 1, "first": 2, "whole": True, "reflect": False}),
        Event("tell", 0, "", {"first": 0, "children": children, "usage": TOLD, "cached": False, "grows": True}),
        Event("fail", 1, "", {"reason": f"timed out with {SECRET}"}),
        Event("stop", data={"reason": "verified"}),
    ]
    heard = Heard()
    run = a_run().replace(id="00000000000000000000000000000abc", model="ollama:qwen3:0.6b", stopped="verified", created=1000.0, seconds=4.0)
    nodes = (NodeRecord("", "", 2, 1.0, False), NodeRecord("0", text, 1, 1.0, True), NodeRecord("1", text, 1, 1.0, True))
    traces = tuple(t.replace(run_id=run.id, node=str(place), text=text, created=1002.0) for place, t in enumerate(run.traces))
    for event in events:
        heard(event)
    heard.times[:] = [1_000_000_000_000 + place * 500_000_000 for place in range(len(events))]
    return run.replace(nodes=nodes, traces=traces, **changes), heard


def sent(collector: Collector, run: Run, heard: Heard | None = None, **options: Any) -> dict[str, Any]:
    """The spans that arrive, by name."""
    with Telemetry(collector.url, **options) as telemetry:
        assert telemetry.record(run, heard, tools=("calculator",))
        assert telemetry.flush()
    assert telemetry.dropped == 0
    return {span.name: span for span in collector.spans}


def test_a_run_arrives_as_a_tree_of_spans(collector):
    run, heard = a_searched_run()

    spans = sent(collector, run, heard)

    assert Counter(span.name for span in collector.spans) == {
        "invoke_workflow ratchet": 1,
        "invoke_agent math": 1,
        "search lats": 1,
        "chat qwen3:0.6b": 2,
        "execute_tool calculator": 2,
        "verdict math": 2,
    }
    ids = {span.span_id: span for span in collector.spans}
    assert len(ids) == 9
    above = {span.name: ids[span.parent_span_id].name for span in collector.spans if span.parent_span_id}
    assert above == {
        "invoke_agent math": "invoke_workflow ratchet",
        "search lats": "invoke_agent math",
        "chat qwen3:0.6b": "search lats",
        "execute_tool calculator": "chat qwen3:0.6b",
        "verdict math": "chat qwen3:0.6b",
    }
    assert {span.trace_id.hex() for span in collector.spans} == {run.id}, "a run is found by its id"
    assert spans["invoke_workflow ratchet"].start_time_unix_nano == 1_000_000_000_000
    assert spans["invoke_workflow ratchet"].end_time_unix_nano == 1_004_000_000_000


def test_spans_follow_the_conventions_of_the_pinned_version(collector):
    run, heard = a_searched_run()

    spans = sent(collector, run, heard)

    assert {scope.schema_url for scope in collector.scopes} == {CONVENTIONS} == {"https://opentelemetry.io/schemas/1.41.0"}
    assert collector.resources[0]["service.name"] == "ratchet"
    told = next(span for span in collector.spans if span.name.startswith("chat") and span.status.code == 0)
    assert told.kind == 3, "a client's"
    assert (told.end_time_unix_nano - told.start_time_unix_nano) == 1_000_000_000
    about = values(told.attributes)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "qwen3:0.6b",
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }
    assert wanted.items() <= about.items()
    assert values(spans["invoke_agent math"].attributes)["gen_ai.agent.name"] == "math"
    assert values(spans["execute_tool calculator"].attributes)["gen_ai.tool.name"] == "calculator"
    (result,) = spans["verdict math"].events
    assert result.name == "gen_ai.evaluation.result"
    assert values(result.attributes)["gen_ai.evaluation.score.label"] in ("pass", "fail")


def test_a_failed_request_is_an_error_of_a_kind(collector):
    run, heard = a_searched_run()

    sent(collector, run, heard)

    (failed,) = [span for span in collector.spans if span.status.code == 2]
    assert values(failed.attributes)["error.type"] == "provider_error"
    assert "ratchet.error" not in values(failed.attributes)


def test_no_word_of_question_or_answer_is_sent_unless_content_is_on(collector):
    run, heard = a_searched_run(error="it broke at 'What is 1+1?'")

    sent(collector, run, heard)

    body = b"".join(collector.bodies)
    for word in (run.task.prompt, "Answer: 2", "Solve it.", "1+1", "timed out", "equal", SECRET):
        assert word.encode() not in body


def test_a_secret_in_a_name_is_not_sent(collector):
    run, heard = a_searched_run(model=f"ollama:me:{SECRET}", worker=f"math {SECRET}")

    sent(collector, run, heard)

    assert SECRET.encode() not in b"".join(collector.bodies)
    assert {"chat me:[redacted:anthropic]", "invoke_agent math [redacted:anthropic]"} <= {span.name for span in collector.spans}


def test_content_is_sent_without_secrets(collector):
    run, heard = a_searched_run()
    task = run.task.replace(prompt=f"My key is {SECRET}, what is 1+1?", metadata={"password": "hunter2hunter2"})
    run = run.replace(task=task, traces=tuple(t.replace(task=task, text=f"{t.text}{SECRET}") for t in run.traces))

    spans = sent(collector, run, heard, content=True)

    about = values(spans["invoke_agent math"].attributes)
    assert json.loads(about["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "My key is [redacted:anthropic], what is 1+1?"}]}
    ]
    assert json.loads(about["gen_ai.system_instructions"]) == [{"type": "text", "content": "Solve it."}]
    assert values(spans["execute_tool calculator"].attributes)["gen_ai.tool.call.result"] == "2"
    assert values(spans["verdict math"].attributes)["gen_ai.evaluation.explanation"] == "equal"
    body = b"".join(collector.bodies)
    assert SECRET.encode() not in body
    assert b"hunter2" not in body


def test_a_text_that_looks_like_a_call_of_a_tool_the_worker_has_not_is_none(collector):
    run, heard = a_searched_run()

    with Telemetry(collector.url) as telemetry:
        telemetry.record(run, heard)

    assert not [span for span in collector.spans if span.name.startswith("execute_tool")]


def test_a_run_that_nobody_listened_to_is_sent_from_the_events_it_kept(collector):
    run, heard = a_searched_run()
    kept = run.replace(events=tuple(event.as_dict() for event in heard.events))

    sent(collector, kept)

    (chat, *_) = [span for span in collector.spans if span.name.startswith("chat")]
    assert values(chat.attributes)["ratchet.timed"] is False
    assert chat.start_time_unix_nano == 1_000_000_000_000


def test_a_listener_hands_events_on():
    got: list[Event] = []
    heard = Heard(got.append)

    heard(Event("stop", data={"reason": "verified"}))

    assert got == heard.events
    assert len(heard.times) == 1


def test_a_dead_collector_is_told_of_once_and_felt_by_nobody(caplog):
    run, heard = a_searched_run()
    with caplog.at_level(logging.DEBUG, "opentelemetry"), Telemetry("http://user:geheim@127.0.0.1:9", timeout=0.5) as telemetry:
        assert telemetry.record(run, heard)
        assert telemetry.flush(30)
        assert telemetry.record(run.replace(id="another"), heard)

    assert telemetry.dropped == 2
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "does not reach http://127.0.0.1:9/v1/traces" in warnings[0]
    assert "geheim" not in caplog.text


def test_a_collector_that_refuses_is_told_of_once(collector, caplog):
    collector.status = 400
    run, heard = a_searched_run()
    with Telemetry(collector.url) as telemetry:
        telemetry.record(run, heard)
        telemetry.flush(30)

    assert telemetry.dropped == 1
    assert [record.name for record in caplog.records] == ["logs.otel"]
    assert "400" in caplog.text


def test_a_slow_collector_holds_up_nothing_and_the_queue_stays_bounded(collector, caplog):
    collector.gate.clear()
    run, heard = a_searched_run()
    with Telemetry(collector.url, queue_size=5) as telemetry:
        telemetry.record(run, heard)
        assert collector.asked.wait(30), "one batch is with the collector, which does not answer"
        taken = [telemetry.record(run.replace(id=f"run-{i}"), heard) for i in range(50)]
        collector.gate.set()
        assert telemetry.flush(30)

    assert (sum(taken), telemetry.dropped) == (5, 45)
    assert len({span.trace_id for span in collector.spans}) == 6
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_closing_does_not_wait_for_a_collector_that_never_answers(collector):
    collector.gate.clear()
    run, heard = a_searched_run()
    telemetry = Telemetry(collector.url)
    telemetry.record(run, heard)
    assert collector.asked.wait(30)

    telemetry.close(timeout=0.1)

    assert not telemetry.record(run)
    assert not collector.spans


def test_a_run_of_nonsense_costs_no_other(collector):
    run, heard = a_searched_run()
    broken = run.replace(id="broken", events=({"nothing": "of ours"},))
    odd = run.replace(id="odd", model="half a \ud83d pair", stopped="\x00", usage=Usage(2**70, -1, 0, float("nan")))
    with Telemetry(collector.url) as telemetry:
        telemetry.record(odd)
        telemetry.record(broken)
        telemetry.record(run, heard)
        telemetry.flush()

    assert telemetry.dropped == 1
    assert {span.trace_id for span in collector.spans} == {trace_id_of(name).to_bytes(16) for name in (run.id, "odd")}


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_an_address_that_is_none_is_an_error(endpoint):
    with pytest.raises(ConfigError, match="such as http://localhost:4318"):
        Telemetry(endpoint)


def test_spans_of_a_real_search_are_whole(collector):
    """As the orchestrator would wire it, with a scripted model."""
    import asyncio

    from agents.workers import hire
    from core.providers.scripted import ScriptedModel
    from core.verifiers import Verifiers

    options = Settings(_env_file=None, SEARCH_CONCURRENCY=1)
    question = Question(
        Task("Solve 17*6+23", Domain.MATH, "125"),
        hire(Domain.MATH, options),
        ScriptedModel(["17*6=102\n", "102+23=125\n", "Answer: 125"] * 40),
        "best_of_n",
        1.0,
    )
    heard = Heard()
    inference = Inference(question, options, Judging(Verifiers({}), options, with_steps=True), emit=heard)
    result = asyncio.run(inference.run())

    spans = sent(collector, inference.record(), heard)

    chats = [span for span in collector.spans if span.name.startswith("chat") and span.status.code == 0]
    workflow = spans["invoke_workflow ratchet"]
    assert len(chats) == result.usage.calls
    assert all(workflow.start_time_unix_nano <= c.start_time_unix_nano <= c.end_time_unix_nano for c in chats)
    assert sum(values(c.attributes)["gen_ai.usage.output_tokens"] for c in chats) == result.usage.completion_tokens
    assert values(workflow.attributes)["ratchet.verified"] is result.verified


TEXTS = st.text(max_size=60) | st.sampled_from(["Action: calculator({})\nObservation: error: x", "\ud800", "\x00"])


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS, st.floats(), st.floats(), st.text(max_size=40), st.booleans(), st.lists(st.integers(-5, 2**64), max_size=3))
def test_spans_are_made_of_whatever_a_run_holds(prompt, text, created, seconds, node, content, times):
    task = Task(f"What? {prompt}", Domain.MATH, key="what")
    run = a_run(task=task, created=created, seconds=seconds, model=text)
    verdict = Verdict(Outcome.ERROR, created, f"Because {prompt}", Evidence.NONE, "", milliseconds=seconds)
    run = run.replace(traces=tuple(t.replace(node=node, verdict=verdict, text=text, created=seconds) for t in run.traces))
    child = {"text": text, "terminal": True, "value": 1.0, "outcome": None, "key": None, "feedback": ""}
    tell = {"first": 0, "children": [child], "usage": TOLD, "cached": False, "grows": True}
    ask = {"n": 1, "first": 0, "whole": True, "reflect": False}
    events = ({"kind": "ask", "number": 0, "path": node, "data": ask}, {"kind": "tell", "number": 0, "path": node, "data": tell})

    spans = spans_of(run.replace(events=events), times, tools=("calculator",), content=content)

    assert all(0 <= span.start <= span.end for span in spans) or times
    assert len({span.id for span in spans}) == len(spans)
    assert all(span.parent is None or span.parent in {s.id for s in spans} for span in spans)
    for span in spans:
        assert all(part.encode() is not None for part in (span.name, *span.attributes.values()) if isinstance(part, str))
        assert content or not any(word in repr(span) for word in ("What? ", "Because "))
