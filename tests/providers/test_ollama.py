"""The stand-in server speaks POST /api/chat without streaming; it loads no model, pulls nothing and keeps nothing alive."""

import asyncio
import json
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers import connect
from core.providers.ollama import OllamaModel
from core.types import Message, Model, Request, Sampling, Usage

ASK = Request((Message("system", "Be brief."), Message("user", "Solve 17*6+23")))


class StandIn(ThreadingHTTPServer):
    """Answers with `say`; before that, with each of `trouble` once. `asked` holds what it was sent."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[dict] = []
        self.trouble: list[tuple[int, bytes] | str] = []
        self.say = {"content": "17 * 6 = 102", "done": True, "done_reason": "stop"}
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
            trouble = self.server.trouble.pop(0) if self.server.trouble else None
        if trouble == "close":
            self.close_connection = True
        elif trouble == "half":
            self.answer(200, b'{"model": "qwen3', promised=500)
        elif trouble == "hang":
            threading.Event().wait(0.3)
            self.close_connection = True
        elif trouble:
            self.answer(*trouble)
        else:
            self.answer(200, json.dumps(self.reply(body)).encode())

    def reply(self, body):
        said = dict(self.server.say)
        message = {"role": "assistant", "content": said.pop("content")}
        return {"model": body["model"], "message": message, "prompt_eval_count": 11, "eval_count": 7, **said}

    def answer(self, status, body, promised=None):
        self.send_response(status)
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


def ask(host, request=ASK, **options):
    options = {"timeout": 5.0, "retries": 0, "rng": random.Random(0), "pause": 0.001, **options}

    async def once():
        model = OllamaModel("qwen3:0.6b", host, **options)
        try:
            return await model.complete(request)
        finally:
            await model.close()

    return asyncio.run(once())


def test_an_answer_comes_with_its_token_counts(server):
    reply = ask(server.host)

    assert reply.completions[0].text == "17 * 6 = 102"
    assert reply.completions[0].finish == "end"
    assert reply.usage == Usage(calls=1, prompt_tokens=11, completion_tokens=7, cost=None)


def test_every_option_reaches_the_server(server):
    ask(server.host, ASK.replace(sampling=Sampling(0.7, 0.9, 33, ("\n", "END"), seed=5)))

    asked = server.asked[0]
    assert (asked["path"], asked["model"], asked["stream"], asked["think"]) == ("/api/chat", "qwen3:0.6b", False, False)
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Solve 17*6+23"}]
    assert asked["options"] == {"temperature": 0.7, "top_p": 0.9, "num_predict": 33, "stop": ["\n", "END"], "seed": 5}


def test_what_is_not_set_is_not_sent(server):
    ask(server.host)

    assert set(server.asked[0]["options"]) == {"temperature", "top_p", "num_predict"}


def test_samples_are_requests_with_seeds_that_count_up(server):
    reply = ask(server.host, ASK.replace(n=4, sampling=Sampling(1.0, seed=10)))

    assert len(reply.completions) == 4
    assert sorted(asked["options"]["seed"] for asked in server.asked) == [10, 11, 12, 13]
    assert reply.usage == Usage(calls=4, prompt_tokens=44, completion_tokens=28)


def test_begun_work_is_shown_and_what_is_repeated_of_it_is_taken_off(server):
    server.say["content"] = "17 * 6 = 102\n102 + 23 = 125"

    reply = ask(server.host, ASK.replace(prefix="17 * 6 = 102\n"))

    assert "17 * 6 = 102\n" in server.asked[0]["messages"][-1]["content"]
    assert reply.completions[0].text == "102 + 23 = 125"


@pytest.mark.parametrize(
    ("said", "stop", "finish"),
    [
        ({"done_reason": "length"}, ("\n",), "length"),
        ({"done_reason": "stop"}, ("\n",), "stop"),
        ({"done_reason": "stop", "content": ""}, ("\n",), "end"),
        ({"done_reason": "stop"}, (), "end"),
    ],
)
def test_how_a_completion_ended_is_told_as_far_as_ollama_says_it(server, said, stop, finish):
    server.say |= said

    completion = ask(server.host, ASK.replace(sampling=Sampling(stop=stop))).completions[0]

    assert completion.finish == finish
    assert not completion.text.endswith("\n"), "the stop string that Ollama cut off is not made up"


def test_counts_that_the_server_leaves_out_are_zero(server):
    server.say |= {"prompt_eval_count": None, "eval_count": None}

    assert ask(server.host).usage == Usage(calls=1)


TROUBLES = [
    "close",
    "half",
    (429, b'{"error": "busy"}'),
    (500, b'{"error": "boom"}'),
    (503, b""),
    (200, b"{malformed"),
    (200, b'{"hello": 1}'),
    (200, b'{"message": {"role": "assistant", "content": "17"}, "done": false}'),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_trouble_that_passes_is_tried_again_and_counts_as_one_call(server, trouble):
    server.trouble = [trouble]

    reply = ask(server.host, retries=1)

    assert reply.completions[0].text == "17 * 6 = 102"
    assert reply.usage.calls == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_trouble_that_stays_is_told_with_the_number_of_tries(server, trouble):
    server.trouble = [trouble] * 3

    with pytest.raises(ProviderError, match=rf"{server.host}.*\(3 tries\)"):
        ask(server.host, retries=2)

    assert len(server.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_told_with_the_setting(server):
    server.trouble = ["hang"]

    with pytest.raises(ProviderError, match=r"gave no answer in 0.05 s: raise REQUEST_TIMEOUT"):
        ask(server.host, timeout=0.05)


def test_an_unknown_model_is_told_with_the_command_that_fetches_it(server):
    server.trouble = [(404, b'{"error": "model \'qwen3:0.6b\' not found"}')]

    with pytest.raises(ProviderError, match=r"has no model qwen3:0.6b: fetch it with `ollama pull qwen3:0.6b`"):
        ask(server.host, retries=3)

    assert len(server.asked) == 1


def test_a_refusal_is_passed_on_in_the_servers_words(server):
    server.trouble = [(400, b'{"error": "invalid options"}')]

    with pytest.raises(ProviderError, match="with 400: invalid options"):
        ask(server.host, retries=3)


def test_no_server_is_told_at_once_with_the_command_that_starts_it():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(ProviderError, match=rf"^no Ollama at {host}: start it with `ollama serve`, or set OLLAMA_HOST$"):
            ask(host, ASK.replace(n=3), retries=5, pause=60.0)


def test_forbidding_a_first_token_is_refused_before_anything_is_sent(server):
    with pytest.raises(ProviderError, match="in-process"):
        ask(server.host, ASK.replace(banned_start="17"))

    assert server.asked == []


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="OLLAMA_HOST 'http://localhost:port' is no address"):
        OllamaModel("qwen3:0.6b", "http://localhost:port")


def test_a_closed_model_leaves_no_connection_open(server):
    async def once():
        model = OllamaModel("qwen3:0.6b", server.host)
        await model.complete(ASK.replace(n=3))
        assert server.connections > 0
        await model.close()
        assert server.is_left()

    asyncio.run(once())


def test_settings_say_where_ollama_is(server):
    settings = Settings(_env_file=None, OLLAMA_HOST=server.host, REQUEST_RETRIES=0)

    async def once():
        model = connect("ollama:qwen3:0.6b", settings)
        reply = await model.complete(ASK)
        await model.close()
        return model, reply

    model, reply = asyncio.run(once())

    assert isinstance(model, Model)
    assert (model.name, model.fingerprint) == ("ollama:qwen3:0.6b", None)
    assert reply.completions[0].text == "17 * 6 = 102"
