"""Units are read from an allow-list, converted exactly, and never guessed; numerals in words and periods have exact values."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import Domain, Outcome, Task
from core.verifiers.math import units
from core.verifiers.math.equivalence import compare
from core.verifiers.math.numerals import number_of
from core.verifiers.math.symbolic import Reply
from core.verifiers.math.units import ANGLE, MONEY, SYMBOLS, WORDS, read_unit, scale_of
from core.verifiers.math.verifier import verify

SAME_UNIT = [
    ("km/h", "kilometers per hour"),
    ("m s^-2", "m/s^2"),
    ("m s^{-2}", "m/s/s"),
    ("square meters", "m^2"),
    ("cubic centimetres", "cm^3"),
    ("metres squared", "m^2"),
    ("°C", "degrees Celsius"),
    ("feet", "ft"),
    ("kWh", "kilowatt-hours"),
]
NO_UNIT = [
    "",
    "apples",
    "kg/m s",
    "m^10",
    "m^",
    "/m",
    "m*",
    "m//s",
    "__import__('os')",
    "exec",
    "x" * 100,
    "m\x00",
    "1",
    "lambda",
    "°°",
]
NUMERALS = {
    "0.(3)": Fraction(1, 3),
    r"0.\overline{142857}": Fraction(1, 7),
    "0.1(6)": Fraction(1, 6),
    r"0.\dot{6}": Fraction(2, 3),
    "0.(9)": 1,
    "-1.(5)": Fraction(-14, 9),
    "1'000": 1000,
    "2.5 million": 2_500_000,
    "3 thousand": 3000,
    "33 1/3%": Fraction(1, 3),
    "twelve": 12,
    "forty-two": 42,
}


@pytest.mark.parametrize(("one", "other"), SAME_UNIT)
def test_one_unit_has_many_spellings(one: str, other: str):
    assert read_unit(one) == read_unit(other) is not None


@pytest.mark.parametrize("text", NO_UNIT)
def test_what_is_not_on_the_list_is_no_unit(text: str):
    assert read_unit(text) is None


def test_every_name_on_the_list_is_known_to_pint_or_to_us():
    for name in {*SYMBOLS.values(), *WORDS.values()}:
        scale = scale_of(((name, 1),))
        assert scale is not None, name
        assert scale.factor > 0


def test_scales_are_exact():
    assert scale_of((("mile", 1),)).factor == Fraction(1609344, 1000)
    assert scale_of((("degF", 1),)).offset == Fraction(45967, 180)
    assert scale_of(read_unit("km/h")).factor == Fraction(5, 18)
    assert scale_of((("degree", 1),)).dimension == ANGLE


def test_a_scale_with_its_own_zero_has_no_powers():
    assert scale_of((("degC", 2),)) is None
    assert scale_of((("degC", 1), ("meter", 1))) is None
    assert compare("10 °C", "10 °C") is Reply.SAME
    assert compare("10 °C/s", "10 °F/s") is Reply.DIFFERENT


@pytest.mark.parametrize("text", NUMERALS)
def test_numerals_have_an_exact_value(text: str):
    assert number_of(text) == NUMERALS[text]


@pytest.mark.parametrize(
    "text", ["0.()", "0.(a)", "1'00", "five million five", "twenty-eleven", "ten-five", "million", "3 millions", "0.(3)(3)", "%"]
)
def test_what_is_no_numeral_has_no_value(text: str):
    assert number_of(text) is None


def test_money_and_months_have_no_rate():
    assert compare("€5", "$5") is Reply.DIFFERENT
    assert compare("1 month", "30 days") is Reply.DIFFERENT
    assert compare("1 month", "1 month") is Reply.SAME
    assert {name for name, _ in MONEY.values()} >= {"dollar", "euro"}


def test_an_answer_in_another_unit_than_the_question_asks_for_does_not_pass():
    task = Task("How many cm are 2.5 m?", Domain.MATH, "250 cm")

    assert verify(task, "Answer: 250 cm").passed
    assert verify(task, "Answer: 2500 mm").outcome is Outcome.FAIL
    assert verify(task, "Answer: 2.5 m").outcome is not Outcome.PASS
    assert verify(task.replace(prompt="How long is it?"), "Answer: 2500 mm").passed


def test_without_pint_units_are_still_compared_to_the_letter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(units, "find_spec", lambda name: None)

    verdict = verify(Task("How long is it?", Domain.MATH, "7 m"), "Answer: 700 cm")

    assert verdict.outcome is Outcome.ABSTAIN
    assert 'pip install "ratchet-agents[verify]"' in verdict.reason
    assert compare("7 m", "7 m") is Reply.SAME
    assert compare("7 m", "8 m") is Reply.DIFFERENT
    assert compare("$7", "700 cents") is Reply.SAME


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_no_text_breaks_the_reader_of_units(text: str):
    found = read_unit(text)

    assert found is None or all(name in {*SYMBOLS.values(), *WORDS.values(), *MONEY} for name, _ in found)


@settings(max_examples=60)
@given(
    st.fractions(0, 1000, max_denominator=100),
    st.sampled_from([("km", "m", 1000), ("h", "min", 60), ("kg", "g", 1000), ("ft", "in", 12), ("km/h", "m/h", 1000)]),
)
def test_a_converted_quantity_is_the_same_and_a_bare_one_is_not(value: Fraction, pair: tuple[str, str, int]):
    large, small, times = pair

    assert compare(f"{value} {large}", f"{value * times} {small}") is Reply.SAME
    assert (compare(f"{value} {large}", f"{value} {small}") is Reply.SAME) == (value == 0)
