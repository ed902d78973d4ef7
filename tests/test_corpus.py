"""What an index holds, what it skips, and what can't get in through a query."""

from __future__ import annotations

import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.corpus import Corpus, build
from core.documents import MAX_PASSAGE, windows
from core.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "documents"
    (place / "deep").mkdir(parents=True)
    (place / "people.txt").write_text("Ann lives in Oslo.\n\nBob lives in São Paulo.\n", encoding="utf-8")
    (place / "deep" / "things.md").write_text("# Things\n\nThe red box holds 12 pens.\n", encoding="utf-8")
    return place


def found(index, query, k=10, **options):
    with Corpus.open(index) as corpus:
        return corpus.search(query, k, **options)


def test_passages_of_a_folder_are_found_with_their_offsets(folder, tmp_path):
    built = build(folder, tmp_path / "index")

    passage = found(tmp_path / "index", "Where does Bob live?")[0]

    assert (built.documents, built.passages) == (2, 4)
    assert (passage.source, passage.text) == ("people.txt", "Bob lives in São Paulo.")
    assert (folder / "people.txt").read_text()[passage.start : passage.end] == passage.text
    assert found(tmp_path / "index", "pens")[0].source == "deep/things.md"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_offsets_are_those_of_the_file_whatever_ends_its_lines(tmp_path, ending):
    text = ending.join(["\ufeffOne line.", "", "", "  Another one,", "on two lines.", ""])
    (tmp_path / "a.txt").write_bytes(text.encode())

    build(tmp_path / "a.txt", tmp_path / "index")
    passage = found(tmp_path / "index", "another")[0]

    assert text[1:][passage.start : passage.end] == passage.text == f"Another one,{ending}on two lines."


def test_accents_and_case_are_found_without_them(folder, tmp_path):
    build(folder, tmp_path / "index")

    assert found(tmp_path / "index", "SAO PAULO")[0].text == "Bob lives in São Paulo."


def test_rows_of_jsonl_csv_and_tables_are_named_by_their_key(tmp_path):
    rows = [{"id": "a", "text": "Ann lives in Oslo."}, {"id": "b", "text": "Bob lives in Rome."}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rows.csv").write_text("id,text\na,Ann lives in Oslo.\nb,Bob lives in Rome.\n")
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database, database:
        database.execute('CREATE TABLE "my ""rows" (id TEXT, text TEXT)')
        database.executemany('INSERT INTO "my ""rows" VALUES (:id, :text)', rows)

    for name, table in (("rows.jsonl", None), ("rows.csv", None), ("rows.sqlite", 'my "rows')):
        build(tmp_path / name, tmp_path / f"{name}.index", table=table, key="id")
        passage = found(tmp_path / f"{name}.index", "Bob")[0]
        assert (passage.source, passage.text, passage.start) == (f"{name}#b", "Bob lives in Rome.", 0)


def test_a_row_without_a_key_is_named_by_its_number(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Ann."}\nnonsense\n{"text": 5}\n{"text": "Bob \\ud800."}\n[1]\n' + "[" * 5000)

    built = build(tmp_path / "rows.jsonl", tmp_path / "index")

    assert [p.source for p in found(tmp_path / "index", "Bob")] == ["rows.jsonl#4"]
    assert built.skipped == {"row is no JSON": 2, "row without 'text'": 2}


def test_what_can_not_be_read_is_counted_and_the_rest_is_indexed(folder, tmp_path):
    (folder / "picture.txt").write_bytes(b"\x89PNG\0\0\0")
    (folder / "latin.txt").write_bytes("Málaga".encode("latin-1"))
    (folder / "paper.pdf").write_bytes(b"%PDF")
    (folder / "link.txt").symlink_to(folder / "people.txt")
    (folder / ".hidden.txt").write_text("secret")
    os.mkfifo(folder / "pipe.txt")

    built = build(folder, tmp_path / "index")

    assert built.documents == 2
    assert built.skipped == {"binary": 1, "not UTF-8": 1, "not a text format: .pdf": 1, "link": 1, "hidden": 1, "no file": 1}
    assert not found(tmp_path / "index", "secret")


def test_a_second_build_reads_only_what_changed(folder, tmp_path):
    build(folder, tmp_path / "index")
    (folder / "people.txt").write_text("Ann lives in Lima.")
    (folder / "new.txt").write_text("Cid lives in Bern.")

    built = build(folder, tmp_path / "index")

    assert (built.documents, built.unchanged) == (3, 1)
    assert sorted(p.text for p in found(tmp_path / "index", "lives")) == ["Ann lives in Lima.", "Cid lives in Bern."]


def test_a_document_that_is_gone_is_forgotten_and_one_that_was_touched_is_kept(folder, tmp_path):
    build(folder, tmp_path / "index")
    (folder / "people.txt").unlink()
    os.utime(folder / "deep" / "things.md", ns=(1, 1))

    built = build(folder, tmp_path / "index")

    assert (built.documents, built.unchanged) == (1, 1)
    assert not found(tmp_path / "index", "Ann")


def test_other_options_build_anew(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Ann.", "body": "Bob."}')
    build(tmp_path / "rows.jsonl", tmp_path / "index")

    assert build(tmp_path / "rows.jsonl", tmp_path / "index", column="body").unchanged == 0
    assert not found(tmp_path / "index", "Ann")


def test_an_index_that_can_not_be_built_leaves_the_old_one(folder, tmp_path):
    build(folder, tmp_path / "index")
    for path in sorted(folder.rglob("*.*")):
        path.unlink()

    with pytest.raises(ConfigError, match="holds no readable documents: it is empty"):
        build(folder, tmp_path / "index")

    assert found(tmp_path / "index", "Ann")
    assert [path.name for path in tmp_path.iterdir()] != ["index"]
    assert not list(tmp_path.glob(".index*"))


def test_a_foreign_file_is_never_overwritten(folder, tmp_path):
    (tmp_path / "notes").write_text("dear diary " * 100)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as database, database:
        database.execute("CREATE TABLE about (name, value)")

    for name, message in (("notes", "is no index"), ("other.sqlite", "database of another kind")):
        with pytest.raises(ConfigError, match=message):
            build(folder, tmp_path / name)
        with pytest.raises(ConfigError, match="is no corpus"):
            Corpus.open(tmp_path / name)
    assert (tmp_path / "notes").read_text().startswith("dear diary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "none"}, "no table 'none': give table=, one of rows"),
        ({"table": "rows", "column": "x"}, "no column 'x': choose one of text"),
    ],
)
def test_a_table_or_column_that_is_not_there_is_told_which_are(tmp_path, options, message):
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database, database:
        database.execute("CREATE TABLE rows (text TEXT)")

    with pytest.raises(ConfigError, match=message):
        build(tmp_path / "rows.sqlite", tmp_path / "index", **options)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no documents at"):
        build(tmp_path / "nowhere", tmp_path / "index")
    with pytest.raises(ConfigError, match="no corpus at"):
        Corpus.open(tmp_path / "index")


INJECTIONS = [
    '"',
    "Ann OR *",
    "text:Ann",
    "NEAR(Ann Oslo)",
    "Ann*",
    "^Ann",
    "Ann' OR 1=1 --",
    "{text source}: Ann",
    "-Ann",
    "Ann AND NOT Oslo",
    "\0Ann",
]


@pytest.mark.parametrize("query", INJECTIONS)
def test_a_query_is_words_and_no_syntax(folder, tmp_path, query):
    build(folder, tmp_path / "index")

    assert {p.source for p in found(tmp_path / "index", query)} <= {"people.txt"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    place = tmp_path_factory.mktemp("corpus")
    (place / "a.txt").write_text("\n\n".join(f"Number {i} lives in town {i % 7}." for i in range(3_000)))
    build(place / "a.txt", place / "index")
    with Corpus.open(place / "index") as opened:
        yield opened


@given(query=st.text(max_size=200))
def test_any_query_is_answered(corpus, query):
    assert len(corpus.search(query, 3)) <= 3


def test_many_threads_search_at_once(corpus):
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda i: corpus.search(f"number {i}", 1)[0].text, range(200)))

    assert all(text.startswith(f"Number {i} ") or f"town {i}." in text for i, text in enumerate(texts))


def test_results_are_bounded_and_words_that_all_hold_still_find(corpus):
    assert len(corpus) == 3_000
    assert len(corpus.search("lives", 10**9)) == 1_000
    assert len(corpus.search("lives in town", 5)) == 5
    assert corpus.search("lives", 0) == corpus.search("?!", 5) == []
    assert [p.text for p in corpus.search("number 17 lives", 5, every=True)] == ["Number 17 lives in town 3."]
    assert corpus.search("number 17 banana", 5, every=True) == []


def test_long_sentences_are_cut_and_say_so():
    text = "Short one. " + "Word " * 1_000 + "end. Last one."

    found = list(windows(text))

    assert all(end - start <= MAX_PASSAGE for start, end, _ in found)
    assert [cut for *_, cut in found] == [False, *[True] * (len(found) - 2), False]
    assert "".join("".join(text[start:end].split()) for start, end, _ in found) == "".join(text.split())


@given(text=st.text(alphabet='aB .!?\n\r"“”-•1', max_size=400))
def test_windows_lose_nothing_and_overlap_nowhere(text):
    found = list(windows(text))

    assert all(one[1] <= other[0] for one, other in pairwise(found))
    assert "".join("".join(text[start:end].split()) for start, end, _ in found) == "".join(text.split())


def test_a_file_larger_than_a_block_keeps_its_offsets(tmp_path):
    text = "".join(f"Paragraph {i} says {'x' * 500}.\n\n" for i in range(5_000))
    (tmp_path / "a.txt").write_text(text)

    built = build(tmp_path / "a.txt", tmp_path / "index")
    passage = found(tmp_path / "index", "4999")[0]

    assert built.passages == 5_000
    assert text[passage.start : passage.end] == passage.text


def test_one_endless_line_is_cut_in_bounded_memory(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 2_000_000)

    build(tmp_path / "a.txt", tmp_path / "index")

    assert all(p.cut for p in found(tmp_path / "index", "word", 100))
