import asyncio
import random

import pytest

from core.errors import ProviderError
from core.providers.remote import (
    LONGEST_PAUSE,
    Transient,
    chat_messages,
    finish_of,
    load,
    require,
    together,
    with_retries,
    without_prefix,
)
from core.types import Message, Request

QUESTION = (Message("system", "Be brief."), Message("user", "Solve 17*6+23"))


class Server:
    """Fails as told, then answers; `pauses` are the waits between the tries."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.pauses: list[float] = []

    async def call(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "125"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def ask(self, retries: int, base: float = 1.0) -> str:
        return asyncio.run(with_retries(self.call, retries, random.Random(3), base, self.sleep))


def test_an_answer_at_once_takes_one_call():
    server = Server()

    assert server.ask(retries=2) == "125"
    assert (server.calls, server.pauses) == (1, [])


def test_a_failure_that_passes_is_tried_again_after_growing_spread_pauses():
    server = Server(Transient("busy"), Transient("busy"), Transient("busy"))

    assert server.ask(retries=3) == "125"
    assert server.calls == 4
    for pause, middle in zip(server.pauses, (1.0, 2.0, 4.0), strict=True):
        assert 0.5 * middle <= pause <= 1.5 * middle


def test_the_same_random_source_gives_the_same_pauses():
    first, second = Server(Transient("busy")), Server(Transient("busy"))

    first.ask(retries=1)
    second.ask(retries=1)

    assert first.pauses == second.pauses


def test_a_server_that_says_how_long_to_wait_is_given_that_time_within_reason():
    polite, absurd = Server(Transient("busy", after=7.0)), Server(Transient("busy", after=86_400.0))

    polite.ask(retries=1)
    absurd.ask(retries=1)

    assert polite.pauses == [7.0]
    assert absurd.pauses == [LONGEST_PAUSE]


def test_when_the_tries_run_out_the_error_says_how_many_there_were():
    server = Server(*[Transient("the server is busy")] * 5)

    with pytest.raises(ProviderError, match=r"the server is busy \(3 tries\)") as raised:
        server.ask(retries=2)

    assert server.calls == 3
    assert not isinstance(raised.value, Transient)


def test_with_no_retries_the_first_failure_is_the_last():
    server = Server(Transient("the server is busy"))

    with pytest.raises(ProviderError, match=r"^the server is busy$"):
        server.ask(retries=0)


@pytest.mark.parametrize("failure", [ProviderError("no such model"), ZeroDivisionError("a bug")])
def test_a_failure_that_will_not_pass_is_not_tried_again(failure):
    server = Server(failure)

    with pytest.raises(type(failure)):
        server.ask(retries=5)

    assert server.calls == 1


def test_requests_made_together_come_back_in_order():
    async def slowly(value: int) -> int:
        for _ in range(10 - value):
            await asyncio.sleep(0)
        return value

    async def ask() -> list[int]:
        return await together([slowly(i) for i in range(5)])

    assert asyncio.run(ask()) == [0, 1, 2, 3, 4]


def test_the_first_failure_cancels_the_requests_beside_it_and_comes_out_as_it_is():
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ProviderError("no such model")

    async def ask() -> None:
        await together([forever(), fails(), forever()])

    with pytest.raises(ProviderError, match="no such model"):
        asyncio.run(ask())
    assert cancelled == [True, True]


def test_a_conversation_goes_to_the_server_as_it_is():
    assert chat_messages(Request(QUESTION)) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Solve 17*6+23"},
    ]


def test_begun_work_is_shown_in_the_last_user_turn_with_the_wish_to_go_on():
    *before, last = chat_messages(Request(QUESTION, prefix="17 * 6 = 102\n"))

    assert [m["role"] for m in before] == ["system"]
    assert last["role"] == "user"
    assert last["content"].startswith("Solve 17*6+23\n\n")
    assert "17 * 6 = 102\n" in last["content"]
    assert "Don't repeat" in last["content"]


def test_begun_work_gets_a_turn_of_its_own_after_an_assistants_turn():
    talk = (*QUESTION, Message("assistant", "125"), Message("tool", "right"))

    messages = chat_messages(Request(talk, prefix="So"))

    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "user"]


def test_forbidding_a_first_token_is_for_models_in_process():
    with pytest.raises(ProviderError, match="banned_start needs an in-process model"):
        chat_messages(Request(QUESTION, banned_start="17"))


@pytest.mark.parametrize(
    ("text", "prefix", "rest"),
    [
        ("102 + 23 = 125", "17 * 6 = 102\n", "102 + 23 = 125"),
        ("17 * 6 = 102\n102 + 23 = 125", "17 * 6 = 102\n", "102 + 23 = 125"),
        ("17 * 6 is 102", "17 * 6 = 102\n", "17 * 6 is 102"),
        (" as it is", "", " as it is"),
        ("\n as it is", "\n", "\n as it is"),
    ],
)
def test_work_that_a_server_repeats_is_taken_off(text, prefix, rest):
    assert without_prefix(text, prefix) == rest


@pytest.mark.parametrize(
    ("reason", "text", "stop", "finish"),
    [
        ("stop", "125", (), "end"),
        ("stop", "17 * 6 = 102", ("\n",), "stop"),
        ("stop", "", ("\n",), "end"),
        ("stop", "  ", ("\n",), "end"),
        ("length", "17 * 6 =", (), "length"),
        ("length", "17 * 6 =", ("\n",), "length"),
        (None, "125", (), "end"),
    ],
)
def test_how_a_servers_completion_ended(reason, text, stop, finish):
    assert finish_of(reason, text, stop) == finish


def test_a_missing_package_is_told_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ollama", None)

    with pytest.raises(ProviderError, match=r'pip install "ratchet-agents\[ollama\]"'):
        load("ollama")
    with pytest.raises(ProviderError, match="needs the package ollama"):
        require("ollama")
