"""Answers that are given again: to the same question at once, to a similar one only when its verifier says so, and never wrongly."""

from __future__ import annotations

import json
import logging
import math
import random
import sqlite3
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agents.workers import hire
from core.cache import AnswerCache, Rules, worker_version
from core.config import Settings
from core.errors import ConfigError
from core.judging import Judging
from core.meaning import Nearest, load_embedder, may_mean_the_same, packed
from core.memory import Memory
from core.orchestrator import Orchestrator
from core.providers.scripted import ScriptedModel
from core.types import Domain, Evidence, Outcome, Result, Task, Usage, Verdict
from core.verifiers import Verifiers
from logs.reading import read_runs

WORKER = worker_version("model", "fingerprint", "Solve it.")
QUESTION = "What is 17*6?"
PASS = Verdict(Outcome.PASS, 1.0, "recomputed: 102", Evidence.RECOMPUTATION, "math", "3", details={"value": "102"})
FAIL = Verdict(Outcome.FAIL, 0.0, "no", Evidence.RECOMPUTATION)
ABSTAIN = Verdict(Outcome.ABSTAIN, None, "can't say")
SOURCES = "Vienna is the capital of Austria. Canberra is the capital of Australia."


def task(prompt=QUESTION, domain=Domain.MATH, **more):
    return Task(prompt, domain, **more)


def result(text="17*6 = 102\nAnswer: 102", **changes):
    whole = Result(
        answer="102",
        text=text,
        domain=Domain.MATH,
        worker="math",
        verified=True,
        verdict=PASS,
        reward=1.0,
        steps=tuple(text.split("\n")),
        run_id="run-1",
        usage=Usage(3, 100, 50, 0.01),
        seconds=2.0,
        model="model",
        fingerprint="fingerprint",
    )
    return whole.replace(**changes)


def never(asked, text):
    raise AssertionError("nothing is to be judged")


def yes(asked, text):
    return PASS.replace(reason="judged anew"), 0.95


def letters(texts):
    """A scripted embedding: how often each letter and digit stands in a text. It is easily fooled."""
    return [[text.lower().count(sign) + 0.01 for sign in string.ascii_lowercase + string.digits] for text in texts]


def all_alike(texts):
    return [[1.0, 0.0]] * len(texts)


@pytest.fixture
def cache(tmp_path):
    made = []

    def make(*, embed=None, name="cache.sqlite", **rules):
        made.append(AnswerCache(tmp_path / name, Rules(**rules), embed=embed, embedder="scripted"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_same_question_is_answered_again_at_no_cost(cache):
    kept = cache()
    assert kept.find(task(), WORKER, never) is None
    assert kept.keep(task(), WORKER, result())

    found = kept.find(task(), WORKER, never)

    assert found == result(cached=True, usage=Usage(), seconds=found.seconds)
    assert (found.run_id, found.verdict, found.usage.calls) == ("run-1", PASS, 0)


def test_answers_outlive_the_process_that_found_them(cache):
    first = cache()
    first.keep(task(), WORKER, result())
    first.close()

    assert cache().find(task(), WORKER, never).answer == "102"
    assert first.find(task(), WORKER, never) is None


@pytest.mark.parametrize(
    "other",
    [
        task("What is 17*7?"),
        task(domain=Domain.LOGIC),
        task(reference="102"),
        task(family="function"),
        task(metadata={"verifier": "gym"}),
    ],
)
def test_another_task_is_another_question(cache, other):
    kept = cache()
    kept.keep(task(), WORKER, result())

    assert kept.find(other, WORKER, yes) is None


@pytest.mark.parametrize(
    "parts", [("other", "fingerprint", "Solve it."), ("model", "new adapter", "Solve it."), ("model", "fingerprint", "!")]
)
def test_another_worker_has_answers_of_its_own(cache, parts):
    kept = cache()
    kept.keep(task(), WORKER, result())

    assert kept.find(task(), worker_version(*parts), yes) is None
    assert kept.find(task(), worker_version("model", None, "Solve it."), yes) is None


def test_what_is_not_verified_or_not_good_enough_is_not_kept(cache):
    kept = cache(min_reward=0.9)

    assert not kept.keep(task(), WORKER, result(verified=False, verdict=ABSTAIN, reward=None))
    assert not kept.keep(task(), WORKER, result(verified=False, verdict=FAIL, reward=0.95))
    assert not kept.keep(task(), WORKER, result(reward=0.89))
    assert not kept.keep(task(), WORKER, result(reward=None))
    assert not kept.keep(task(), WORKER, result(cached=True))
    assert len(kept) == 0
    assert kept.keep(task(), WORKER, result(reward=0.9))


def test_a_bar_that_was_raised_since_holds_for_what_is_there(cache):
    cache(min_reward=0.5).keep(task(), WORKER, result(reward=0.6))

    assert cache(min_reward=0.9).find(task(), WORKER, yes) is None


def test_case_and_spacing_find_the_answer_which_is_then_judged(cache):
    kept = cache()
    kept.keep(task(), WORKER, result())

    found = kept.find(task("  what IS\n17*6? "), WORKER, yes)

    assert (found.answer, found.verdict.reason, found.reward) == ("102", "judged anew", 0.95)
    assert kept.find(task("what is 17*6?"), WORKER, lambda asked, text: (ABSTAIN, None)) is None


def test_in_code_each_space_counts(cache):
    kept = cache()
    code = task("Repeat:\nif x:\n    y", Domain.CODE)
    kept.keep(code, WORKER, result(domain=Domain.CODE))

    assert kept.find(code, WORKER, never)
    assert kept.find(task("Repeat:\nif x:\n  y", Domain.CODE), WORKER, yes) is None
    assert kept.find(task("repeat:\nif x:\n    y", Domain.CODE), WORKER, yes) is None


@pytest.mark.parametrize("known", [{"reference": "102"}, {"metadata": {"data": {"file": "sales.csv"}}}])
def test_where_more_is_known_the_answer_is_verified_anew(cache, known):
    kept = cache()
    kept.keep(task(**known), WORKER, result())

    assert kept.find(task(**known), WORKER, yes).verdict.reason == "judged anew"
    assert kept.find(task(**known), WORKER, lambda asked, text: (FAIL, 0.0)) is None


def test_without_trust_every_verdict_is_made_again(cache):
    kept = cache(trust=False)
    kept.keep(task(), WORKER, result())

    assert kept.find(task(), WORKER, yes).verdict.reason == "judged anew"
    assert kept.find(task(), WORKER, lambda asked, text: (ABSTAIN, None)) is None


def test_the_answer_unused_for_longest_goes_first(cache):
    kept = cache(size=3)
    for number in range(3):
        kept.keep(task(f"What is {number}+1?"), WORKER, result())
    assert kept.find(task("What is 0+1?"), WORKER, never)

    kept.keep(task("What is 3+1?"), WORKER, result())

    there = [bool(kept.find(task(f"What is {number}+1?"), WORKER, never)) for number in range(4)]
    assert there == [True, False, True, True]
    assert len(kept) == 3


def test_a_file_that_is_no_database_is_told_once_and_left_alone(cache, tmp_path, caplog):
    (tmp_path / "cache.sqlite").write_bytes(b"thesis" * 1_000)

    kept = cache()

    assert not kept.keep(task(), WORKER, result())
    assert kept.find(task(), WORKER, never) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "move it away" in caplog.text
    assert (tmp_path / "cache.sqlite").read_bytes() == b"thesis" * 1_000


def test_a_file_that_breaks_later_is_told_once(cache, tmp_path, caplog):
    kept = cache()
    for number in range(50):
        kept.keep(task(f"What is {number}+1?"), WORKER, result(text="Answer: 5\n" + "x" * 2_000))
    kept.close()
    damaged = bytearray((tmp_path / "cache.sqlite").read_bytes())
    damaged[4096:] = random.Random(0).randbytes(len(damaged) - 4096)
    (tmp_path / "cache.sqlite").write_bytes(damaged)

    again = cache()

    assert [again.find(task(f"What is {number}+1?"), WORKER, never) for number in range(50)] == [None] * 50
    assert not again.keep(task(), WORKER, result())
    assert len(caplog.records) == 1


def test_a_place_that_can_not_be_written_is_told_once(cache, tmp_path, caplog):
    (tmp_path / "taken").write_text("in the way")

    kept = cache(name="taken/cache.sqlite")

    assert not kept.keep(task(), WORKER, result())
    assert len(caplog.records) == 1


def test_a_file_that_may_only_be_read_is_told_once_and_costs_no_answer(cache, caplog):
    kept = cache()
    kept.keep(task(), WORKER, result())
    kept._file.execute("PRAGMA query_only=ON")

    assert kept.find(task(), WORKER, never).answer == "102"
    assert kept.find(task(), WORKER, never) is None
    assert not kept.keep(task(), WORKER, result())
    assert len(caplog.records) == 1


def test_another_process_in_the_way_is_waited_for_and_then_done_without(cache, tmp_path, caplog):
    kept = cache()
    kept.keep(task(), WORKER, result())
    other = sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    assert not kept.keep(task("What is 1+1?"), WORKER, result())
    assert kept.find(task(), WORKER, never).answer == "102"

    other.execute("COMMIT")
    other.close()
    assert kept.keep(task("What is 1+1?"), WORKER, result())
    assert not caplog.records


def test_rows_of_another_version_are_no_answers(cache, tmp_path):
    kept = cache()
    kept.keep(task(), WORKER, result())
    for broken in ("", "[]", "{}", "null", '{"verdict": {}}', "[" * 100_000):
        kept._file.execute("UPDATE answer SET result = ?", (broken,))
        assert kept.find(task(), WORKER, never) is None

    kept._file.execute("PRAGMA user_version = 99")
    kept.close()

    assert len(cache()) == 0


FILL = """
import sys
from pathlib import Path
from tests.test_cache import WORKER, result, task
from core.cache import AnswerCache, Rules
cache = AnswerCache(Path(sys.argv[1]), Rules(size=60))
print(sum(cache.keep(task(f"What is {sys.argv[2]}+{n}?"), WORKER, result()) for n in range(100)))
"""


def test_processes_share_a_file(cache, tmp_path):
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", FILL, str(tmp_path / "cache.sqlite")]
    workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) for i in range(3)]
    said = [worker.communicate() for worker in workers]

    assert all(int(out) > 50 for out, _ in said), said
    assert len(cache(size=60)) == 60


@pytest.mark.parametrize("prompt", ["\ud800 half", "null\0byte", "{" * 50_000, "ﷺ" * 1_000, "Ⅷ ½ 𝟘?"])
def test_any_text_can_be_asked_and_kept(cache, prompt):
    kept = cache(embed=letters)

    assert kept.find(task(prompt), WORKER, never) is None
    assert kept.keep(task(prompt), WORKER, result(text=prompt))
    assert kept.find(task(prompt), WORKER, never).text == prompt


def test_what_is_huge_or_no_json_is_not_kept(cache):
    kept = cache()

    assert not kept.keep(task("x" * 300_000), WORKER, result())
    assert kept.find(task("x" * 10_000_000), WORKER, never) is None
    assert not kept.keep(task(), WORKER, result(verdict=PASS.replace(details={"model": object()})))


# near matches


def test_a_question_that_means_the_same_is_answered_when_its_verifier_passes(cache):
    kept = cache(embed=letters, similarity=0.5)
    kept.keep(task(), WORKER, result())

    found = kept.find(task("What is the value of 17 * 6 ?"), WORKER, yes)

    assert (found.answer, found.cached, found.verdict.reason, found.run_id) == ("102", True, "judged anew", "run-1")


@pytest.mark.parametrize("verdict", [(ABSTAIN, None), (FAIL, 0.0), (PASS, 0.5), (PASS, None)])
def test_a_near_match_that_does_not_pass_is_not_served(cache, verdict):
    kept = cache(embed=letters, similarity=0.5)
    kept.keep(task(), WORKER, result())

    assert kept.find(task("What is the value of 17*6?"), WORKER, lambda asked, text: verdict) is None


def test_what_is_not_similar_enough_is_not_even_judged(cache):
    kept = cache(embed=letters, similarity=0.99)
    kept.keep(task(), WORKER, result())

    assert kept.find(task("Please, what would 17*6 be in that case?"), WORKER, never) is None


def test_the_nearest_is_tried_first_and_not_everything_is_tried(cache):
    kept, asked = cache(embed=letters, similarity=0.1), []
    for number in range(8):
        kept.keep(task(f"{'zy' * number} what gives {QUESTION}"), WORKER, result(text=str(number)))

    def no(new, text):
        asked.append(text)
        return FAIL, 0.0

    assert kept.find(task(f"so {QUESTION}"), WORKER, no) is None
    assert asked == ["0", "1", "2"]


@pytest.mark.parametrize("domain", [Domain.CODE, Domain.CREATIVE])
def test_code_and_writing_have_no_near_matches(cache, domain):
    kept = cache(embed=all_alike)
    kept.keep(task("Write a haiku about cats", domain), WORKER, result())

    assert kept.find(task("Write a haiku about dogs", domain), WORKER, yes) is None


def test_what_was_evicted_or_replaced_is_not_served_as_near(cache):
    kept = cache(embed=all_alike, size=2)
    for number in range(10):
        kept.keep(task(f"say {'a' * number}b"), WORKER, result(text=str(number)))
        kept.find(task("say it"), WORKER, lambda asked, text: (FAIL, 0.0))

    seen = []
    kept.find(task("say it"), WORKER, lambda asked, text: (seen.append(text), (FAIL, 0.0))[1])
    assert sorted(seen) == ["8", "9"]


def test_vectors_of_two_embedding_models_are_not_compared(tmp_path):
    with_one = AnswerCache(tmp_path / "c.sqlite", embed=all_alike, embedder="one")
    with_one.keep(task(), WORKER, result())
    with_other = AnswerCache(tmp_path / "c.sqlite", embed=all_alike, embedder="other")

    assert with_other.find(task("Compute 17*6"), WORKER, yes) is None
    assert with_one.find(task("Compute 17*6"), WORKER, yes)
    with_one.close()
    with_other.close()


def boom(texts):
    raise RuntimeError("no memory")


@pytest.mark.parametrize("embed", [boom, lambda texts: [], lambda texts: None, lambda texts: [["x"]]])
def test_an_embedding_model_that_breaks_costs_only_the_near_matches(cache, embed, caplog):
    kept = cache(embed=embed)

    assert kept.find(task(), WORKER, yes) is None
    assert kept.keep(task(), WORKER, result())
    assert kept.find(task(), WORKER, never).answer == "102"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("vector", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], []])
def test_a_vector_without_a_direction_is_near_to_nothing(cache, vector):
    assert packed(vector) is None
    kept = cache(embed=lambda texts: [vector])
    assert kept.keep(task(), WORKER, result())
    assert kept.find(task("Compute 17*6"), WORKER, yes) is None


def test_nearest_first():
    nearest = Nearest()
    assert nearest.to(packed([1, 0]), 0.0) == []
    for number, vector in enumerate([[0, 1], [1, 1], [1, 0], [-1, 0]], 1):
        nearest.add(number, packed(vector))

    assert nearest.to(packed([2, 0]), 0.5) == [3, 2]
    assert (nearest.last, len(nearest)) == (4, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 17*6?", "What is 17*9?"),
        ("What is 17*6?", "What is 17+6?"),
        ("Solve 5-3", "Solve 3-5"),
        ("Solve 17*6", "Solve 1.7*6"),
        ("What is -3+5?", "What is 3+5?"),
        ("Solve x+2=5 for x", "Solve y+2=5 for y"),
        ("What is the capital of Austria?", "What is the capital of Australia?"),
        ("Austria's capital?", "Australia's capital?"),
        ("Which river is the longest in Europe?", "Which river is the shortest in Europe?"),
        ("Is it true that whales are fish?", "Is it not true that whales are fish?"),
        ("Is it a fish?", "Isn't it a fish?"),
        ("When was he born?", "Where was he born?"),
        ("Did France beat Germany?", "Did Germany beat France?"),
        ("What happened before the war?", "What happened after the war?"),
        ("All cats are animals. Is Tom one?", "Some cats are animals. Is Tom one?"),
        ('How many letters has "loose"?', 'How many letters has "lose"?'),
        ("How many are three times four?", "How many are three times five?"),
        ("Find the mean of the sample", "Find the median of the sample"),
        ("p and q, or r", "p or q, and r"),
    ],
)
def test_what_differs_in_something_that_matters_does_not_mean_the_same(one, other):
    assert not may_mean_the_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 17*6?", "Compute 17 × 6."),
        ("What is the capital of France?", "Which city is the capital of France?"),
        ("France's capital?", "Tell me the capital of France"),
        ("Is it a fish?", "Would it be a fish?"),
    ],
)
def test_what_differs_in_dress_alone_may_mean_the_same(one, other):
    assert may_mean_the_same(one, other)
    assert may_mean_the_same(other, one)


@given(st.text(max_size=200), st.text(max_size=200))
@examples(max_examples=100)
def test_any_two_texts_can_be_compared(one, other):
    assert may_mean_the_same(one, one)
    assert may_mean_the_same(one, other) == may_mean_the_same(other, one)


def test_long_texts_are_compared_quickly():
    for text in ("(" * 200_000, '"' * 200_000, "a-" * 100_000, "1," * 100_000, "n't" * 60_000, "a'" * 100_000):
        assert may_mean_the_same(text, text)


def test_a_missing_embedding_package_is_told_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("core.meaning.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install sentence-transformers"):
        load_embedder("all-MiniLM-L6-v2")
    with pytest.raises(ConfigError, match="which is not there"):
        load_embedder("no.module:embed")


# in the house


@pytest.fixture
def house(monkeypatch, tmp_path):
    """An orchestrator whose workers answer by a function of the request, with its model."""
    opened = []

    def build(say, *, log=False, verify=None, fingerprint="first", **changes):
        model = say if isinstance(say, ScriptedModel) else ScriptedModel(say, fingerprint=fingerprint)
        monkeypatch.setattr("core.orchestrator.connect", lambda spec, settings: model)
        settings = Settings(_env_file=None, **{"CACHE": "exact", "SEARCH_STRATEGY": "single", **changes})
        opened.append(Orchestrator(settings, enable_logging=log, log_dir=tmp_path / "logs", verify=verify))
        return opened[-1], model

    yield build
    for orchestrator in opened:
        orchestrator.close()


def right(request, index):
    return "17*6 = 102\nAnswer: 102"


def test_the_second_time_nothing_is_asked_and_nothing_is_logged(house, tmp_path):
    orchestrator, model = house(right, log=True)

    first, second = orchestrator.infer(QUESTION), orchestrator.infer(QUESTION, strategy="best_of_n")

    assert (first.cached, second.cached) == (False, True)
    assert (second.run_id, second.verdict, second.usage, second.text) == (first.run_id, first.verdict, Usage(), first.text)
    assert len(model.requests) == 1
    orchestrator.flush()
    assert [run.id for run in read_runs(tmp_path / "logs")] == [first.run_id]
    assert list(orchestrator.stream(QUESTION)) == [second.replace(seconds=pytest.approx(0, abs=9))]


def test_there_is_no_cache_unless_it_is_asked_for(house, tmp_path):
    orchestrator, model = house(right, CACHE="off")

    assert [orchestrator.infer(QUESTION).cached for _ in range(2)] == [False, False]
    assert len(model.requests) == 2
    assert not (tmp_path / "logs").exists()


def test_a_wrong_or_unverified_answer_is_asked_for_again(house):
    orchestrator, model = house(lambda request, index: "Answer: 103")

    assert [orchestrator.infer(QUESTION).cached for _ in range(2)] == [False, False]
    assert [orchestrator.infer("Who won?", "logic").cached for _ in range(2)] == [False, False]
    assert len(model.requests) == 4


def test_a_new_adapter_answers_for_itself(house):
    orchestrator, model = house(right)
    orchestrator.infer(QUESTION)

    model.fingerprint = "second"

    assert not orchestrator.infer(QUESTION).cached
    assert orchestrator.infer(QUESTION).cached


def test_what_is_expected_is_verified_each_time(house):
    orchestrator, _ = house(right)

    assert orchestrator.infer(QUESTION, expected="102").verified
    again = orchestrator.infer(QUESTION, expected="102")
    other = orchestrator.infer(QUESTION, expected="104")

    assert (again.cached, again.verdict.evidence) == (True, Evidence.REFERENCE)
    assert (other.cached, other.verified) == (False, False)


def test_verdicts_of_a_function_of_the_callers_own_are_nobody_elses(house):
    own, _ = house(lambda request, index: "Answer: 103", verify=lambda asked, text: PASS)
    assert own.infer(QUESTION).verified
    assert own.infer(QUESTION).cached

    shipped, _ = house(lambda request, index: "Answer: 103")

    assert not shipped.infer(QUESTION).verified


def test_evidence_that_counts_no_more_is_not_served(house):
    orchestrator, _ = house(right)
    assert orchestrator.infer(QUESTION).verified

    stricter, _ = house(right, VERIFIED_BY=("reference",))

    again = stricter.infer(QUESTION)
    assert (again.cached, again.verified) == (False, False)


def test_an_answer_with_a_secret_in_it_is_not_kept(house, tmp_path):
    secret = "sk-ant-" + "a1B2" * 8
    orchestrator, _ = house(lambda request, index: f"The key is {secret}.\n17*6 = 102\nAnswer: 102")

    assert [orchestrator.infer(QUESTION).verified for _ in range(2)] == [True, True]
    assert not orchestrator.infer(QUESTION).cached
    assert all(secret.encode() not in file.read_bytes() for file in (tmp_path / "logs").iterdir())


def test_the_file_stands_where_the_settings_say(house, tmp_path):
    orchestrator, _ = house(right, CACHE_FILE=tmp_path / "elsewhere" / "answers.sqlite")
    orchestrator.infer(QUESTION)

    assert (tmp_path / "elsewhere" / "answers.sqlite").exists()
    assert not (tmp_path / "logs").exists()


def test_semantic_needs_an_embedding_model():
    with pytest.raises(ConfigError, match="CACHE_EMBEDDINGS"):
        Orchestrator(Settings(_env_file=None, CACHE="semantic"))


FOOLED = "def embed(texts):\n    return [[1.0, 2.0, 3.0]] * len(texts)\n"


@pytest.fixture
def semantic(house, tmp_path):
    """An orchestrator whose embedding model takes all questions for one."""
    (tmp_path / "fooled.py").write_text(FOOLED)

    def build(say, **changes):
        return house(say, CACHE="semantic", CACHE_EMBEDDINGS=f"{tmp_path / 'fooled.py'}:embed", CACHE_SIMILARITY=0.01, **changes)

    return build


def test_a_similar_question_is_served_what_its_own_verifier_passes(semantic):
    orchestrator, model = semantic(right)
    orchestrator.infer("What is 17*6?", "math")

    found = orchestrator.infer("Please compute 17 * 6", "math")

    assert (found.cached, found.answer, found.verified, len(model.requests)) == (True, "102", True, 1)


PAIRS = [
    (task("What is 17*6?"), "17*6 = 102\nAnswer: 102", task("What is 17*9?")),
    (task("What is 17*6?"), "17*6 = 102\nAnswer: 102", task("What is 17+6?")),
    (task("What is 6-17?"), "6-17 = -11\nAnswer: -11", task("What is 17-6?")),
    (task("How much?", reference="102"), "Answer: 102", task("How much now?", reference="103")),
    (
        task("What is the capital of Austria?", Domain.FACTUAL, metadata={"context": SOURCES}),
        "Answer: Vienna",
        task("What is the capital of Australia?", Domain.FACTUAL, metadata={"context": SOURCES}),
    ),
    (
        task("what is the capital of austria?", Domain.FACTUAL, metadata={"context": SOURCES}),
        "Answer: Vienna",
        task("what is the capital of australia?", Domain.FACTUAL, metadata={"context": SOURCES}),
    ),
    (
        task("What is the capital of Austria?", Domain.FACTUAL, reference="Vienna"),
        "Answer: Vienna",
        task("What is the capital of Australia?", Domain.FACTUAL),
    ),
    (
        task("What is the total of sales?", Domain.ANALYSIS, metadata={"data": "region,sales\nNorth,500\nSouth,300\n"}),
        "Answer: 800",
        task("What is the average of sales?", Domain.ANALYSIS, metadata={"data": "region,sales\nNorth,500\nSouth,300\n"}),
    ),
]


@pytest.mark.parametrize(("asked", "answer", "attack"), PAIRS, ids=[pair[2].prompt for pair in PAIRS])
@pytest.mark.parametrize("guarded", [True, False])
def test_a_near_miss_is_never_served(semantic, monkeypatch, asked, answer, attack, guarded):
    """Not even when the embedding model takes the questions for one, and the comparison of their words is left out."""
    if not guarded:
        monkeypatch.setattr("core.cache.may_mean_the_same", lambda one, other: True)
    orchestrator, model = semantic(lambda request, index: answer)
    assert orchestrator.infer(asked).verified

    attacked = orchestrator.infer(attack)

    assert (attacked.cached, attacked.verified) == (False, False)
    assert len(model.requests) == 2
    assert orchestrator.infer(asked).cached


@pytest.mark.parametrize("seed", range(3))
def test_of_many_sums_each_gets_its_own_answer_or_is_asked(semantic, monkeypatch, seed):
    monkeypatch.setattr("core.cache.may_mean_the_same", lambda one, other: True)
    monkeypatch.setattr("core.cache.NEAR_TRIED", 1_000)
    rng = random.Random(seed)

    def say(request, index):
        a, b = request.messages[-1].content.removeprefix("What is ").removesuffix("?").split("*")
        return f"Answer: {int(a) * int(b)}"

    orchestrator, _ = semantic(say)
    for _ in range(60):
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        found = orchestrator.infer(f"What is {a}*{b}?")
        assert found.answer == str(a * b)


def test_a_memory_is_told_apart_by_who_judges(tmp_path):
    settings = Settings(_env_file=None, CACHE="exact")
    judging = Judging(Verifiers(), settings)
    npc = hire(Domain.MATH, settings)
    memory = Memory(settings, judging, tmp_path)
    stricter = Memory(settings.changed(SANDBOX="namespaces"), judging, tmp_path)

    assert memory.keep(task(), npc, result())
    assert memory.find(task(), npc, ScriptedModel([], "model", "fingerprint")).cached
    assert stricter.find(task(), npc, ScriptedModel([], "model", "fingerprint")) is None
    memory.close()
    stricter.close()


def test_the_verdict_of_a_served_answer_is_plain(cache):
    kept = cache()
    kept.keep(task(), WORKER, result())

    assert json.loads(json.dumps(kept.find(task(), WORKER, never).as_dict()))["verdict"]["details"] == {"value": "102"}


@pytest.fixture(autouse=True)
def _warnings_are_heard(caplog):
    caplog.set_level(logging.WARNING)
