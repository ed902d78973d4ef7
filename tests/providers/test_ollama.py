"""The stand-in server speaks POST /api/chat, in lines and whole; it loads no model, pulls nothing and keeps nothing alive."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys

import pytest
from stand_in import StandIn, closes, half, hangs, name_of, says, standing

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.orchestrator import Orchestrator
from core.providers import connect
from core.providers.calls import Limits
from core.providers.ollama import OllamaModel
from core.providers.remote import Transient
from core.types import Domain, Message, Model, Request, Sampling, Task, Usage

ASK = Request((Message("system", "Be brief."), Message("user", "Solve 17*6+23")))
TEMPLATES = {
    "open": "<user>{}<assistant>{}",
    "closed": "<user>{}<assistant>{}<end><assistant>",
    "trimmed": "<user>{}<assistant>{}",
}


class Ollama(StandIn):
    """Says `say`, word by word. `template` says what it does with a last assistant message; None: it is too old to tell."""

    def __init__(self):
        super().__init__()
        self.say = {"content": "17 * 6 = 102", "done_reason": "stop"}
        self.counts = {"prompt_eval_count": 11, "eval_count": 7}
        self.template: str | None = None
        self.pauses = 0

    def reply(self, handler, body):
        if body.get("_debug_render_only") and self.template:
            shown = TEMPLATES[self.template].format(*(m["content"] for m in body["messages"]))
            shown = shown.rstrip() if self.template == "trimmed" else shown
            handler.answer(200, json.dumps({"model": body["model"], "done": False, "_debug_info": {"rendered_template": shown}}).encode())
            return
        said = dict(self.say)
        words = said.pop("content").split(" ")
        parts = [part(word if i == 0 else f" {word}") for i, word in enumerate(words)]
        last = part("", done=True, **self.counts, **said)
        if body["stream"]:
            handler.begin_lines()
            for one in [*parts, last]:
                handler.line(one)
            handler.end_lines()
        else:
            last["message"]["content"] = self.say["content"]
            handler.answer(200, json.dumps(last).encode())
        self.pay(self.counts["prompt_eval_count"] or 0, self.counts["eval_count"] or 0)


def part(content, done=False, **more):
    return {"model": "qwen3:0.6b", "message": {"role": "assistant", "content": content}, "done": done, **more}


def breaks_off(handler):
    """A stream that ends as it should, but before its last part."""
    handler.begin_lines()
    handler.line(part("17 *"))
    handler.end_lines()


def drops(handler):
    """A stream whose connection is closed in the middle."""
    handler.begin_lines()
    handler.line(part("17 *"))
    handler.close_connection = True


def fails_in_the_middle(handler):
    """A stream that tells of an error, as Ollama does: with status 200."""
    handler.begin_lines()
    handler.line(part("17 *"))
    handler.line({"error": "an error was encountered while running the model"})
    handler.end_lines()


def garbles(handler):
    """A stream with a line that is no JSON object."""
    handler.begin_lines()
    handler.line(part("17 *"))
    handler.line([1, 2])
    handler.end_lines()


def trickles(handler):
    """A stream that goes on for as long as somebody listens."""
    handler.begin_lines()
    while True:
        handler.line(part(" and"))
        handler.server.count(said=+1)


@pytest.fixture
def server():
    with standing(Ollama()) as ollama:
        yield ollama


def model_of(host, rng=None, clock=None, keep_alive="5m", options=None, **limits):
    limits = {"timeout": 10.0, "retries": 0, "pause": 0.001, "failures": 99, **limits}
    more = {"clock": clock} if clock else {}
    return OllamaModel("qwen3:0.6b", host, Limits(**limits), keep_alive=keep_alive, options=options, rng=rng or random.Random(0), **more)


def ask(host, request=ASK, **options):
    async def once():
        model = model_of(host, **options)
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
    assert (asked["path"], asked["model"], asked["stream"], asked["think"]) == ("/api/chat", "qwen3:0.6b", True, False)
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


def test_the_models_stay_and_ollamas_own_options_are_as_set(server):
    ask(server.host, keep_alive="30s", options={"num_ctx": 8192, "top_k": 20})

    assert server.asked[0]["keep_alive"] == "30s"
    assert server.asked[0]["options"] == {"temperature": 0.0, "top_p": 1.0, "num_predict": 256, "num_ctx": 8192, "top_k": 20}


@pytest.mark.parametrize(("keep_alive", "sent"), [("-1", -1), ("0", 0), ("90", 90), ("5m", "5m")])
def test_a_bare_number_of_seconds_goes_as_a_number_since_ollama_takes_no_other(server, keep_alive, sent):
    ask(server.host, keep_alive=keep_alive)

    assert server.asked[0]["keep_alive"] == sent


def test_an_option_that_each_request_sets_itself_is_refused():
    with pytest.raises(ConfigError, match="OLLAMA_OPTIONS sets seed, temperature, which each request sets itself"):
        OllamaModel("qwen3:0.6b", options={"temperature": 0.1, "seed": 3, "num_ctx": 8192})


@pytest.mark.parametrize("template", ["closed", "trimmed", None])
def test_begun_work_is_shown_where_the_model_would_not_continue_it_and_what_is_repeated_of_it_is_taken_off(server, template):
    server.template = template
    server.say["content"] = "17 * 6 = 102\n102 + 23 = 125"

    reply = ask(server.host, ASK.replace(prefix="17 * 6 = 102\n"))

    last = server.asked[-1]["messages"][-1]
    assert last["role"] == "user"
    assert "17 * 6 = 102\n" in last["content"]
    assert reply.completions[0].text == "102 + 23 = 125"


def test_begun_work_is_the_models_own_message_where_its_template_leaves_that_open(server):
    server.template = "open"
    server.say["content"] = "102 + 23 = 125"

    reply = ask(server.host, ASK.replace(n=2, prefix="17 * 6 = 102\n"))

    assert server.asked[-1]["messages"][-2:] == [
        {"role": "user", "content": "Solve 17*6+23"},
        {"role": "assistant", "content": "17 * 6 = 102\n"},
    ]
    assert [c.text for c in reply.completions] == ["102 + 23 = 125"] * 2
    assert reply.usage == Usage(2, 22, 14), "to render is not to answer"


def test_what_the_template_does_is_found_out_once_and_only_for_begun_work(server):
    server.template = "open"

    async def run():
        model = model_of(server.host)
        await model.complete(ASK)
        await asyncio.gather(*(model.complete(ASK.replace(prefix="17")) for _ in range(3)))
        await model.close()

    asyncio.run(run())

    assert [asked.get("_debug_render_only", False) for asked in server.asked].count(True) == 1
    assert len(server.asked) == 5


def test_a_server_that_is_too_old_to_tell_answers_with_a_token_which_counts(server):
    assert ask(server.host, ASK.replace(prefix="17")).usage == Usage(2, 22, 14)
    assert server.asked[0]["options"]["num_predict"] == 1


def test_a_server_that_refuses_to_end_in_an_assistants_message_is_shown_the_work(server):
    server.trouble = [says(400, b'{"error": "the last message must be from the user"}')]

    assert ask(server.host, ASK.replace(prefix="17")).usage.calls == 1
    assert server.asked[-1]["messages"][-1]["role"] == "user"


def test_trouble_while_finding_out_is_tried_again_too(server):
    server.template, server.trouble = "open", [closes]

    ask(server.host, ASK.replace(prefix="17"), retries=1)

    assert server.asked[-1]["messages"][-1] == {"role": "assistant", "content": "17"}


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


def test_counts_that_are_none_are_zero(server):
    server.counts = {"prompt_eval_count": None, "eval_count": -5}

    assert ask(server.host).usage == Usage(calls=1)


TROUBLES = [
    closes,
    half,
    breaks_off,
    drops,
    fails_in_the_middle,
    garbles,
    says(408, b'{"error": "slow"}'),
    says(409, b'{"error": "conflict"}'),
    says(425, b'{"error": "early"}'),
    says(429, b'{"error": "busy"}'),
    says(500, b'{"error": "boom"}'),
    says(503, b""),
    says(200, b"{malformed"),
    says(200, b"[]"),
    says(200, b'"x"'),
    says(200, b""),
    says(200, b'{"hello": 1}'),
    says(200, b'{"message": {"role": "assistant", "content": "17"}, "done": false}'),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=name_of)
def test_trouble_that_passes_is_tried_again_and_counts_as_one_call(server, trouble):
    server.trouble = [trouble]

    reply = ask(server.host, retries=1)

    assert reply.completions[0].text == "17 * 6 = 102"
    assert reply.usage == Usage(1, 11, 7)
    assert len(server.asked) == 2


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_amid_all_troubles_each_answer_is_counted_once(server, concurrency):
    server.trouble = random.Random(concurrency).sample(TROUBLES, k=len(TROUBLES))

    reply = ask(server.host, ASK.replace(n=5), retries=len(TROUBLES), concurrency=concurrency, pause=1e-7)

    assert len(reply.completions) == 5
    assert reply.usage == Usage(len(server.paid), *map(sum, zip(*server.paid, strict=True))) == Usage(5, 55, 35)
    assert len(server.asked) == len(server.paid) + len(TROUBLES)


@pytest.mark.parametrize("trouble", TROUBLES, ids=name_of)
def test_trouble_that_stays_is_told_with_the_number_of_tries(server, trouble):
    server.trouble = [trouble] * 3

    with pytest.raises(ProviderError, match=rf"{server.host}.*\(3 tries\)"):
        ask(server.host, retries=2)

    assert len(server.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_told_with_the_setting(server):
    server.trouble = [hangs]

    with pytest.raises(ProviderError, match=r"gave no answer in 0.05 s: raise REQUEST_TIMEOUT"):
        ask(server.host, timeout=0.05)


def test_an_unknown_model_is_told_with_the_command_that_fetches_it(server):
    server.trouble = [says(404, b'{"error": "model \'qwen3:0.6b\' not found"}')]

    with pytest.raises(ProviderError, match=r"has no model qwen3:0.6b: fetch it with `ollama pull qwen3:0.6b`"):
        ask(server.host, retries=3)

    assert len(server.asked) == 1


def test_a_refusal_is_passed_on_in_the_servers_words(server):
    server.trouble = [says(400, b'{"error": "invalid options"}')]

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


def test_the_time_that_a_server_wants_to_be_left_alone_is_heard(server):
    server.trouble = [says(503, b'{"error": "busy"}', Retry_After="7")]

    with pytest.raises(ProviderError, match="503: busy") as raised:
        ask(server.host)

    assert isinstance(raised.value.__cause__, Transient)
    assert raised.value.__cause__.after == 7.0


def test_nobody_there_opens_the_circuit_and_a_trial_closes_it(server):
    now = 1000.0
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def run():
            model = model_of(host, failures=2, clock=lambda: now)
            said = []
            for _ in range(3):
                with pytest.raises(ProviderError) as raised:
                    await model.complete(ASK)
                said.append(str(raised.value))
            await model.close()
            return said

        first, second, third = asyncio.run(run())

    assert first == second
    assert third.startswith(f"ollama:qwen3:0.6b at {host} failed 2 times in a row over the last 0 s, so nothing is sent to it")
    assert third.endswith("The last failure: " + first)


def test_many_questions_to_a_server_that_is_down_all_end_and_soon_without_asking_it():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"
        settings = Settings(_env_file=None, MATH_WORKER_MODEL="ollama:m", OLLAMA_HOST=host)

        with Orchestrator(settings) as orchestrator:
            results = orchestrator.infer_many([Task(f"Solve {i}+{i}", Domain.MATH) for i in range(20)])

    assert len(results) == 20
    assert all(result.error and "start it with `ollama serve`" in result.error for result in results)
    assert sum("times in a row" in (result.error or "") for result in results) >= 10


def test_so_many_samples_are_with_the_server_at_once(server):
    reply = ask(server.host, ASK.replace(n=9), concurrency=2)

    assert len(reply.completions) == 9
    assert server.most_at_once <= 2


@pytest.mark.parametrize("stop", ["cancel", "timeout", "close"])
def test_a_stream_that_is_stopped_closes_its_connection_so_that_the_server_generates_no_more(server, stop):
    server.said, server.trouble = 0, [trickles]

    async def run():
        model = model_of(server.host, timeout=1.0 if stop == "timeout" else 20.0)
        asked = asyncio.create_task(model.complete(ASK))
        assert await asyncio.to_thread(server.sees, lambda: server.said > 3)
        if stop == "cancel":
            asked.cancel()
        if stop == "close":
            await model.close()
        (said,) = await asyncio.gather(asked, return_exceptions=True)
        assert await asyncio.to_thread(server.is_left)
        if stop != "close":
            assert (await model.complete(ASK)).usage == Usage(1, 11, 7)
        await model.close()
        return said

    said = asyncio.run(run())

    kinds = {"cancel": asyncio.CancelledError, "timeout": ProviderError, "close": ProviderError}
    assert type(said) is kinds[stop]
    assert {"cancel": "", "timeout": "gave no answer in 1 s", "close": "was closed before it answered"}[stop] in str(said)


def test_an_answer_that_comes_in_the_middle_of_a_stop_is_let_go(server):
    server.gate.clear()

    async def run():
        model = model_of(server.host)
        asked = asyncio.create_task(model.complete(ASK))
        assert await asyncio.to_thread(server.sees, lambda: server.waiting == 1)
        server.gate.set()
        assert server.sees(lambda: len(server.paid) == 1), "the answer is there, and this loop has not looked at it yet"
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await model.complete(ASK)).usage == Usage(1, 11, 7)
        await model.close()

    asyncio.run(run())

    assert server.is_left()


def test_control_c_closes_the_connection_and_leaves_no_warning(server):
    server.said, server.trouble = 0, [trickles]
    code = (
        "from core.config import Settings; from core.orchestrator import Orchestrator\n"
        f"settings = Settings(_env_file=None, MATH_WORKER_MODEL='ollama:m', OLLAMA_HOST='{server.host}')\n"
        "try:\n"
        "    with Orchestrator(settings) as orchestrator: orchestrator.infer('Solve 17*6+23', domain='math')\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert server.sees(lambda: server.said > 3)
        os.kill(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # in development mode it then says where each thread stands
            out, err = process.communicate()

    slow = re.compile(r"Executing <.*> took [\d.]+ seconds\n")  # asyncio's, in development mode on a busy machine
    assert (out, slow.sub("", err)) == ("stopped\n", "")
    assert server.is_left()


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
