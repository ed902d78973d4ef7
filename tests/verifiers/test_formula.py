"""What the small grammar reads, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.verifiers.math.formula import Equation, FormulaError, Linear, UndefinedError, finished_number, parse, parse_equation

VALUES = {
    "17*6+23": 125,
    "(43 + 29) * 4 - 23": 265,
    "2 - 3 - 4": -5,
    "12/4/3": 1,
    "2 * (3 + [4 - 1])": 12,
    "-(3 - 5)": 2,
    "5 * -3": -15,
    "5 - -3": 8,
    "2**10": 1024,
    "2^-1": Fraction(1, 2),
    "(1/2)^2": Fraction(1, 4),
    "(3)(4)": 12,
    "2(3+4)": 14,
    "3 x 4": 12,
    "3 × 4 ÷ 2": 6,
    r"\frac{1}{2} + \left(1\right)": Fraction(3, 2),
    "0.1 + 0.2": Fraction(3, 10),
    "1,000 + 1 000": 2000,
    "50% * 80": 40,
    "1.5e3": 1500,
}
REFUSED = """|1+|*1|()|(1|1)|(1]|1 2|1.2.3|1,00|x y|x*x|1/x|2^x|x(2)|e + 1|9^9^9|-2^2|8/2(2+2)|2\\frac{1}{2}|5!|3 % 2|0x10|1..2|sin(1)|1=1
|1;2|٣|2^0.5|10^1001|1e9999|__import__('os')"""


@pytest.mark.parametrize("text", VALUES)
def test_formulas_have_an_exact_value(text: str):
    assert parse(text) == Linear(0, VALUES[text])


@pytest.mark.parametrize("text", REFUSED.replace("\n", "").split("|"))
def test_what_is_no_formula_or_has_two_readings_is_refused(text: str):
    with pytest.raises(FormulaError):
        parse(text)


@pytest.mark.parametrize("text", ["1/0", "1/(2-2)", "0^0", "0^-1", r"\frac{1}{0}"])
def test_division_by_zero_is_told_apart(text: str):
    with pytest.raises(UndefinedError):
        parse(text)


@pytest.mark.parametrize("text", ["(" * 100 + "1" + ")" * 100, "9" * 101, "1+" * 300 + "1", "(" * 100_000])
def test_limits_hold_before_anything_is_computed(text: str):
    with pytest.raises(FormulaError):
        parse(text)


def test_linear_terms_keep_their_unknown():
    assert parse("3x + 7") == Linear(3, 7, "x")
    assert parse("2(y - 1)/4") == Linear(Fraction(1, 2), Fraction(-1, 2), "y")
    assert parse("3x + 7").at(6) == 25


def test_an_equation_has_one_solution_or_none():
    assert parse_equation("3x + 7 = 25").solution == 6
    assert parse_equation("8x - 3 = 5x").solution == 1
    assert parse_equation("x = x + 1").solution is None
    assert parse_equation("5 = 5") == Equation(Linear(0, 5), Linear(0, 5))
    for text in ("x = y", "1 = 2 = 3", "5"):
        with pytest.raises(FormulaError):
            parse_equation(text)


@given(
    st.recursive(
        st.integers(0, 99).map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map("({0[0]}{0[1]}{0[2]})".format)
    )
)
def test_whole_number_formulas_agree_with_python(text: str):
    """The formula is built here from digits and signs, so that Python may compute it."""
    if len(text) <= 400 and text.count("(") <= 20:
        assert parse(text).constant == eval(text)


@given(st.fractions(max_denominator=1000))
def test_a_finished_number_reads_back_what_a_fraction_writes(value: Fraction):
    assert finished_number(str(value)) == value


@pytest.mark.parametrize("text", ["1+1", "6/2", "2*3", "-2^2", "(5)", "5 6", "3 124/2", "2 5/3", "1/0", "x", "", "0.5/2", "±5"])
def test_unfinished_numbers_have_no_value(text: str):
    assert finished_number(text) is None
