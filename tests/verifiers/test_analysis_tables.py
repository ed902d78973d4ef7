"""Tables from CSV text, JSON rows and files: types, what is refused, and aggregates that equal plain Python's."""

from __future__ import annotations

import json
import math
import statistics
import threading
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.analysis.claims import find_claims
from core.verifiers.analysis.queries import Condition, Query, QueryError, UndefinedError, recompute
from core.verifiers.analysis.query_specs import KEYS, OPS, read_spec
from core.verifiers.analysis.tables import SHELF, TableError, read_table, table_in_prompt

SALES = "region,month,sales\nnorth,Jan,10\nnorth,Feb,20.5\nsouth,Jan,30\nsouth,Feb,\n"


def kinds(data):
    return [(column.name, column.kind) for column in read_table(data).columns]


def total(data, name):
    table = read_table(data)
    return recompute(Query("sum", table.index(name)), table)


def test_columns_are_numbers_dates_or_text():
    assert kinds(SALES) == [("region", "text"), ("month", "date"), ("sales", "number")]
    assert kinds("day,q\n2024-01-05,Q1\n2024-02-05,Q2") == [("day", "date"), ("q", "date")]
    assert kinds("id,mixed\n007,12\n008,many") == [("id", "text"), ("mixed", "text")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('x\n"1,200.50"\n"2,000"', Fraction("3200.5")),
        ("x\n$5\n$7.25", Fraction("12.25")),
        ("x\n12%\n8%", 20),
        ("a;x\nu;1.234,50\nv;2,5", 1237),
        ("a;x\nu;1.5\nv;2.25", Fraction("3.75")),
        ("x\n1e3\n2.5e-1", Fraction("1000.25")),
        ("x\n1 200\n3 400", 4600),
        ("x\n-3\n−4", -7),
        ("x\nNaN\ninf\n4\nN/A\n-\n", 4),
        ("a\tx\nu\t1\nv\t2", 3),
        ("a|x\nu|1\nv|2", 3),
        ('"a, b",x\n"say ""hi""",1\n"two\nlines",2', 3),
        ("\ufeffa,x\r\nu,1\r\nv,2\r\n", 3),
        ("a,x\n\nu,1\n\nv,2", 3),
    ],
)
def test_numbers_are_read_in_every_usual_spelling(text, expected):
    assert total(text, "x") == expected


def test_sums_are_exact():
    assert total("x\n0.1\n0.2", "x") == Fraction(3, 10)
    assert total([{"x": 0.1}, {"x": 0.2}], "x") == Fraction(3, 10)
    assert total("x\n" + "\n".join(["999999999999999999.999999"] * 50), "x") == Fraction("999999999999999999.999999") * 50


def test_what_could_be_decimals_or_thousands_is_no_number():
    assert kinds("a;x\nu;1,234\nv;5,678") == [("a", "text"), ("x", "text")]


def test_cells_that_are_no_numbers_are_counted_as_missing():
    table = read_table("x\n1\nNaN\nN/A\ninf")

    assert table.columns[0].missing == 3
    assert table.notes == ["x: 3 cells missing"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "empty"),
        ("  \n \n", "empty"),
        ("a,b", "no rows"),
        ("a,b\n1,2\n3,4,5", "line 3 of the data has 3 cells and the header has 2"),
        ('a,b\n"x\ny",2\n3', "line 4 of the data has 1 cells"),
        ("a,a\n1,2", "two columns of the data are named 'a'"),
        ("a,,b\n1,2,3", "column 2 of the data has no name"),
        ('a,b\n"x,2', "is no CSV"),
        ("a,b\nx\0,2", "line 2 holds the control character"),
        ("a,b\n\ud800,2", "half of a UTF-16 pair"),
        (5, "of type int"),
        ([], "empty"),
        ([1, 2], "row 1 of the data is no JSON object"),
        ([{"a": {"b": 1}}], "row 1, 'a': dict is no cell"),
        ([{"a": 10**5000}], "int is no cell"),
        ([{1: 2}], "no JSON object"),
        ({"path": "x.csv"}, 'write {"file": PATH}'),
        ({"file": "/nonexistent.csv"}, "can't be read"),
        ({"file": "/dev/zero"}, "no regular file"),
        ({"file": "/etc"}, "no regular file"),
        ({"file": "/etc/hostname"}, "no known ending"),
    ],
)
def test_what_is_no_table_is_told_with_what_to_write(data, message):
    with pytest.raises(TableError, match="(?s).*" + message.replace("{", r"\{").replace("(", r"\(")):
        read_table(data)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_a_file_is_the_table_it_holds(tmp_path, kind):
    rows = [{"name": "Ann", "score": 12}, {"name": "Bob", "score": 7}]
    text = {
        "csv": "name,score\nAnn,12\nBob,7",
        "json": json.dumps(rows),
        "jsonl": "\n".join(map(json.dumps, rows)),
    }[kind]
    path = tmp_path / f"table.{kind}"
    path.write_text(text)

    assert total({"file": str(path)}, "score") == 19

    (tmp_path / "table").write_text(text)
    assert total({"file": str(tmp_path / "table"), "format": kind}, "score") == 19


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x\n1")
    first = total({"file": str(path)}, "x")
    path.write_text("x\n1\n2")

    assert (first, total({"file": str(path)}, "x")) == (1, 3)


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x\n\xff")
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text('{"a": 1}')

    for name, message in (("a.csv", "UTF-8"), ("b.json", "no JSON"), ("c.json", "no list")):
        with pytest.raises(TableError, match=message):
            read_table({"file": str(tmp_path / name)})


def test_one_table_is_parsed_once_and_shared_by_threads():
    tables = []
    readers = [threading.Thread(target=lambda: tables.append(read_table(SALES))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert read_table(SALES) is read_table(str(SALES))
    assert {recompute(Query("sum", 2), table) for table in tables} == {Fraction("60.5")}


def test_tables_that_nobody_uses_leave_the_database():
    for i in range(100):
        find_claims("The total x is 3. The mean y is 1.", read_table(f"x,y\n{i},a\n77,b"))

    assert len(SHELF._kept) <= 32
    held = read_table("x\n1").ask("SELECT count(*) FROM duckdb_tables()")[0][0]
    assert held <= 36


def test_the_database_reaches_no_file():
    with pytest.raises(Exception, match=r"(?i)permission|disabled"):
        read_table(SALES).ask("SELECT * FROM read_csv('/etc/passwd')")


def test_the_table_of_a_prompt_stands_between_data_and_question():
    assert table_in_prompt("Data:\na,b\n1,2\nQuestion: what?") == "a,b\n1,2"
    assert table_in_prompt("Data:\na,b\n1,2\n\nWhat?") == "a,b\n1,2"
    assert table_in_prompt("What is 1,2?") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sum(x)", "is no query"),
        ({"op": "total"}, "is no query"),
        ({"op": "sum"}, 'needs "column"'),
        ({"op": "sum", "column": "sale"}, "there is no column 'sale'"),
        ({"op": "sum", "column": "region"}, "holds text, not numbers"),
        ({"op": "sum", "column": "sales", "sql": ";"}, "a query has no key 'sql'"),
        ({"op": "sum", "column": "sales", "where": "1=1"}, "is no filter"),
        ({"op": "sum", "column": "sales", "where": [["sales", "like", 3]]}, "is no filter"),
        ({"op": "sum", "column": "sales", "where": [["sales", "=", "x' OR 1=1"]]}, "holds numbers"),
        ({"op": "sum", "column": "sales", "where": [["sales", "=", "1e999999999"]]}, "at most 24 digits"),
        ({"op": "sum", "column": "sales", "where": [["region", "<", "a"]]}, "has no order"),
        ({"op": "sum", "column": "sales", "where": [["month", "<", "soon"]]}, "is not spelled like the dates"),
        ({"op": "argmax", "column": "sales"}, 'needs "by"'),
        ({"op": "difference", "column": "sales", "by": "region"}, 'needs "between"'),
        ({"op": "trend", "column": "sales", "over": "region"}, "has no order"),
        ({"op": "correlation", "column": "sales", "over": "month"}, "not numbers"),
        ({"op": "share", "column": "sales"}, 'share needs "where"'),
        ({"op": "sum", "column": "sales", "tolerance": 0.1}, "is no tolerance"),
        ({"op": "sum", "column": "sales", "tolerance": {"abs": math.nan}}, "is no tolerance"),
        ({"op": "sum", "column": "sales", "tolerance": {"rel": 1}}, "is no tolerance"),
        ({"op": "sum", "column": "sales", "decimals": True}, "decimals is a whole number"),
        ({"op": "sum", "column": "sales", "agg": "sql"}, "agg 'sql' is unknown"),
        ({"op": "share", "where": [["region", "=", "north"]], "percent": 1}, "true or false"),
    ],
)
def test_a_query_that_does_not_fit_is_told_with_what_may_be_written(spec, message):
    with pytest.raises(QueryError, match=message):
        read_spec(spec, read_table(SALES))


def test_a_quantity_that_does_not_exist_is_undefined():
    table = read_table(SALES)
    nobody = (Condition(0, "=", "west"),)

    for query in (
        Query("mean", 2, nobody),
        Query("median", 2, nobody),
        Query("std", 2, nobody),
        Query("value", 2),
        Query("max", 2, nobody),
    ):
        with pytest.raises(UndefinedError):
            recompute(query, table)
    assert recompute(Query("sum", 2, nobody), table) == recompute(Query("count", None, nobody), table) == 0


def test_all_that_tie_are_the_greatest():
    table = read_table("name,score\nAnn,7\nBob,3\nCid,7")

    assert recompute(Query("argmax", 1, by=0), table) == {"Ann", "Cid"}
    assert recompute(Query("argmin", 1, by=0), table) == {"Bob"}


def test_a_trend_is_a_direction_only_where_its_ends_agree_with_it():
    def direction(values):
        table = read_table("month,x\n" + "\n".join(f"{m},{v}" for m, v in zip(("Jan", "Feb", "Mar", "Apr"), values, strict=True)))
        return recompute(Query("trend", 1, over=0), table)

    assert [direction(v) for v in ((1, 2, 3, 4), (4, 3, 3, 1), (5, 5, 5, 5), (3, 1, 9, 2))] == ["up", "down", "flat", "mixed"]


def test_a_filter_that_the_decimals_of_a_column_cannot_spell_is_not_rounded():
    table = read_table("x\n1\n2\n3")

    def number(sign, value):
        return recompute(Query("count", None, (Condition(0, sign, Fraction(value)),)), table)

    assert [number(sign, "2.5") for sign in ("=", "!=", "<", "<=", ">", ">=")] == [0, 3, 2, 2, 1, 1]
    assert [number(sign, 10**40) for sign in ("=", "!=", "<", "<=", ">", ">=")] == [0, 3, 3, 3, 0, 0]
    assert [number(sign, -(10**40)) for sign in ("=", "!=", "<", "<=", ">", ">=")] == [0, 3, 0, 0, 3, 3]


NUMBERS = st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False, allow_infinity=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abc"), NUMBERS, st.integers(-1000, 1000)), min_size=1, max_size=30), st.sampled_from("abc"))
def test_recomputed_aggregates_equal_plain_python(rows, group):
    table = read_table("g,x,y\n" + "\n".join(f"{g},{x},{y}" for g, x, y in rows))
    values = [Fraction(x) for g, x, _ in rows if g == group]
    where = (Condition(0, "=", group),)

    assert recompute(Query("count", None, where), table) == len(values)
    assert recompute(Query("sum", 1, where), table) == sum(values)
    assert recompute(Query("distinct", 1, where), table) == len(set(values))
    if values:
        assert recompute(Query("mean", 1, where), table) == Fraction(sum(values), len(values))
        assert recompute(Query("median", 1, where), table) == statistics.median(values)
        assert recompute(Query("min", 1, where), table) == min(values)
        assert recompute(Query("max", 1, where), table) == max(values)
    totals = {g: sum(Fraction(x) for other, x, _ in rows if other == g) for g, _, _ in rows}
    assert recompute(Query("argmax", 1, by=0, agg="sum"), table) == {g for g, t in totals.items() if t == max(totals.values())}
    whole = sum(y for _, _, y in rows)
    if whole:
        share = recompute(Query("share", 2, where), table)
        assert share == Fraction(sum(y for g, _, y in rows if g == group), whole)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=3, max_size=30))
def test_correlations_deviations_and_slopes_equal_plain_python(rows):
    table = read_table("x,y\n" + "\n".join(f"{x},{y}" for x, y in rows))
    xs, ys = [float(x) for x, _ in rows], [float(y) for _, y in rows]

    assert recompute(Query("std", 0), table) == pytest.approx(statistics.stdev(xs))
    assert recompute(Query("std", 0, population=True), table) == pytest.approx(statistics.pstdev(xs))
    if len(set(xs)) > 1 and len(set(ys)) > 1:
        assert recompute(Query("correlation", 0, over=1), table) == pytest.approx(statistics.correlation(xs, ys), abs=1e-9)
    if len(set(xs)) == len(xs):
        slope = statistics.linear_regression(xs, ys).slope
        assert float(recompute(Query("slope", 1, over=0), table)) == pytest.approx(slope, abs=1e-9)


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from('ab1.,;\t|"\n\r\0$%-e NA\u00a0½é'), max_size=60) | st.text(max_size=40))
def test_any_text_is_a_table_or_a_told_error(text):
    with suppress(TableError):
        table = read_table(text)
        assert table.rows >= 1
        assert recompute(Query("count"), table) == table.rows


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@settings(max_examples=100)
@given(st.lists(st.dictionaries(st.text(max_size=3), CELLS, max_size=3), max_size=5) | CELLS | st.dictionaries(st.just("file"), CELLS))
def test_any_value_is_a_table_or_a_told_error(data):
    with suppress(TableError):
        assert read_table(data).rows >= 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["region", "month", "sales", "north", "Jan", "=", "<", ">="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["abs", "rel", "x"]), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.fixed_dictionaries({"op": st.sampled_from(OPS)}, optional={key: VALUES for key in sorted(KEYS - {"op"})}))
def test_any_query_is_recomputed_or_a_told_error(spec):
    table = read_table(SALES)
    with suppress(QueryError):
        recompute(read_spec(spec, table).query, table)
