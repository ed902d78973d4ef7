"""Which short answers say the same, which don't, and which are left open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.verifiers.factual.wording import Likeness, compare, words

SAME = """12 pens | Twelve pens.
Oslo | **OSLO**
the Nile | Nile
an apple | apple
21st | twenty-first
1,500,000 | 1.5 million
305 | three hundred and five
2019 | two thousand nineteen
12 March 1998 | March 12th, 1998
1998-03-12 | 12 Mar. 1998
March 1998 | march of 1998
5 km | 5,000 metres
1.5 hours | 90 minutes
5 % | five per cent
$5 million | 5,000,000 dollars
U.S. | US
5 p.m. | 5 pm
co-op | Co op
O’Brien | O'Brien
J.R.R. Tolkien | JRR Tolkien
0.5 | .5"""
UNCLEAR = """São Paulo | Sao Paulo
3.10 | 3.1
in Oslo | Oslo
12 345 | 12345
pens | pen"""
DIFFERENT = """Oslo | Rome
Oslo or Rome | Oslo
not Oslo | Oslo
Oslo? | Oslo
12 | 12.5
12 | 1 2
-5 | 5
14 | 4
5 MW | 5 mW
C++ | C
C# | C
vitamin A | vitamin
A minor | minor
12 March 1998 | 13 March 1998
12 March | 12 March 1998
5 km | 5 kg
5 km | 5 miles
one two | 3
5% | 5
31 | 30 and one
007 | 7"""


def pairs(text):
    return [tuple(line.split(" | ")) for line in text.splitlines()]


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_dress_makes_no_difference(one, other):
    assert compare(one, other) is compare(other, one) is Likeness.SAME


@pytest.mark.parametrize(("one", "other"), pairs(UNCLEAR))
def test_what_readers_would_quarrel_about_is_left_open(one, other):
    assert compare(one, other) is compare(other, one) is Likeness.UNCLEAR


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_what_means_something_else_is_different(one, other):
    assert compare(one, other) is compare(other, one) is Likeness.DIFFERENT


@pytest.mark.parametrize("nothing", ["", " ", ".", '""', "\n"])
def test_nothing_is_like_nothing(nothing):
    assert compare(nothing, nothing) is Likeness.DIFFERENT


@given(st.text(max_size=60), st.text(max_size=60))
def test_comparing_is_symmetric_for_any_texts(one, other):
    assert compare(one, other) is compare(other, one)


@given(
    st.lists(
        st.sampled_from(
            [
                "one",
                "two",
                "twenty",
                "hundred",
                "and",
                "thousand",
                "million",
                "first",
                "12",
                "1.5",
                "-",
                ",",
                ".",
                "5",
                "km",
                "march",
                "1998",
                "the",
                "a",
                "$",
                "%",
            ]
        ),
        max_size=12,
    )
)
def test_any_run_of_numerals_has_a_spelling(parts):
    text = " ".join(parts)

    assert words(text) == words(text.upper()) or "km" in parts


def test_long_answers_must_be_alike_to_the_letter():
    assert compare("word " * 500, "word  " * 500) is Likeness.SAME
    assert compare("word " * 500, "Word " * 500) is Likeness.DIFFERENT
