"""Finished runs to an OpenTelemetry collector, OTLP over HTTP. Whatever becomes of the collector, no answer waits for it or fails by it.

`record` puts a run into a bounded queue and returns; one thread takes out secrets, makes the spans (`logs/spans.py`) and sends them.
Headers, compression and certificates are taken from the variables that OpenTelemetry has for them, OTEL_EXPORTER_OTLP_HEADERS and so on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from core.errors import ConfigError
from core.types import Record, Run
from logs import leaving
from logs.redact import Redactor
from logs.spans import CONVENTIONS, Made, redacted, spans_of, trace_id_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

logger = logging.getLogger(__name__)

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
PATH = "/v1/traces"
SPANS_AT_ONCE = 500
RUNS_AT_ONCE = 32
LINGER = 0.5  # seconds that a run waits for others to go with it
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
LAST_TRY = 0.2  # seconds that closing waits for a collector which did not take the last runs
MISSING = 'OTEL_ENDPOINT is set, but OpenTelemetry is not installed: pip install "ratchet-agents[otel]"'


class Heard:
    """A listener of one search that notes when each event came, and hands it on."""

    def __init__(self, listener: Callable[[Any], None] | None = None) -> None:
        self.events: list[Mapping[str, Any] | Record] = []
        self.times: list[int] = []
        self._listener = listener

    def __call__(self, event: Mapping[str, Any] | Record) -> None:
        self.times.append(time.time_ns())
        self.events.append(event)
        if self._listener:
            self._listener(event)


class Telemetry:
    """Takes finished runs without making the caller wait. Raises ConfigError for an address that is none, or a missing package.

    `content` sends questions, answers and the reasons of verdicts too, without secrets; otherwise numbers, names and ids alone are sent.
    `redact` None keeps every word.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        content: bool = False,
        redact: Redactor | None = Redactor(),  # noqa: B008
        queue_size: int = 256,
        timeout: float = 10.0,
    ) -> None:
        self._sender = _Sender(_address(endpoint), content, redact, queue_size, timeout)
        self._take_back = leaving.close_behind(self, self._sender, 2.0)

    def listen(self, listener: Callable[[Any], None] | None = None) -> Heard:
        """What one search is to tell its events to, to be handed to `record` with its run; `listener` gets them too."""
        return Heard(listener)

    def record(self, run: Run, heard: Heard | None = None, tools: Collection[str] = ()) -> bool:
        """Queue a run. Never raises, never waits; False, and counted in `dropped`, when the queue is full or this is closed.

        `heard` listened to the search: without it the times of single requests are not known, and the events that the run kept are sent.
        `tools` are the names of the tools that the worker has.
        """
        return self._sender.put((run, heard, tuple(tools)))

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was recorded is sent or given up; False when that took longer."""
        return self._sender.flush(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Send what is queued, for as long as that takes at most, and stop. Idempotent."""
        self._take_back()
        self._sender.close(timeout)

    @property
    def dropped(self) -> int:
        """Runs that were offered and did not arrive."""
        return self._sender.dropped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Recorded = tuple[Run, Heard | None, tuple[str, ...]]


class _Sender:
    """The queue and its thread. Holds no reference to its Telemetry, so that a forgotten one is closed."""

    def __init__(self, address: str, content: bool, redact: Redactor | None, queue_size: int, timeout: float) -> None:
        self.dropped = 0
        self._address, self._content, self._redact, self._queue_size = address, content, redact, queue_size
        self._export = _Export(address, timeout)
        self._queue: deque[Recorded] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        self._under_way = 0
        self._hurried = self._closing = False
        self._giving_up = threading.Event()
        self._told = False
        self._failing = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="ratchet-telemetry", daemon=True)
        self._thread.start()

    def put(self, recorded: Recorded) -> bool:
        if os.getpid() != self._process:  # a forked child has no thread, and a lock that may be held for ever
            return False
        with self._lock:
            taken = not self._closing and len(self._queue) < self._queue_size
            if taken:
                self._queue.append(recorded)
                self._arrived.notify()
            else:
                self.dropped += 1
            closing = self._closing
        if not taken and not closing:
            self._tell("it takes them more slowly than they come")
        return taken

    def flush(self, timeout: float) -> bool:
        with self._lock:
            self._hurried = True
            self._arrived.notify()
            try:
                return self._settled.wait_for(lambda: not self._queue and not self._under_way, timeout)
            finally:
                self._hurried = False

    def close(self, timeout: float) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closing = True
            self._arrived.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(min(timeout, LAST_TRY) if self._failing else timeout)
            self._giving_up.set()
            self._export.close()

    def _work(self) -> None:
        pause = FIRST_PAUSE
        try:
            while group := self._next_group():
                arrived = self._send(group)
                self._failing = not arrived
                with self._lock:
                    self._under_way = 0
                    self._settled.notify_all()
                pause = FIRST_PAUSE if arrived else min(2 * pause, LONGEST_PAUSE)
                if not arrived and self._closing_within(pause):
                    break
        finally:
            with self._lock:
                self.dropped += len(self._queue)
                self._queue.clear()
                self._settled.notify_all()
            self._export.close()
            self._export.stop_listening()

    def _next_group(self) -> list[Recorded]:
        """Some of what is queued; empty when this is closed and all is sent, or time is up."""
        with self._lock:
            self._arrived.wait_for(lambda: self._queue or self._closing)
            self._arrived.wait_for(lambda: len(self._queue) >= RUNS_AT_ONCE or self._hurried or self._closing, LINGER)
            if self._giving_up.is_set():
                return []
            group = [self._queue.popleft() for _ in range(min(len(self._queue), RUNS_AT_ONCE))]
            self._under_way = len(group)
            return group

    def _closing_within(self, seconds: float) -> bool:
        """A collector that is down is left alone for a while, in which runs wait in the queue; nobody who leaves waits for it."""
        with self._lock:
            return self._arrived.wait_for(lambda: self._closing, seconds)

    def _send(self, group: Sequence[Recorded]) -> bool:
        """Whether all arrived."""
        spans: list[ReadableSpan] = []
        lost: str | None = None
        for run, heard, tools in group:
            try:
                spans += self._spans(run, heard, tools)
            except Exception as error:  # noqa: BLE001 - nothing that a run holds may stop the sender
                lost = f"run {run.id!r} has no spans: {type(error).__name__}"
                self._lose(1, lost)
        for start in range(0, len(spans), SPANS_AT_ONCE):
            reason = "the program ended" if self._giving_up.is_set() else self._export.failure(spans[start : start + SPANS_AT_ONCE])
            if reason is not None:
                self._lose(len({span.context.trace_id for span in spans[start:] if span.context}), reason)
                return False
        return True

    def _spans(self, run: Run, heard: Heard | None, tools: tuple[str, ...]) -> list[ReadableSpan]:
        times: Sequence[int] = ()
        if heard:
            times = heard.times
            run = run.replace(events=tuple(dict(event) for event in heard.events))
        redact = self._redact.up_to_date() if self._redact else None
        if redact and self._content:
            run = redact.run(run)
        found = spans_of(run, times, tools=tools, content=self._content)
        if redact and not self._content:  # names and ids: a model's name may be an address with a password in it
            clean = cache(redact.text)
            found = [redacted(made, clean) for made in found]
        return [self._export.span(run.id, made) for made in found]

    def _lose(self, runs: int, reason: str) -> None:
        with self._lock:
            self.dropped += runs
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            reason = self._redact.known(reason) if self._redact else reason
            logger.warning(
                "telemetry does not reach %s: %s (told once; answers are not affected)", _without_password(self._address), reason
            )


class _Export:
    """What is OpenTelemetry's of it: the form of a span, and the sending."""

    def __init__(self, address: str, timeout: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise ConfigError(MISSING) from error
        resource = Resource.create({})
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "ratchet", "service.version": _version()}))
        self._resource = resource
        self._scope = InstrumentationScope("ratchet", _version(), CONVENTIONS)
        self._exporter = OTLPSpanExporter(endpoint=address, timeout=timeout)
        self._said = ""
        self._closed = False
        self._thread: int | None = None
        logging.getLogger(EXPORTER).addFilter(self._overheard)

    def failure(self, spans: Sequence[ReadableSpan]) -> str | None:
        """Sends; None when they arrived, else why they did not."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._thread, self._said = threading.get_ident(), ""
        try:
            arrived = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - a broken reply must not end the sender
            return f"{type(error).__name__}: {error}"
        return None if arrived else self._said or "the collector did not take them"

    def span(self, run_id: str, made: Made) -> ReadableSpan:
        """In the form that the exporter takes."""
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(span_id: int) -> SpanContext:
            return SpanContext(trace_id_of(run_id), span_id, False, TraceFlags(TraceFlags.SAMPLED))

        return ReadableSpan(
            name=made.name,
            context=context(made.id),
            parent=None if made.parent is None else context(made.parent),
            resource=self._resource,
            attributes=made.attributes,
            events=[Event(made.event[0], made.event[1], made.end)] if made.event else [],
            kind={"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}[made.kind],
            status=Status(StatusCode.ERROR) if made.error else Status(),
            start_time=made.start,
            end_time=made.end,
            instrumentation_scope=self._scope,
        )

    def close(self) -> None:
        """Breaks off what is being tried again. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._exporter.shutdown()

    def stop_listening(self) -> None:
        """To what the exporter logs."""
        logging.getLogger(EXPORTER).removeFilter(self._overheard)

    def _overheard(self, record: logging.LogRecord) -> bool:
        """The exporter logs each failure and each new try: of ours the last is kept, to be told once; an application's own pass."""
        if record.thread != self._thread:
            return True
        self._said = record.getMessage()
        return False


def _address(endpoint: str) -> str:
    """A collector's address with the path for traces, unless it has one."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"OTEL_ENDPOINT is {endpoint!r}: give the collector's address, such as http://localhost:4318")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(PATH) else path + PATH).geturl()


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _version() -> str:
    try:
        return version("ratchet-agents")
    except PackageNotFoundError:
        return "0"
