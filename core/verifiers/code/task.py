"""What the metadata of a code task asks for, read once and checked, so that a broken task is told from a broken solution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.types import Record, Task
from core.verifiers.code.text import defines

KINDS = ("tests", "test", "doctest", "stdin", "properties")
LANGUAGES = ("python", "javascript")
MAX_DEPTH = 40
MAX_ITEMS = 200_000
MAX_TESTS = 10_000
MAX_BITS = 14_000
MAX_SECONDS = 60.0
FORM = '{"input": [1, 2], "output": 3}, {"args": [1], "kwargs": {"n": 2}, "output": 3} or {"input": [0], "raises": "ValueError"}'


class BrokenTask(ValueError):
    """The metadata can't be used; the text says what to write."""


@dataclass(frozen=True, slots=True)
class Example(Record):
    """One call and what is to come of it. `raises`, `prints` and `after` (the arguments after the call) are None when nothing is asked."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any = None
    compared: bool = True
    raises: str | None = None
    prints: str | None = None
    after: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class CodeTask(Record):
    """All that a solution is held to."""

    entry_point: str = ""
    language: str = "python"
    setup: str = ""
    examples: tuple[Example, ...] = ()
    test: str = ""
    doctest: str | bool = False
    programs: tuple[tuple[str, str], ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    reference_solution: str = ""
    tolerance: float = 0.0
    pure: bool = False
    stateful: bool = False
    asynchronous: bool = False
    tuple_is_list: bool = False
    seconds: float = 5.0


def read_code_task(task: Task) -> CodeTask | None:
    """What a task asks for; None when it names no kind of test. Raises BrokenTask."""
    data = task.metadata
    if not any(data.get(kind) not in (None, False) for kind in KINDS):
        return None
    tests, test = data.get("tests"), _text(data, "test")
    lines = [line for line in tests if isinstance(line, str)] if isinstance(tests, (list, tuple)) else []
    if lines and len(lines) == len(tests or ()):
        tests, test = None, "\n".join([*lines, test])
    asked = CodeTask(
        entry_point=_text(data, "entry_point"),
        language=_text(data, "language") or "python",
        setup=_text(data, "setup"),
        examples=tuple(_example(test, place) for place, test in enumerate(_rows(tests, "tests", FORM))),
        test=test,
        doctest=_doctest(data.get("doctest")),
        programs=tuple(_program(row) for row in _rows(data.get("stdin"), "stdin", '{"input": "1 2\\n", "output": "3\\n"}')),
        properties=_properties(data.get("properties")),
        reference_solution=_text(data, "reference_solution"),
        tolerance=_number(data, "tolerance", 0.0, 1e6),
        pure=_flag(data, "pure"),
        stateful=_flag(data, "stateful"),
        asynchronous=_flag(data, "async"),
        tuple_is_list=_flag(data, "tuple_is_list"),
        seconds=_number(data, "seconds", 5.0, MAX_SECONDS),
    )
    _check(asked)
    if asked.entry_point and not asked.setup and defines(task.prompt, asked.entry_point):
        asked = asked.replace(setup=task.prompt)
    return asked


def shape(value: Any) -> Any:
    """A hashable that is equal for equal values only, with types told apart."""
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(shape, value))
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(shape, value))
    if isinstance(value, dict):
        return kind, frozenset((shape(key), shape(item)) for key, item in value.items())
    return kind, repr(value)


def _check(asked: CodeTask) -> None:
    needs = asked.examples or asked.test.strip() or asked.doctest or asked.properties
    if not needs and not asked.programs:
        raise BrokenTask(f"there is nothing to run: one of {', '.join(KINDS)} is there and empty")
    if needs and not (asked.entry_point and all(part.isidentifier() for part in asked.entry_point.split("."))):
        raise BrokenTask(f'entry_point is {asked.entry_point!r}: write the name of the function that is tested, such as "f"')
    if asked.language not in LANGUAGES:
        raise BrokenTask(f"language is {asked.language!r}: choose {' or '.join(LANGUAGES)}")
    if needs and asked.language != "python":
        raise BrokenTask(f'{asked.language} is judged by "stdin" alone: leave out tests, test, doctest and properties')
    if asked.properties and not asked.reference_solution.strip():
        raise BrokenTask('properties need a "reference_solution": the source of a right solution')
    if not asked.stateful:
        _contradictions([((e.args, e.kwargs), e) for e in asked.examples], f"{asked.entry_point} of")
        _contradictions([(given, wanted) for given, wanted in asked.programs], "the program given")


def _contradictions(rows: list[tuple[Any, Any]], what: str) -> None:
    seen: dict[Any, Any] = {}
    for given, wanted in rows:
        asked = repr(wanted)
        if seen.setdefault(shape(given), asked) != asked:
            raise BrokenTask(f"the tests contradict each other: {what} {str(given)[:60]} is to give two different results")


def _rows(rows: Any, name: str, form: str) -> list[Any]:
    if rows is None:
        return []
    if not isinstance(rows, (list, tuple)) or not rows or len(rows) > MAX_TESTS:
        raise BrokenTask(f"{name} is {_shown(rows)}: write a list of 1 to {MAX_TESTS} rows such as {form}")
    return list(rows)


def _example(row: Any, place: int) -> Example:
    if not isinstance(row, Mapping):
        raise BrokenTask(f"test {place} is {_shown(row)}: write {FORM}")
    known = {"input", "args", "kwargs", "output", "raises", "prints", "after"}
    if unknown := sorted(str(key) for key in row if key not in known):
        raise BrokenTask(f"test {place} has an unknown field {unknown[0][:40]!r}: the fields are {', '.join(sorted(known))}")
    args, kwargs, after = row.get("args", row.get("input", [])), row.get("kwargs", {}), row.get("after")
    for value in (args, after if after is not None else []):
        if not isinstance(value, (list, tuple)):
            raise BrokenTask(f"test {place} gives {_shown(value)} for its arguments: write them as a list, [5] for one argument")
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in kwargs):
        raise BrokenTask(f"test {place} has kwargs {_shown(kwargs)}: write names and values, {{}} for none")
    for name in ("raises", "prints"):
        if not isinstance(row.get(name), (str, type(None))) or row.get("raises") == "":
            raise BrokenTask(f"test {place} {name} {_shown(row[name])}: write a text")
    if not {"output", "raises", "prints", "after"} & set(row) or ("raises" in row and "output" in row):
        raise BrokenTask(f"test {place} says not what is to come of the call: write {FORM}")
    room = [MAX_ITEMS]
    return Example(
        tuple(plain_value(value, 0, room) for value in args),
        {key: plain_value(value, 0, room) for key, value in kwargs.items()},
        plain_value(row.get("output"), 0, room),
        compared="output" in row,
        raises=row.get("raises"),
        prints=row.get("prints"),
        after=None if after is None else tuple(plain_value(value, 0, room) for value in after),
    )


def _program(row: Any) -> tuple[str, str]:
    if not isinstance(row, Mapping) or not isinstance(row.get("input", ""), str) or not isinstance(row.get("output"), str):
        raise BrokenTask(f'a row of stdin is {_shown(row)}: write {{"input": "1 2\\n", "output": "3\\n"}}')
    return row.get("input", ""), row["output"]


def _properties(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not isinstance(value.get("args"), (list, tuple)):
        raise BrokenTask(f'properties is {_shown(value)}: write {{"args": [{{"int": [0, 100]}}, {{"list": {{"int": [0, 9]}}}}]}}')
    return value


def _doctest(value: Any) -> str | bool:
    if value is None or isinstance(value, (bool, str)):
        return value or False
    raise BrokenTask(f"doctest is {_shown(value)}: write true, to take the examples of the prompt, or their text")


def plain_value(value: Any, depth: int = 0, room: list[int] | None = None) -> Any:
    """JSON with tags: {"$tuple": [...]}, {"$set": [...]}, {"$bytes": "hex"}, {"$dict": [[key, value], ...]} for other keys than texts."""
    room = room if room is not None else [MAX_ITEMS]
    room[0] -= 1
    if depth > MAX_DEPTH or room[0] < 0:
        raise BrokenTask(f"a test holds values nested deeper than {MAX_DEPTH} or more than {MAX_ITEMS} of them: make it smaller")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise BrokenTask(f"a test holds a number of {value.bit_length()} bits: at most {MAX_BITS} can be sent")
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise BrokenTask("a test holds NaN, which equals nothing: ask for another value")
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain_value(item, depth + 1, room) for item in value]
        return items if isinstance(value, list) else _made(type(value), items)
    if isinstance(value, Mapping):
        return _tagged(value, depth, room)
    raise BrokenTask(f"a test holds a {type(value).__name__}: write plain values, as in JSON")


def _tagged(value: Mapping[Any, Any], depth: int, room: list[int]) -> Any:
    tag = next(iter(value)) if len(value) == 1 else None
    content = value[tag] if tag is not None else None
    try:
        if tag in ("$tuple", "$set", "$frozenset") and isinstance(content, list):
            items = [plain_value(item, depth + 1, room) for item in content]
            return _made({"$tuple": tuple, "$set": set, "$frozenset": frozenset}[tag], items)
        if tag == "$bytes" and isinstance(content, str):
            return bytes.fromhex(content)
        if tag == "$dict" and isinstance(content, list):
            return {plain_value(key, depth + 1, room): plain_value(item, depth + 1, room) for key, item in content}
    except (TypeError, ValueError) as error:
        if isinstance(error, BrokenTask):
            raise
        raise BrokenTask(f"a test holds {_shown(value)}, which can't be read: {str(error)[:80]}") from error
    return {plain_value(key, depth + 1, room): plain_value(item, depth + 1, room) for key, item in value.items()}


def _made(kind: type, items: list[Any]) -> Any:
    try:
        return kind(items)
    except TypeError:
        raise BrokenTask(f"a test holds a {kind.__name__} with a member that can't be in one: {_shown(items)}") from None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, (str, type(None))):
        raise BrokenTask(f"{name} is {_shown(value)}: write a text")
    return value or ""


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise BrokenTask(f"{name} is {_shown(value)}: write true or false")
    return value


def _number(data: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise BrokenTask(f"{name} is {_shown(value)}: write a number from 0 to {most:g}")
    return float(value)


def _shown(value: Any) -> str:
    if isinstance(value, (str, bytes, int, float, type(None))) or (isinstance(value, (list, tuple)) and len(value) < 6):
        return repr(value[:40] if isinstance(value, (str, bytes)) else value)[:60]
    return f"a {type(value).__name__}"
