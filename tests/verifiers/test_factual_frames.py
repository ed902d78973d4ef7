"""Which questions are read, and which words of a sentence answer them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.verifiers.factual.frames import answers_in
from core.verifiers.factual.passages import Source, find_quote, quotes, sentences_of, stem
from core.verifiers.factual.question import read_question

ANSWERED = """Where does Ann live? | Ann lives in Oslo. | Oslo
Where does Ann live? | Ann lives in New York. | New York
Where did Ann stop? | Ann stopped at the inn. | the inn
When did Ann leave Oslo? | Ann left Oslo in 1990. | 1990
When did Ann leave Oslo? | In May 1990, Ann left Oslo. | May 1990
What does the red box hold? | The red box holds 12 pens. | 12 pens
How many pens does the red box hold? | The red box holds twelve pens. | twelve
How many pens are in the box? | There are 12 pens in the box. | 12
How many people live in Oslo? | 700,000 people live in Oslo. | 700,000
Who owns the boat? | Ann Berg owns the boat. | Ann Berg
Who wrote Dune? | Frank Herbert wrote Dune. | Frank Herbert
What is the capital of France? | The capital of France is Paris. | Paris
What is the capital of France? | Paris is the capital of France. | Paris
Who was beaten by Ann? | Bob was beaten by Ann. | Bob
How tall is the tower? | The tower is 120 metres tall. | 120 metres
How old is Ann? | Ann is 34. | 34
Which box holds 12 pens? | The red box holds 12 pens. | The red box
What colour is the box? | The box is red. | red
In which year was Ann born? | Ann was born in 1987. | 1987
Where does Bob live? | Ann lives in Oslo, and Bob lives in Rome. | Rome
Where does Ann live? | Ann lives in Oslo; Bob lives in Rome. | Oslo
Where does Ann live? | Ann lives in Oslo, where Bob works. | Oslo"""
UNANSWERED = """Where does Ann live? | The sister of Ann lives in Oslo.
Where does Ann live? | Ann's sister lives in Oslo.
Where does Ann live? | Ann lived in Oslo.
Where does Ann live? | Ann does not live in Oslo.
Where does Ann live? | Ann lives in Oslo?
Where does Ann live? | Ann lives in poverty.
Where does Ann live? | Ann lives in 1990.
Where does Ann live? | Anna lives in Oslo.
Where does Ann live? | Ann Berg lives in Oslo.
Where does Ann live? | Bob lives in Rome, and Ann lives with Bob.
Where does Ann live? | "Ann lives in Oslo.
When did Ann leave Oslo? | Ann left Oslo in a hurry.
What does the pen hold? | The pens hold ink.
How many pens does the box hold? | The box holds about 12 pens.
How many pens does the box hold? | The box holds 12 cups.
Who owns the boat? | He owns the boat.
Who owns the boat? | Bob says Ann owns the boat.
Who is the mayor of Oslo? | The mayor of Oslo is ill.
Who is the mayor of Oslo? | The mayor of Oslo is a doctor.
What does Ann own? | Ann owns pens, cups and keys.
What does Ann own? | Ann owns the boats of Oslo, and the boats of Rome.
Who beat Bob? | Bob beat Ann.
Where did Ann hop? | Ann hoped in Oslo."""
UNREAD = [
    "", "?", "Where?", "Does Ann live in Oslo?", "Why does Ann live in Oslo?", "Where does she live?", "Where does Ann not live?",
    "Where do Ann and Bob live?", "Where does Ann live? Where does Bob live?", "Tell me about Ann.", "Where does the man who won live?",
]  # fmt: skip


def lines(text):
    return [tuple(line.split(" | ")) for line in text.splitlines()]


def found(question, text):
    read = read_question(question)
    assert read is not None
    return [slot.text for sentence in sentences_of(Source("s", text)) for slot in answers_in(read, sentence)]


@pytest.mark.parametrize(("question", "text", "answer"), lines(ANSWERED))
def test_a_statement_answers_its_question(question, text, answer):
    assert found(question, text) == [answer]


@pytest.mark.parametrize(("question", "text"), lines(UNANSWERED))
def test_what_merely_looks_like_the_statement_answers_nothing(question, text):
    assert found(question, text) == []


@pytest.mark.parametrize("question", UNREAD)
def test_a_question_of_another_form_is_not_read(question):
    assert read_question(question) is None


WORDS = [
    "where",
    "who",
    "what",
    "which",
    "how",
    "many",
    "old",
    "when",
    "does",
    "did",
    "is",
    "was",
    "Ann",
    "the",
    "box",
    "box",
    "hold",
    "live",
    "in",
    "Oslo",
    "by",
    "12",
    "?",
    ".",
    ",",
    "and",
    "year",
    "tall",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_run_of_words_is_read_or_not_and_nothing_breaks(asked, said):
    question = read_question(" ".join(asked))
    for sentence in sentences_of(Source("s", " ".join(said))):
        if question is not None:
            assert all(slot.text for slot in answers_in(question, sentence))


def test_a_quote_is_found_to_the_character_and_white_space_may_run_otherwise():
    source = Source("s", "Ann  lives\nin Oslo at 14.5 km.", start=100)

    span = find_quote(" Ann lives in Oslo ", [source])

    assert (span.start, span.end, span.text) == (100, 118, "Ann  lives\nin Oslo")
    assert [find_quote(quote, [source]) for quote in ("ann lives", "Ann lives in Os", "14", "5 km", "14.5 k", "")] == [None] * 6


def test_quotes_of_all_marks_are_read():
    assert [quote for _, quote in quotes('"a b" “c d” «e f» „g h“ "?" "open')] == ["a b", "c d", "e f", "g h"]
    assert len(list(quotes('"a" ' * 1_000))) == 50


@pytest.mark.parametrize("line", ["live lives lived living", "stop stops stopped", "city cities", "hold holds held", "box boxes"])
def test_forms_of_a_word_share_a_stem(line):
    assert len({stem(word) for word in line.split()}) == 1


NOT_SPLIT = ["The house of St. Ann is old.", "J. R. Berg lives in No. 5.", "It cost 5.5 dollars. or so", "The sister of\nAnn lives here."]


@pytest.mark.parametrize("text", NOT_SPLIT)
def test_in_doubt_a_sentence_is_not_split(text):
    assert len(sentences_of(Source("s", text))) == 1


def test_sentences_end_at_stops_blank_lines_and_list_items():
    text = 'One. "Two!" Three\n\nFour\n- five\n- six'

    assert [sentence.text for sentence in sentences_of(Source("s", text))] == ["One.", '"Two!"', "Three", "Four", "- five", "- six"]


def test_what_stands_inside_quotation_marks_is_known():
    text = 'Bob said: "Cid is ill. Ann lives in Oslo. Eve left." Dan lives in Rome.'

    assert [sentence.quoted for sentence in sentences_of(Source("s", text))] == [True, True, True, False]
