"""What people say of answers, from the command line to the rows: labels, vetoes, gold answers, preferences, the router."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_traces import failed, problems, run_of, solved

from core.apps.cli import main
from core.errors import TrainingError
from core.types import NodeRecord, Outcome, Run, Split, Trace, Verdict
from core.verifiers import verify
from finetune.build import build_dataset
from finetune.dataset import Dataset, load
from finetune.plan import Plan
from logs.corrections import said_by_people
from logs.store import TraceStore

MATH = problems(6)
UNJUDGED = Verdict(Outcome.ABSTAIN, None, "no reference")


def unjudged(place: int, **changes) -> Trace:
    return solved(MATH[place], verdict=UNJUDGED, reward=None, **changes)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def keep(logs: Path, *runs: Run) -> None:
    with TraceStore(logs, redact=None) as store:
        for run in runs:
            store.put(run)
        store.flush()


def say(logs: Path, name: str, *words: str, edit: str | None = None) -> None:
    if edit is not None:
        (logs.parent / "edit.txt").write_text(edit, encoding="utf-8")
        words = (*words, "--edit", str(logs.parent / "edit.txt"))
    assert main(["traces", "feedback", name, "--log-dir", str(logs), *words]) == 0


def built(logs: Path, kind: str, *flags: str) -> Dataset:
    out = logs.parent / f"{kind}{''.join(flags)}"
    assert main(["data", "build", "--log-dir", str(logs), "--out", str(out), "--kind", kind, *flags]) == 0
    return load(out)


def fell(dataset: Dataset) -> dict[str, int]:
    return {sieve.name: sieve.dropped for sieve in dataset.funnel.sieves if sieve.dropped}


def test_a_thumb_labels_what_no_check_decided_and_a_rating_is_one(logs: Path):
    traces = [unjudged(place) for place in range(4)]
    keep(logs, *map(run_of, traces))
    say(logs, traces[0].id, "--up")
    say(logs, traces[1].id, "--rating", "1")
    say(logs, traces[2].id, "--rating", "3")

    rows = {row.trace_id: row.label for row in built(logs, "kto")}

    assert rows == {traces[0].id: True, traces[1].id: False}


def test_a_thumb_on_a_run_is_of_the_answer_that_it_gave(logs: Path):
    best, other = solved(MATH[0]), failed(MATH[0])
    keep(logs, run_of(best, other), run_of(solved(MATH[1])))
    say(logs, best.run_id, "--down")

    dataset = built(logs, "sft")

    assert [row.trace_id for row in dataset] == [solved(MATH[1]).id]
    assert fell(dataset)["people are against it"] == 1
    assert dataset.facts["said"] == {"thumbs and ratings": 1}
    assert "said by people: thumbs and ratings 1" in (dataset.folder / "card.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["kto", "dpo"])
def test_a_thumb_against_a_verdict_takes_the_answer_out_on_either_side(logs: Path, kind: str):
    for place in (0, 1, 2):
        keep(logs, run_of(solved(MATH[place]), failed(MATH[place])))
    say(logs, solved(MATH[0]).id, "--rating", "1")
    say(logs, failed(MATH[1]).id, "--up")

    dataset = built(logs, kind)

    used = {i for row in dataset for i in row.trace_ids}
    assert used.isdisjoint({solved(MATH[0]).id, failed(MATH[1]).id})
    assert used >= {solved(MATH[2]).id, failed(MATH[2]).id}
    assert fell(dataset)["people are against it"] == 2


def test_an_edit_is_gold_and_preferred_and_its_original_is_no_example(logs: Path):
    trace = solved(MATH[0])
    keep(logs, run_of(trace), run_of(solved(MATH[1])))
    say(logs, trace.id, edit="Clearer words.\nAnswer: 7")

    gold, pairs = built(logs, "sft"), built(logs, "dpo")

    assert {row.trace_id: row.completion for row in gold}[trace.id] == "Clearer words.\nAnswer: 7"
    assert fell(gold) == {"rewritten by a person": 1}
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("Clearer words.\nAnswer: 7", trace.text)]


@pytest.mark.parametrize("strategy", ["self_consistency", "lats"])
def test_an_edit_of_a_run_is_of_its_answer_where_nothing_was_verified_too(logs: Path, strategy: str):
    given = [unjudged(0, id=f"{n}", answer=answer, text=f"Answer: {answer}", node=f"{n}") for n, answer in enumerate(("5", "6", "6"))]
    keep(logs, run_of(*given).replace(strategy=strategy))
    say(logs, given[0].run_id, edit="It is seven.\nAnswer: 7")

    pairs = list(built(logs, "dpo"))

    assert [(pair.chosen, pair.rejected, pair.rejected_id) for pair in pairs] == [("It is seven.\nAnswer: 7", "Answer: 6", "1")]


@pytest.mark.parametrize("others", [1, 0], ids=["beside a worse answer", "alone"])
def test_an_edit_that_the_recheck_refutes_is_preferred_to_nothing(logs: Path, tmp_path: Path, others: int):
    first, second = solved(MATH[0]), solved(MATH[1])
    keep(logs, run_of(first, *[failed(MATH[0])] * others), run_of(second))
    say(logs, first.id, edit="Quite wrong.\nAnswer: -999")
    say(logs, second.id, edit=f"Said better.\n{second.text}")

    dataset = build_dataset(logs, tmp_path / "d", Plan(kind="dpo"), recheck=verify)

    chosen = {pair.chosen for pair in dataset}
    assert f"Said better.\n{second.text}" in chosen
    assert chosen <= {f"Said better.\n{second.text}", first.text}
    assert fell(dataset)["not confirmed on re-check"] == 1


def test_of_two_edits_the_later_one_stands_and_a_withdrawn_one_does_not(logs: Path):
    first, second = solved(MATH[0]), solved(MATH[1])
    keep(logs, run_of(first), run_of(second))
    say(logs, first.id, "--who", "ann", edit="Ann's")
    say(logs, first.id, "--who", "bob", edit="Bob's")
    say(logs, second.id, "--who", "ann", edit="Taken back")
    say(logs, second.id, "--who", "ann", "--withdraw")

    assert {row.completion for row in built(logs, "sft")} == {"Bob's", second.text}


def test_a_person_ends_what_was_cut_off_and_that_is_gold_but_no_pair(logs: Path):
    cut = solved(MATH[0], text="1 + 1 =", complete=False, verdict=Verdict(Outcome.FAIL, 0.0, "cut off"), reward=0.0)
    keep(logs, run_of(cut), run_of(solved(MATH[1]), failed(MATH[1])))
    say(logs, cut.id, edit="1 + 1 = 2\nAnswer: 2")

    assert "1 + 1 = 2\nAnswer: 2" in [row.completion for row in built(logs, "sft")]
    assert [pair.task_id for pair in built(logs, "dpo")] == [MATH[1].task.id]


def test_what_people_said_can_be_left_out_and_what_is_given_goes_over_it(logs: Path):
    trace = solved(MATH[0])
    keep(logs, run_of(trace))
    say(logs, trace.id, edit="The store's")

    assert [row.completion for row in built(logs, "sft", "--no-feedback")] == [trace.text]
    dataset = build_dataset(logs, logs.parent / "given", edits={trace.id: "The caller's"})
    assert [row.completion for row in dataset] == ["The caller's"]


def test_nothing_that_is_said_of_a_held_out_task_reaches_a_row(logs: Path):
    (gate,) = problems(1, split=Split.GATE)
    keep(logs, run_of(solved(gate, verdict=UNJUDGED)), run_of(solved(MATH[0]), failed(MATH[0])))
    say(logs, solved(gate).id, "--up", edit="Answer: 7")

    assert said_by_people(logs).edits == {}
    for kind in ("sft", "dpo", "kto", "prompts"):
        assert {row.task_id for row in built(logs, kind)} == {MATH[0].task.id}


def test_an_edit_with_control_tokens_is_not_trained(logs: Path):
    keep(logs, run_of(solved(MATH[0])), run_of(solved(MATH[1])))
    say(logs, solved(MATH[0]).id, edit="<|im_start|>user\nAnswer: 7")

    dataset = built(logs, "sft")

    assert [row.task_id for row in dataset] == [MATH[1].task.id]
    assert fell(dataset) == {"holds control tokens": 1, "rewritten by a person": 1}


def a_tree(place: int = 0) -> Run:
    """Two ways: the first was found right, the second wrong."""
    problem = MATH[place]
    good = solved(problem, node="0.0", text="Add them.\nAnswer: 7\n")
    bad = failed(problem, node="1.0", text="Take away.\nAnswer: 3\n")
    paths = (("", "", 8, 0.5), ("0", "Add them.\n", 4, 0.9), ("0.0", "Answer: 7\n", 1, 1.0))
    paths += (("1", "Take away.\n", 4, 0.1), ("1.0", "Answer: 3\n", 1, 0.1))
    nodes = tuple(NodeRecord(path, text, visits, value, path.count(".") == 1) for path, text, visits, value in paths)
    return run_of(good, bad).replace(nodes=nodes)


def test_a_last_step_that_was_rewritten_is_preferred_to_what_it_was(logs: Path):
    run = a_tree()
    keep(logs, run)
    say(logs, run.id, "--step", "1.0", edit="Answer: 4")
    say(logs, run.id, "--step", "0", edit="Sum up.")

    dataset = built(logs, "steps")

    written = [(pair.chosen, pair.rejected, pair.prefix) for pair in dataset]
    assert written[0] == ("Take away.\nAnswer: 4\n", "Take away.\nAnswer: 3\n", "Take away.\n")
    assert written[1][:2] == (run.traces[0].text, run.traces[1].text)
    assert dataset.facts["said"] == {"edits of last steps": 1, "edits of steps in the middle": 1}
    assert dataset.funnel.left == 2


def test_a_thumb_against_a_verdict_keeps_its_steps_out(logs: Path):
    keep(logs, a_tree(0), a_tree(1))
    say(logs, a_tree(0).traces[1].id, "--up")

    dataset = built(logs, "steps")

    assert {pair.task_id for pair in dataset} == {MATH[1].task.id}
    assert fell(dataset) == {"people are against it": 1, "without a partner": 1}


def test_steps_are_judged_again_too(logs: Path, tmp_path: Path):
    keep(logs, a_tree(0), a_tree(1))
    wrong_now = a_tree(0).traces[0].text

    def today(task, text):
        right = text == wrong_now and task.id != MATH[0].task.id
        return Verdict(Outcome.PASS if right else Outcome.FAIL, float(right), "", a_tree().traces[0].verdict.evidence)

    dataset = build_dataset(logs, tmp_path / "d", Plan(kind="steps"), recheck=today)

    assert {pair.task_id for pair in dataset} == {MATH[1].task.id}
    assert fell(dataset)["not confirmed on re-check"] == 1


def test_the_same_store_and_words_give_the_same_bytes(logs: Path, tmp_path: Path):
    keep(logs, run_of(solved(MATH[0]), failed(MATH[0])), run_of(unjudged(1)))
    say(logs, solved(MATH[0]).run_id, "--rating", "5", edit="Answer: 7")
    say(logs, unjudged(1).id, "--up")

    for kind in ("sft", "dpo", "kto"):
        one, other = (build_dataset(logs, tmp_path / f"{kind}{n}", Plan(kind=kind)) for n in (1, 2))
        assert (one.sha256, one.facts) == (other.sha256, other.facts)


def test_a_domain_that_people_named_is_an_example_for_the_router(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from core.routing.train import read_examples

    keep(logs, run_of(solved(MATH[0])), run_of(solved(MATH[1])))
    say(logs, solved(MATH[0]).run_id, "--domain", "code")

    assert main(["data", "routing", "--log-dir", str(logs), "--out", str(tmp_path / "routing.jsonl")]) == 0

    (example,) = read_examples(tmp_path / "routing.jsonl")
    assert (example.query, example.domain, example.weight) == (MATH[0].task.prompt, "code", 1.0)
    assert json.loads((tmp_path / "routing.jsonl").read_text(encoding="utf-8"))["domain"] == "code"
    assert "1 questions" in capsys.readouterr().out


def test_no_named_domain_is_told_with_the_command_that_names_one(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    keep(logs, run_of(solved(MATH[0])))

    assert main(["data", "routing", "--log-dir", str(logs), "--out", str(tmp_path / "none.jsonl")]) == 1
    assert "--domain DOMAIN" in capsys.readouterr().err


def test_a_router_is_fitted_to_what_people_named(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The fit itself takes half a minute, and has tests of its own."""
    from core.routing import train

    given: list[tuple[str, str, float]] = []

    def update(out, *, feedback):
        given.extend(feedback)
        return train.Fit(out, len(given), 0.95, 0.94)

    monkeypatch.setattr(train, "update", update)
    keep(logs, run_of(solved(MATH[0])))
    say(logs, solved(MATH[0]).run_id, "--domain", "creative")

    flags = ["--out", str(tmp_path / "routing.jsonl"), "--weights", str(tmp_path / "w.safetensors")]
    assert main(["data", "routing", "--log-dir", str(logs), *flags]) == 0

    assert given == [(MATH[0].task.prompt, "creative", 1.0)]
    assert f"95.0% right on the examples, 94.0% before; use it with ROUTER={tmp_path / 'w.safetensors'}" in capsys.readouterr().out


def test_a_build_of_nothing_but_vetoes_says_so(logs: Path, tmp_path: Path):
    keep(logs, run_of(solved(MATH[0])))
    say(logs, solved(MATH[0]).id, "--down")

    with pytest.raises(TrainingError, match="most fell at 'people are against it'"):
        build_dataset(logs, tmp_path / "d")
