import asyncio
import random

import pytest

from core.config import Settings
from core.errors import ProviderError
from core.providers.calls import LONGEST_PAUSE, Calls, Limits, Places
from core.providers.remote import Transient, Unreachable
from core.types import Completion, Reply, Usage

ANSWER = Reply((Completion("125"),), Usage(1, 11, 7))


class Server:
    """Fails as told, then answers; a try takes `each` seconds of its clock, and `pauses` are the waits between the tries."""

    def __init__(self, *failures, each=0.0):
        self.failures = list(failures)
        self.calls, self.each, self.now = 0, each, 1000.0
        self.pauses: list[float] = []

    async def call(self):
        self.calls += 1
        self.now += self.each
        if self.failures:
            raise self.failures.pop(0)
        return ANSWER

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def caller(self, **limits):
        limits = {"pause": 1.0, "failures": 99, **limits}
        return Calls("the server", Limits(**limits), random.Random(3), lambda: self.now, self.sleep)

    def ask(self, **limits):
        return asyncio.run(self.caller(**limits).make(self.call))


def busy(count, **more):
    return [Transient("the server is busy", **more) for _ in range(count)]


def test_an_answer_at_once_takes_one_call():
    server = Server()

    assert server.ask() == ANSWER
    assert (server.calls, server.pauses) == (1, [])


def test_a_failure_that_passes_is_tried_again_after_growing_spread_pauses():
    server = Server(*busy(3))

    assert server.ask(retries=3) == ANSWER
    assert server.calls == 4
    for pause, middle in zip(server.pauses, (1.0, 2.0, 4.0), strict=True):
        assert 0.5 * middle <= pause <= 1.5 * middle


def test_the_same_random_source_gives_the_same_pauses():
    first, second = Server(*busy(1)), Server(*busy(1))

    first.ask()
    second.ask()

    assert first.pauses == second.pauses


def test_a_server_that_says_how_long_to_wait_is_given_that_time_and_a_spread_one_on_top_within_reason():
    polite, absurd = Server(*busy(1, after=7.0)), Server(*busy(1, after=86_400.0))

    polite.ask()
    absurd.ask()

    assert 7.5 <= polite.pauses[0] <= 8.5
    assert absurd.pauses == [LONGEST_PAUSE]


def test_when_the_tries_run_out_the_error_says_how_many_there_were():
    server = Server(*busy(5))

    with pytest.raises(ProviderError, match=r"^the server is busy \(3 tries\)$") as raised:
        server.ask(retries=2)

    assert server.calls == 3
    assert not isinstance(raised.value, Transient)


def test_with_no_retries_the_first_failure_is_the_last():
    server = Server(*busy(1))

    with pytest.raises(ProviderError, match=r"^the server is busy$"):
        server.ask(retries=0)


@pytest.mark.parametrize("failure", [ProviderError("no such model"), Unreachable("nobody there"), ZeroDivisionError("a bug")])
def test_a_failure_that_will_not_pass_is_not_tried_again(failure):
    server = Server(failure)

    with pytest.raises(type(failure)):
        server.ask(retries=5)

    assert server.calls == 1


def test_tries_and_pauses_together_take_no_longer_than_the_timeout_times_the_tries():
    server = Server(*busy(9, after=20.0), each=8.0)

    with pytest.raises(ProviderError, match=r"\(2 of 4 tries: another 2[23] s of waiting would be longer than REQUEST_TIMEOUT allows\)"):
        server.ask(retries=3, timeout=10.0)

    assert server.now - 1000.0 <= 40.0


def test_a_call_that_takes_too_long_is_broken_off_and_told_with_the_setting():
    ended = []

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(
        ProviderError, match=r"^the server gave no answer in 0.2 s: raise REQUEST_TIMEOUT or take a faster model \(2 tries\)$"
    ):
        asyncio.run(Calls("the server", Limits(timeout=0.2, retries=1, pause=0.001)).make(hang))

    assert ended == [True, True]


def test_a_useless_answer_that_was_paid_for_is_in_the_usage():
    server = Server(*busy(1, usage=Usage(1, 11, 3, 0.5)), *busy(1))

    assert server.ask().usage == Usage(2, 22, 10, 0.5)


def test_after_repeated_failures_every_call_fails_at_once_with_one_error_until_a_trial_succeeds():
    server = Server(*busy(5))
    calls = server.caller(failures=5, retries=2, cool_down=30.0)

    async def ask():
        return await calls.make(server.call)

    with pytest.raises(ProviderError, match="3 tries"):
        asyncio.run(ask())
    for _ in range(3):
        with pytest.raises(ProviderError, match="failed 5 times in a row"):
            asyncio.run(ask())
    assert server.calls == 5
    server.now += 30.0
    assert asyncio.run(ask()) == ANSWER
    assert asyncio.run(ask()) == ANSWER


@pytest.mark.parametrize("sign", [*busy(1, alive=True), ProviderError("no such model")])
def test_a_server_that_answers_no_is_there_and_opens_no_circuit(sign):
    server = Server(*busy(1), sign, *busy(1), sign, *busy(1), sign)
    calls = server.caller(failures=2, retries=0)

    for _ in range(6):
        with pytest.raises(ProviderError, match=r"^(the server is busy|no such model)$"):
            asyncio.run(calls.make(server.call))


def test_nobody_there_opens_the_circuit_though_it_is_not_tried_again():
    server = Server(*[Unreachable("nobody there")] * 9)
    calls = server.caller(failures=2)

    for _ in range(4):
        with pytest.raises(ProviderError):
            asyncio.run(calls.make(server.call))

    assert server.calls == 2


def test_so_many_calls_are_under_way_at_once_and_the_others_come_in_their_order():
    order, now, most = [], 0, 0

    async def run():
        calls = Calls("the server", Limits(concurrency=3))

        async def call(number):
            nonlocal now, most
            order.append(number)
            now, most = now + 1, max(most, now + 1)
            await asyncio.sleep(0.001)
            now -= 1
            return ANSWER

        await asyncio.gather(*(calls.make(lambda i=i: call(i)) for i in range(10)))

    asyncio.run(run())

    assert most == 3
    assert order == list(range(10))


def test_a_call_gives_its_place_up_while_it_pauses():
    async def run():
        server, other = Server(*busy(1)), Server()
        calls = server.caller(concurrency=1)
        paused, go_on = asyncio.Event(), asyncio.Event()

        async def sleep(_):
            paused.set()
            await go_on.wait()

        calls._sleep = sleep
        first = asyncio.create_task(calls.make(server.call))
        await paused.wait()
        assert await calls.make(other.call) == ANSWER
        go_on.set()
        assert await first == ANSWER

    asyncio.run(run())


def test_those_who_wait_for_a_place_get_the_error_when_the_circuit_opens():
    async def run():
        calls, let_fail = Calls("the server", Limits(concurrency=1, failures=1, retries=0)), asyncio.Event()

        async def call():
            await let_fail.wait()
            raise Transient("the server is busy")

        asked = [asyncio.create_task(calls.make(call)) for _ in range(5)]
        await asyncio.sleep(0)
        let_fail.set()
        return [str(e) for e in await asyncio.gather(*asked, return_exceptions=True)]

    first, *others = asyncio.run(run())

    assert first == "the server is busy"
    assert len(others) == 4
    assert all("failed 1 times in a row" in said for said in others)


def test_a_call_that_is_cancelled_while_it_waits_or_runs_leaves_its_place_to_the_next():
    async def run():
        calls, free = Calls("the server", Limits(concurrency=1)), asyncio.Event()

        async def call():
            await free.wait()
            return ANSWER

        running, waiting, last = (asyncio.create_task(calls.make(call)) for _ in range(3))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        free.set()
        assert await last == ANSWER
        assert await asyncio.gather(running, waiting, return_exceptions=True) != [ANSWER, ANSWER]
        assert await calls.make(call) == ANSWER

    asyncio.run(run())


def test_a_turn_that_comes_in_the_moment_of_its_cancellation_is_passed_on():
    async def run():
        places, done = Places(1), []

        async def visit(number):
            async with places:
                done.append(number)

        await places.__aenter__()
        first, second = asyncio.create_task(visit(1)), asyncio.create_task(visit(2))
        await asyncio.sleep(0)
        await places.__aexit__()
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return done

    assert asyncio.run(run()) == [2]


def test_a_cancelled_trial_lets_the_next_call_be_the_trial():
    async def run():
        server = Server(*busy(1))
        calls = server.caller(failures=1, retries=0, cool_down=30.0)
        with pytest.raises(ProviderError):
            await calls.make(server.call)
        server.now += 30
        trial = asyncio.create_task(calls.make(asyncio.Event().wait))
        await asyncio.sleep(0)
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        return await calls.make(server.call)

    assert asyncio.run(run()) == ANSWER


def test_closing_ends_what_is_under_way_what_waits_and_what_comes_later():
    async def run():
        calls = Calls("the server", Limits(concurrency=2))
        asked = [asyncio.create_task(calls.make(asyncio.Event().wait)) for _ in range(5)]
        await asyncio.sleep(0)
        await calls.close()
        await calls.close()
        return await asyncio.gather(*asked, calls.make(asyncio.Event().wait), return_exceptions=True)

    said = asyncio.run(run())

    assert {(type(e), str(e)) for e in said} == {
        (ProviderError, "the server was closed before it answered: connect it again to ask it more")
    }
    assert len(said) == 6


def test_a_turn_that_comes_in_the_moment_of_closing_is_not_used():
    async def run():
        calls, made = Calls("the server", Limits(concurrency=1)), []

        async def call():
            await asyncio.sleep(0)
            made.append(asyncio.create_task(calls.close()))  # it runs between the end of this call and the turn of the next
            return ANSWER

        first, second = asyncio.create_task(calls.make(call)), asyncio.create_task(calls.make(call))
        said = await asyncio.gather(first, second, return_exceptions=True)
        await asyncio.gather(*made)
        return len(made), said

    made, (first, second) = asyncio.run(run())

    assert (made, first) == (1, ANSWER)
    assert "was closed before it answered" in str(second)


def test_settings_say_how_a_server_is_treated():
    limits = Limits.of(Settings(_env_file=None, REQUEST_TIMEOUT=7.0, REQUEST_RETRIES=4))

    assert (limits.timeout, limits.retries, limits.concurrency, limits.failures, limits.cool_down) == (7.0, 4, 16, 5, 30.0)
