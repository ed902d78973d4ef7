"""The stand-in server speaks POST /v1/chat/completions without streaming, as far as LiteLLM's OpenAI client reads it."""

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.config import Settings
from core.errors import ProviderError
from core.providers import connect
from core.providers.litellm import LiteLLMModel
from core.providers.remote import Transient
from core.types import Message, Model, Request, Sampling

ASK = Request((Message("system", "Be brief."), Message("user", "Solve 17*6+23")))


class StandIn(ThreadingHTTPServer):
    """Answers with `say`, `most` samples at most; before that, with each of `trouble` once. `asked` holds what it was sent."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked: list[dict] = []
        self.keys: list[str] = []
        self.trouble: list[tuple[int, bytes] | str] = []
        self.say, self.reason, self.most = "17 * 6 = 102", "stop", 99
        self.lock = threading.Lock()
        self.connections, self.change = 0, threading.Condition()

    def changed(self, by):
        with self.change:
            self.connections += by
            self.change.notify_all()

    def is_left(self):
        """True as soon as nobody is connected any more."""
        with self.change:
            return self.change.wait_for(lambda: self.connections == 0, timeout=10)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.server.changed(+1)
        super().setup()

    def finish(self):
        super().finish()
        self.server.changed(-1)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.keys.append(self.headers["Authorization"])
            trouble = self.server.trouble.pop(0) if self.server.trouble else None
        if trouble == "close":
            self.close_connection = True
        elif trouble == "half":
            self.answer(200, b'{"id": "1", "choi', promised=500)
        elif trouble == "hang":
            threading.Event().wait(0.3)
            self.close_connection = True
        elif trouble == "wait":
            self.answer(429, b"{}", wait="7")
        elif trouble:
            self.answer(*trouble)
        else:
            self.answer(200, json.dumps(self.reply(body)).encode())

    def reply(self, body):
        n = min(body.get("n", 1), self.server.most)
        message = {"role": "assistant", "content": self.server.say}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": i, "message": message, "finish_reason": self.server.reason} for i in range(n)],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7 * n, "total_tokens": 11 + 7 * n},
        }

    def answer(self, status, body, promised=None, wait=None):
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = promised is not None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with StandIn() as standing:
        thread = threading.Thread(target=standing.serve_forever, args=(0.01,))
        thread.start()
        yield standing
        standing.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def ask(base, request=ASK, name="openai/own-model", **options):
    options = {"timeout": 5.0, "retries": 0, "rng": random.Random(0), "pause": 0.001, **options}

    async def once():
        model = LiteLLMModel(name, base, **options)
        try:
            return await model.complete(request)
        finally:
            await model.close()

    return asyncio.run(once())


def test_an_answer_comes_with_its_token_counts(server):
    reply = ask(server.base)

    assert [(c.text, c.finish) for c in reply.completions] == [("17 * 6 = 102", "end")]
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1, 11, 7)


def test_a_model_without_a_price_has_no_cost(server):
    assert ask(server.base).usage.cost is None


def test_a_model_with_a_price_has_a_cost(server):
    cost = ask(server.base, name="openai/gpt-4o-mini").usage.cost

    assert cost is not None
    assert 0 < cost < 0.001


def test_every_option_reaches_the_server(server):
    ask(server.base, ASK.replace(n=2, sampling=Sampling(0.7, 0.9, 33, ("\n", "END"), seed=5)))

    assert server.asked == [
        {
            "path": "/v1/chat/completions",
            "model": "own-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Solve 17*6+23"}],
            "n": 2,
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 33,
            "stop": ["\n", "END"],
            "seed": 5,
        }
    ]


def test_samples_come_in_one_request_where_the_server_can(server):
    reply = ask(server.base, ASK.replace(n=2))

    assert len(reply.completions) == 2
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1, 11, 14)


def test_a_server_that_gives_one_sample_is_asked_again_for_the_rest(server):
    server.most = 1

    reply = ask(server.base, ASK.replace(n=3, sampling=Sampling(1.0, seed=5)))

    assert len(reply.completions) == 3
    assert sorted(asked["seed"] for asked in server.asked) == [5, 6, 7]
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 33, 21)


def test_begun_work_is_shown_and_what_is_repeated_of_it_is_taken_off(server):
    server.say = "17 * 6 = 102\n102 + 23 = 125"

    reply = ask(server.base, ASK.replace(prefix="17 * 6 = 102\n"))

    assert "17 * 6 = 102\n" in server.asked[0]["messages"][-1]["content"]
    assert reply.completions[0].text == "102 + 23 = 125"


@pytest.mark.parametrize(("reason", "stop", "finish"), [("length", ("\n",), "length"), ("stop", ("\n",), "stop"), ("stop", (), "end")])
def test_how_a_completion_ended_is_told_as_far_as_the_server_says_it(server, reason, stop, finish):
    server.reason = reason

    assert ask(server.base, ASK.replace(sampling=Sampling(stop=stop))).completions[0].finish == finish


TROUBLES = [
    "close",
    "half",
    (429, b'{"error": {"message": "busy"}}'),
    (500, b'{"error": {"message": "boom"}}'),
    (503, b"<html>"),
    (200, b"{malformed"),
    (200, b'{"hello": 1}'),
    (200, b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_trouble_that_passes_is_tried_again_and_counts_as_one_call(server, trouble):
    server.trouble = [trouble]

    reply = ask(server.base, retries=1)

    assert reply.completions[0].text == "17 * 6 = 102"
    assert reply.usage.calls == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_trouble_that_stays_is_told_with_the_number_of_tries(server, trouble):
    server.trouble = [trouble] * 3

    with pytest.raises(ProviderError, match=rf"own-model at {server.base}.*\(3 tries\)"):
        ask(server.base, retries=2)

    assert len(server.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_told_with_the_setting(server):
    server.trouble = ["hang"]

    with pytest.raises(ProviderError, match=r"gave no answer in 0.05 s: raise REQUEST_TIMEOUT"):
        ask(server.base, timeout=0.05)


def test_no_server_is_told_with_the_setting():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"

        with pytest.raises(ProviderError, match=rf"no connection to litellm:openai/own-model at {base}: check that it runs, and API_BASE"):
            ask(base)


@pytest.mark.parametrize(
    ("name", "key"), [("openai/gpt-4o-mini", "OPENAI_API_KEY"), ("anthropic/claude-3-haiku-20240307", "ANTHROPIC_API_KEY")]
)
def test_a_missing_key_is_named_and_nothing_is_tried_twice(name, key):
    with pytest.raises(ProviderError, match=rf"litellm:{name} wants a key that it accepts: set {key}"):
        ask(None, name=name, retries=5, pause=60.0)


def test_a_server_of_ones_own_needs_no_key_but_gets_the_one_that_is_set(server, monkeypatch):
    ask(server.base)
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    ask(server.base)

    assert server.keys == ["Bearer none", "Bearer mine"]


def test_a_key_that_is_refused_is_told_without_trying_again(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "old")
    server.trouble = [(401, b'{"error": {"message": "expired"}}')]

    with pytest.raises(ProviderError, match=r"wants a key that it accepts: check yours \(.*expired\)"):
        ask(server.base, retries=5)

    assert len(server.asked) == 1


def test_the_time_that_a_server_wants_to_be_left_alone_is_heard(server):
    server.trouble = ["wait"]

    with pytest.raises(ProviderError, match="takes no more requests for now") as raised:
        ask(server.base)

    assert isinstance(raised.value.__cause__, Transient)
    assert raised.value.__cause__.after == 7.0


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_is_passed_on_in_the_servers_words(server, status):
    server.trouble = [(status, b'{"error": {"message": "no such model"}}')]

    with pytest.raises(ProviderError, match=rf"failed with {status}: .*no such model"):
        ask(server.base, retries=5)

    assert len(server.asked) == 1


def test_a_name_that_litellm_does_not_know_is_told_in_its_words():
    with pytest.raises(ProviderError, match=r"litellm:gibberish failed with 400: .*LLM Provider NOT provided"):
        ask(None, name="gibberish")


def test_forbidding_a_first_token_is_refused_before_anything_is_sent(server):
    with pytest.raises(ProviderError, match="in-process"):
        ask(server.base, ASK.replace(banned_start="17"))

    assert server.asked == []


def test_closing_one_model_leaves_the_others_their_connections_and_the_last_leaves_none_open(server):
    async def both():
        first, second = LiteLLMModel("openai/a", server.base), LiteLLMModel("openai/b", server.base)
        await first.complete(ASK)
        await second.complete(ASK)
        await first.close()
        await second.complete(ASK)
        assert server.connections > 0
        await second.close()
        await second.close()
        assert server.is_left()

    asyncio.run(both())

    assert [asked["model"] for asked in server.asked] == ["a", "b", "b"]


def test_settings_say_where_the_endpoint_is(server):
    settings = Settings(_env_file=None, API_BASE=server.base, REQUEST_RETRIES=0)

    async def once():
        model = connect("litellm:openai/own-model", settings)
        reply = await model.complete(ASK)
        await model.close()
        return model, reply

    model, reply = asyncio.run(once())

    assert isinstance(model, Model)
    assert (model.name, model.fingerprint) == ("litellm:openai/own-model", None)
    assert reply.completions[0].text == "17 * 6 = 102"


def test_connecting_does_not_import_litellm():
    code = (
        "import sys; from core.config import Settings; from core.providers import connect;"
        "connect('litellm:openai/own-model', Settings(_env_file=None)); sys.exit('litellm' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_litellm_for_a_model_makes_no_connection():
    code = (
        "import sys, socket\n"
        "def refuse(*a): sys.exit('tried to reach the network')\n"
        "sys.addaudithook(lambda event, args: refuse() if event in ('socket.connect', 'socket.getaddrinfo') else None)\n"
        "from core.providers.litellm import _load_litellm\n"
        "_load_litellm()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
