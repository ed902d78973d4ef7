"""What the grammar of answers reads, what it reads in two ways, and what it refuses before anything is computed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.answers import final_answer, normalise
from core.verifiers.math.equivalence import readings
from core.verifiers.math.expression import read, read_term
from core.verifiers.math.formula import FormulaError
from core.verifiers.math.numerals import number_of
from core.verifiers.math.quantity import quantity_of, value_of
from core.verifiers.math.question import read_question
from core.verifiers.math.words import compare_words

X, TWO, THREE = ["sym", "x"], ["num", "2"], ["num", "3"]
READ = {
    "2": TWO,
    "0.5": ["num", "1/2"],
    r"\frac{1}{2}": ["num", "1/2"],
    "2x": ["mul", TWO, X],
    "x^2": ["pow", X, TWO],
    r"\sqrt{x}": ["pow", X, ["num", "1/2"]],
    r"\sqrt[3]{x}": ["pow", X, ["num", "1/3"]],
    r"\sin x": ["fn", "sin", X],
    r"\sin^2 x": ["pow", ["fn", "sin", X], TWO],
    r"\sin^{-1} x": ["fn", "asin", X],
    r"\log_2 x": ["fn", "log", X, TWO],
    "|x|": ["fn", "abs", X],
    "(2, 3)": ["tuple", [TWO, THREE]],
    "[2, 3]": ["bracket", [TWO, THREE]],
    "[2, 3)": ["interval", TWO, THREE, False, True],
    r"\{2, 3\}": ["set", [TWO, THREE]],
    "2, 3": ["list", [TWO, THREE]],
    "2 or 3": ["set", [TWO, THREE]],
    "x = 2 or x = 3": ["named", "x", ["set", [TWO, THREE]]],
    "x = 2, y = 3": ["assign", [["x", TWO], ["y", THREE]]],
    "x > 2": ["rel", ">", X, TWO],
    "2 < x < 3": ["and", [["rel", "<", TWO, X], ["rel", "<", X, THREE]]],
    r"x \in [2, 3]": ["named", "x", ["interval", TWO, THREE, False, False]],
    r"\emptyset": ["none"],
    r"\pm 2": ["set", [TWO, ["mul", ["num", "-1"], TWO]]],
    "[[2, 3], [3, 2]]": ["matrix", [[TWO, THREE], [THREE, TWO]]],
    r"\begin{pmatrix} 2 & 3 \\ 3 & 2 \end{pmatrix}": ["matrix", [[TWO, THREE], [THREE, TWO]]],
    "f(x) = 2": ["named", "f(x)", TWO],
}
REFUSED = r"""|x +|(x|x)|1 2|2 \frac{1}{2}|x_1|banana|__import__('os')|1/0|0^0|9^9^9|9^{9^{9^9}}|x^{101}|2^{1000}|(10!)!!|5!!|101!|x!
|1 = 2 = 3|x > 1, x < 3|x = 1 or 2 and 3|\binom{n}{k}|\frac{1}{2|\sum_{i=1}^{10^9} i|\int x|@|٣|x=1, x=2, y=3|((2,3),|x in 5|\sqrt{}"""


@pytest.mark.parametrize("text", READ)
def test_an_answer_is_read_as_one_tree(text: str):
    assert read(text) == (READ[text],)


@pytest.mark.parametrize("text", ["1/2x", r"1/2\pi", r"\sin x/2"])
def test_what_has_two_readings_gives_both(text: str):
    assert len(read(text)) == 2
    with pytest.raises(FormulaError):
        read_term(text)


@pytest.mark.parametrize("text", REFUSED.replace("\n", "").split("|"))
def test_what_is_no_answer_or_is_too_large_is_refused(text: str):
    with pytest.raises(FormulaError):
        read(text)


DEEP = [
    "(" * 100_000,
    "(" * 40 + "x" + ")" * 40,
    "|" * 300,
    "\\sin" * 80 + "x",
    "9" * 41,
    "1+" * 300 + "1",
    "((x^99)^99)^99",
    "x^" * 150 + "2",
]


@pytest.mark.parametrize("text", DEEP)
def test_limits_hold_before_anything_is_built(text: str):
    with pytest.raises(FormulaError):
        read(text)


SIGNS = [*"0123456789.,=<>+-*/^_!|&%()[]{} xyei"]
COMMANDS = ["\\frac", "\\sqrt", "\\sin", "\\pi", "\\in", "\\cup", "\\pm", "\\{", "\\}", "\\\\"]
WORDS = ["or", "and", "km", "°", "∪", "±", "√"]
MATHEMATICAL = st.lists(st.sampled_from([*SIGNS, *COMMANDS, *WORDS]), max_size=40).map("".join)
TEXTS = st.one_of(st.text(max_size=60), MATHEMATICAL)


@settings(max_examples=300)
@given(TEXTS)
def test_no_text_breaks_a_reader_in_the_host(text: str):
    for reader in (normalise, final_answer, number_of, value_of, quantity_of, read_question):
        reader(text)
    compare_words(text, "(B)")
    compare_words("2:3", text)
    assert len(readings(text)) <= 2


@settings(max_examples=100)
@given(st.characters(), st.sampled_from(["{}", "2{}", "x{}3", "({}, 2)", "5 {}"]))
def test_every_class_of_character_is_read_or_refused(sign: str, shape: str):
    text = shape.format(sign)
    value_of(normalise(text))
    assert len(readings(normalise(text))) <= 2
