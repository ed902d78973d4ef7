"""Verdicts on programs: every kind of test, forged passes against each, junk, bombs, broken tasks."""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tasks.code import generate
from core.types import Domain, Evidence, Outcome, Task
from core.verifiers.code.draw import strategy
from core.verifiers.code.programs import printed_same
from core.verifiers.code.task import BrokenTask, read_code_task
from core.verifiers.code.text import completed, find_code
from core.verifiers.code.verifier import verify

CASES = [json.loads(line) for line in Path("core/verifiers/cases/code.jsonl").read_text(encoding="utf-8").splitlines()]
EXAMPLES = {"tests": [{"input": [2], "output": 4}, {"input": [5], "output": 25}, {"input": [-3], "output": 9}]}
CHECK = {"test": "def check(candidate):\n    assert candidate(2) == 4\n    assert all(candidate(x) == x * x for x in range(5, 9))\n"}
DOCTEST = {"doctest": ">>> f(2)\n4\n>>> [f(x) for x in (5, 7)]\n[25, 49]\n"}
PROPERTIES = {"properties": {"args": [{"int": [-50, 50]}], "cases": 60}, "reference_solution": "def f(x):\n    return x * x"}
KINDS = {"examples": EXAMPLES, "check": CHECK, "doctest": DOCTEST, "properties": PROPERTIES}
GOLD = "def f(x):\n    return x * x"
FORGERIES = {
    "leaves while it is loaded": "import sys\nsys.exit(0)",
    "leaves hard while it is loaded": "import os\nos._exit(0)",
    "leaves hard when called": "import os\ndef f(x):\n    os._exit(0)",
    "raises SystemExit": "def f(x):\n    raise SystemExit(0)",
    "raises KeyboardInterrupt": "def f(x):\n    raise KeyboardInterrupt",
    "raises StopIteration, to cut a loop of tests short": "def f(x):\n    if x != 2:\n        raise StopIteration\n    return 4",
    "raises AssertionError": "def f(x):\n    raise AssertionError",
    "equals everything": "class A:\n    __eq__ = lambda self, o: True\n    __repr__ = lambda self: '4'\ndef f(x):\n    return A()",
    "is an int that equals everything": "class A(int):\n    __eq__ = lambda self, o: True\n    __hash__ = None\ndef f(x):\n    return A(4)",
    "is a mock": "from unittest.mock import MagicMock\ndef f(x):\n    return MagicMock()",
    "returns NaN": "def f(x):\n    return float('nan')",
    "returns True": "def f(x):\n    return True",
    "returns the word pass": "def f(x):\n    return 'pass'",
    "patches builtins": "import builtins\nbuiltins.all = lambda *a: True\nbuiltins.type = lambda *a: int\ndef f(x):\n    return None",
    "walks up the frames": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for v in list(frame.f_locals.values()):\n"
        "            if isinstance(v, dict) and 'output' in v:\n                return v['output']\n"
        "        frame = frame.f_back\n    return 0"
    ),
    "searches memory for the answer": (
        "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'output' in o and 'input' in o:\n"
        "            return o['output']\n    return 0"
    ),
    "replaces the far side": "def f(x):\n    globals()['_ratchet_call'] = lambda *a: ('returned', True, None, None, '')\n    return 0",
    "answers before it is asked": (
        "import os\nfor fd in range(3, 64):\n    try:\n"
        '        os.write(fd, b\'\\0\\0\\0\\x10["returned","",4]\')\n    except OSError:\n        pass\n'
        "def f(x):\n    return 4"
    ),
    "shouts that all is well": "print('PASS', 'OK', '3 passed')\ndef f(x):\n    print('PASS')",
    "knows the first answer": "def f(x):\n    return 4",
    "hands out a list of answers in turn": "a = [4, 25, 9, 36, 49, 64]\ndef f(x):\n    return a.pop(0) if a else 0",
    "brings its own check": "def check(candidate):\n    pass\ncandidate = check\ndef f(x):\n    return 0",
    "kills its parent": "import os\ndef f(x):\n    try:\n        os.kill(os.getppid(), 9)\n    except OSError:\n        pass",
    "returns a generator": "def f(x):\n    yield x * x",
    "is a coroutine": "async def f(x):\n    return x * x",
    "returns a function": "def f(x):\n    return lambda: x * x",
    "hides the exit in an exit handler": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x):\n    raise ValueError(x)",
    "traces": "import sys\nsys.settrace(lambda frame, event, arg: None)\ndef f(x):\n    return 0",
}
PROGRAM_FORGERIES = [
    "",
    "pass",
    "import sys\nsys.exit(0)",
    "import os\nos._exit(0)",
    "print('PASS')",
    "print('3')",
    "print('3\\n7')",
    "print('7')\nprint('3')",
    "print(True)",
    "print(input())",
    "print(open(0).read())",
    "import os\nos.write(2, b'3\\n')",
    "import os\nprint(os.environ)",
    "import gc\nprint(gc.get_objects()[:5])",
    "import sys\nprint(sys._getframe().f_back)",
    "raise AssertionError('3')",
    "print(3)\nraise SystemExit(1)",
    "import os, signal\nprint(3, flush=True)\nos.kill(os.getpid(), 9)",
]


def task(metadata, prompt="Write f(x), the square of x.", reference=None):
    return Task(prompt, Domain.CODE, reference=reference, metadata={"entry_point": "f", "seconds": 2, **metadata})


def block(code, language="python"):
    return f"```{language}\n{code}\n```"


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_solution_passes_by_every_kind_of_test_with_the_tier_it_ran_in(kind):
    verdict = verify(task(KINDS[kind]), block(GOLD))

    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert verdict.evidence is Evidence.EXECUTION
    assert verdict.isolation
    assert verdict.score == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_passes_by_any_kind_of_test(kind):
    asked = task(KINDS[kind])

    passed = [name for name, code in FORGERIES.items() if verify(asked, block(code)).outcome is not Outcome.FAIL]

    assert not passed


def test_no_forged_program_passes():
    asked = task({"stdin": [{"input": "1 2", "output": "3"}, {"input": "3 4", "output": "7"}]})

    assert verify(asked, block("print(sum(map(int, input().split())))")).passed
    assert [code for code in PROGRAM_FORGERIES if verify(asked, block(code)).outcome is not Outcome.FAIL] == []


def test_forgeries_fail_in_the_weaker_tier_too():
    asked = task({**EXAMPLES, **CHECK})
    names = ["equals everything", "walks up the frames", "answers before it is asked", "raises StopIteration, to cut a loop of tests short"]

    gold = verify(asked, block(GOLD), sandbox="process")
    assert gold.passed, gold.reason
    assert [name for name in names if verify(asked, block(FORGERIES[name]), sandbox="process").outcome is not Outcome.FAIL] == []


@pytest.mark.parametrize("place", range(len(CASES)))
def test_the_audit_cases_get_the_verdicts_they_expect(place):
    case = CASES[place]
    metadata = {**case["metadata"], "seconds": 1} if case["metadata"] else {}
    asked = Task(case["prompt"], Domain.CODE, reference=case["reference"], metadata=metadata)

    verdict = verify(asked, case["text"])

    assert verdict.outcome in case["expect"], verdict.reason
    assert case["kind"] != "impossible" or not verdict.passed


def test_the_generated_tasks_are_judged_rightly():
    for seed in range(60):
        problem = generate(random.Random(seed), 1 + seed % 4)
        wrong = problem.answer + " + 1" if problem.task.family == "function" else str(int(problem.answer) + 1)

        assert verify(problem.task, problem.solution("direct")).passed
        assert verify(problem.task, wrong).outcome is Outcome.FAIL
        for junk in ("", "banana", "0x", problem.task.prompt, "Answer: 41=42"):
            assert verify(problem.task, junk).outcome is Outcome.FAIL


def test_the_reason_names_the_first_call_that_fails_and_the_score_is_the_share_that_holds():
    verdict = verify(task(EXAMPLES), block("def f(x):\n    return x * abs(x)"))

    assert verdict.outcome is Outcome.FAIL
    assert "f(-3): got -9, expected 9" in verdict.reason
    assert verdict.score == pytest.approx(2 / 3)
    assert verdict.details["held"] == 2
    assert verdict.details["tests"] == 3


def test_all_kinds_that_a_task_names_must_hold():
    asked = task({**EXAMPLES, **CHECK, **DOCTEST, **PROPERTIES})

    assert verify(asked, block(GOLD)).passed
    verdict = verify(asked, block("def f(x):\n    return x * x if x < 40 else 0"))
    assert verdict.outcome is Outcome.FAIL
    assert "f(40): got 0, expected 1600" in verdict.reason
    assert verdict.score is not None
    assert verdict.score > 0.5


def test_a_property_gives_a_smallest_counter_example():
    asked = task(
        {"properties": {"args": [{"list": {"int": [0, 99]}, "size": [0, 8]}]}, "reference_solution": "def f(x):\n    return sorted(x)"}
    )

    verdict = verify(asked, block("def f(x):\n    return sorted(set(x))"))

    assert "f([0, 0]): got [0], expected [0, 0]" in verdict.reason


def test_a_function_that_forgets_its_past_is_asked_for_and_one_that_does_not_fails():
    remembering = "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)"

    verdict = verify(task({"tests": [{"input": [7], "output": 1}]}), block(remembering))

    assert verdict.outcome is Outcome.FAIL
    stateful = {"tests": [{"input": [7], "output": 1}, {"input": [7], "output": 2}], "stateful": True}
    assert verify(task(stateful), block(remembering)).passed


def test_a_deep_recursion_a_bomb_and_an_endless_loop_are_verdicts():
    for code in (
        "def f(x):\n    return f(x)",
        "def f(x):\n    return 'a' * 10 ** 10",
        "def f(x):\n    while True: pass",
        "x = [0] * 10 ** 10",
    ):
        assert verify(task({**EXAMPLES, "seconds": 0.5}), block(code)).outcome is Outcome.FAIL


def test_an_async_function_is_run_where_the_task_says_so():
    code = block("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x * x")

    assert "coroutine" in verify(task(EXAMPLES), code).reason
    assert verify(task({**EXAMPLES, "async": True}), code).passed


def test_a_method_of_a_class_can_be_the_entry_point():
    code = block("class Solution:\n    def square(self, x):\n        return x * x")
    asked = {
        "entry_point": "Solution.square",
        **EXAMPLES,
        "test": "def check(candidate):\n    assert Solution().square(3) == 9 == candidate(3)\n",
    }

    assert verify(task(asked), code).passed


def test_a_test_sees_what_the_solution_did_to_its_arguments_and_printed():
    asked = task(
        {"test": "def check(candidate):\n    rows = [[2, 1], [3]]\n    inner = rows[0]\n    candidate(rows)\n    assert inner == [1, 2]\n"}
    )
    printing = task({"doctest": ">>> f('you')\nhello you\n"})

    assert verify(asked, block("def f(rows):\n    for row in rows:\n        row.sort()")).passed
    assert not verify(asked, block("def f(rows):\n    return [sorted(row) for row in rows]")).passed
    assert verify(printing, block("def f(name):\n    print('hello', name)")).passed
    assert not verify(printing, block("def f(name):\n    return 'hello ' + name")).passed


def test_exceptions_of_a_solution_reach_the_test_under_their_own_names():
    test = "def check(f):\n  try:\n    f(-1)\n  except ValueError as e:\n    assert str(e) == 'no'\n  else:\n    assert False\n"

    assert verify(task({"test": test}), block("class Odd(ValueError):\n    pass\ndef f(x):\n    raise Odd('no')")).passed
    assert not verify(task({"test": test}), block("def f(x):\n    raise KeyError('no')")).passed


@pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript needs node")
def test_a_javascript_program_is_run_by_node():
    asked = task({"language": "javascript", "stdin": [{"input": "2 3\n", "output": "5\n"}, {"input": "4 4\n", "output": "8\n"}]})
    code = "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number);\nconsole.log({});"

    assert verify(asked, block(code.replace("{}", "a + b"), "js")).passed
    assert not verify(asked, block(code.replace("{}", "a * b"), "js")).passed
    assert not verify(asked, block("print(5)")).passed


def test_javascript_abstains_without_node(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)

    verdict = verify(task({"language": "javascript", "stdin": [{"input": "", "output": "5"}]}), block("console.log(5)", "js"))

    assert verdict.outcome is Outcome.ABSTAIN
    assert "node" in verdict.reason


def test_a_tier_that_is_not_there_is_an_error_and_never_a_weaker_one():
    verdict = verify(task(EXAMPLES), block(GOLD), sandbox="moon")

    assert verdict.outcome is Outcome.ERROR
    assert verdict.reason.startswith("no sandbox: ")


@pytest.mark.parametrize(
    "metadata",
    [
        {"tests": 5},
        {"tests": []},
        {"test": ""},
        {"test": "  "},
        {"test": 5},
        {"doctest": 1},
        {"doctest": "none"},
        {"tests": [{}]},
        {"tests": [{"input": [1]}]},
        {"tests": ["f", 1]},
        {"tests": [{"input": [1], "output": float("nan")}]},
        {"tests": [{"input": [1], "output": {"$bytes": "zz"}}]},
        {"tests": [{"input": [1], "output": {"$set": [[1]]}}]},
        {"tests": [{"input": [object()], "output": 1}]},
        {"tests": [{"input": [1], "output": 10**9999}]},
        {"tests": [{"input": [1], "output": 1, "raises": "ValueError"}]},
        {"tests": [{"input": [1], "output": 1, "kwargs": {1: 2}}]},
        {"tests": [{"input": [1], "output": 1}], "entry_point": "f("},
        {"tests": [{"input": [1], "output": 1}], "tolerance": "much"},
        {"tests": [{"input": [1], "output": 1}], "language": "cobol"},
        {"tests": [{"input": [1], "output": 1}], "pure": 1},
        {"tests": [{"input": [1], "output": 1}], "seconds": -1},
        {"stdin": [{"input": 5, "output": "5"}]},
        {"stdin": "5"},
        {"properties": {"args": [{"int": [0, 9]}]}},
        {"properties": [], "reference_solution": GOLD},
        {"properties": {"args": [{"int": "x"}]}, "reference_solution": GOLD},
        {"properties": {"args": [{"int": [0, 9]}], "cases": 10**9}, "reference_solution": GOLD},
        {"properties": {"args": [{"set": {"list": {"int": [0, 9]}}, "size": [2, 3]}]}, "reference_solution": GOLD},
        {"properties": {"args": [{"list": {"list": {"list": {"int": [0, 9]}}}, "size": [0, 200]}] * 200}, "reference_solution": GOLD},
        {"properties": {"args": [{"int": [0, 9]}]}, "reference_solution": "def f(x) return"},
        {"test": "def check(candidate) assert"},
        {"test": "import no_such_module_at_all"},
    ],
)
def test_a_broken_task_is_an_error_that_says_what_to_write(metadata):
    verdict = verify(task(metadata), block(GOLD))

    assert verdict.outcome is Outcome.ERROR
    assert "Error(" not in verdict.reason


def test_values_nested_without_end_are_a_broken_task():
    value = []
    for _ in range(100_000):
        value = [value]

    assert verify(task({"tests": [{"input": [value], "output": 1}]}), block(GOLD)).outcome is Outcome.ERROR


def test_verdicts_are_the_same_from_any_thread_and_at_any_time():
    asked, code = task({**EXAMPLES, **CHECK, **PROPERTIES}), block("def f(x):\n    return x * x if x % 7 else 0 if x else 1")
    found = [verify(asked, code)]
    threads = [threading.Thread(target=lambda: found.append(verify(asked, code))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({(v.outcome, v.score, v.reason) for v in found}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10_000_000,
        "```python\n" + "[" * 100_000,
        "(" * 90_000,
        "```\n" * 100_000,
        "Answer:" * 100_000,
        "\ud800",
        "\0",
        "-" * 90_000 + "1",
        "`" * 90_000,
    ],
    ids=["ten megabytes", "brackets", "parentheses", "fences", "markers", "half a pair", "null", "signs", "ticks"],
)
def test_monstrous_texts_fail(text):
    for asked in (task(EXAMPLES), Task("What does it print?", Domain.CODE, reference="5")):
        assert verify(asked, text).outcome is Outcome.FAIL


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="`~ \n\tpyjs:Answer#*defx(=.{}", max_size=200), st.sampled_from(["python", "javascript"]))
def test_code_is_found_in_any_text_without_an_error(text, language):
    assert isinstance(find_code(text, language, "f"), str)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(
            ["tests", "test", "doctest", "stdin", "properties", "entry_point", "tolerance", "pure", "reference_solution", "seconds"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["input", "args", "output", "kwargs", "raises", "after", "$tuple", "$dict", "int", "x"]), inner
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_any_metadata_is_read_or_told_broken(metadata):
    try:
        read_code_task(Task("Write f.", Domain.CODE, metadata=metadata))
    except BrokenTask as error:
        told = str(error)
        assert len(told) > 20


@pytest.mark.parametrize(
    ("spec", "holds"),
    [
        ({"int": [-5, 300]}, lambda v: type(v) is int and -5 <= v <= 300),
        ({"int": [7, 7]}, lambda v: v == 7),
        ({"float": [-1, 2.5]}, lambda v: type(v) is float and -1 <= v <= 2.5),
        ({"bool": True}, lambda v: type(v) is bool),
        ({"none": True}, lambda v: v is None),
        ({"str": "ab", "size": [2, 4]}, lambda v: type(v) is str and set(v) <= set("ab") and 2 <= len(v) <= 4),
        ({"list": {"int": [0, 99]}, "size": [1, 5], "unique": True}, lambda v: 1 <= len(v) == len(set(v)) <= 5),
        ({"set": {"str": "xyz"}}, lambda v: type(v) is set),
        ({"tuple": [{"int": [0, 1]}, {"str": "q"}]}, lambda v: type(v) is tuple and type(v[0]) is int and type(v[1]) is str),
        ({"dict": [{"str": "k"}, {"list": {"none": True}}]}, lambda v: type(v) is dict and all(set(x) <= {None} for x in v.values())),
        ({"choice": [1, "a", {"$tuple": [2]}]}, lambda v: v in (1, "a", (2,))),
        ({"one_of": [{"int": [0, 5]}, {"str": "z"}]}, lambda v: type(v) in (int, str)),
    ],
)
def test_what_a_strategy_draws_and_makes_smaller_is_what_it_says(spec, holds):
    rng, drawn = random.Random(1), strategy(spec)
    values = [drawn.draw(rng) for _ in range(200)]

    assert all(holds(value) for value in values)
    assert all(holds(other) for value in values[:50] for other in drawn.smaller(value))


@settings(deadline=None, max_examples=150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["int", "float", "str", "list", "set", "tuple", "dict", "choice", "one_of", "size"]), inner)
        ),
        max_leaves=10,
    )
)
def test_any_strategy_draws_or_is_told_broken(spec):
    try:
        strategy(spec).draw(random.Random(0))
    except BrokenTask as error:
        told = str(error)
        assert len(told) > 20


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(alphabet="ab 1.\r\t", max_size=5)))
def test_printed_text_equals_itself_with_spaces_at_line_ends(lines):
    assert printed_same("\n".join(lines), "\n".join(f"{line}  " for line in lines) + "\n\n")


def test_the_code_is_the_last_block_of_the_language_that_defines_the_name():
    text = f"{block('def f(x): return 1')}\n{block('def f(x): return 2')}\n{block('print(f(3))')}\n{block('5', 'text')}"

    assert find_code(text, "python", "f") == "def f(x): return 2"
    assert find_code(text, "python") == "print(f(3))"
    assert find_code(text, "javascript") == ""
    assert find_code("1. First\n   ```python\n   def f(x):\n       return x\n   ```", "python", "f") == "def f(x):\n    return x"
    assert find_code("Answer: f = abs", "python", "f").strip() == "f = abs"


def test_a_body_alone_completes_the_head_in_the_prompt():
    head = 'def f(x):\n    """Square."""\n'

    assert completed(head, "    return x * x", "f") == head + "    return x * x"
    assert completed(head, GOLD, "f") == GOLD
