import json
from dataclasses import FrozenInstanceError

import pytest

from core.errors import TaskError
from core.types import Domain, Evidence, NodeRecord, Outcome, Split, Task, Trace, Usage, Verdict, best_first, normalise_prompt

PASS = Verdict(Outcome.PASS, 1.0, "right", Evidence.REFERENCE)
FAIL = Verdict(Outcome.FAIL, 0.0, "wrong", Evidence.REFERENCE)


def trace(verdict=PASS, reward=1.0, **changes):
    task = Task("Solve 2+2", Domain.MATH, reference="4", metadata={"source": "book"})
    values = {
        "id": "t1",
        "run_id": "r1",
        "task": task,
        "worker": "math",
        "directive": "solve",
        "model": "scripted",
        "fingerprint": None,
        "text": "2 + 2 = 4\nAnswer: 4",
        "answer": "4",
        "steps": ("2 + 2 = 4", "Answer: 4"),
        "verdict": verdict,
        "reward": reward,
    }
    return Trace(**{**values, **changes})


def test_a_record_answers_by_attribute_and_by_key():
    t = trace()

    assert t.reward == t["reward"] == t.get("reward") == 1.0
    assert t.domain == t["domain"] == Domain.MATH == "math"
    assert (t["verified"], t["query"], t["final_output"]) == (True, "Solve 2+2", t.text)
    assert t["task_metadata"] == {"source": "book", "expected": "4"}


@pytest.mark.parametrize("key", ["rewards", "", "_x", "__class__", "replace", "keys", "as_dict", 0, None])
def test_what_is_no_field_is_a_key_error(key):
    t = trace()

    with pytest.raises(KeyError):
        t[key]
    assert key not in t
    assert t.get(key, "none") == "none"


def test_a_record_knows_its_keys():
    usage = Usage(1, 2, 3, 0.5)

    assert "calls" in usage
    assert dict(usage) == {"calls": 1, "prompt_tokens": 2, "completion_tokens": 3, "cost": 0.5}


def test_a_record_does_not_change_and_a_changed_one_is_a_copy():
    t = trace()

    with pytest.raises(FrozenInstanceError):
        t.reward = 0.0
    assert (t.replace(reward=0.5).reward, t.reward) == (0.5, 1.0)


def test_a_record_as_a_dictionary_is_ready_for_json():
    told = json.loads(json.dumps(trace().as_dict()))

    assert told["task"]["domain"] == "math"
    assert told["verdict"]["outcome"] == "pass"
    assert told["split"] == Split.TRAIN
    assert json.loads(json.dumps(NodeRecord("0.1", "x", 1, 0.5, True, Outcome.FAIL).as_dict()))["path"] == "0.1"


def test_what_utf8_can_not_hold_is_mended_before_anything_is_made_of_it():
    half, whole = Task("half \ud83d", Domain.MATH, reference="\udc00"), Task("whole \ud83d\ude00", Domain.MATH, key="\ud83d\ude00")

    assert (half.prompt, half.reference, half.key) == ("half \ufffd", "\ufffd", "half \ufffd")
    assert (whole.prompt, whole.key) == ("whole \U0001f600", "\U0001f600")
    assert half.id == Task("half \ufffd", Domain.MATH).id


def test_case_and_spacing_make_no_new_problem():
    one, other = Task("Who  wrote\nHamlet?", "factual"), Task(" who wrote hamlet? ", Domain.FACTUAL)

    assert one.key == other.key == normalise_prompt(one.prompt)
    assert one.id == other.id
    assert one.id != Task("Who wrote Hamlet?", Domain.LOGIC).id


def test_the_id_of_a_task_is_the_same_on_every_machine():
    assert Task("Solve 17*6+23", Domain.MATH, key="math:17*6+23").id == "d9d4e7a7c9a4c243"


@pytest.mark.parametrize(
    ("prompt", "domain", "message"), [("  ", "math", "empty"), (5, "math", "not int"), ("x", "maths", "choose one of math")]
)
def test_a_task_that_can_not_be_used_is_a_task_error(prompt, domain, message):
    with pytest.raises(TaskError, match=message):
        Task(prompt, domain)


def test_usage_adds_up_and_an_unknown_cost_stays_unknown():
    assert Usage(1, 10, 5) + Usage(1, 1, 1) == Usage(2, 11, 6, None)
    assert Usage(1, 10, 5, 0.25) + Usage(1, 1, 1) == Usage(2, 11, 6, 0.25)


def test_only_pass_is_passed():
    assert [Verdict(outcome, None, "").passed for outcome in Outcome] == [outcome is Outcome.PASS for outcome in Outcome]


def test_verified_comes_before_reward_and_an_unknown_reward_last():
    unknown = trace(Verdict(Outcome.ABSTAIN, None, ""), None, id="unknown")
    wrong, right, flawless = trace(FAIL, 0.2, id="wrong"), trace(PASS, 0.6, id="right"), trace(PASS, 1.0, id="flawless")

    assert [t.id for t in best_first([unknown, wrong, right, flawless])] == ["flawless", "right", "wrong", "unknown"]
