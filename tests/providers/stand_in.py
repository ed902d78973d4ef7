"""A server on loopback for the tests of providers: it makes trouble as told, and counts what it is asked and what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Trouble = Callable[["Handler"], None]


class StandIn(ThreadingHTTPServer):
    """Makes each of `trouble` once, then answers with `reply`. `asked` holds what it was sent, `paid` the tokens of each whole answer.

    While `gate` is cleared, requests are held back; `waiting` counts them.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self.server_port}"
        self.base = f"{self.host}/v1"
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.paid: list[tuple[int, int]] = []
        self.trouble: list[Trouble] = []
        self.gate = threading.Event()
        self.gate.set()
        self.change = threading.Condition()
        self.connections = self.waiting = self.most_at_once = 0

    def reply(self, handler: Handler, body: dict) -> None:
        """Answer a request; a stand-in for one kind of server says how."""
        raise NotImplementedError

    def pay(self, prompt_tokens: int, completion_tokens: int) -> None:
        """A whole answer has gone out."""
        with self.change:
            self.paid.append((prompt_tokens, completion_tokens))
            self.change.notify_all()

    def count(self, **changes: int) -> None:
        with self.change:
            for name, by in changes.items():
                setattr(self, name, getattr(self, name) + by)
            self.most_at_once = max(self.most_at_once, self.waiting)
            self.change.notify_all()

    def sees(self, condition: Callable[[], bool]) -> bool:
        """True as soon as `condition` holds."""
        with self.change:
            return self.change.wait_for(condition, timeout=20)

    def is_left(self) -> bool:
        """True as soon as nobody is connected any more."""
        return self.sees(lambda: self.connections == 0)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: StandIn

    def setup(self) -> None:
        self.server.count(connections=+1)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.count(connections=-1)

    def do_GET(self) -> None:
        self.server.reply(self, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.change:
            self.server.asked.append({"path": self.path, **body})
            self.server.keys.append(self.headers["Authorization"])
            trouble = self.server.trouble.pop(0) if self.server.trouble else None
        self.server.count(waiting=+1)
        self.server.gate.wait(20)
        self.server.count(waiting=-1)
        try:
            trouble(self) if trouble else self.server.reply(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes, promised: int | None = None, **headers: str) -> None:
        """A whole answer; with `promised` more bytes than there are, half an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = promised is not None

    def begin_lines(self) -> None:
        """What follows is sent in lines, as it comes."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def line(self, record: object) -> None:
        data = json.dumps(record).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end_lines(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def standing(server: StandIn) -> Iterator[StandIn]:
    """The server at work; it is gone afterwards, with its threads."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def closes(handler: Handler) -> None:
    """The connection is closed without an answer."""
    handler.close_connection = True


def half(handler: Handler) -> None:
    """An answer that breaks off."""
    handler.answer(200, b'{"model": "m", "choi', promised=500)


def hangs(handler: Handler) -> None:
    """No answer for as long as the other side waits."""
    handler.connection.settimeout(20)
    handler.rfile.read(1)
    handler.close_connection = True


def says(status: int, body: bytes, **headers: str) -> Trouble:
    """That answer, whatever was asked."""

    def trouble(handler: Handler) -> None:
        handler.answer(status, body, **headers)

    trouble.__name__ = f"{status} {body.decode()[:30]} {headers or ''}".strip()
    return trouble


def name_of(trouble: Trouble) -> str:
    """For the names of parametrised tests."""
    return trouble.__name__
