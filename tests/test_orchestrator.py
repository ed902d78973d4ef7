import asyncio
import json
import logging
import random
import shutil
import signal
import socket
import threading
import time

import pytest

from core.attempts import derive, new_id
from core.config import Settings
from core.errors import ConfigError, ProviderError, SearchError, TaskError
from core.orchestrator import Orchestrator
from core.providers.local import EMBEDDED_DIRECTORY
from core.providers.scripted import ScriptedModel
from core.types import Completion, Domain, Evidence, Outcome, Reply, Task, Usage, Verdict
from logs.reading import read_runs, read_traces

RIGHT = "17*6 = 102\n102 + 23 = 125\nAnswer: 125"
WRONG = "17*6 = 102\n102 + 23 = 124\nAnswer: 124"
QUESTION = "Solve 17*6+23"


def settings(**changes):
    return Settings(_env_file=None, **{"DEVICE": "cpu", "THREADS": 1, **changes})


def every_worker(spec):
    return {f"{domain.upper()}_WORKER_MODEL": spec for domain in Domain}


@pytest.fixture
def scripted(tmp_path):
    """An orchestrator whose workers say the given replies, in order."""
    opened = []

    def build(*replies, options=None, **changes):
        script = tmp_path / "script.jsonl"
        script.write_text("\n".join(json.dumps(reply) for reply in replies))
        opened.append(Orchestrator(settings(**{**every_worker(f"scripted:{script}"), **changes}), **(options or {})))
        return opened[-1]

    yield build
    for orchestrator in opened:
        orchestrator.close()


@pytest.fixture
def spoken(monkeypatch):
    """An orchestrator whose workers are one model, or say what a function of the request and the sample says."""
    opened = []

    def build(model, options=None, **changes):
        model = model if hasattr(model, "complete") else ScriptedModel(model)
        monkeypatch.setattr("core.providers.scripted.connect", lambda name, given: model)
        opened.append(Orchestrator(settings(**{**every_worker("scripted:function"), **changes}), **(options or {})))
        return opened[-1]

    yield build
    for orchestrator in opened:
        orchestrator.close()


def guesses(request, index):
    """Now and then right, depending on the seed and on nothing else."""
    rng = random.Random(f"{request.sampling.seed} {index}")
    lines = ["17*6 = 102\n", f"102 + 23 = {rng.choice((124, 125, 126))}\n", f"Answer: {rng.choice((124, 125, 126))}"]
    done = request.prefix.count("\n")
    return "".join(lines[done:])


def abstain(task, text):
    return Verdict(Outcome.ABSTAIN, None, "not checked")


def attempt(nodes, node):
    path = node.path.split(".")
    return "".join(nodes[".".join(path[: i + 1])].text for i in range(len(path)))


def strip_times(result):
    return result.replace(run_id="", seconds=0.0, verdict=result.verdict.replace(milliseconds=0.0))


def test_one_question_in_one_verified_result_out(scripted):
    result = scripted(RIGHT).infer(QUESTION, strategy="single")

    assert (result.answer, result.verified, result.error) == ("125", True, None)
    assert (result.domain, result.worker, result.model.partition(":")[0]) == (Domain.MATH, "math", "scripted")
    assert result.text == RIGHT
    assert result.steps == tuple(RIGHT.split("\n"))
    assert result.verdict.evidence is Evidence.RECOMPUTATION
    assert result.reward == 1.0
    assert result.usage.calls == 1


def test_a_wrong_answer_is_a_result_and_no_error(scripted):
    result = scripted(WRONG).infer(QUESTION, strategy="single")

    assert (result.answer, result.verified, result.error) == ("124", False, None)
    assert result.verdict.outcome is Outcome.FAIL
    assert "102 + 23 = 124" in result.verdict.reason


def test_the_answer_of_a_tree_search_is_the_whole_path_that_led_to_it(spoken):
    result = spoken(guesses).infer(QUESTION)

    assert result.verified
    assert len(result.steps) == 3
    assert result.steps[0] == "17*6 = 102"
    assert result.steps[-1] == "Answer: 125"
    assert result.text == "\n".join(result.steps)


def test_single_asks_once_and_greedily(spoken):
    model = ScriptedModel(guesses)

    spoken(model).infer(QUESTION, strategy="single")

    (request,) = model.requests
    assert (request.n, request.sampling.temperature, request.sampling.stop, request.prefix) == (1, 0.0, (), "")


def test_a_search_never_makes_more_calls_than_planned(spoken):
    model = ScriptedModel(lambda request, index: f"Answer: {request.sampling.seed} {index}")

    result = spoken(model, SEARCH_CALLS=3).infer(QUESTION)

    assert (len(model.requests), result.usage.calls, result.verified) == (3, 3, False)


def test_asynchronous_callers_are_served_beside_each_other(spoken):
    orchestrator = spoken(guesses)

    async def ask():
        return await asyncio.gather(*(orchestrator.ainfer(QUESTION) for _ in range(3)))

    assert [result.answer for result in asyncio.run(ask())] == ["125"] * 3


def test_threads_may_share_an_orchestrator(spoken):
    orchestrator, got = spoken(guesses), []
    threads = [threading.Thread(target=lambda: got.append(orchestrator.infer(QUESTION).answer)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == ["125"] * 4


def test_many_questions_come_back_in_order_and_each_is_reported_as_it_comes(spoken):
    seen = []
    orchestrator = spoken(lambda request, index: f"Answer: {eval(request.messages[-1].content[6:])}")
    questions = [f"Solve {n}+{n}" for n in range(20)]

    results = orchestrator.infer_many(questions, concurrency=7, on_result=seen.append)

    assert [result.answer for result in results] == [str(2 * n) for n in range(20)]
    assert {result.run_id for result in seen} == {result.run_id for result in results}


def test_no_questions_make_no_results(spoken):
    assert spoken(guesses).infer_many([]) == []


def test_what_on_result_raises_stops_the_rest_and_comes_out(spoken):
    model = ScriptedModel(guesses)

    def stop(result):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        spoken(model).infer_many([QUESTION] * 50, concurrency=1, strategy="single", on_result=stop)
    assert len(model.requests) == 1


def test_questions_find_their_worker(spoken):
    orchestrator = spoken(lambda request, index: "Answer: 1")

    domains = {
        "Solve 17*6+23": Domain.MATH,
        "Write a Python function f(x) that adds 2.": Domain.CODE,
        "Ann is taller than Bob. Bob is taller than Cid. Who is the tallest?": Domain.LOGIC,
        "Write a poem about the sea": Domain.CREATIVE,
    }
    results = {question: orchestrator.infer(question, strategy="single") for question in domains}

    assert {question: result.domain for question, result in results.items()} == domains
    assert all(result.worker == result.domain for result in results.values())


def test_a_domain_can_be_forced(spoken):
    model = ScriptedModel(lambda request, index: "Answer: 1")

    result = spoken(model).infer(QUESTION, domain="creative", strategy="single")

    assert (result.domain, result.worker) == (Domain.CREATIVE, "creative")
    assert model.requests[0].messages[0].content.startswith("You write.")


def test_an_expected_answer_is_verified_against(spoken):
    orchestrator = spoken(lambda request, index: "Answer: 42")
    question = "Tom has some marbles. How many has he altogether?"

    right, wrong = (orchestrator.infer(question, "math", expected=expected, strategy="single") for expected in ("42", 41))

    assert (right.verified, right.verdict.evidence) == (True, Evidence.REFERENCE)
    assert (wrong.verified, wrong.verdict.outcome) == (False, Outcome.FAIL)


def test_a_task_is_asked_as_it_is_unless_told_otherwise(spoken):
    orchestrator = spoken(lambda request, index: "Answer: 42")
    task = Task("How many?", Domain.MATH, reference="42", key="k")

    assert orchestrator.infer(task, strategy="single").verified
    assert not orchestrator.infer(task, expected="41", strategy="single").verified
    assert orchestrator.infer(task, domain="code", strategy="single").domain is Domain.CODE


@pytest.mark.parametrize(
    ("query", "domain", "message"),
    [
        ("", None, "the question is empty"),
        (" \n\t", None, "the question is empty"),
        (None, None, "not NoneType"),
        (17, None, "not int"),
        (b"Solve 1+1", None, "not bytes"),
        (QUESTION, "maths", "there is no domain 'maths': choose one of math, code"),
        (QUESTION, 5, "there is no domain 5"),
    ],
)
def test_a_question_that_can_not_be_asked_is_a_task_error(scripted, query, domain, message):
    with pytest.raises(TaskError, match=message):
        scripted(RIGHT).infer(query, domain)


def test_one_text_where_a_list_belongs_is_not_taken_for_a_list_of_letters(scripted):
    with pytest.raises(TaskError, match="use infer for a single one"):
        scripted(RIGHT).infer_many(QUESTION)


def test_wrong_names_and_numbers_are_told_before_anything_is_answered(scripted):
    orchestrator = scripted(RIGHT)

    with pytest.raises(ConfigError, match="choose one of beam, best_of_n, lats, levels, self_consistency, single"):
        orchestrator.infer(QUESTION, strategy="astar")
    with pytest.raises(ConfigError, match="choose one of beam, best_of_n, lats, levels, self_consistency, single"):
        orchestrator.infer_many([QUESTION], strategy="astar")
    with pytest.raises(ConfigError, match="concurrency is 0"):
        orchestrator.infer_many([QUESTION], concurrency=0)


def test_a_closed_orchestrator_says_so_and_may_be_closed_again(scripted):
    orchestrator = scripted(RIGHT)
    orchestrator.close()
    orchestrator.close()

    with pytest.raises(SearchError, match="is closed: make another one"):
        orchestrator.infer(QUESTION)
    with pytest.raises(SearchError, match="is closed"):
        asyncio.run(orchestrator.ainfer(QUESTION))


def test_closing_stops_what_is_under_way(spoken):
    asked = threading.Event()

    class Slow(ScriptedModel):
        async def complete(self, request):
            asked.set()
            await asyncio.sleep(1_000)

    orchestrator = spoken(Slow([]))

    async def close_while_asking():
        waiting = asyncio.create_task(orchestrator.ainfer(QUESTION))
        await asyncio.to_thread(asked.wait)
        await asyncio.to_thread(orchestrator.close)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(close_while_asking())


def test_steps_stay_on_lines_of_their_own_when_a_server_cuts_the_stop_string_off(spoken):
    class Server(ScriptedModel):
        async def complete(self, request):
            reply = await super().complete(request)
            return Reply(tuple(c.replace(text=c.text.removesuffix("\n")) for c in reply.completions), reply.usage)

    result = spoken(Server(guesses)).infer(QUESTION)

    assert result.verified
    assert result.text == "17*6 = 102\n102 + 23 = 125\nAnswer: 125"


def test_an_indentation_that_came_with_the_newline_stays_where_it_is(spoken):
    code = "def f(x):\n    return x + 2"

    class Merged(ScriptedModel):
        """Has a token that is a newline with four blanks."""

        async def complete(self, request):
            first = not request.prefix and "\n" in request.sampling.stop
            text, finish = ("def f(x):\n    ", "stop") if first else (code.removeprefix(request.prefix), "end")
            return Reply((Completion(text, finish),) * request.n, Usage(1))

    result = spoken(Merged(())).infer("Write a Python function f(x) that adds 2", "code")

    assert result.text == code


@pytest.mark.parametrize("line", ["Answer: 125\n", "**Answer:** 125\n", "Final answer: 125\n"])
def test_a_line_that_gives_the_answer_ends_the_attempt(spoken, line):
    model = ScriptedModel(lambda request, index: line + "and so on\n")

    result = spoken(model).infer(QUESTION)

    assert len(model.requests) == 1
    assert result.text == line


def test_a_line_that_only_announces_the_answer_does_not_end_the_attempt(spoken):
    model = ScriptedModel(lambda request, index: "125" if request.prefix else "Answer:\n125")

    result = spoken(model).infer(QUESTION)

    assert (result.answer, result.verified) == ("125", True)


def test_an_answer_of_code_may_have_many_lines(spoken):
    code = "Answer: here it is\ndef f(x):\n    return x + 2"

    result = spoken(lambda request, index: code.removeprefix(request.prefix), SEARCH_CALLS=8).infer("Write a Python function", "code")

    assert result.text == code


class CutOff(ScriptedModel):
    async def complete(self, request):
        return Reply((Completion("17*6 = 102\n102 +", "length"),) * request.n, Usage(1))


def test_an_answer_that_was_cut_off_is_a_fail_that_says_what_to_do(spoken):
    result = spoken(CutOff([])).infer(QUESTION, strategy="single")

    assert result.verdict.outcome is Outcome.FAIL
    assert "raise MAX_TOKENS" in result.verdict.reason


def test_a_pass_on_evidence_that_does_not_count_is_not_verified(scripted):
    result = scripted(RIGHT, VERIFIED_BY=("reference",)).infer(QUESTION, strategy="single")

    assert (result.verified, result.verdict.outcome, result.reward) == (False, Outcome.ABSTAIN, None)
    assert result.verdict.reason.startswith("recomputation does not count as verified: ")


def test_among_answers_that_nobody_can_check_the_most_frequent_is_given(scripted):
    replies = [f"Answer: {name}" for name in ("Ann", "Bob", "Bob", "Cid")]

    result = scripted(*replies, SEARCH_CALLS=1, options={"verify": abstain}).infer("Who?", "logic", strategy="best_of_n")

    assert (result.answer, result.verified, result.reward) == ("Bob", False, None)


def test_a_search_that_ends_without_an_answer_says_what_to_do(spoken):
    result = spoken(lambda request, index: "let me think\n", SEARCH_CALLS=1).infer(QUESTION)

    assert (result.answer, result.verified) == (None, False)
    assert "raise SEARCH_CALLS" in result.error


def test_the_same_seed_gives_the_same_run_and_another_seed_another(spoken, tmp_path):
    def search(name, seed):
        folder = tmp_path / name
        options = {"verify": abstain, "enable_logging": True, "log_dir": folder}
        with spoken(guesses, options, SEED=seed) as orchestrator:
            result = orchestrator.infer(QUESTION)
        (run,) = read_runs(folder)
        return strip_times(result), run.nodes, [trace.text for trace in run.traces]

    assert search("one", 1) == search("again", 1)
    assert search("one more", 1)[1] != search("other", 2)[1]


def test_the_log_holds_the_run_its_tree_and_every_attempt(spoken, tmp_path):
    with spoken(guesses, {"enable_logging": True, "log_dir": tmp_path}) as orchestrator:
        result = orchestrator.infer(QUESTION)
        assert orchestrator.lost == 0

    (run,) = read_runs(tmp_path)
    nodes = {node.path: node for node in run.nodes}
    assert (run.id, run.strategy, run.error, run.task.prompt) == (result.run_id, "lats", None, QUESTION)
    assert run.usage == result.usage
    for trace in run.traces:
        path = trace.node.split(".")
        above = "".join(nodes[".".join(path[:i])].text for i in range(len(path)))
        last = nodes.get(trace.node)  # None where the tree has merged it with a sibling that said the same
        assert trace.text.startswith(above)
        assert last is None or (above + last.text, last.outcome) == (trace.text, trace.verdict.outcome)
    assert {trace.text for trace in run.traces} == {attempt(nodes, node) for node in run.nodes if node.terminal}
    assert run.traces[0].verified
    assert run.traces[0].text == result.text


def test_nothing_is_logged_unless_asked_for(scripted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    orchestrator = scripted(RIGHT, options={"log_dir": tmp_path / "logs"})
    orchestrator.infer(QUESTION, strategy="single")
    orchestrator.flush()

    assert not (tmp_path / "logs").exists()
    assert orchestrator.lost == 0


def test_a_log_that_can_not_be_written_costs_no_answer_and_is_told_once(scripted, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")

    orchestrator = scripted(RIGHT, RIGHT, options={"enable_logging": True, "log_dir": tmp_path / "file"})
    answers = [orchestrator.infer(QUESTION, strategy="single").answer for _ in range(2)]
    orchestrator.flush()

    assert answers == ["125", "125"]
    assert [record.levelname for record in caplog.records if "nothing is logged" in record.message] == ["WARNING"]
    assert orchestrator.lost == 2


def test_a_model_that_fails_half_way_leaves_a_run_that_says_so(scripted, tmp_path):
    replies = ["17*6 = 102\n"] * 4
    orchestrator = scripted(*replies, options={"enable_logging": True, "log_dir": tmp_path})

    with pytest.raises(ProviderError, match="was asked for one more"):
        orchestrator.infer(QUESTION)
    orchestrator.flush()

    (run,) = read_runs(tmp_path)
    assert "was asked for one more" in run.error
    assert len(run.nodes) == 2


@pytest.fixture
def dead_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_dead_ollama_is_a_provider_error_that_says_how_to_start_it(scripted, dead_port):
    host = f"http://127.0.0.1:{dead_port}"
    orchestrator = scripted(RIGHT, RIGHT, MATH_WORKER_MODEL="ollama:tiny", OLLAMA_HOST=host, REQUEST_RETRIES=0)

    with pytest.raises(ProviderError, match="ollama serve"):
        orchestrator.infer(QUESTION)


def test_one_dead_model_does_not_keep_the_others_from_answering(scripted, dead_port):
    host = f"http://127.0.0.1:{dead_port}"
    orchestrator = scripted(RIGHT, RIGHT, CODE_WORKER_MODEL="ollama:tiny", OLLAMA_HOST=host, REQUEST_RETRIES=0)
    tasks = [Task(QUESTION, "math"), Task("f?", "code"), Task(QUESTION, "math", key="another")]

    first, dead, last = orchestrator.infer_many(tasks, strategy="single")

    assert (first.answer, first.error, last.answer, last.error) == ("125", None, "125", None)
    assert "ollama serve" in dead.error
    assert (dead.answer, dead.verified, dead.verdict.outcome) == (None, False, Outcome.ERROR)


def test_a_model_that_can_not_be_found_is_told_by_name(scripted, tmp_path):
    orchestrator = scripted(MATH_WORKER_MODEL=str(tmp_path / "nowhere"))

    with pytest.raises(ConfigError, match="nowhere"):
        orchestrator.infer(QUESTION)
    assert "nowhere" in orchestrator.infer_many([QUESTION])[0].error


@pytest.fixture
def _ctrl_c_interrupts():
    """Also where it is switched off, as shells do for what they start in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_leaves_a_log_that_opens_and_an_orchestrator_that_closes(spoken, tmp_path):
    def interrupt(result):
        if len(done) < 3:
            done.append(result)
        elif len(done) == 3:
            done.append(result)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as the terminal does

    class Slow(ScriptedModel):
        async def complete(self, request):
            await asyncio.sleep(0.01)
            return await super().complete(request)

    done = []
    orchestrator = spoken(Slow(guesses), {"enable_logging": True, "log_dir": tmp_path})

    with pytest.raises(KeyboardInterrupt):
        orchestrator.infer_many([f"Solve {n}+1" for n in range(2_000)], concurrency=2, on_result=interrupt)
    orchestrator.close()

    runs = list(read_runs(tmp_path))
    assert {result.run_id for result in done} <= {run.id for run in runs}
    assert len(runs) < 100
    assert {run.error for run in runs} <= {None, "CancelledError"}


def test_seeds_follow_from_their_parts_and_ids_sort_by_time():
    assert derive(0, "a", 1) == derive(0, "a", 1) != derive(0, "a", 2)
    assert derive("1", 2) != derive(1, 2)
    assert 0 <= derive("x") < 2**63
    ids = [new_id() for _ in range(3) if time.sleep(0.001) is None]
    assert ids == sorted(ids)
    assert {len(i) for i in ids} == {32}


@pytest.mark.parametrize("text", ["Solve " + "1+" * 500_000 + "1", "a" * 1_000_000, "why " * 250_000])
def test_a_megabyte_of_question_is_refused_with_both_numbers(text):
    with (
        Orchestrator(settings()) as orchestrator,
        pytest.raises(ProviderError, match=r"are at least \d+ tokens, embedded takes \d+: shorten"),
    ):
        orchestrator.infer(text)


def test_that_the_embedded_model_answers_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr("core.models._said", threading.Event())

    for _ in range(2):
        with Orchestrator(settings()) as orchestrator:
            orchestrator.infer(QUESTION, strategy="single")
            orchestrator.infer(QUESTION, strategy="single")

    notices = [record.message for record in caplog.records if "embedded model" in record.message]
    assert len(notices) == 1
    assert "RATCHET_MATH_WORKER_MODEL" in notices[0]


def test_a_named_model_needs_no_notice(scripted, monkeypatch, caplog):
    monkeypatch.setattr("core.models._said", threading.Event())
    caplog.set_level(logging.INFO)

    scripted(RIGHT).infer(QUESTION, strategy="single")

    assert not [record for record in caplog.records if "embedded model" in record.message]


def test_searches_side_by_side_make_the_same_trees_however_long_verifying_takes(tmp_path):
    questions = [f"Solve {n}*7+{n}" for n in range(11, 17)]

    def trees(name, seed):
        rng = random.Random(seed)

        def verify(task, text):
            time.sleep(rng.random() / 50)
            return abstain(task, text)

        options = settings(SEARCH_CALLS=6, MAX_TOKENS=40, CONCURRENCY=3)
        with Orchestrator(options, enable_logging=True, log_dir=tmp_path / name, verify=verify) as orchestrator:
            results = orchestrator.infer_many(questions)
        return [strip_times(result) for result in results], {run.task.prompt: run.nodes for run in read_runs(tmp_path / name)}

    assert trees("one", 1) == trees("other", 2)


def test_workers_with_different_models_do_not_wait_for_each_others_clients(tmp_path, monkeypatch):
    monkeypatch.setattr("core.providers.local.PATIENCE", 60.0)
    copy = tmp_path / "copy"
    shutil.copytree(EMBEDDED_DIRECTORY, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    tasks = [Task(f"Solve {n}+{n}", domain) for n in range(4) for domain in ("math", "logic")]

    options = settings(LOGIC_WORKER_MODEL=str(copy), SEARCH_CALLS=3, MAX_TOKENS=12, CONCURRENCY=3)
    with Orchestrator(options, enable_logging=True, log_dir=tmp_path) as orchestrator:
        results = orchestrator.infer_many(tasks)

    assert {result.model for result in results} == {"embedded", str(copy)}
    assert len({trace.fingerprint for trace in read_traces(tmp_path)}) == 1
