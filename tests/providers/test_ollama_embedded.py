"""The ollama provider against a server that generates: see ollama_stand_in.py for what that covers and what not."""

import asyncio

import ollama
import pytest
from ollama_stand_in import NAME, OllamaStandIn
from stand_in import standing

from core.config import Settings
from core.errors import ProviderError
from core.orchestrator import Orchestrator
from core.providers import connect
from core.types import Message, Request, Sampling

pytestmark = pytest.mark.slow
ASK = Request((Message("user", "Solve 17*6+23"),), sampling=Sampling(max_tokens=60))


@pytest.fixture(scope="module")
def embedded():
    model = connect("embedded", Settings(_env_file=None, DEVICE="cpu", THREADS=1))
    yield model
    asyncio.run(model.close())


@pytest.fixture(scope="module")
def server(embedded):
    with standing(OllamaStandIn(embedded)) as standing_in:
        yield standing_in


@pytest.fixture
def settings(server):
    return Settings(_env_file=None, OLLAMA_HOST=server.host, MATH_WORKER_MODEL="ollama:embedded")


def ask(settings, request, name="ollama:embedded"):
    async def once():
        model = connect(name, settings)
        try:
            return await model.complete(request)
        finally:
            await model.close()

    return asyncio.run(once())


def texts(reply):
    return [completion.text for completion in reply.completions]


def test_ollamas_own_client_reads_what_the_stand_in_says(server):
    client = ollama.Client(server.host)

    assert [model.model for model in client.list().models] == [NAME]
    assert client.show("embedded").capabilities == ["completion"]
    assert client.chat("embedded", [{"role": "user", "content": "Solve 2+2"}]).done is True
    assert [part.done for part in client.chat("embedded", [{"role": "user", "content": "Solve 2+2"}], stream=True)][-1] is True
    client.close()


def test_the_greedy_answer_is_the_models_own(settings, embedded):
    here = asyncio.run(embedded.complete(ASK))
    there = ask(settings, ASK)

    assert texts(there) == texts(here)
    assert there.usage.replace(cost=None) == here.usage.replace(cost=None)


def test_samples_differ_by_their_seeds_and_come_again_with_them(settings):
    request = ASK.replace(n=4, sampling=Sampling(temperature=1.5, max_tokens=30, seed=7))

    first, second = ask(settings, request), ask(settings, request)

    assert texts(first) == texts(second)
    assert len(set(texts(first))) > 1


def test_begun_work_is_continued_word_for_word(settings, embedded):
    request = ASK.replace(prefix="17 * 6 = 102\n")

    assert texts(ask(settings, request)) == texts(asyncio.run(embedded.complete(request)))


def test_a_text_ends_before_its_stop_string(settings, embedded):
    request = ASK.replace(sampling=Sampling(max_tokens=60, stop=(" ",)))

    (there,), (here,) = ask(settings, request).completions, asyncio.run(embedded.complete(request)).completions

    assert here.finish == there.finish == "stop"
    assert here.text == f"{there.text} "


def test_a_model_that_is_not_there_is_told_with_the_command(settings):
    with pytest.raises(ProviderError, match="ollama pull nothing"):
        ask(settings, ASK, name="ollama:nothing")


def test_a_question_is_searched_and_verified_through_it(settings, server):
    asked = len(server.asked)

    with Orchestrator(settings.changed(SEARCH_STRATEGY="levels")) as orchestrator:
        result = orchestrator.infer("Solve 17*6+23", domain="math", expected="125")

    assert result.error is None
    assert (result.answer, result.verified) == ("125", True)
    assert result.model == "ollama:embedded"
    assert result.usage.calls == sum(1 for body in server.asked[asked:] if not body.get("_debug_render_only"))
