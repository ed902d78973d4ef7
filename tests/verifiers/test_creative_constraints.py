"""Each kind of constraint: what holds, what doesn't, and what can't be told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.creative.constraints import FORMS, KINDS, read_constraint, shortest
from core.verifiers.creative.piece import cut, undress, words_of
from core.verifiers.creative.wordforms import forms

TIDE = "The tide comes in.\nIt takes the toys.\n\nThe tide goes out.\nIt leaves the noise."


def held(constraint, text):
    return read_constraint(constraint).check(cut(undress(text), titled=constraint["kind"] == "title")).held


ROWS = [
    ({"kind": "words", "exactly": 16}, TIDE, True),
    ({"kind": "words", "min": 17}, TIDE, False),
    ({"kind": "words", "exactly": 3}, "A well-known sea", True),
    ({"kind": "words", "exactly": 5}, "A well-known sea", False),
    ({"kind": "words", "exactly": 6}, "sea-and-sky-and-sand sea", True),
    ({"kind": "words", "exactly": 4}, "it's 3.5 o'clock—now", True),
    ({"kind": "words", "per_line": [4, 4, 4, 4]}, TIDE, True),
    ({"kind": "words", "per_line": [4, 4, 4]}, TIDE, False),
    ({"kind": "words", "each": {"max": 3}}, TIDE, False),
    ({"kind": "lines", "exactly": 4}, TIDE, True),
    ({"kind": "lines", "exactly": 3}, "a one\n---\n\na two\r\na three", True),
    ({"kind": "lines", "exactly": 2}, "the sea / the sky", True),
    ({"kind": "characters", "max": 5}, "  sea.  ", True),
    ({"kind": "characters", "max": 5}, "the sea", False),
    ({"kind": "sentences", "exactly": 4}, TIDE, True),
    ({"kind": "sentences", "exactly": 1}, "Dr. Ray met Mrs. Hall at noon.", True),
    ({"kind": "sentences", "exactly": 1}, "He left at 5 p.m. She stayed.", None),
    ({"kind": "sentences", "exactly": 1}, '"Stop!" he said.', True),
    ({"kind": "sentences", "exactly": 3}, "Stop! Who is it? Nobody.", True),
    ({"kind": "sentences", "exactly": 2}, "One is here. Two is", None),
    ({"kind": "sentences", "max": 3}, "One is here. Two is there. Three. Four.", False),
    ({"kind": "paragraphs", "exactly": 2}, TIDE, True),
    ({"kind": "paragraphs", "exactly": 2, "lines": 2}, TIDE, True),
    ({"kind": "paragraphs", "lines": 3}, TIDE, False),
    ({"kind": "title"}, "# Tide\nIt comes.", True),
    ({"kind": "title"}, "**Tide**\nIt comes.", True),
    ({"kind": "title"}, "Title: Tide\nIt comes.", True),
    ({"kind": "title"}, "Tide\n\nIt comes.", True),
    ({"kind": "title"}, "Tide\nIt comes.", False),
    ({"kind": "title", "max": 2}, "The Long Tide\n\nIt comes.", False),
    ({"kind": "bullets", "exactly": 2}, "- one\n* two", True),
    ({"kind": "bullets", "exactly": 2, "style": "numbered"}, "1. one\n2) two", True),
    ({"kind": "bullets", "exactly": 2, "style": "numbered"}, "1. one\n3. two", False),
    ({"kind": "bullets", "style": "dashed"}, "1. one\n2. two", False),
    ({"kind": "bullets", "only": True}, "Two things:\n- one\n- two", False),
    ({"kind": "bullets"}, "none here", False),
    ({"kind": "sections", "headings": ["The Sea", "The Sky"]}, "# The Sea\nwide\n**The Sky**\nwider", True),
    ({"kind": "sections", "headings": ["The Sea", "The Sky"]}, "# The Sky\nwide\n# The Sea\nwider", False),
    ({"kind": "sections", "headings": ["The Sea", "The Sky"]}, "# The Sea\n# The Sky\nwider", False),
    ({"kind": "acrostic", "word": "SEA"}, "Sand\n**E**very shell\n“And foam”", True),
    ({"kind": "acrostic", "word": "SEA"}, "Sand\nEvery shell", False),
    ({"kind": "acrostic", "word": "SEA", "by": "words"}, "Some eels arrive", True),
    ({"kind": "acrostic", "word": "été"}, "Every\ntide\neats", True),
    ({"kind": "include", "words": ["tide", "the toys"]}, TIDE, True),
    ({"kind": "include", "words": ["toy"]}, TIDE, False),
    ({"kind": "include", "words": ["toy", "GO"], "match": "inflections"}, TIDE, True),
    ({"kind": "include", "words": ["tide", "moon"], "at_least": 1}, TIDE, True),
    ({"kind": "include", "words": ["cat"]}, "The cat's chair", True),
    ({"kind": "include", "words": ["cat"]}, "catalogue", False),
    ({"kind": "include", "words": ["cafe"]}, "the Café", True),
    ({"kind": "exclude", "words": ["toy"]}, TIDE, True),
    ({"kind": "exclude", "words": ["toy"], "match": "inflections"}, TIDE, False),
    ({"kind": "exclude", "words": ["ois"], "match": "anywhere"}, TIDE, False),
    ({"kind": "exclude", "words": ["cat"]}, "a CAT-like thing", False),
    ({"kind": "exclude", "words": ["cat"]}, "a c*a*t came", False),
    ({"kind": "exclude", "words": ["cat"]}, "a c_at came", False),
    ({"kind": "exclude", "words": ["cat"]}, "a ｃａｔ came", False),
    ({"kind": "exclude", "words": ["cat"]}, "a кот came", None),
    ({"kind": "lipogram", "letters": "z"}, TIDE, True),
    ({"kind": "lipogram", "letters": "ez"}, TIDE, False),
    ({"kind": "lipogram", "letters": "e"}, "a café and a dog", False),
    ({"kind": "lipogram", "letters": "e"}, "𝐞 and a dog", False),
    ({"kind": "lipogram", "letters": "a"}, "thе dog", None),
    ({"kind": "without", "characters": "!?"}, TIDE, True),
    ({"kind": "without", "characters": "!?."}, TIDE, False),
    ({"kind": "pangram"}, "The quick brown fox jumps over the lazy dog", True),
    ({"kind": "pangram"}, "The quick brown fox jumped over the lazy dog", False),
    ({"kind": "unique_words", "share": 0.6}, TIDE, True),
    ({"kind": "unique_words", "share": 0.9}, TIDE, False),
    ({"kind": "unique_words", "min": 12}, TIDE, False),
    ({"kind": "word_length", "max": 5}, TIDE, False),
    ({"kind": "word_length", "max": 6}, TIDE, True),
    ({"kind": "alliteration", "letter": "s"}, "The silver sea sings to some sailors", True),
    ({"kind": "alliteration", "letter": "s"}, "The silver sea roars to some sailors", False),
    ({"kind": "alliteration", "letter": "s", "share": 0.5}, "The silver sea roars to some sailors", True),
    ({"kind": "case", "style": "upper"}, "THE SEA, 1921", True),
    ({"kind": "case", "style": "lower"}, "the Sea", False),
    ({"kind": "case", "style": "title"}, "The Sea of the Lost", True),
    ({"kind": "case", "style": "title"}, "The sea", False),
    ({"kind": "starts_with", "text": "the tide"}, TIDE, True),
    ({"kind": "starts_with", "text": "the tid"}, TIDE, False),
    ({"kind": "starts_with", "text": "the tide", "each": "paragraph"}, TIDE, True),
    ({"kind": "starts_with", "text": "the tide", "each": "line"}, TIDE, False),
    ({"kind": "ends_with", "text": "the noise"}, TIDE, True),
    ({"kind": "ends_with", "text": "?"}, TIDE, False),
    ({"kind": "no_copy"}, TIDE, True),
    ({"kind": "no_copy", "words": 3, "earlier": ["so THE TIDE comes, in it"]}, TIDE, False),
    ({"kind": "no_copy", "words": 5, "earlier": ["so THE TIDE comes, in it"]}, TIDE, True),
    ({"kind": "syllables", "per_line": [4, 4, 4, 4]}, TIDE, True),
    ({"kind": "syllables", "per_line": [4, 4, 5, 4]}, TIDE, False),
    ({"kind": "syllables", "each": 5, "slack": 1}, TIDE, True),
    ({"kind": "syllables", "exactly": 16}, TIDE, True),
    ({"kind": "syllables", "each": 4}, "The fire is out\nThe blorple comes", None),
    ({"kind": "syllables", "each": 3}, "Salt & sand", None),
    ({"kind": "rhyme", "scheme": "XAXA"}, TIDE, True),
    ({"kind": "rhyme", "scheme": "AA"}, TIDE, False),
    ({"kind": "rhyme", "scheme": "ABCB"}, TIDE, True),
    ({"kind": "rhyme", "scheme": "ABABA"}, TIDE, False),
    ({"kind": "rhyme", "scheme": "AB"}, "a light\na night", False),
    ({"kind": "rhyme", "scheme": "AA"}, "a light\na blorple", None),
    ({"kind": "form", "form": "couplet"}, "the light\nthe night", True),
    ({"kind": "form", "form": "quatrain"}, "the light\nthe sea\nthe night\nthe tree", True),
    ({"kind": "form", "form": "quatrain"}, "the light\nthe sea\nthe day\nthe house", False),
    ({"kind": "form", "form": "acrostic", "word": "at"}, "all\ntold", True),
    ({"kind": "form", "form": "abecedarian"}, "all\nbut", False),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "text", "expected"), ROWS, ids=range(len(ROWS)))
def test_a_constraint_holds_fails_or_can_not_be_told(constraint, text, expected):
    assert held(constraint, text) is expected


def test_every_kind_has_a_row_here():
    assert set(KINDS) - {"limerick"} <= {constraint["kind"] for constraint, _, _ in ROWS}


def test_a_sonnet_is_fourteen_lines_of_ten_syllables_in_one_of_its_schemes():
    ends = ["day", "night", "way", "light", "stone", "sea", "bone", "tree", "rain", "moon", "train", "tune", "gold", "cold"]
    lines = [f"and so we walk together to the {end}" for end in ends]

    assert held({"kind": "form", "form": "sonnet"}, "\n".join(lines)) is True
    assert held({"kind": "form", "form": "sonnet"}, "\n".join(lines[:13])) is False
    assert held({"kind": "form", "form": "sonnet"}, "\n".join([*lines[:13], "and so we walk together to the sea"])) is False
    assert held({"kind": "form", "form": "sonnet"}, "\n".join(["so we walk to the day", *lines[1:]])) is False


def test_what_was_found_is_told_by_line():
    found = read_constraint({"kind": "syllables", "per_line": [4, 3]}).check(cut("The tide comes in\nIt takes the toys"))

    assert found.found == "line 2 has 4 syllables, 3 asked for: it | takes | the | toys"


def test_a_task_that_asks_for_few_words_lowers_the_floor():
    assert shortest((read_constraint({"kind": "words", "max": 2}),), 4) == 2
    assert shortest((read_constraint({"kind": "form", "form": "six-word story"}),), 4) == 4
    assert shortest((read_constraint({"kind": "lines", "max": 1}),), 4) == 4


@pytest.mark.parametrize(
    ("word", "form"),
    [("run", "running"), ("carry", "carried"), ("hope", "hoping"), ("lie", "lying"), ("box", "boxes"), ("go", "went"), ("leaf", "leaves")],
)
def test_inflections(word, form):
    assert form in forms(word)


def test_all_forms_are_made_of_kinds_that_exist():
    for bundles in FORMS.values():
        for bundle in bundles:
            assert [read_constraint({"kind": kind, **options}).kind for kind, options in bundle]


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.sampled_from("ab .!?…\n\t-*#>\"'’”1/_`&é…\u0301"), max_size=80), st.booleans())
def test_any_text_can_be_cut(text, titled):
    piece = cut(undress(text), titled)

    assert piece.sentences[0] <= piece.sentences[1]
    assert sum(len(line.words) for line in piece.lines) == len(piece.words) <= len(words_of(text)) + 80
    assert all(line.words for line in piece.lines)
