"""Syllables and rhymes: the dictionary, what is derived from it, and honest ranges for the rest."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.creative import pronouncing
from core.verifiers.creative.pronouncing import FIRST_VOWEL, PHONE, dictionary, known, pack, pronunciations, rhyme, syllables


def said(word):
    return {" ".join(PHONE[sound] for sound in one) for one in pronunciations(word)}


def test_words_are_said_as_the_dictionary_says():
    assert said("record") == {"R AH0 K AO1 R D", "R EH1 K ER0 D", "R IH0 K AO1 R D"}
    assert said("zzyzx") == set()


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("lantern's", "L AE1 N T ER0 N Z"),
        ("grouse's", "G R AW1 S IH0 Z"),
        ("stand-off", "S T AE1 N D AO1 F"),
        ("runnin", "R AH1 N IH0 N"),
        ("twas", "T W AH1 Z"),
        ("don’t", "D OW1 N T"),
    ],
)
def test_words_made_of_known_words_are_said_like_them(word, sounds):
    assert sounds in said(word)


@pytest.mark.parametrize(
    ("line", "count"),
    [("an old silent pond", "5"), ("the fire", "2 to 3"), ("well-known birds", "3"), ("", "0")],
)
def test_syllables_of_a_line(line, count):
    assert str(syllables(line.split())) == count


def test_any_way_to_say_a_known_word_will_do_and_an_unknown_one_must_fit_however_it_is_said():
    assert syllables(["fire"]).within(1, 1) is True
    assert syllables(["fire"]).within(2, 2) is True
    assert syllables(["fire"]).within(3, 9) is False
    assert syllables(["blorple"]).within(2, 2) is None
    assert syllables(["blorple"]).within(1, 9) is True
    assert syllables(["blorple"]).within(7, 9) is False


def test_the_range_for_unknown_words_holds_the_truth_for_nearly_all_known_ones():
    words = random.Random(0).sample([word for word in dictionary() if word.isalpha() and len(word) > 2], 5_000)
    right = 0
    for word in words:
        low, high = pronouncing._estimate(word)
        right += all(low <= sum(sound >= FIRST_VOWEL for sound in one) <= high for one in pronunciations(word))

    assert right / len(words) > 0.99


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("light", "night", True),
        ("dog", "log", True),
        ("near", "here", True),
        ("butterfly", "sky", True),
        ("singing", "ringing", True),
        ("habit", "rabbit", True),
        ("know it", "poet", True),
        ("above me", "love me", True),
        ("memory", "free", True),
        ("memory", "charity", False),
        ("light", "light", False),
        ("rite", "right", False),
        ("leave", "believe", False),
        ("love", "move", False),
        ("singing", "king", False),
        ("car", "core", False),
        ("blorp", "corp", None),
        ("blorp", "blorp", False),
        ("", "sea", False),
    ],
)
def test_rhymes(one, other, expected):
    assert rhyme(one.split(), other.split()) is expected
    assert rhyme(other.split(), one.split()) is expected


def test_the_data_file_is_made_from_the_dictionary_as_it_is_published(tmp_path, monkeypatch):
    published = "'bout B AW1 T\na AH0\na(2) EY1\na.m. EY2 EH1 M\naalen AE1 L AH0 N # place, german\n3d TH R IY1 D IY1\n"
    monkeypatch.setattr(pronouncing, "DATA", tmp_path / "small.xz")
    pronouncing.DATA.write_bytes(pack(published))

    words = pronouncing._load.__wrapped__()

    assert {word: len(sounds.split()) for word, sounds in words.items()} == {"'bout": 1, "a": 2, "aalen": 1}


def test_the_dictionary_is_read_once_whoever_asks():
    pronouncing._load.cache_clear()

    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: id(dictionary()), range(8)))

    assert len(set(read)) == 1
    assert len(dictionary()) > 120_000
    assert "Carnegie Mellon" in pronouncing.DATA.with_name("pronouncing.LICENSE.txt").read_text()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_words_have_a_range_of_syllables(words):
    count = syllables(words)

    assert min(count.known) + count.low <= max(count.known) + count.high
    assert count.within(0, 10**9) is True
    assert all(rhyme(words, words[:at]) in (True, False, None) for at in range(len(words)))
    assert all(known(word) in (True, False) for word in words)
