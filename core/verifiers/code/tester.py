"""Test texts, `check(candidate)` and doctests, in a sandbox of their own: the solution is a stand-in there and can't reach the tests."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import SandboxError
from core.sandbox import CallResult, Limits, Raised, Returned, Session, Stopped, open_session
from core.types import Outcome, Record
from core.verifiers.base import short
from core.verifiers.code.solution import Got, Lost, Solution, Threw, shown, told, written
from core.verifiers.code.task import BrokenTask, CodeTask

MAX_DOCTESTS = 500
OWN_FAULTS = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "ValueProtocolError")
JUNK = ("a junk answer that no test may accept", None)
TESTER = """
import builtins, io, sys, traceback

_ENDS_LOOPS = ("StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt")

def _raised_again(kinds, text):
    for name in kinds:
        base = getattr(builtins, name, None)
        if isinstance(base, type) and issubclass(base, BaseException):
            break
    else:
        base = Exception
    if kinds[0] in _ENDS_LOOPS or base.__name__ in _ENDS_LOOPS or not issubclass(base, Exception):
        return RuntimeError(f"{kinds[0]}: {text}")
    kind = type(kinds[0], (base,), {"__module__": "builtins", "__str__": lambda self: text})
    try:
        return kind(text)
    except Exception:
        return RuntimeError(f"{kinds[0]}: {text}")

def _brought_up_to_date(given, now):
    if type(given) is not type(now):
        return now
    if type(given) is list:
        old = list(given)
        given[:] = [_brought_up_to_date(a, b) for a, b in zip(old, now)] + now[len(old):]
    elif type(given) is dict:
        old = dict(given)
        given.clear()
        given.update({key: _brought_up_to_date(old[key], now[key]) if key in old else now[key] for key in now})
    elif type(given) is set:
        given.clear()
        given.update(now)
    else:
        return given if given == now else now
    return given

def _stand_in(name):
    def candidate(*args, **kwargs):
        reply = _ratchet_ask(name, list(args), kwargs)
        if reply[0] == "raised":
            raise _raised_again(reply[1], reply[2])
        for given, now in zip(args, reply[2]):
            _brought_up_to_date(given, now)
        for key, now in reply[3].items():
            _brought_up_to_date(kwargs[key], now)
        if reply[4]:
            print(reply[4], end="")
        return reply[1]
    candidate.__name__ = candidate.__qualname__ = name.rpartition(".")[2]
    return candidate

_compiled = {}

def _once(source, file):
    if (source, file) not in _compiled:
        _compiled[source, file] = compile(source, file, "exec", dont_inherit=True)
    return _compiled[source, file]

def _namespace(setup, name):
    names = {"__name__": "tests", "__builtins__": builtins}
    if setup:
        try:
            exec(_once(setup, "prompt.py"), names)
        except Exception:
            pass
    text = getattr(names.get(name), "__doc__", None)
    candidate = _stand_in(name)
    if "." in name:
        head, *path = name.split(".")
        candidate_owner = type(head, (), {path[-1]: lambda self, *args, **kwargs: candidate(*args, **kwargs)})
        names[head] = candidate_owner
    else:
        names[name] = candidate
    return names, candidate, text

def _ratchet_check(setup, test, name):
    names, candidate, _ = _namespace(setup, name)
    before = names.get("check")
    names["candidate"] = candidate
    exec(_once(test, "test.py"), names)
    check = names.get("check")
    if check is not before and callable(check):
        check(candidate)

def _ratchet_documentation(setup, name):
    global _names
    _names, _, text = _namespace(setup, name)
    return text if isinstance(text, str) else None

def _ratchet_example(source):
    printed, before = io.StringIO(), (sys.stdout, sys.displayhook)
    sys.stdout, sys.displayhook = printed, sys.__displayhook__
    try:
        exec(compile(source, "<doctest>", "single", dont_inherit=True), _names)
    except Exception as error:
        return printed.getvalue()[:65536], "".join(traceback.format_exception_only(type(error), error))[:2000], type(error).__name__
    finally:
        sys.stdout, sys.displayhook = before
    return printed.getvalue()[:65536], None, None
"""


@dataclass(frozen=True, slots=True)
class Part(Record):
    """What one kind of test found: how many held, of how many, and the first that did not."""

    kind: str
    outcome: Outcome
    held: int
    of: int
    reason: str = ""


class Tester:
    """A session that runs test texts, with the entry point bound to the solution in the other session."""

    def __init__(self, solution: Solution, asked: CodeTask, tier: str) -> None:
        self.solution = solution
        self.asked = asked
        self.calls = 0
        self.last = ""
        self.last_raised = False
        self.junk: tuple[Any] | None = None
        limits = Limits(wall=max(asked.seconds, 0.1), cpu=max(asked.seconds, 0.1))
        self.session: Session = open_session("", limits, tier, proxies={"_ratchet_ask": self._ask}, ours=TESTER)

    def __enter__(self) -> Tester:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.close()

    def check(self) -> Part:
        """Run the test text. PASS also needs that it called the solution and that it rejects junk."""
        asked = self.asked
        asserts = len(re.findall(r"\bassert", asked.test))
        self.calls = 0
        reply = self._run_check()
        total = max(asserts, self.calls, 1)
        held = min(self.calls, total)
        if isinstance(reply, Returned):
            if not self.calls:
                return Part("test", Outcome.ABSTAIN, 0, total, f"the test text never calls {asked.entry_point}")
            if self._accepts_junk(lambda: isinstance(self._run_check(), Returned)):
                return Part("test", Outcome.ABSTAIN, 0, total, "the test text accepts any answer: it asserts nothing of the result")
            return Part("test", Outcome.PASS, total, total)
        why, ours = self._explain(reply)
        return Part("test", Outcome.FAIL if ours else Outcome.ERROR, max(0, held - 1) if ours else 0, total, why)

    def doctests(self) -> Part:
        """Run the examples of a docstring, or of a text, and compare what they print. Raises BrokenTask when there are none."""
        asked = self.asked
        found = self._call("_ratchet_documentation", asked.setup, asked.entry_point)
        if isinstance(found, Stopped):
            return Part("doctest", Outcome.ERROR, 0, 1, f"the examples could not be run: {told(found, asked.seconds)}")
        text = asked.doctest if isinstance(asked.doctest, str) else found.value if isinstance(found, Returned) else None
        examples = _examples(text if isinstance(text, str) else asked.setup)
        self.calls = 0
        held, first, of = 0, "", len(examples)
        for example in examples:
            why, ours = self._example(example)
            if why and not ours:
                return Part("doctest", Outcome.ERROR, held, of, why)
            held += not why
            first = first or why
        if first:
            return Part("doctest", Outcome.FAIL, held, of, first)
        if not self.calls:
            return Part("doctest", Outcome.ABSTAIN, 0, of, f"no example calls {asked.entry_point}")
        if self._accepts_junk(lambda: self._all_hold(examples)):
            return Part("doctest", Outcome.ABSTAIN, 0, of, "the examples accept any answer: they show no result")
        return Part("doctest", Outcome.PASS, held, of)

    def _run_check(self) -> CallResult:
        return self._call("_ratchet_check", self.asked.setup, self.asked.test, self.asked.entry_point)

    def _all_hold(self, examples: list[doctest.Example]) -> bool:
        self._call("_ratchet_documentation", self.asked.setup, self.asked.entry_point)
        return not any(self._example(example)[0] for example in examples)

    def _accepts_junk(self, holds: Callable[[], bool]) -> bool:
        """Whether a test holds for a stand-in that gives the same nonsense to every call."""
        accepted = True
        for junk in JUNK:
            self.junk = (junk,)
            accepted = accepted and holds()
        self.junk = None
        return accepted

    def _call(self, function: str, *args: Any) -> CallResult:
        try:
            return self.session.call(function, *args)
        except SandboxError as error:
            raise BrokenTask(str(error)) from error

    def _example(self, example: doctest.Example) -> tuple[str, bool]:
        """Why an example does not hold, "" when it does, and whether that is the solution's fault."""
        flags = sum(flag for flag, on in example.options.items() if on)
        if flags & doctest.SKIP:
            return "", True
        reply = self._call("_ratchet_example", example.source)
        match reply:
            case Returned((str(printed), None | str() as error, None | str() as kind)):
                if error is not None and kind in OWN_FAULTS and not self.last_raised:
                    return f"the example {short(example.source)} broke: {short(error)}", False
                got = printed if error is None else error
                wanted = example.want if example.exc_msg is None else example.exc_msg
                alike = doctest.OutputChecker().check_output(wanted, got, flags) and (error is None) == (example.exc_msg is None)
                return (
                    "" if alike else f"{short(example.source)} gave {short(got) or 'nothing'}, expected {short(wanted) or 'nothing'}"
                ), True
        return self._explain(reply)

    def _explain(self, reply: CallResult) -> tuple[str, bool]:
        """Why a run of tests ended, and whether the solution is to blame: it was called, and the test text itself is in order."""
        if self.solution.stopped is not None:
            return self.last or told(self.solution.stopped, self.asked.seconds), True
        match reply:
            case Raised("AssertionError", message) if self.calls:
                return f"{self.last}: the assertion fails{f': {short(message)}' if message else ''}", True
            case Raised(kind, message):
                ours = self.calls > 0 and (self.last_raised or kind not in OWN_FAULTS)
                who = f"{self.last}: " if ours else "the test text broke: "
                return f"{who}{kind}: {short(message)}", ours
            case Stopped() if reply.why.startswith("proxy"):
                return self.last or "the solution stopped", True
            case Stopped():
                return f"the test text could not be run: {told(reply, self.asked.seconds)}", False
        return "the test text gave no result", False

    def _ask(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> CallResult:
        """The far end of the stand-in: ask the solution, or hand out junk."""
        if self.junk is not None:
            return Returned(["returned", self.junk[0], args, kwargs, ""])
        self.calls += 1
        found = self.solution.call(name, args, kwargs, watched=True)
        self.last = f"{written(name, args, kwargs)}{': ' if isinstance(found, Lost) else ' gave '}{shown(found)}"
        self.last_raised = isinstance(found, Threw)
        if isinstance(found, Got):
            return Returned(["returned", found.value, list(found.args), dict(found.kwargs or {}), found.printed])
        if isinstance(found, Threw):
            return Returned(["raised", list(found.kinds), found.text])
        return Stopped(found.why)


def _examples(text: str) -> list[doctest.Example]:
    try:
        found = doctest.DocTestParser().get_examples(text[:200_000])
    except ValueError as error:
        raise BrokenTask(f"the doctest can't be read: {short(str(error))}") from error
    if not found or len(found) > MAX_DOCTESTS:
        raise BrokenTask(f"the doctest holds {len(found)} examples: write 1 to {MAX_DOCTESTS} lines that begin with >>>")
    return found
