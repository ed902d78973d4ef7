"""One question being answered, with what a search may do beside asking: events, tools, reflections, resuming."""

from __future__ import annotations

import asyncio
import random

import pytest

from agents.npc import NPC
from core.attempts import answer_of
from core.config import Settings
from core.errors import ProviderError
from core.inference import Inference, Question
from core.judging import Judging
from core.orchestrator import Orchestrator
from core.providers.scripted import ScriptedModel
from core.search.events import fold
from core.types import Domain, Evidence, Outcome, Result, Task, Verdict
from core.verifiers import Verifiers
from logs.reading import read_runs

TASK = Task("Solve 17*6+23", Domain.MATH)
FENCED = "So:\n```python\ndef f(x):\n    return x\n```"
LINES = ("17*6 = 102\n", "102+23 = {}\n", "Answer: {}")


def settings(**options):
    return Settings(_env_file=None, **options)


def guesses(request, index):
    """Now and then right, depending on the seed and on nothing else."""
    rng = random.Random(f"{request.sampling.seed} {index}")
    done = request.prefix.count("\n")
    return "".join(line.format(rng.choice((124, 126, 127))) for line in LINES[done:])


def inference(model, options=None, npc=None, strategy="lats", **more):
    chosen = options or settings()
    question = Question(TASK, npc or NPC("math", "Solve it.", "scripted"), model, strategy, 1.0)
    return Inference(question, chosen, Judging(Verifiers(), chosen), **more)


def wrong(task, text):
    return Verdict(Outcome.FAIL, 0.0, "wrong", Evidence.REFERENCE, details={"feedback": f"{text.count('102')} times 102"})


@pytest.fixture
def spoken(monkeypatch):
    def build(model, **options):
        monkeypatch.setattr("core.orchestrator.connect", lambda spec, chosen: model)
        return Orchestrator(settings(MATH_WORKER_MODEL="scripted:any"), **options)

    return build


def test_events_are_streamed_as_they_happen_and_the_result_comes_last(spoken):
    with spoken(ScriptedModel(guesses)) as orchestrator:
        *events, result = orchestrator.stream(TASK)

    assert isinstance(result, Result)
    assert [events[0].kind, events[-1].kind] == ["ask", "stop"]
    assert {"ask", "tell", "verdict"} <= {event.kind for event in events}


def test_asynchronous_callers_can_stream_too_and_break_off(spoken):
    model = ScriptedModel(guesses)

    async def first_event():
        async for event in orchestrator.astream(TASK):
            return event
        return None

    async def everything():
        return [event async for event in orchestrator.astream(TASK)]

    with spoken(model) as orchestrator:
        assert asyncio.run(first_event()).kind == "ask"
        assert isinstance(asyncio.run(everything())[-1], Result)


def test_an_error_of_the_model_comes_out_of_the_stream(spoken):
    with spoken(ScriptedModel([])) as orchestrator, pytest.raises(ProviderError, match="was asked for one more"):
        list(orchestrator.stream(TASK))


def test_the_store_keeps_the_events_and_the_tree_is_their_fold(spoken, tmp_path):
    with spoken(ScriptedModel(guesses), enable_logging=True, log_dir=tmp_path) as orchestrator:
        events = [event for event in orchestrator.stream(TASK) if not isinstance(event, Result)]

    (run,) = read_runs(tmp_path)
    assert [event["kind"] for event in run.events] == [event.kind for event in events]
    assert [(n.path, n.text, n.visits) for n in fold(events)] == [(n.path, n.text, n.visits) for n in run.nodes]
    assert run.stopped == "exhausted"
    assert not list((tmp_path / "searches").iterdir())


@pytest.mark.parametrize("killed_after", [1, 3, 8])
def test_a_killed_search_goes_on_without_paying_twice(tmp_path, killed_after):
    asked = []

    def dying(request, index):
        if len(asked) >= killed_after:
            raise KeyboardInterrupt
        return guesses(request, index)

    class Counting(ScriptedModel):
        async def complete(self, request):
            reply = await super().complete(request)
            asked.append((request.prefix, request.sampling.seed))
            return reply

    one_at_a_time = settings(SEARCH_CONCURRENCY=1)
    whole = inference(ScriptedModel(guesses), one_at_a_time)
    expected = asyncio.run(whole.run())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(inference(Counting(dying), one_at_a_time, log_dir=tmp_path).run())
    paid = list(asked)
    killed_after = 10**9

    resumed = inference(Counting(guesses), one_at_a_time, log_dir=tmp_path)
    result = asyncio.run(resumed.run())

    assert (result.text, result.usage) == (expected.text, expected.usage)
    assert len(asked) == len(set(asked)) == len(whole.attempts.model.requests)
    assert asked[: len(paid)] == paid
    assert [n.path for n in resumed.policy.nodes()] == [n.path for n in whole.policy.nodes()]
    assert [t.text for t in resumed.record().traces] == [t.text for t in whole.record().traces]


@pytest.mark.parametrize("about", ["the model's own", "of the question"])
def test_a_secret_is_never_in_the_log_of_a_search_and_the_search_goes_on_as_it_was(tmp_path, about):
    secret = "sk-ant-" + "a1B2c3D4" * 4 if about == "the model's own" else "correct-horse-7"
    task = Task(f"Solve 17*6+23 with password={secret}", Domain.MATH, key="17*6+23")

    def leaking(request, index):
        done = request.prefix.count("\n")
        lines = (f"17*6 = 102 {secret if index == 1 else ''}\n", *LINES[1:])
        return "".join(line.format(random.Random(f"{request.sampling.seed} {index}").choice((124, 126))) for line in lines[done:])

    def search(model, log_dir=None, **options):
        chosen = settings(SEARCH_CONCURRENCY=1, **options)
        question = Question(task, NPC("math", "Solve it.", "scripted"), model, "lats", 1.0)
        return Inference(question, chosen, Judging(Verifiers(), chosen), log_dir=log_dir)

    def dying(request, index):
        if len(killed.requests) > 3:
            raise KeyboardInterrupt
        return leaking(request, index)

    whole = search(ScriptedModel(leaking))
    asyncio.run(whole.run())
    killed = ScriptedModel(dying)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(search(killed, tmp_path).run())
    (left,) = (tmp_path / "searches").iterdir()

    assert secret not in left.read_text()
    resumed = search(ScriptedModel(leaking), tmp_path)
    asyncio.run(resumed.run())
    assert secret not in left.read_text()
    assert resumed.policy.nodes() == whole.policy.nodes()
    assert secret in "".join(node.text for node in whole.policy.nodes())


def test_a_log_holds_every_word_where_redaction_is_off(tmp_path):
    secret = "sk-ant-" + "a1B2c3D4" * 4
    search = inference(ScriptedModel(lambda request, index: f"{secret}\nAnswer: {index}"), settings(REDACT=False), log_dir=tmp_path)

    asyncio.run(search.run())

    assert secret in search.log_path.read_text()


def test_a_question_that_utf8_can_not_hold_is_answered_and_stored(spoken, tmp_path):
    with spoken(ScriptedModel(guesses), enable_logging=True, log_dir=tmp_path) as orchestrator:
        result = orchestrator.infer("Solve 17*6+23 \ud83d and \ud83d\ude00", domain="math", expected="125")
        orchestrator.infer("Solve 17*6+23 \udc00")
        orchestrator.flush()

    runs = list(read_runs(tmp_path))
    assert runs[0].id == result.run_id
    assert [run.task.prompt for run in runs] == ["Solve 17*6+23 \ufffd and \U0001f600", "Solve 17*6+23 \ufffd"]
    assert [run.task.id for run in runs] == [trace.task.id for run in runs for trace in run.traces[:1]]


def test_a_lesson_is_put_before_the_model_and_the_reference_is_not():
    def model(request, index):
        if len(request.messages) > 2:
            assert "times 102" in request.messages[-1].content
            return "Check the second line."
        return guesses(request, index)

    chosen = settings(SEARCH_CONCURRENCY=1)
    scripted = ScriptedModel(model)
    question = Question(TASK.replace(reference="125"), NPC("math", "Solve it.", "scripted"), scripted, "lats", 1.0)

    asyncio.run(Inference(question, chosen, Judging(wrong, chosen, with_steps=False)).run())

    after = [r for r in scripted.requests if "Check the second line." in r.messages[-1].content]
    assert after
    assert not any("125" in message.content for request in scripted.requests for message in request.messages)


def test_a_worker_calls_its_tools_and_goes_on_from_what_they_say():
    def model(request, index):
        if "Observation: 125" in request.prefix:
            return "Answer: 125"
        return 'Action: calculator({"expression": "17*6+23"})\nObservation: 99'

    npc = NPC("math", "Solve it.", "scripted", tools=("calculator",))
    for strategy in ("single", "lats"):
        scripted = ScriptedModel(model)
        result = asyncio.run(inference(scripted, npc=npc, strategy=strategy).run())

        assert result.text == 'Action: calculator({"expression": "17*6+23"})\nObservation: 125\nAnswer: 125'
        assert result.verified
        assert '"name": "calculator"' in scripted.requests[0].messages[-1].content


def test_a_vote_takes_the_answer_that_most_of_them_give():
    answers = ["124", "126", "124", "127", "124", "126", "127", "128"]
    scripted = ScriptedModel([f"Answer: {a}" for a in answers])

    result = asyncio.run(inference(scripted, settings(SEARCH_CALLS=2), strategy="self_consistency").run())

    assert result.answer == "124"
    assert not result.verified


@pytest.mark.parametrize(("name", "limit"), [("SEARCH_COMPLETION_TOKENS", 600), ("SEARCH_SECONDS", 1e-9), ("SEARCH_PROMPT_TOKENS", 40)])
def test_a_budget_ends_the_search_and_the_result_says_so(name, limit):
    search = inference(ScriptedModel(guesses), settings(**{name: limit}))

    result = asyncio.run(search.run())

    assert search.record().stopped.startswith("budget: ")
    assert result.usage.completion_tokens <= 600


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        (
            Task("Write f(x).", Domain.CODE, metadata={"entry_point": "f"}),
            "So:\n```python\ndef f(x):\n    return x\n```",
            "def f(x):\n    return x",
        ),
        (Task("What does it print?", Domain.CODE), "x=1\nAnswer: 1", "1"),
        (Task("A poem.", Domain.CREATIVE), "First a plan.\nAnswer: Roses\nare red", "Roses\nare red"),
        (TASK, "17*6 = 102\nAnswer: 125", "125"),
    ],
)
def test_an_answer_is_a_line_or_the_whole_program_or_the_whole_piece(task, text, answer):
    assert answer_of(task, text) == answer
