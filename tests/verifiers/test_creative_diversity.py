"""Diversity of sets of texts, and copied runs of words."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.creative.diversity import MAX_CHARACTERS, copied_run, distinct, diversity, longest_run

SENTENCE = "the sea keeps what a river gave it"


def test_copies_have_no_distance_and_strangers_the_whole():
    same, apart = diversity([SENTENCE, SENTENCE]), diversity([SENTENCE, "a dog sleeps under our table"])

    assert (same.distance, same.overlap) == (0.0, 1.0)
    assert (apart.distance, apart.overlap) == (1.0, 0.0)
    assert same.distinct_2 < apart.distinct_2 == 1.0


def test_a_set_of_none_or_one_has_no_distance():
    assert diversity([]).distance is None
    assert diversity([SENTENCE]).overlap is None
    assert diversity(["", ""]).distance is None


def test_distinct_counts_different_runs():
    assert distinct([["a", "b", "a", "b"]], 1) == 0.5
    assert distinct([["a", "b", "a", "b"]], 2) == 2 / 3
    assert distinct([["a"]], 2) == 0.0


def test_the_longest_run_is_found_whatever_its_dress():
    run = copied_run("He said: THE SEA keeps, what... nothing", ["no", SENTENCE])

    assert (run.length, run.text, run.whole) == (4, "the sea keeps what", True)


def test_no_run_goes_from_one_source_into_the_next():
    assert copied_run("one two three four", ["one two", "three four"]).length == 2
    assert copied_run("", [SENTENCE]).length == 0
    assert copied_run(SENTENCE, []).length == 0


def test_long_texts_are_read_as_far_as_told_and_repeats_cost_nothing_more():
    run = copied_run("a " * 5_000_000, ["a " * 5_000_000])

    assert not run.whole
    assert run.length == MAX_CHARACTERS // 2
    assert diversity(["a " * 100_000] * 500).distance == 0.0


WORDS = st.lists(st.sampled_from("abc"), max_size=12)


@settings(deadline=None, max_examples=400)
@given(WORDS, st.lists(WORDS, max_size=3))
def test_the_automaton_agrees_with_looking_everywhere(words, sources):
    def runs(of):
        return {tuple(of[start:end]) for start in range(len(of)) for end in range(start + 1, len(of) + 1)}

    shared = runs(words) & set().union(*map(runs, sources))

    run = longest_run(words, sources)

    assert len(run) == max(map(len, shared), default=0)
    assert not run or run in shared
