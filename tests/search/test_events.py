import asyncio
import json
from pathlib import Path

import pytest
from test_drivers import answers

from core.errors import SearchError
from core.search.best_of_n import BestOfN
from core.search.budget import Budget
from core.search.drivers import Proposal, drive
from core.search.events import Event, EventLog, fold, read_log
from core.search.lats import Lats
from core.search.levels import Levels
from core.search.search import Search
from core.search.tree import Child, Plan
from core.types import Outcome, Usage

HEADER = {"task": "Solve 17*6+23", "seed": 0}
PLAN = Plan(width=3, calls=40)


class Killed(Exception):
    """The process ends here."""


async def paid(ticket):
    await asyncio.sleep(0)
    return Proposal(answers(ticket, passes=0), Usage(1, 10, 5 * ticket.n, 0.001))


def whole_search(policy, concurrency=1):
    events = []
    search = Search(policy(PLAN), emit=events.append)
    asyncio.run(drive(search, paid, concurrency=concurrency))
    return search, events


@pytest.mark.parametrize("policy", [Lats, Levels, BestOfN])
def test_the_tree_is_a_fold_over_the_events(policy):
    search, events = whole_search(policy, concurrency=4)

    assert fold(events) == search.nodes()


@pytest.mark.parametrize("policy", [Lats, Levels, BestOfN])
@pytest.mark.parametrize("killed_at", [0, 1, 7, 23, 33])
@pytest.mark.parametrize("concurrency", [1, 5])
def test_a_search_that_was_killed_goes_on_from_its_log_without_a_second_payment(tmp_path, policy, killed_at, concurrency):
    path, answered = tmp_path / "search.jsonl", []
    expected, _ = whole_search(policy, concurrency)

    async def until_killed(ticket):
        if len(answered) >= killed_at:
            raise Killed
        proposal = await paid(ticket)
        answered.append((ticket.path, ticket.first))
        return proposal

    log = EventLog(path, HEADER)
    search = Search(policy(PLAN), emit=lambda event: log.append(event) if event.kind != "cancel" else None)
    with pytest.raises(Killed):
        asyncio.run(drive(search, until_killed, concurrency=concurrency))
    log.close()
    told = [(e.path, e.data["first"]) for e in read_log(path, HEADER) if e.kind == "tell"]
    asked_again = []

    async def counted(ticket):
        asked_again.append((ticket.path, ticket.first))
        return await paid(ticket)

    events = [event for event in read_log(path, HEADER) if event.kind not in ("fail", "stop")]
    resumed = Search(policy(PLAN))
    asyncio.run(drive(resumed, counted, concurrency=concurrency, begun=resumed.replay(events)))

    assert resumed.nodes() == expected.nodes()
    assert resumed.spent.used == expected.spent.used
    assert not set(told) & set(asked_again)


def test_a_log_of_another_search_is_not_gone_on_with(tmp_path):
    EventLog(tmp_path / "log.jsonl", HEADER).close()

    assert read_log(tmp_path / "log.jsonl", {**HEADER, "seed": 1}) == []
    assert not (tmp_path / "log.jsonl").exists()


def test_a_line_that_was_cut_off_is_left_out_and_the_log_can_be_written_on(tmp_path):
    path = tmp_path / "log.jsonl"
    log = EventLog(path, HEADER)
    log.append(Event("ask", 0, "", {"n": 1}))
    log.close()
    with path.open("a") as file:
        file.write('{"kind": "tell", "numb')

    events = read_log(path, HEADER)
    log = EventLog(path, HEADER)
    log.append(Event("stop"))
    log.close()

    assert [e.kind for e in events] == ["ask"]
    assert [json.loads(line).get("kind") for line in path.read_text().splitlines()] == [None, "ask", "stop"]


def test_a_log_ends_before_what_must_not_be_written_and_is_gone_on_with_from_there(tmp_path):
    path, secret = tmp_path / "log.jsonl", "hunter2hunter2"
    log = EventLog(path, HEADER, lambda event: secret not in str(event.data))
    for number, text in enumerate(("fine", f"it is {secret}", "fine again")):
        log.append(Event("tell", number, "", {"text": text}))
    log.close()

    events = read_log(path, HEADER)
    log = EventLog(path, HEADER)
    log.append(Event("stop"))
    log.close()

    assert [e.data["text"] for e in events] == ["fine"]
    assert secret not in path.read_text()
    assert [e.kind for e in read_log(path, HEADER)] == ["tell", "stop"]


BEGUN = json.dumps({"version": 1, **HEADER}).encode() + b"\n"
DAMAGE = [b"", b"\x00\xff", b"[]\n", b'{"version": 99}\n', b"not json\n", BEGUN + b'{"kind": "ask"}\n', BEGUN + b"[1]\n", BEGUN + b"\n"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_is_begun_anew(tmp_path, damage):
    path = tmp_path / "log.jsonl"
    path.write_bytes(damage)

    assert read_log(path, HEADER) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_log_with_one_warning_and_not_the_search(tmp_path, caplog):
    log = EventLog(tmp_path / "log.jsonl", HEADER)
    log.close()
    log._file = Path("/dev/full").open("w")  # noqa: SIM115

    for number in range(3):
        log.append(Event("ask", number))
    log.close()

    assert [record.getMessage().count("takes no more") for record in caplog.records] == [1]


def test_a_log_that_can_not_be_mended_is_an_error_of_the_search(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"not json\n")

    def read_only(self):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)

    with pytest.raises(SearchError, match="read-only"):
        read_log(path, HEADER)


def test_a_log_that_does_not_fit_the_search_is_told(tmp_path):
    _, events = whole_search(Lats)

    with pytest.raises(SearchError, match="remove the log"):
        Search(BestOfN(PLAN)).replay(events)


def test_every_verdict_and_the_end_are_events():
    events = []
    search = Search(BestOfN(Plan(width=1, calls=5)), emit=events.append)

    async def second_is_right(ticket):
        right = ticket.number == 1
        return Proposal([Child(f"{ticket.number}", True, 1.0, Outcome.PASS if right else Outcome.FAIL)])

    asyncio.run(drive(search, second_is_right))

    assert [e.kind for e in events] == ["ask", "tell", "verdict", "ask", "tell", "verdict", "stop"]
    assert events[-1].data == {"reason": "verified"}
    assert [e.path for e in events if e.kind == "verdict"] == ["0", "1"]


@pytest.mark.parametrize(
    ("limit", "budget"),
    [
        ("calls", Budget(calls=4)),
        ("prompt_tokens", Budget(prompt_tokens=45)),
        ("completion_tokens", Budget(completion_tokens=70)),
        ("cost", Budget(cost=0.0045)),
        ("seconds", Budget(seconds=4.5)),
    ],
)
def test_no_budget_is_ever_exceeded(limit, budget):
    asked = 0

    async def propose(ticket):
        nonlocal asked
        asked += 1
        return await paid(ticket)

    search = Search(BestOfN(PLAN), budget, estimate=lambda ticket: Usage(1, 10, 5 * ticket.n, 0.001), elapsed=lambda: float(asked))
    asyncio.run(drive(search, propose))

    assert search.stopped == f"budget: {limit}"
    assert 4 <= asked <= 5
    assert search.spent.used.calls == asked


def test_what_a_cache_answered_costs_nothing():
    async def cached(ticket):
        return Proposal(answers(ticket, passes=0), Usage(1, 10, 5), cached=True)

    search = Search(BestOfN(Plan(calls=3)), Budget(calls=1))
    asyncio.run(drive(search, cached))

    assert (search.spent.used.calls, search.spent.cached.calls) == (0, 3)


def test_a_failure_is_thought_about_once_and_the_lesson_is_told_to_what_comes_after():
    asked = []

    async def propose(ticket):
        asked.append(ticket)
        if ticket.reflect:
            return Proposal([Child("  check the carry  ", False)])
        feedback = "wrong carry" if ticket.number < 3 else f"wrong in way {ticket.number}"
        return Proposal([Child(f"{ticket.number}", True, 0.0, Outcome.FAIL, feedback=feedback)])

    events = []
    asyncio.run(drive(Search(BestOfN(Plan(width=1, calls=12, reflections=3)), emit=events.append), propose))

    reflections = [t for t in asked if t.reflect]
    assert [t.about for t in reflections] == ["wrong carry", "wrong in way 3", "wrong in way 5"]
    assert reflections[0].prefix == "0"
    assert asked[0].lessons == ()
    assert all(t.lessons == ("check the carry",) for t in asked[2:])
    assert [e.kind for e in events].count("reflect") == 1  # the same lesson again is no new one
    assert len(asked) == 12  # and each was paid from the budget
