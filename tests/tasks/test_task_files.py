import json

import pytest

from core.errors import TaskError
from core.tasks.files import read_tasks
from core.types import Domain


@pytest.fixture
def file(tmp_path):
    def write(*lines):
        path = tmp_path / "tasks.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines))
        return path

    return write


def test_all_fields_are_read(file):
    values = {"prompt": "Solve 2+2", "domain": "math", "reference": "4", "key": "k", "level": 2, "family": "f", "metadata": {"a": 1}}

    (task,) = read_tasks(file(values))

    assert {name: task[name] for name in values} == values


def test_only_the_prompt_is_needed(file):
    (task,) = read_tasks(file({"prompt": "Solve 2+2", "level": None}))

    assert (task.domain, task.reference, task.key, task.level) == (Domain.MATH, None, "solve 2+2", None)


def test_expected_is_a_reference_and_numbers_are_texts(file):
    tasks = read_tasks(file({"prompt": "a", "expected": "4"}, {"prompt": "b", "reference": 0}, {"prompt": "c", "reference": 1.5}))

    assert [task.reference for task in tasks] == ["4", "0", "1.5"]


def test_empty_lines_are_skipped_and_do_not_shift_the_line_numbers(file):
    assert len(read_tasks(file({"prompt": "a"}, "", "   ", {"prompt": "b"}, ""))) == 2
    with pytest.raises(TaskError, match="line 3"):
        read_tasks(file({"prompt": "a"}, "", "{"))


def test_line_separators_inside_a_text_and_windows_files_are_fine(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + '{"prompt": "one\u2028two"}\r\n{"prompt": "three"}\r\n'.encode())

    assert [task.prompt for task in read_tasks(path)] == ["one\u2028two", "three"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"', "line 2: Expecting"),
        ('["a"]', r"line 2: \['a'\] is no JSON object"),
        ('"a"', "line 2: 'a' is no JSON object"),
        ('{"prompt": "a", "refrence": "4"}', "line 2: unknown field 'refrence', the fields are domain, expected"),
        ('{"reference": "4"}', "line 2: there is no prompt"),
        ('{"prompt": " "}', "line 2: the question is empty"),
        ('{"prompt": 5}', "line 2: a question is a text, not int"),
        ('{"prompt": "a", "domain": "maths"}', "line 2: there is no domain 'maths': choose one of math"),
        ('{"prompt": "a", "domain": ["math"]}', "line 2: there is no domain"),
        ('{"prompt": "a", "level": "two"}', "line 2: level is 'two': write int"),
        ('{"prompt": "a", "metadata": []}', r"line 2: metadata is \[\]: write dict"),
    ],
)
def test_a_wrong_line_is_told_with_its_number_and_what_is_wrong(file, line, message):
    with pytest.raises(TaskError, match=message):
        read_tasks(file({"prompt": "fine"}, line))


def test_a_file_that_is_not_there_not_text_or_empty_is_told(tmp_path, file):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    for path, message in ((tmp_path / "none", "can't read tasks"), (tmp_path / "binary", "can't read tasks"), (file(""), "no tasks")):
        with pytest.raises(TaskError, match=message):
            read_tasks(path)
