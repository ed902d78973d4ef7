"""The claim grammar: sentences become typed claims, each checked against the table; what can't be read whole is put aside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.analysis.claims import find_claims
from core.verifiers.analysis.stated import read_number
from core.verifiers.analysis.tables import read_table

SALES = read_table(
    "region,month,sales,Unit price ($)\nnorth,Jan,10,1.5\nnorth,Feb,20,2.5\nsouth,Jan,30,3.5\nsouth,Feb,25,3\nwest,Jan,5,1\nwest,Feb,10,2"
)
SCORES = read_table("name,score\nAnn,12\nBob,7\nCid,31\nDan,7")
TRUE_OF_SALES = [
    "The total sales is 100.",
    "Total sales: 100",
    "sum of sales = 100",
    "In total, the sum of the sales amounts to 100.",
    "The total sales for north was 30.",
    "North's total sales were 30",
    "North total sales is 30 and south total sales is 55",
    "In Feb, the total sales was 55.",
    "The average sales in the south region is 27.5",
    "The mean sales is 16.67",
    "The mean of sales is about 16.7",
    "The median unit price is 2.25",
    "The median unit price is $2.25.",
    "The highest sales is 30",
    "The lowest sales for north is 10.",
    "The standard deviation of sales is 9.83",
    "The number of rows is 6",
    "The number of rows with sales over 10 is 3",
    "There are 6 rows",
    "There are 3 different regions.",
    "3 rows have sales over 10",
    "Sales in north in Feb were 20",
    "South has the highest total sales.",
    "South has the highest total sales, with 55.",
    "The region with the lowest total sales is west",
    "The highest total sales are in south",
    "South's total sales are higher than north's.",
    "South has more total sales than north",
    "South has 25 more total sales than north",
    "Total sales in south were 25 higher than in north",
    "The difference in total sales between north and south is 25",
    "North accounts for 30% of total sales",
    "The share of south in total sales is 55%",
    "South's share of total sales is 0.55",
    "55% of sales come from south",
    "The correlation between sales and unit price is 0.98",
    "Sales and unit price correlate at 0.98",
    "Sales and unit price are positively correlated.",
    "Sales in north rose from 10 in Jan to 20 in Feb",
    "Sales in south fell by 5 from Jan to Feb",
    "Total sales rose by 22.2% from Jan to Feb",
    "Total sales rose from 45 to 55.",
    "Sales in north increased over time",
    "Total sales show an increasing trend",
    "Sales in north rose every month",
    "We can see that the total sales is 100.",
    "- **Total sales:** 100",
    "1. The total sales is 100",
    "The total sales is 100, and south has the highest total sales.",
    "north,Jan,10,1.5",
    "| north | Jan | 10 | 1.5 |",
]
FALSE_OF_SALES = [
    "The total sales is 99.",
    "The total sales is 100.5",
    "The total sales for north was 55.",
    "The mean sales is 16.66",
    "The mean sales is 16.6",
    "The median unit price is €2.25.",
    "The median unit price is 2.26",
    "There are 4 different regions.",
    "3 rows have sales over 20",
    "North has the highest total sales.",
    "South has the highest total sales, with 54.",
    "North's total sales are higher than south's.",
    "South has 24 more total sales than north",
    "South has 25 less total sales than north",
    "North accounts for 31% of total sales",
    "30% of sales come from south",
    "The correlation between sales and unit price is 0.9",
    "Sales and unit price are negatively correlated.",
    "Sales in north rose from 10 in Jan to 21 in Feb",
    "Sales in north fell from 10 in Jan to 20 in Feb",
    "Sales in south rose by 5 from Jan to Feb",
    "Total sales rose by 23% from Jan to Feb",
    "Sales in south increased over time",
    "The total sales is about 120",
    "Sales in north were 31",
    "north,Jan,11,1.5",
    "total sales by region:\n- north: 30\n- south: 54",
]
PUT_ASIDE = [
    "The total sales is not 100.",
    "The total sales is 100 if we leave out west.",
    "Is the total sales 100?",
    "The total sales is 100 or 99.",
    "The total sales is 100, which is 5 more than last year.",
    "South sold twice as much as north.",
    "Profit was 12.",
    "About 100 in total.",
    "The sales of north and south are 30 and 55.",
    "The total sales in 2024 is 100.",
    "The total sales is 1.2.3",
    "The total sales is 12,34",
    "The total sales is 10-20",
    "Two regions are strong.",
    "The total is one hundred.",
]


@pytest.mark.parametrize("text", TRUE_OF_SALES)
def test_a_true_sentence_holds_whole(text):
    found = find_claims(text, SALES)

    assert found.checked
    assert all(checked.holds for checked in found.checked), [checked.recomputed for checked in found.checked]
    assert not found.loose
    assert not found.unclear


@pytest.mark.parametrize("text", FALSE_OF_SALES)
def test_a_false_sentence_is_found_with_what_is_true_beside_it(text):
    false = find_claims(text, SALES).false

    assert false
    assert all(checked.recomputed for checked in false)


@pytest.mark.parametrize("text", PUT_ASIDE)
def test_a_number_in_a_sentence_that_cannot_be_read_whole_is_loose(text):
    found = find_claims(text, SALES)

    assert not found.checked
    assert found.loose


@pytest.mark.parametrize(
    "text", ["North always leads the rest by more.", "South has, by far, the highest sales of them all!", "None of this is true."]
)
def test_a_weighty_sentence_without_numbers_that_cannot_be_read_is_unclear(text):
    found = find_claims(text, SALES)

    assert found.unclear
    assert not found.checked


def test_a_sentence_that_only_names_something_of_the_table_is_vague():
    found = find_claims("North did well. The weather was fine.", SALES)

    assert (found.vague, found.unclear, found.loose) == (["North did well."], [], [])


@pytest.mark.parametrize("text", ["Sales in north were 30.", "The mean sales is 17.", "Bob has the lowest score."])
def test_what_can_be_read_in_two_ways_or_shows_too_little_neither_holds_nor_fails(text):
    table = SCORES if "Bob" in text else SALES

    assert [checked.holds for checked in find_claims(text, table).checked] == [None]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Ann has 12 points", None),
        ("Ann has a score of 12", True),
        ("Ann: 12", True),
        ("Ann scored 12", True),
        ("Ann,13", False),
        ("Cid has the highest score (31)", True),
        ("Cid has the highest score (30)", False),
        ("Bob is 5 less than Ann", True),
        ("Bob is 5 more than Ann", False),
        ("Bob and Dan have the same score", True),
        ("Ann has a higher score than Cid", False),
    ],
)
def test_rows_with_names_can_be_spoken_of(text, holds):
    verdicts = [checked.holds for checked in find_claims(text, SCORES).checked]

    assert (all(verdicts) if verdicts else None) is holds


def test_arithmetic_on_numbers_of_the_table_is_placed_and_on_others_is_loose():
    assert not find_claims("12+7=19\n19+31=50\n50/4=12.5", SCORES).loose
    assert find_claims("40+2=42", SCORES).loose
    assert find_claims("12+7=20", SCORES).wrong_sums
    assert not find_claims("57/7=8.14", SCORES).wrong_sums
    assert find_claims("57/7=8.15", SCORES).wrong_sums


def test_names_that_are_words_of_the_grammar_mean_nothing():
    table = read_table("total,count\nhighest,3\nmean,4")

    found = find_claims("The total is 7. The highest count is 4. The mean is 4.", table)

    assert not found.checked
    assert len(found.loose) == 3


def test_a_label_of_two_columns_means_neither():
    table = read_table("buyer,seller,price\nAnn,Bob,3\nBob,Ann,4")

    assert not find_claims("Ann has the highest price. The total price for Ann is 3.", table).checked


def test_the_details_show_the_claim_beside_the_recomputed_value():
    shown = find_claims("The mean sales is 16.7", SALES).checked[0].shown(SALES)

    assert (shown["op"], shown["column"], shown["stated"], shown["recomputed"], shown["holds"]) == (
        "mean",
        "sales",
        "16.7",
        "16.66666667",
        True,
    )
    assert shown["tolerance"] == "rounded to the digits shown"


@pytest.mark.parametrize(
    ("text", "value", "unit", "decimals"),
    [
        ("1,234.50", "1234.5", "", 2),
        ("-3", "-3", "", 0),
        ("$12", "12", "$", 0),
        ("23.4%", "23.4", "%", 1),
        ("1.2 million", "1200000", "", 0),
    ],
)
def test_a_number_is_read_with_its_unit_and_the_digits_it_shows(text, value, unit, decimals):
    number = read_number(text)

    assert (str(number.value.numerator / number.value.denominator).removesuffix(".0"), number.unit, number.decimals) == (
        value,
        unit,
        decimals,
    )


@pytest.mark.parametrize("text", ["1.2.3", "12,34", "1e5", "x", "", "5 apples", "1/2", "٣", "5%%", "--5"])
def test_what_is_no_plain_number_is_none(text):
    assert read_number(text) is None


WORDS = """the total mean sales region north south Jan Feb is was of in for and has highest more than 100 30 27.5 55% , . : = ( ) 's rose
from to by correlation between share not 1+2=3 - | ? $5 ½ é"""


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*WORDS.split(), "\n"]), max_size=14).map(" ".join) | st.text(max_size=80))
def test_any_text_is_read_without_an_error(text):
    found = find_claims(text, SALES)

    assert found.share is None or 0 <= found.share <= 1
