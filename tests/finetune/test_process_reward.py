"""Step values: learned from verdicts, used only when they are calibrated on trees of other tasks, and never a verifier."""

from __future__ import annotations

import json
import pickle
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_trees import Guided, by_chance, trees

from core.apps.cli import main
from core.config import Settings
from core.errors import ConfigError, TrainingError
from core.judging import Judging
from core.process_reward import FILE, calibrate, features, fingerprint, load
from core.registry import VERIFIERS
from core.types import Completion, Domain, Evidence, NodeRecord, Outcome, Split, Task, Trace, Verdict
from core.verifiers import verify
from finetune.process_reward import REPORT, TRAIN, examples, fold_of, train
from logs.store import TraceStore

ASKED = Task("What is 900+17?", Domain.CREATIVE)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    out = tmp_path_factory.mktemp("values")
    return train(trees(150), out), out


def test_a_good_step_is_worth_more_than_a_bad_one_about_as_much_as_it_is(learned):
    made, out = learned
    value = load(out)

    assert made.calibrated
    assert 0.7 < value(ASKED, "carry the one 3\n") <= 1
    assert 0 <= value(ASKED, "guess a number 4\n") < 0.3


def test_its_worth_is_measured_on_tasks_it_has_not_seen(learned):
    made, _ = learned

    assert made.quality.brier < made.quality.base_brier
    assert made.quality.worst_gain > 0
    assert made.quality.calibration_error < 0.1
    assert made.quality.rank > 0.6
    assert made.quality.within > 0.6
    assert made.quality.tasks == len({run.task.id for run in trees(150) if fold_of(run.task) == REPORT})


def test_steps_that_tell_nothing_are_refused_when_loaded(tmp_path):
    made = train(trees(150, by_chance), tmp_path)

    assert not made.calibrated
    assert "not surely better than the base rate" in made.reason
    with pytest.raises(ConfigError, match=r"not calibrated and guide no search: .*base rate"):
        load(tmp_path)


@pytest.mark.slow
def test_chance_is_refused_whatever_the_seed(tmp_path):
    made = [train(trees(120, by_chance, seed=seed), tmp_path / str(seed), seed=seed) for seed in range(12)]

    assert sum(one.calibrated for one in made) <= 1


def test_targets_are_verdicts_and_no_value_that_a_search_backed_up(tmp_path):
    low = train(trees(120, value=0.0), tmp_path / "low")
    high = train(trees(120, value=1.0), tmp_path / "high")

    assert low.path.read_bytes() == high.path.read_bytes()


def test_runs_that_a_process_reward_guided_are_left_out_unless_asked_for(tmp_path):
    guided = trees(150, kind=Guided)

    with pytest.raises(TrainingError, match="150 left out because a process reward guided them"):
        train(guided, tmp_path)
    assert train(guided, tmp_path, guided=True).counts["runs"] == 150
    assert train([*trees(150), *guided], tmp_path).path.read_bytes() != train(trees(150), tmp_path / "alone").path.read_bytes()
    assert json.loads((tmp_path / FILE).read_text())["weights"] == json.loads((tmp_path / "alone" / FILE).read_text())["weights"]


def test_a_target_is_the_share_of_verified_answers_below_and_unknown_ones_say_nothing():
    (run,) = trees(1)
    outcomes = {"0.0": Outcome.PASS, "0.1": Outcome.FAIL, "0.2": Outcome.ABSTAIN, "0.3.0": Outcome.PASS, "0.3.1": Outcome.ERROR}
    nodes = [NodeRecord("", "", 1, 0.5, False), NodeRecord("0", "a\n", 1, 0.5, False), NodeRecord("0.3", "b\n", 1, 0.5, False)]
    nodes += [NodeRecord(path, "c", 1, 0.5, True, outcome) for path, outcome in outcomes.items()]

    found = {example.text: (example.target, example.count) for example in examples(run.replace(nodes=tuple(nodes)))}

    assert found == {"a\n": (2 / 3, 3), "a\nb\n": (1.0, 1)}


def test_the_newest_verdict_of_an_answer_is_its_target():
    (run,) = trees(1)
    nodes = (NodeRecord("", "", 1, 0.5, False), NodeRecord("0", "a\n", 1, 0.5, False), NodeRecord("0.0", "c", 1, 0.5, True, Outcome.PASS))
    rescored = Verdict(Outcome.FAIL, 0.0, "wrong after all", Evidence.REFERENCE)
    trace = Trace("t", run.id, run.task, "w", "d", "m", None, "a\nc", "c", ("a", "c"), rescored, 0.0, node="0.0")

    assert [example.target for example in examples(run.replace(nodes=nodes, traces=(trace,)))] == [0.0]


def test_a_damaged_tree_gives_what_can_be_read_of_it():
    (run,) = trees(1)
    orphan = NodeRecord("7.1.2", "c", 1, 0.5, True, Outcome.PASS)

    assert examples(run.replace(nodes=(orphan,))) == []
    assert examples(run.replace(nodes=())) == []


def test_a_task_keeps_its_fold_and_held_out_tasks_never_train():
    tasks = [Task(f"{i}?", Domain.MATH) for i in range(400)]
    from core.tasks.splits import split_of

    assert [fold_of(task) for task in tasks] == [fold_of(task.replace(prompt=f"Solve {task.prompt}")) for task in tasks]
    assert all(split_of(task) is Split.TRAIN for task in tasks if fold_of(task) == TRAIN)


def test_too_few_trees_are_an_error_that_says_how_many_are_needed(tmp_path):
    with pytest.raises(TrainingError, match=r"\d+ tasks to train have trees .* and 40 are needed \(20 runs read"):
        train(trees(20), tmp_path)
    with pytest.raises(TrainingError, match="nothing to tell apart"):
        train(trees(150, lambda good, rng: True), tmp_path)


def test_what_is_not_whole_is_not_loaded(learned, tmp_path):
    content = json.loads(learned[0].path.read_text())
    forged = {**json.loads((learned[1] / FILE).read_text()), "bias": 9.0}
    infinite = {**content, "bias": float("inf")}
    unsorted = {**content, "scores": content["scores"][::-1]}
    for bad in (b"", b"{", b"[]", b"[" * 100_000, pickle.dumps({}), json.dumps(forged).encode(), b'{"format": 1}'):
        (tmp_path / FILE).write_bytes(bad)
        with pytest.raises(ConfigError, match="holds no step values"):
            load(tmp_path)
    for bad in (infinite, unsorted, {**content, "values": []}, {**content, "weights": []}):
        (tmp_path / FILE).write_text(json.dumps({**bad, "fingerprint": fingerprint(bad)}))
        with pytest.raises(ConfigError, match="holds no step values"):
            load(tmp_path)
    with pytest.raises(ConfigError, match="can't read step values"):
        load(tmp_path / "nothing")


def test_calibrated_true_written_by_hand_is_noticed(tmp_path):
    made = train(trees(120, by_chance), tmp_path)
    made.path.write_text(made.path.read_text().replace('"calibrated": false', '"calibrated": true'))

    with pytest.raises(ConfigError, match="does not match its fingerprint"):
        load(tmp_path)


def test_it_guides_a_search_and_changes_no_verdict_and_no_reward():
    plain, guided = (Judging(verify, Settings(), process=process) for process in (None, lambda task, text: 1.0))
    task = Task("Solve 6*7", Domain.MATH, reference="42")

    for text in ("Answer: 42", "Answer: 41", ""):
        one, other = (judging.verdict(task, text, complete=True) for judging in (plain, guided))
        assert one.replace(milliseconds=0.0) == other.replace(milliseconds=0.0)
        assert plain.reward(task, text, one, 1) == guided.reward(task, text, other, 1)
    assert plain.promise(task, "so", Completion("so"), 0.5) is None
    assert guided.promise(task, "so", Completion("so"), 0.5) == 1.0
    assert guided.promise(task, "6*7=43\n", Completion("6*7=43"), 0.5) == 0.0
    assert not any("process_reward" in row for row in VERIFIERS.values())


def test_calibration_never_turns_round(learned):
    value = load(learned[1])

    said = [calibrate(score / 10, value.scores, value.values) for score in range(-100, 101)]

    assert all(one <= other for one, other in pairwise(said))


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=300), st.text(min_size=1, max_size=60).filter(str.strip))
def test_any_text_has_a_value(learned, text, prompt):
    value = load(learned[1])
    task = Task(prompt, random.Random(text).choice(list(Domain)))

    assert 0 <= value(task, text) <= 1
    assert features(task, text) == features(task, text)


def test_ten_megabytes_and_half_a_character_have_a_value(learned):
    value = load(learned[1])

    for text in ("", "x" * 10_000_000, "\n" * 1_000_000, "(" * 100_000, "\ud800", "\x00"):
        assert 0 <= value(ASKED, text) <= 1


def test_the_command_trains_from_the_store_and_says_how_to_use_it(tmp_path, capsys):
    with TraceStore(tmp_path / "logs") as store:
        for run in trees(150):
            store.put(run)

    assert main(["train-values", "--log-dir", str(tmp_path / "logs"), "--out", str(tmp_path / "values")]) == 0
    assert "Settings(PROCESS_REWARD=" in capsys.readouterr().out.replace("\n", "")
    assert load(tmp_path / "values")(ASKED, "carry the one\n") > 0.7
    assert main(["train-values", "--log-dir", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "no traces in" in capsys.readouterr().err
