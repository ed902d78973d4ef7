"""Pages, words and sums, against what a plain look through all traces finds."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_runs import a_run, a_trace
from test_databases import stored

from core.errors import ConfigError, StoreError
from core.types import Domain, Outcome, Task, Verdict
from logs.reading import count_traces, read_page, read_sums, read_trace, read_traces

WORDS = ("heron", "river", "stone", "17*6+23", "naïve", "don't", "x_1", "東京")


def varied(number: int):
    rng = random.Random(number)
    task = Task(f"Why {' '.join(rng.sample(WORDS, 2))} {number}?", rng.choice(list(Domain)), metadata={"n": number})
    traces = tuple(
        a_trace(
            f"run-{number:06d}",
            rank,
            task=task,
            text=" ".join(rng.choices(WORDS, k=4)),
            verdict=Verdict(rng.choice(list(Outcome)), None, "?"),
            reward=rng.choice([None, 0.0, 0.25, 0.5, 1.0]),
            model=rng.choice("ab"),
            worker=rng.choice("vw"),
            fingerprint=rng.choice([None, "f1", "f2"]),
            created=float(rng.choice([0, 10, 10, 3600, 7300, 90_000])),
        )
        for rank in range(rng.randrange(3))
    )
    return a_run(number, task=task, traces=traces, strategy=rng.choice(["lats", "beam"]))


@pytest.fixture
def full(where):
    stored(where, *(varied(number) for number in range(60)))
    return where


def test_pages_put_together_are_all_traces_whichever_way_they_are_turned(full):
    everything = list(read_traces(full))
    for oldest_first in (True, False):
        found, after = [], None
        while True:
            page = read_page(full, size=7, after=after, oldest_first=oldest_first)
            found += page.traces
            after = page.next
            if after is None:
                break
        assert found == (everything if oldest_first else everything[::-1])


def test_new_traces_do_not_shift_a_page(full):
    first = read_page(full, size=5)
    stored(full, a_run(999, created=1e9))

    second = read_page(full, size=5, after=first.next)

    before = [t for t in read_traces(full) if t.run_id != "run-000999"]
    assert [*first.traces, *second.traces] == before[::-1][:10]


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"domain": "math"}, lambda t: t.domain is Domain.MATH),
        ({"outcome": Outcome.ERROR}, lambda t: t.verdict.outcome is Outcome.ERROR),
        ({"min_reward": 0.25, "max_reward": 0.5}, lambda t: t.reward in (0.25, 0.5)),
        ({"model": "a", "worker": "v"}, lambda t: (t.model, t.worker) == ("a", "v")),
        ({"fingerprint": "f2"}, lambda t: t.fingerprint == "f2"),
        ({"since": 10, "until": 3600}, lambda t: t.created == 10),
        ({"split": "gate"}, lambda t: t.split == "gate"),
        ({"strategy": "beam"}, lambda t: varied(int(t.run_id[4:])).strategy == "beam"),
        ({"domain": None, "text": None}, lambda t: True),
    ],
)
def test_traces_are_chosen_by_what_is_known_of_them(full, wanted, holds):
    found = list(read_traces(full, **wanted))

    assert found == [t for t in read_traces(full) if holds(t)]
    assert count_traces(full, **wanted) == len(found)
    assert list(read_page(full, size=1000, **wanted).traces) == found[::-1]


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ("heron", lambda text: "heron" in text),
        ("HERON river", lambda text: "heron" in text and "river" in text),
        ('"heron river"', lambda text: "heron river" in text),
        ("her*", lambda text: "heron" in text),
        ("hero", lambda text: False),
        ("17*6+23", lambda text: "17*6+23" in text),
        ("don't", lambda text: "don't" in text),
        ("東京", lambda text: "東京" in text),
    ],
)
def test_words_are_found_in_questions_and_answers(full, wanted, holds):
    found = {t.id for t in read_traces(full, text=wanted)}

    assert found == {t.id for t in read_traces(full) if holds(f"{t.query}\n{t.text}")}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=[]), max_size=30) | st.text("\"*'\\:&|!()-^{} ab", max_size=12))
def test_any_text_may_be_searched_for(full, wanted):
    with suppress(ConfigError):  # there may be no word in it
        list(read_traces(full, text=wanted))


@pytest.mark.parametrize("by", ["hour", "day", "domain", "worker", "model", "outcome", "fingerprint"])
def test_sums_are_what_counting_finds(full, by):
    names = {
        "hour": lambda t: t.created // 3600 * 3600.0,
        "day": lambda t: t.created // 86400 * 86400.0,
        "fingerprint": lambda t: t.fingerprint or "",
        "outcome": lambda t: t.verdict.outcome.value,
    }
    everything = list(read_traces(full))
    name = names.get(by, lambda t: str(t[by]))

    found = read_sums(full, by)

    assert {each.name: each.traces for each in found} == Counter(map(name, everything))
    assert [each.name for each in found] == sorted(each.name for each in found)
    for each in found:
        rewards = [t.reward for t in everything if name(t) == each.name and t.reward is not None]
        assert each.reward == (pytest.approx(sum(rewards) / len(rewards)) if rewards else None)
        assert sum(each.outcomes.values()) == each.traces


def test_sums_are_limited_to_hours(full):
    assert [each.name for each in read_sums(full, "hour", since=3600, until=86_400)] == [3600.0, 7200.0]


def test_one_trace_is_read_by_its_id(full):
    trace = next(read_traces(full))

    assert read_trace(full, trace.id) == trace
    with pytest.raises(StoreError, match="no trace 'nope'"):
        read_trace(full, "nope")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"domain": "maths"}, "no domain 'maths'"),
        ({"min_reward": "much"}, "min_reward is 'much': give a number"),
        ({"since": float("nan")}, "since is nan"),
        ({"colour": "red"}, "can't be chosen by 'colour'"),
        ({"text": "?!"}, "there is no word in"),
        ({"size": 0}, "a page has 1 to 1000"),
        ({"after": "here"}, "no place in the list"),
    ],
)
def test_a_wish_that_can_not_be_is_an_error(tmp_path, wanted, told):
    stored(tmp_path, a_run())

    with pytest.raises(ConfigError, match=told):
        read_page(tmp_path, **wanted)
