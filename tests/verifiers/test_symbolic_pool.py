"""The pool of workers: threads don't queue behind a slow question, a wall is a wall, and a process that dies is replaced."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.verifiers.math import symbolic
from core.verifiers.math.equivalence import compare
from core.verifiers.math.symbolic import Reply
from core.verifiers.pool import MOST, BrokenWorkerError, Pool, WallError

ENDLESS = (r"(xy+x+y+1)^{90}(z+1)^{90}", r"((x+1)(y+1)(z+1))^{90}")


def answer(n: int) -> Reply:
    return compare("x + 1", f"{n} + x")


def test_questions_from_many_threads_get_their_own_answers():
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(answer, range(64)))

    assert [reply is Reply.SAME for reply in found] == [n == 1 for n in range(64)]
    assert 1 <= len(symbolic.pool.workers()) <= MOST


def test_others_are_answered_while_one_question_runs_into_its_wall():
    done: list[Reply] = []
    slow = threading.Thread(target=lambda: done.append(compare(*ENDLESS)))

    slow.start()
    while slow.is_alive():
        assert answer(1) is Reply.SAME
    slow.join()

    assert done == [Reply.TIMEOUT]


def test_after_each_wall_the_next_question_is_answered():
    for n in range(4):
        assert compare(*ENDLESS) is Reply.TIMEOUT
        assert answer(n) is (Reply.SAME if n == 1 else Reply.DIFFERENT)


def test_workers_killed_from_outside_are_replaced():
    answer(1)
    for process in symbolic.pool.workers():
        process.kill()

    assert Reply.SAME in [answer(1) for _ in range(2)]


def test_a_closed_pool_opens_again():
    pool = Pool(symbolic.pool.module, 1)
    pool.ask({"op": "math_verify", "left": "1", "right": "1"}, 60)

    pool.close()

    assert pool.workers() == []
    pool.ask({"op": "math_verify", "left": "1", "right": "1"}, 60)
    pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_has_workers_of_its_own():
    assert answer(1) is Reply.SAME
    child = os.fork()
    if not child:
        right = answer(1) is Reply.SAME and answer(2) is Reply.DIFFERENT
        symbolic.close()
        os._exit(0 if right else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert answer(1) is Reply.SAME


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_worker_that_wants_too_much_memory_says_so_and_lives_on():
    huge = ["pow", ["num", "7"], ["num", str(10**10)]]  # no text is read as this: the reader's limits come first

    reply, _ = symbolic.ask({"op": "same", "left": [huge], "right": [["num", "1"]]}, wall=1.0)

    assert reply in (Reply.DISAGREED, Reply.TIMEOUT, Reply.BROKEN)
    assert answer(1) is Reply.SAME


def test_a_request_that_is_none_is_undecided():
    for left in ([], ["what"], ["num"], ["num", "x"], ["fn", "__import__", ["num", "1"]], ["sym", 3], "text"):
        assert symbolic.ask({"op": "same", "left": [left], "right": [["num", "1"]]})[0] is Reply.DISAGREED


STUBBORN = """
import json, signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    if json.loads(line)["op"] == "sleep":
        time.sleep(60)
    print("no JSON", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")
def test_a_worker_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.setattr("core.verifiers.pool.STOP_WALL", 0.1)
    monkeypatch.setattr("core.verifiers.pool.__file__", str(tmp_path / "a" / "b" / "pool.py"))
    pool = Pool("stubborn", most=1)

    with pytest.raises(WallError):
        pool.ask({"op": "sleep"}, wall=0.2)
    with pytest.raises(BrokenWorkerError, match="no JSON"):
        pool.ask({"op": "talk"}, wall=5)

    pool.close()


def test_a_module_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BrokenWorkerError, match="ready"):
        Pool("core.verifiers.there_is_no_such_module", most=1).ask({"op": "same"}, wall=1)
