"""The stand-in server speaks POST /v1/chat/completions without streaming, as far as LiteLLM's OpenAI client reads it."""

import asyncio
import json
import random
import socket
import subprocess
import sys

import pytest
from stand_in import StandIn, closes, half, hangs, name_of, says, standing

from core.config import Settings
from core.errors import ProviderError
from core.providers import connect
from core.providers.calls import Limits
from core.providers.litellm import LiteLLMModel
from core.providers.remote import Transient
from core.types import Message, Model, Request, Sampling

ASK = Request((Message("system", "Be brief."), Message("user", "Solve 17*6+23")))


class Endpoint(StandIn):
    """Says `say`, `most` samples at most; more than `refuses` are refused."""

    def __init__(self):
        super().__init__()
        self.say, self.reason, self.most, self.refuses = "17 * 6 = 102", "stop", 99, 99

    def reply(self, handler, body):
        n = min(body.get("n", 1), self.most)
        if body.get("n", 1) > self.refuses:
            handler.answer(400, b'{"error": {"message": "n is not supported: use n=1"}}')
            return
        message = {"role": "assistant", "content": self.say}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": i, "message": message, "finish_reason": self.reason} for i in range(n)],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7 * n, "total_tokens": 11 + 7 * n},
        }
        handler.answer(200, json.dumps(answer).encode())
        self.pay(11, 7 * n)


@pytest.fixture
def server():
    with standing(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def model_of(base, name="openai/own-model", **limits):
    return LiteLLMModel(
        name, base, Limits(**{"timeout": 10.0, "retries": 0, "pause": 0.001, "failures": 99, **limits}), rng=random.Random(0)
    )


def ask(base, request=ASK, name="openai/own-model", **limits):
    async def once():
        model = model_of(base, name, **limits)
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


def test_what_a_server_gives_at_once_is_found_out_once(server):
    server.most = 2
    request = ASK.replace(n=5, sampling=Sampling(1.0, seed=5))

    async def twice():
        model = model_of(server.base)
        first, second = await model.complete(request), await model.complete(request)
        await model.close()
        return first, second

    first, second = asyncio.run(twice())

    assert [(asked.get("n", 1), asked["seed"]) for asked in server.asked[:1]] == [(5, 5)]
    assert sorted((asked["seed"], asked.get("n", 1)) for asked in server.asked[1:3]) == [(7, 2), (9, 1)]
    assert sorted((asked["seed"], asked.get("n", 1)) for asked in server.asked[3:]) == [(5, 2), (7, 2), (9, 1)]
    assert len(first.completions) == len(second.completions) == 5
    assert first.usage == second.usage


def test_a_server_that_refuses_to_give_several_is_asked_for_one_at_a_time_from_then_on(server):
    server.refuses = 1
    request = ASK.replace(n=3, sampling=Sampling(1.0, seed=5))

    async def twice():
        model = model_of(server.base)
        replies = await model.complete(request), await model.complete(request)
        await model.close()
        return replies

    first, second = asyncio.run(twice())

    assert [(asked.get("n", 1), asked["seed"]) for asked in server.asked[:2]] == [(3, 5), (1, 5)]
    assert sorted((asked["seed"], asked.get("n", 1)) for asked in server.asked[2:4]) == [(6, 1), (7, 1)]
    assert sorted((asked["seed"], asked.get("n", 1)) for asked in server.asked[4:]) == [(5, 1), (6, 1), (7, 1)]
    assert first.usage == second.usage
    assert (first.usage.calls, first.usage.completion_tokens) == (3, 21)


def test_a_refusal_for_another_reason_is_not_taken_for_a_matter_of_several(server):
    server.trouble = [says(400, b'{"error": {"message": "the prompt is too long"}}')]

    with pytest.raises(ProviderError, match=r"failed with 400: .*too long"):
        ask(server.base, ASK.replace(n=3), retries=5)

    assert len(server.asked) == 1


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
    closes,
    half,
    says(408, b'{"error": {"message": "slow"}}'),
    says(409, b'{"error": {"message": "conflict"}}'),
    says(425, b'{"error": {"message": "early"}}'),
    says(429, b'{"error": {"message": "busy"}}'),
    says(500, b'{"error": {"message": "boom"}}'),
    says(503, b"<html>"),
    says(200, b"{malformed"),
    says(200, b"[]"),
    says(200, b'{"hello": 1}'),
    says(200, b'{"choices": [{"message": null}]}'),
    says(200, b'{"choices": []}'),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=name_of)
def test_trouble_that_passes_is_tried_again_and_counts_as_one_call(server, trouble):
    server.trouble = [trouble]

    reply = ask(server.base, retries=1)

    assert reply.completions[0].text == "17 * 6 = 102"
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1, 11, 7)
    assert len(server.asked) == 2


def test_a_useless_answer_that_tells_its_usage_was_paid_for_and_counts(server):
    server.trouble = [says(200, b'{"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}')]

    usage = ask(server.base, retries=1).usage

    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (2, 22, 10)


@pytest.mark.parametrize("most", [1, 2, 99])
@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_amid_all_troubles_each_answer_is_counted_once(server, most, concurrency):
    server.most = most
    server.trouble = random.Random(most).sample(TROUBLES, k=len(TROUBLES))

    reply = ask(server.base, ASK.replace(n=5, sampling=Sampling(1.0, seed=1)), retries=len(TROUBLES), concurrency=concurrency, pause=1e-7)

    used = reply.usage
    assert len(reply.completions) == 5
    assert used.calls == len(server.paid)
    assert (used.prompt_tokens, used.completion_tokens) == tuple(map(sum, zip(*server.paid, strict=True)))
    assert len(server.asked) == len(server.paid) + len(TROUBLES)


@pytest.mark.parametrize("trouble", TROUBLES, ids=name_of)
def test_trouble_that_stays_is_told_with_the_number_of_tries(server, trouble):
    server.trouble = [trouble] * 3

    with pytest.raises(ProviderError, match=rf"own-model at {server.base}.*\(3 tries\)"):
        ask(server.base, retries=2)

    assert len(server.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_told_with_the_setting(server):
    server.trouble = [hangs]

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
        ask(None, name=name, retries=5)


def test_a_server_of_ones_own_needs_no_key_but_gets_the_one_that_is_set(server, monkeypatch):
    ask(server.base)
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    ask(server.base)

    assert server.keys == ["Bearer none", "Bearer mine"]


def test_a_key_that_is_refused_is_told_without_trying_again(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "old")
    server.trouble = [says(401, b'{"error": {"message": "expired"}}')]

    with pytest.raises(ProviderError, match=r"wants a key that it accepts: check yours \(.*expired\)"):
        ask(server.base, retries=5)

    assert len(server.asked) == 1


def test_the_time_that_a_server_wants_to_be_left_alone_is_heard(server):
    server.trouble = [says(429, b"{}", Retry_After="7")]

    with pytest.raises(ProviderError, match="takes no more requests for now") as raised:
        ask(server.base)

    assert isinstance(raised.value.__cause__, Transient)
    assert raised.value.__cause__.after == 7.0


@pytest.mark.parametrize("status", [400, 402, 404, 413, 422])
def test_a_refusal_is_passed_on_in_the_servers_words(server, status):
    server.trouble = [says(status, b'{"error": {"message": "no such model"}}')]

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


def test_so_many_requests_are_with_the_server_at_once(server):
    server.most = 1
    server.gate.clear()

    async def run():
        model = model_of(server.base, concurrency=3)
        asked = asyncio.create_task(model.complete(ASK.replace(n=8)))
        assert await asyncio.to_thread(server.sees, lambda: server.waiting == 1)
        server.gate.set()
        reply = await asked
        await model.close()
        return reply

    assert len(asyncio.run(run()).completions) == 8
    assert server.most_at_once <= 3


def test_repeated_failures_open_the_circuit_and_one_trial_closes_it(server):
    server.trouble = [says(500, b'{"error": {"message": "boom"}}')] * 2
    now = 1000.0

    async def run():
        nonlocal now
        model = LiteLLMModel("openai/own-model", server.base, Limits(retries=0, failures=2, cool_down=30.0), clock=lambda: now)
        said = []
        for _ in range(4):
            with pytest.raises(ProviderError) as raised:
                await model.complete(ASK)
            said.append(str(raised.value))
        now += 30.0
        reply = await model.complete(ASK)
        await model.close()
        return said, reply

    said, reply = asyncio.run(run())

    assert ["failed 2 times in a row" in text for text in said] == [False, False, True, True]
    assert reply.completions
    assert len(server.asked) == 3


@pytest.mark.parametrize("moment", ["waiting", "answered"])
def test_a_call_that_is_cancelled_closes_its_connection_and_counts_for_nothing(server, moment):
    server.gate.clear()

    async def run():
        model = model_of(server.base)
        asked = asyncio.create_task(model.complete(ASK))
        assert await asyncio.to_thread(server.sees, lambda: server.waiting == 1)
        if moment == "answered":
            server.gate.set()
            assert server.sees(lambda: len(server.paid) == 1), "the answer is there, and this loop has not looked at it yet"
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        server.gate.set()
        assert (await model.complete(ASK)).usage.calls == 1
        await model.close()

    asyncio.run(run())

    assert server.is_left()


def test_a_model_that_is_closed_while_the_server_answers_ends_its_calls_with_one_error(server):
    server.gate.clear()

    async def run():
        model = model_of(server.base, retries=5)
        asked = asyncio.create_task(model.complete(ASK))
        assert await asyncio.to_thread(server.sees, lambda: server.waiting == 1)
        await model.close()
        server.gate.set()
        with pytest.raises(ProviderError, match="was closed before it answered"):
            await asked

    asyncio.run(run())

    assert server.is_left()
    assert len(server.asked) == 1


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
