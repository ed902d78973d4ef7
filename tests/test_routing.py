import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.registry import SOURCES, resolve
from core.routing import LOOK_AT, route
from core.types import Domain

QUERIES = {
    Domain.MATH: (
        "Solve 17*6+23",
        "Find x: 3x + 7 = 25",
        "What is 15% of 240?",
        "What is the derivative of x^3 + 2x?",
        "Solve for x: 2*x - 5 = 11",
        "Compute (12 + 30) * 4",
        "Calculate the perimeter of a rectangle with sides 3 and 8",
        "What is the square root of 144?",
        "Tom has 5 apples and buys 7 more. How many apples does he have now?",
        "A train travels 120 km in 2 hours. How fast does it go?",
        "Is 97 a prime number?",
        "What is the greatest common divisor of 12 and 18?",
        "There are 24 students and each needs 3 pens. How many pens do they need in total?",
        "1234 - 567",
        "What is the probability of rolling two sixes?",
        "Simplify 3/4 + 5/6",
        "Natalia sold 48 clips in April and half as many in May. How many clips did she sell altogether?",
    ),
    Domain.CODE: (
        "line 10-12 of my file raises KeyError",
        "Write a Python function f(x) that adds 2",
        "What does this program print?\nx = 3\nx = x * 2\nprint(x)",
        "Why do I get TypeError: 'NoneType' object is not subscriptable?",
        "Implement binary search in Rust",
        "Fix the bug in this loop: for i in range(len(a)): a.pop(i)",
        "How do I reverse a linked list?",
        "Write a SQL query that joins orders and customers",
        "What is the output of print(2 ** 3)?",
        "Refactor this class to use composition",
        "Explain what a decorator does in Python",
        "My script crashes with a segfault after line 40 of main.cpp",
        "Write unit tests for the function parse_date(text)",
        '```\nfn main() { println!("hi"); }\n```\nDoes this compile?',
        "Write a regex that matches an e-mail address",
        "How do I sort a dictionary by value in Python?",
        "Write a function that returns the sum of the first n prime numbers",
    ),
    Domain.LOGIC: (
        "Ann is taller than Bob. Bob is taller than Cid. Who is the tallest?",
        "All cats are mammals. Tom is a cat. Is Tom a mammal?",
        "If it rains then the street is wet. It rains. What can you conclude?",
        "A says B always lies. B says A tells the truth. Who is the truth-teller?",
        "No fish are birds. Some pets are fish. Does it follow that some pets are not birds?",
        "On an island of knights and knaves, Ada says: we are both knaves. What is Ada?",
        "Kim sits to the left of Max. Max sits to the left of Sue. Who sits in the middle?",
        "Eve is older than Dan, and Dan is older than Gus. Is Eve older than Gus?",
        "Is this argument valid? All A are B. All B are C. Therefore all A are C.",
        "Exactly one of three boxes holds the prize, and every label is false. Solve the puzzle.",
    ),
    Domain.FACTUAL: (
        "In what year did WW2 end, 1944 or 1945?",
        "Context: Ann lives in Oslo. Bob lives in Rome.\nQuestion: Where does Ann live?",
        "What is the capital of Mongolia?",
        "Who wrote the novel Dune?",
        "When did the Berlin Wall fall?",
        "How tall is Mount Everest?",
        "Which planet has the most moons?",
        "What is photosynthesis?",
        "Who painted the Mona Lisa?",
        "What does NASA stand for?",
        "Where is the Great Barrier Reef?",
        "Who is the tallest person in the world?",
        "What is the chemical symbol of gold?",
        "Who invented the World Wide Web in 1989-1990?",
        "Define entropy",
    ),
    Domain.CREATIVE: (
        "Write a haiku about rain",
        "Tell me a story about a lonely dragon",
        "Compose a limerick on Monday mornings",
        "Come up with a catchy slogan for a bakery",
        "Write a short poem in the style of Emily Dickinson",
        "Write a letter to my younger self",
        "Imagine a city under the sea and describe it",
        "Brainstorm names for my cat",
        "Continue the story: Once upon a time there was a fox",
        "Write a story about a class of unruly children",
        "Write a poem about the code of the samurai",
        "Finish this poem:\nRoses are red, violets are blue\nSugar is sweet, and so are you",
        "Write a song about a programmer who lost his semicolon",
    ),
    Domain.ANALYSIS: (
        "Data:\nname,score\nAnn,3\nBob,9\nQuestion: What is the total score?",
        "name,sales\nAnn,30\nBob,12\n\nWho has the highest sales?",
        "Compare the pros and cons of nuclear and solar power",
        "Analyse the trend in these quarterly figures: 12, 15, 11, 19",
        "Summarise the survey results and point out outliers",
        "| city | rent |\n|---|---|\n| Oslo | 900 |\nWhich city has the highest rent?",
        "What are the main causes of customer churn in this data set?",
        "Is there a correlation between income and age in the table?",
        "Interpret this regression: slope 0.4, p = 0.03",
        "Assess the strengths and weaknesses of this argument",
    ),
}


@pytest.mark.parametrize(("domain", "query"), [(d, q) for d, queries in QUERIES.items() for q in queries])
def test_a_question_goes_to_its_domain(domain, query):
    found = route(query)

    assert found.domain is domain
    assert 0.35 <= found.confidence <= 1


@pytest.mark.parametrize("source", SOURCES)
def test_every_generated_task_goes_to_the_domain_that_made_it(source):
    rng = random.Random(7)

    tasks = [resolve(SOURCES, source)(rng, level).task for level in (1, 2, 3, 4) for _ in range(50)]

    assert [t.prompt for t in tasks if route(t.prompt).domain is not t.domain] == []


@pytest.mark.parametrize("query", ["", "   ", "hm", "🙂", "asdf qwer", "hello", "你好", "\0" * 100, "\ud800", "a" * 1000])
def test_a_question_without_a_known_word_goes_to_the_fallback(query):
    found = route(query, min_confidence=0.35, fallback=Domain.CREATIVE)

    assert found.domain is Domain.CREATIVE
    assert found.confidence == pytest.approx(1 / 6)


@pytest.mark.parametrize("query", ["the", "banana", "I feel sad today", "hello world", "x", "are you sure"])
def test_small_talk_goes_to_the_fallback(query):
    found = route(query, fallback=Domain.CREATIVE)

    assert found.domain is Domain.CREATIVE
    assert found.confidence < 0.35


def test_a_guess_below_the_threshold_goes_to_the_fallback_and_keeps_its_confidence():
    sure = route("Solve 17*6+23")

    unsure = route("Solve 17*6+23", min_confidence=1.0, fallback=Domain.FACTUAL)

    assert sure.domain is Domain.MATH
    assert unsure.domain is Domain.FACTUAL
    assert unsure.confidence == sure.confidence


def test_a_threshold_of_zero_never_falls_back():
    assert route("What is photosynthesis?", min_confidence=0.0, fallback=Domain.MATH).domain is Domain.FACTUAL


def test_more_evidence_gives_more_confidence():
    assert route("a haiku").confidence < route("Write a haiku about rain").confidence


def test_of_a_long_text_only_the_ends_are_read():
    question = "Write a haiku about this text:"
    filler = "and so on " * 100_000

    found = route(f"{question}\n{filler}\n{'Solve 17*6+23 ' * 10}\n{filler}")

    assert len(filler) > 100 * LOOK_AT
    assert found == route(f"{question}\n{filler}")
    assert found.domain is Domain.CREATIVE


@pytest.mark.parametrize(
    "piece",
    ["(", "\n", " ", "1", "1 ", "a,", "|", "=", "x = 1 + 2\n", "write ", "is taller than ", "if a ", "\0", "\ud800", "é", "٣", "0,\n"],
)
def test_a_megabyte_of_anything_has_a_route(piece):
    assert route(piece * (1_000_000 // len(piece))).confidence >= 1 / 7


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_has_a_route_and_the_same_one_twice(text):
    found = route(text)

    assert 1 / 6 - 1e-9 <= found.confidence <= 1
    assert route(text) == found


def test_ten_megabytes_are_routed_by_their_ends():
    question = "What is the capital of Mongolia? "
    text = question + "x, " * 3_333_333

    assert route(text) == route(text[:LOOK_AT] + "y = 3 * 4\n" * 100_000 + text[-LOOK_AT:])
    assert route(text).domain is Domain.FACTUAL


def test_routes_are_the_same_from_any_thread():
    queries = [q for queries in QUERIES.values() for q in queries]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(route, queries))

    assert found == [route(q) for q in queries]


def test_scoring_needs_the_standard_library_only():
    code = "import sys; from core.routing import route; route('Solve 17*6+23'); print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "core.routing.weights" in loaded
    assert not {"numpy", "scipy", "sklearn", "safetensors"} & set(loaded)
