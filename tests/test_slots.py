"""Slots: read in microseconds, written by compare-and-set, and never served wrongly when something is damaged."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from core import slots
from core.errors import AdapterError, ConfigError
from core.slots import Slot, choose, locate, read, serving, write

MATH = Slot("math", "embedded", champion="math@2", previous="math@1")


def test_a_slot_reads_back_as_it_was_written(tmp_path: Path):
    written = write(tmp_path, MATH, 0)

    assert written == MATH.replace(epoch=1) == read(tmp_path, "math")
    assert slots.names(tmp_path) == ["math"]


def test_each_change_adds_one_to_the_epoch_and_is_seen_at_the_next_read(tmp_path: Path):
    write(tmp_path, MATH, 0)
    for epoch in range(1, 20):
        assert read(tmp_path, "math").epoch == epoch
        write(tmp_path, MATH.replace(share=epoch / 100), epoch)

    assert (read(tmp_path, "math").epoch, read(tmp_path, "math").share) == (20, 0.19)


def test_a_slot_that_did_not_change_is_not_parsed_again(tmp_path: Path):
    write(tmp_path, MATH, 0)

    assert read(tmp_path, "math") is read(tmp_path, "math")


def test_of_two_who_decide_on_the_same_epoch_the_second_is_told(tmp_path: Path):
    write(tmp_path, MATH, 0)
    write(tmp_path, MATH.replace(champion="math@3"), 1)

    with pytest.raises(AdapterError, match=r"has changed \(epoch 2, not 1\): read it again"):
        write(tmp_path, MATH.replace(champion="math@4"), 1)
    assert read(tmp_path, "math").champion == "math@3"


def test_a_slot_is_not_made_twice_and_not_changed_before_it_is_made(tmp_path: Path):
    with pytest.raises(AdapterError, match="is not there"):
        write(tmp_path, MATH, 3)
    write(tmp_path, MATH, 0)
    with pytest.raises(AdapterError, match="has changed"):
        write(tmp_path, MATH, 0)


def test_of_many_writers_at_once_one_wins_each_epoch(tmp_path: Path):
    write(tmp_path, MATH, 0)
    won: list[int] = []
    refused: list[str] = []

    def change(number: int) -> None:
        for epoch in range(1, 11):
            try:
                won.append(write(tmp_path, MATH.replace(champion=f"math@{number}"), epoch).epoch)
            except AdapterError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == len(set(won))
    assert read(tmp_path, "math").epoch == max(won)
    assert all("has changed" in told for told in refused)


def test_what_is_raised_before_the_change_leaves_the_slot_as_it_was(tmp_path: Path):
    write(tmp_path, MATH, 0)

    def refuse(new: Slot) -> None:
        assert new.epoch == 2
        raise AdapterError("no")

    with pytest.raises(AdapterError, match="no"):
        write(tmp_path, MATH.replace(champion=None), 1, before=refuse)
    assert read(tmp_path, "math") == MATH.replace(epoch=1)
    assert [path.name for path in (tmp_path / "slots").iterdir() if not path.name.endswith(".lock")] == ["math.json"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text.replace("math@2", "math@1"),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "sha256"}),
        lambda text: json.dumps({**json.loads(text), "colour": "red"}),
        lambda text: "[]",
        lambda text: text.replace("0.0", "7.0"),
    ],
)
def test_a_damaged_slot_serves_nothing(spoil, tmp_path: Path):
    write(tmp_path, MATH, 0)
    path = tmp_path / "slots" / "math.json"
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")

    for look in (lambda: read(tmp_path, "math"), lambda: serving(tmp_path, "math", "x")):
        with pytest.raises(AdapterError, match=r"math\.json is damaged"):
            look()


def test_a_slot_that_was_read_and_is_removed_serves_nothing_either(tmp_path: Path):
    write(tmp_path, MATH, 0)
    read(tmp_path, "math")
    (tmp_path / "slots" / "math.json").unlink()

    with pytest.raises(AdapterError, match="there is no slot math"):
        serving(tmp_path, "math", "x")


def test_what_is_missing_is_told(tmp_path: Path):
    with pytest.raises(AdapterError, match="there is no registry"):
        read(tmp_path / "none", "math")
    write(tmp_path, Slot("code", "embedded"), 0)
    with pytest.raises(AdapterError, match=r"no slot math in .* \(there: code\)"):
        read(tmp_path, "math")


@pytest.mark.parametrize("name", ["", "Math", "a/b", "../x", "slots", "a" * 65, "math@7", ".hidden"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="can't be a name"):
        read(tmp_path, name)


@pytest.mark.parametrize("reference", ["math", "math@0", "math@", "@7", "math@7.5", "slots@1", "math@07", "../math@7"])
def test_a_reference_that_is_none_is_refused(reference: str):
    with pytest.raises(ConfigError, match=r"is no adapter reference|can't be a name"):
        Slot("math", "embedded", champion=reference)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"share": 1.5}, "choose one from 0 to 1"), ({"share": float("nan")}, "choose one from 0 to 1"), ({"base": " "}, "has no base")],
)
def test_values_out_of_range_are_refused(changes, told: str):
    with pytest.raises(ConfigError, match=told):
        MATH.replace(**changes)


def test_a_slot_does_not_stand_on_another():
    with pytest.raises(ConfigError, match="and no other slot"):
        Slot("math", "slot:code")


def test_the_champion_serves_and_without_one_the_base(tmp_path: Path):
    write(tmp_path, Slot("math", "ollama:qwen3:0.6b"), 0)
    served = serving(tmp_path, "math", "x")
    assert (served.spec, served.arm, served.reference, served.epoch) == ("ollama:qwen3:0.6b", "base", None, 1)

    write(tmp_path, MATH, 1)
    served = serving(tmp_path, "math", "x")
    assert (served.spec, served.arm, served.reference, served.epoch) == ("adapter:math@2", "champion", "math@2", 2)


@pytest.mark.parametrize(
    ("base", "spec"), [("ollama:qwen3:0.6b", "ollama:math:v2"), ("litellm:openai/base", "litellm:openai/math@2"), ("./m", "adapter:math@2")]
)
def test_an_adapter_is_served_there_where_its_base_is(base: str, spec: str):
    assert choose(MATH.replace(base=base), "x").spec == spec


def test_the_canary_gets_its_share_and_each_key_keeps_its_arm():
    slot = MATH.replace(canary="math@3", share=0.1)
    keys = [f"session {number}" for number in range(4000)]

    arms = [choose(slot, key).arm for key in keys]

    assert 0.08 < arms.count("canary") / len(keys) < 0.12
    assert arms == [choose(slot.replace(epoch=9, previous=None, champion="math@9"), key).arm for key in keys]


def test_a_larger_share_takes_no_key_from_the_canary():
    slot = MATH.replace(canary="math@3", share=0.1)
    keys = [f"session {number}" for number in range(1000)]

    small, large = ({key for key in keys if choose(slot.replace(share=share), key).arm == "canary"} for share in (0.1, 0.3))

    assert small < large


def test_another_canary_gets_other_keys():
    keys = [f"session {number}" for number in range(1000)]

    first, second = ({key for key in keys if choose(MATH.replace(canary=c, share=0.5), key).arm == "canary"} for c in ("math@3", "math@4"))

    assert 0.35 < len(first & second) / len(first) < 0.65


@pytest.mark.parametrize(("share", "arms"), [(0.0, {"champion"}), (1.0, {"canary"})])
def test_nothing_and_everything_are_shares(share: float, arms: set[str]):
    slot = MATH.replace(canary="math@3", share=share)

    assert {choose(slot, f"key {number}").arm for number in range(200)} == arms


def test_a_version_is_found_by_its_number(tmp_path: Path):
    for name in ("7-00000000", "17-00000000", ".part-7"):
        (tmp_path / "math" / name).mkdir(parents=True)

    assert locate(tmp_path, "math@7") == tmp_path / "math" / "7-00000000"
    with pytest.raises(AdapterError, match="math has 7, 17"):
        locate(tmp_path, "math@8")
    with pytest.raises(AdapterError, match="there is no adapter code"):
        locate(tmp_path, "code@7")
    with pytest.raises(AdapterError, match="there is no registry"):
        locate(tmp_path / "none", "math@7")


def test_a_version_that_is_there_twice_is_not_guessed(tmp_path: Path):
    for name in ("7-00000000", "7-11111111"):
        (tmp_path / "math" / name).mkdir(parents=True)

    with pytest.raises(AdapterError, match="is there 2 times"):
        locate(tmp_path, "math@7")
