"""Two back ends are compared answer by answer, and what differs is shown."""

from __future__ import annotations

import pytest

from core.errors import AdapterError, ConfigError
from core.providers.scripted import ScriptedModel
from finetune.parity import Difference, Parity, answers, compare, require


def test_equal_answers_are_counted_and_the_first_other_one_is_shown_with_its_place():
    found = compare(["a", "b", "c"], ["1 + 1 = 2", "x", "same"], ["1 + 1 = 3", "y", "same\n"])

    assert found == Parity(3, 1, Difference("a", "1 + 1 = 2", "1 + 1 = 3", 8))
    assert found.share == pytest.approx(1 / 3)
    assert found.told() == "1 of 3 greedy answers are equal; the first difference: 'a' is answered '1 + 1 = 2' and '1 + 1 = 3'"


def test_an_answer_that_goes_on_differs_where_the_other_ends():
    assert compare(["a"], ["12"], ["123"]).first.place == 2


def test_the_tolerance_is_how_many_must_be_equal():
    parity = compare("abcd", ["1", "2", "3", "4"], ["1", "2", "3", "5"])

    require(parity, 0.75, "the copy")
    with pytest.raises(AdapterError, match=r"^the copy: 3 of 4 greedy answers are equal; .* asked were 80%$"):
        require(parity, 0.8, "the copy")


def test_the_same_model_is_at_parity_with_itself_and_another_is_not():
    one = answers(ScriptedModel(["yes", "yes"]), ["a", "b"])

    assert compare(["a", "b"], one, answers(ScriptedModel(["yes", "yes"]), ["a", "b"])).first is None
    assert compare(["a", "b"], one, answers(ScriptedModel(["no", "no"]), ["a", "b"])).equal == 0


@pytest.mark.parametrize("prompts", [[], ["a", " "]])
def test_nothing_to_ask_is_told(prompts):
    with pytest.raises(ConfigError, match="at least one prompt"):
        answers(ScriptedModel(["yes", "yes"]), prompts)


@pytest.mark.parametrize("least", [-0.1, 1.5, float("nan")])
def test_a_share_that_can_not_be_is_told(least):
    with pytest.raises(ConfigError, match="choose one from 0 to 1"):
        require(Parity(1, 1), least, "it")
