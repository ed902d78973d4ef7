"""Sessions: calls, stand-ins, limits, and what is told in the end."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from process_tree import descendants, running

from core.errors import SandboxError
from core.sandbox import (
    Call,
    CallResult,
    Limits,
    Proxy,
    Raised,
    Returned,
    Stopped,
    Tier,
    available,
    namespaces,
    open_session,
    run,
    run_program,
)
from core.sandbox.inside.zygote import SPARES
from core.sandbox.namespaces import stop_zygote

SQUARE = "def square(x): return x * x"


def offered() -> list[str]:
    found = []
    for tier in ("namespaces", "process"):
        try:
            found.append(str(available(tier)))
        except SandboxError:
            continue
    return found


TIERS = offered()
every_tier = pytest.mark.parametrize("tier", TIERS)


@every_tier
def test_calls_are_answered_in_order_with_a_report(tier: str) -> None:
    report = run(SQUARE + "\nprint('loaded')", [Call("square", (7,)), Call("square", kwargs={"x": 8})], tier=tier)
    assert report.values == (Returned(49), Returned(64))
    assert report.isolation is Tier(tier)
    assert report.stopped is None
    assert report.stdout == "loaded\n"
    assert {"value protocol", "rlimits"} <= set(report.mechanisms)
    assert report.cpu is not None
    assert report.peak_memory is not None


def test_the_strongest_tier_is_the_default() -> None:
    assert available() == (Tier.NAMESPACES if "namespaces" in TIERS else Tier.PROCESS)


@every_tier
def test_methods_are_reached_by_a_dotted_path_and_missing_names_raise(tier: str) -> None:
    source = "class A:\n    @staticmethod\n    def f(): return 1"
    assert run(source, [Call("A.f"), Call("B"), Call("A.g")], tier=tier).values == (
        Returned(1),
        Raised("NameError", "name 'B' is not defined"),
        Raised("AttributeError", "type object 'A' has no attribute 'g'"),
    )


@every_tier
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def f(:", "source: SyntaxError"),
        ("1/0", "source: ZeroDivisionError: division by zero"),
        ("raise SystemExit", "source: SystemExit"),
        ("f = 1\0", "source: SyntaxError"),
        ("x = '" + "y" * (2 << 20) + "'", "source: 2097"),
        ("(" * 100_000, "source: "),
        ("import os\nos._exit(4)", "exit 4"),
        ("import ctypes\nctypes.string_at(0)", "signal SIGSEGV"),
    ],
)
def test_a_source_that_does_not_load_is_stopped_and_says_why(source: str, why: str, tier: str) -> None:
    report = run(source, [Call("f"), Call("f")], tier=tier)
    assert report.stopped is not None
    assert report.stopped.startswith(why)
    assert report.values == (Stopped(report.stopped),) * 2


@every_tier
def test_after_a_stop_nothing_is_asked_any_more(tier: str) -> None:
    with open_session("def f(): return 1\ndef g():\n    while True: pass", Limits(wall=0.5), tier) as session:
        assert session.call("f") == Returned(1)
        assert session.call("g") == Stopped("wall")
        assert session.call("f") == Stopped("wall")
        assert session.report().values == (Returned(1), Stopped("wall"), Stopped("wall"))
    assert session.call("f") == Stopped("wall")


@every_tier
def test_processor_time_is_bounded_apart_from_the_wall(tier: str) -> None:
    report = run("def f():\n    while True: pass", [Call("f")], Limits(wall=60, cpu=1), tier)
    assert report.stopped == "cpu"


@every_tier
def test_memory_is_bounded(tier: str) -> None:
    report = run("def f(): return len(bytearray(10**9))", [Call("f")], Limits(memory=256 << 20), tier)
    assert report.values == (Raised("MemoryError", ""),)


@every_tier
def test_lone_surrogates_and_null_bytes_come_back_as_values(tier: str) -> None:
    report = run("def f(x): return x + '\\ud800'\ndef g(): raise ValueError('\\ud800')", [Call("f", ("\0",)), Call("g")], tier=tier)
    assert report.values == (Returned("\0\ud800"), Raised("ValueError", "?"))


def test_an_argument_that_is_no_value_is_the_callers_mistake() -> None:
    with open_session(SQUARE) as session, pytest.raises(SandboxError, match="an argument of square can't be sent"):
        session.call("square", object())


@pytest.mark.parametrize("limits", [{"wall": 0}, {"cpu": -1}, {"memory": 1}, {"disk": float("nan")}, {"output": "1"}, {"wall": True}])
def test_limits_are_checked(limits: dict[str, float]) -> None:
    with pytest.raises(SandboxError, match="the limit"):
        Limits(**limits)


def test_unknown_tiers_and_languages_are_named() -> None:
    with pytest.raises(SandboxError, match="there is no tier 'moon': choose strongest, namespaces, process, container"):
        run(SQUARE, [], tier="moon")
    with pytest.raises(SandboxError, match="there is no language 'cobol'"):
        run_program("cobol", "")
    with pytest.raises(SandboxError, match="a solution is a text, not NoneType"):
        run(None, [])  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match="is not installed"):
        run_program(["no-such-interpreter"], "")


CHECK = """
def check(candidate):
    assert candidate(2) == 4
    assert candidate(3) == 9
"""


def checked(solution: str, tests: str, tier: str) -> tuple[CallResult, str | None]:
    with open_session(solution, tier=tier) as solved:
        stand_ins = {"candidate": lambda *args, **kwargs: solved.call("square", *args, **kwargs)}
        with open_session(tests, tier=tier, proxies=stand_ins) as tester:
            return tester.call("check", Proxy("candidate")), tester.report().stopped


@every_tier
@pytest.mark.parametrize(
    ("solution", "kind"),
    [
        (SQUARE, None),
        ("def square(x): return x + 2", "AssertionError"),
        ("class L(int):\n    def __eq__(self, o): return True\ndef square(x): return L(0)", "RemoteError"),
        ("def square(x): raise KeyError(x)", "KeyError"),
        ("def square(x): raise SystemExit", "RemoteError"),
    ],
)
def test_a_tester_calls_the_solution_through_a_stand_in(solution: str, kind: str | None, tier: str) -> None:
    result, stopped = checked(solution, CHECK, tier)
    assert stopped is None
    assert result == Returned(None) if kind is None else isinstance(result, Raised) and result.kind == kind


@every_tier
@pytest.mark.parametrize("silent", ["StopIteration", "StopAsyncIteration", "GeneratorExit"])
def test_a_solution_can_not_cut_a_loop_of_tests_short(silent: str, tier: str) -> None:
    tests = "def check(c):\n    assert all(a == b for a, b in zip(map(c, [2, 3]), [4, 9]))"
    result, _ = checked(f"def square(x): raise {silent}", tests, tier)
    assert isinstance(result, Raised)


@every_tier
def test_a_solution_that_stops_stops_its_tester_however_much_that_catches(tier: str) -> None:
    tests = "def check(c):\n    try: c(1)\n    except BaseException: pass"
    result, stopped = checked("import os\ndef square(x): os._exit(0)", tests, tier)
    assert result == Stopped("proxy: candidate: exit 0")
    assert stopped == "proxy: candidate: exit 0"


def test_a_stand_in_is_bound_by_its_name_too_and_its_errors_are_the_parents() -> None:
    def broken(*_: object) -> CallResult:
        raise RuntimeError("ours")

    with open_session("def check(): return candidate(1)", proxies={"candidate": lambda x: Returned((x, {"a"}))}) as tester:
        assert tester.call("check") == Returned((1, {"a"}))
    with open_session("def check(): return candidate(1)", proxies={"candidate": broken}) as tester:
        with pytest.raises(RuntimeError, match="ours"):
            tester.call("check")
        assert tester.call("check") == Stopped("closed")


def test_a_tester_that_makes_its_host_work_pays_for_it_from_its_own_time() -> None:
    tests = """
import gc
def check(c):
    worker = [o for o in gc.get_objects() if type(o).__name__ == "_Worker"][0]
    items = ",".join('{"i":"%s"}' % hex(n * (2**61 - 1)) for n in range(1, 2000))
    payload = ('["proxy","%s","candidate",[{"s":[%s]}],{}]' % (worker.request, items)).encode()
    while True:
        worker._send(len(payload).to_bytes(4, "big") + payload)
        worker.receive()
"""
    with open_session(tests, Limits(wall=2), proxies={"candidate": lambda _: Returned(None)}) as tester:
        assert tester.call("check", None) in (Stopped("wall"), Stopped("protocol: keys that collide"))


def test_a_tester_that_asks_what_can_not_be_sent_on_is_stopped() -> None:
    with open_session(SQUARE) as solved:
        stand_ins = {"candidate": lambda text: solved.call("square", text + text)}
        with open_session("def check(): candidate('x' * 900_000)", proxies=stand_ins) as tester:
            result = tester.call("check")
    assert isinstance(result, Stopped)
    assert result.why.startswith("proxy: candidate: an argument of square can't be sent")


def test_a_session_in_the_middle_of_a_call_refuses_another() -> None:
    seen: list[str] = []

    def again(*_: object) -> CallResult:
        with pytest.raises(SandboxError, match="in the middle of a call"):
            tester.call("check")
        seen.append("refused")
        return Returned(None)

    with open_session("def check(): return again()", proxies={"again": again}) as tester:
        assert tester.call("check") == Returned(None)
    assert seen == ["refused"]


@every_tier
def test_many_sessions_from_many_threads_keep_apart(tier: str) -> None:
    def one(n: int) -> list[CallResult]:
        with open_session(f"def f(x): return x + {n}", tier=tier) as session:
            return [session.call("f", x) for x in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [[Returned(x + n) for x in range(5)] for n in range(24)]


@every_tier
def test_a_session_may_be_opened_in_one_thread_and_used_in_another(tier: str) -> None:
    opened = []
    thread = threading.Thread(target=lambda: opened.append(open_session(SQUARE, tier=tier)))
    thread.start()
    thread.join()
    with opened[0] as session:
        assert session.call("square", 3) == Returned(9)


@pytest.mark.skipif("namespaces" not in TIERS, reason="needs the namespaces tier")
def test_a_zygote_that_died_is_started_again() -> None:
    with open_session(SQUARE, tier="namespaces") as session:
        stop_zygote()
        assert isinstance(session.call("square", 3), Stopped)
    assert run(SQUARE, [Call("square", (3,))], tier="namespaces").values == (Returned(9),)


@every_tier
def test_no_descriptor_is_left_open(tier: str) -> None:
    run(SQUARE, [], tier=tier)
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        run(SQUARE, [Call("square", (1,))], tier=tier)
        run("1/0", [], tier=tier)
        run_program("python", "print(1)", tier=tier)
    assert len(os.listdir("/dev/fd")) == before


def test_a_container_is_a_command_in_front_of_the_interpreter() -> None:
    prefix = ("env", "-i", f"PATH={os.environ['PATH']}", "RATCHET_INSIDE=1")
    source = "import os\ndef f(x): return x, os.environ['RATCHET_INSIDE']\nprint('said')"
    report = run(source, [Call("f", (1,))], tier="container", container=prefix)
    assert report.values == (Returned((1, "1")),)
    assert report.isolation is Tier.CONTAINER
    assert report.stdout == "said\n"
    with pytest.raises(SandboxError, match="needs its command"):
        run(SQUARE, [], tier="container")
    with pytest.raises(SandboxError, match="goes with tier"):
        run(SQUARE, [], container=prefix)
    with pytest.raises(SandboxError, match="ended before it began"):
        run(SQUARE, [], tier="container", container=("false",))


NEIGHBOUR = """
import ctypes, os, socket
LIBC = ctypes.CDLL(None, use_errno=True)
def errno_of(number, *words):
    return 0 if LIBC.syscall(number, *words) >= 0 else ctypes.get_errno()
def leave():
    with open("/tmp/note", "w") as file: file.write("for the other")
def look():
    return os.listdir("/tmp"), os.getpid(), os.path.exists("/proc/1"), sorted(os.listdir("/dev"))
def meet(x86):
    calls = (41, 29, 64, 68, 240, 250, 319, 272, 310) if x86 else (198, 194, 190, 186, 180, 219, 279, 97, 270)
    return [errno_of(number, 1, 2, 0, 0, 0) for number in calls]
def opened():
    return [place for place in range(64) if place_is_open(place)]
def place_is_open(place):
    try:
        os.fstat(place)
    except OSError:
        return False
    return True
"""


@pytest.mark.skipif("namespaces" not in TIERS, reason="needs the namespaces tier")
def test_two_checks_at_once_have_nowhere_to_meet() -> None:
    with open_session(NEIGHBOUR, tier="namespaces") as one, open_session(NEIGHBOUR, tier="namespaces") as other:
        assert one.call("leave") == Returned(None)
        devices = ["full", "null", "random", "urandom", "zero"]
        assert one.call("look") == Returned((["note"], 1, False, devices))
        assert other.call("look") == Returned(([], 1, False, devices))
        for session in (one, other):
            assert session.call("meet", platform.machine() == "x86_64") == Returned([1] * 9)
            assert session.call("opened") == Returned([0, 1, 2, 3])


def spares() -> set[int]:
    """What the zygote has forked: it lies behind the process that made its namespaces."""
    assert namespaces._zygote is not None
    started = namespaces._zygote.process.pid
    family = descendants(started)
    return family - {pid for pid in family if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == started}


@pytest.mark.skipif("namespaces" not in TIERS, reason="needs the namespaces tier")
def test_spares_are_few_whatever_is_asked_for_and_each_serves_once() -> None:
    source = "import os\nstate = []\ndef f():\n    state.append(1)\n    return len(state)"
    for n in range(12):
        assert run(source, [Call("f")], Limits(cpu=5 + n % 3), "namespaces").values == (Returned(1),)
    assert len(spares()) <= SPARES


@pytest.mark.skipif("namespaces" not in TIERS, reason="needs the namespaces tier")
def test_a_spare_that_died_is_not_handed_out() -> None:
    run(SQUARE, [], tier="namespaces")
    run(SQUARE, [], tier="namespaces")
    killed = spares()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    while any(running(pid) for pid in killed):
        time.sleep(0.01)
    assert killed
    assert run(SQUARE, [Call("square", (3,))], tier="namespaces").values == (Returned(9),)


@every_tier
def test_a_source_is_loaded_while_the_host_does_something_else(tier: str) -> None:
    with open_session(SQUARE, tier=tier, wait=False) as one, open_session("1/0", tier=tier, wait=False) as other:
        assert one.call("square", 3) == Returned(9)
        other.loaded()
        assert other.call("square", 3) == Stopped("source: ZeroDivisionError: division by zero")
    with open_session(SQUARE, tier=tier, wait=False) as unused:
        pass
    assert unused.report().values == ()


@every_tier
def test_a_text_of_the_callers_own_is_run_after_each_source(tier: str) -> None:
    with open_session(SQUARE, tier=tier, ours="def twice(x): return square(x) + square(x)") as session:
        assert session.call("twice", 3) == Returned(18)
    with pytest.raises(SyntaxError):
        open_session(SQUARE, tier=tier, ours="def f(:")
