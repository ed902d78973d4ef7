import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ProviderError
from core.providers.remote import (
    chat_messages,
    finish_of,
    is_worth_retrying,
    load,
    require,
    retry_after,
    together,
    without_prefix,
)
from core.types import Message, Request

QUESTION = (Message("system", "Be brief."), Message("user", "Solve 17*6+23"))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (" 30 ", 30.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 480.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 09:28:00 +0200", 480.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e999", None),
        ("7 minutes", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_the_time_that_a_server_wants_to_be_left_alone_is_a_number_or_a_date(said, seconds):
    assert retry_after({"retry-after": said}, now=1445412000.0) == seconds


def test_a_server_that_wants_no_time_gets_none():
    assert retry_after({}, now=0.0) is None


@given(st.text(max_size=40))
def test_whatever_a_server_says_for_a_time_is_a_time_or_none(said):
    seconds = retry_after({"retry-after": said}, now=1445412000.0)

    assert seconds is None or seconds >= 0.0


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_be_another_answer_later_is_worth_retrying(status):
    assert is_worth_retrying(status)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_what_stays_the_same_is_not_worth_retrying(status):
    assert not is_worth_retrying(status)


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
