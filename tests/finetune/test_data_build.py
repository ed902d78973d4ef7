"""A dataset from a store: rows of every kind, the same bytes each time, a card that adds up, and a way back to the traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, run_of, solved

from core.apps.datasets import add_command
from core.errors import StoreError, TrainingError
from core.tasks.files import read_tasks
from core.types import Domain, Evidence, NodeRecord, Outcome, Split, Trace, Verdict
from finetune.build import build_dataset
from finetune.data import Opinion, Pair, Prompt, Row, edits_of, step_pairs
from finetune.dataset import check_offered, load
from finetune.lineage import holding, origins, trained_on
from finetune.pairs import PairRules
from finetune.plan import Plan
from finetune.rules import Rules
from logs.store import TraceStore

MATH = problems(8)
CODE = problems(3, "code")


def store(folder: Path, traces: list[Trace]) -> Path:
    with TraceStore(folder, redact=None) as opened:
        for number, trace in enumerate(traces):
            opened.put(run_of(trace.replace(run_id=f"run {number}")).replace(id=f"run {number}"))
        opened.flush()
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return store(tmp_path / "logs", [t for p in [*MATH, *CODE] for t in (solved(p), solved(p, "terse"), failed(p))])


@pytest.mark.parametrize(("kind", "made"), [("sft", Row), ("dpo", Pair), ("kto", Opinion), ("prompts", Prompt)])
def test_each_kind_is_built_and_read_back_as_its_rows(kind: Any, made: type, logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "d", Plan(kind=kind))

    rows = list(load(tmp_path / "d"))
    assert {type(row) for row in rows} == {made}
    assert len(rows) == len(dataset) == dataset.rows
    assert {row.task_id for row in rows} <= {p.task.id for p in [*MATH, *CODE]}
    assert dataset.facts["domains"]["math"] >= len(MATH)


def test_the_same_store_plan_and_seed_give_the_same_bytes_whoever_wrote_first(logs: Path, tmp_path: Path):
    turned = store(tmp_path / "turned", [t for p in [*MATH, *CODE][::-1] for t in (failed(p), solved(p, "terse"), solved(p))])

    first, again, other_order = (build_dataset(where, tmp_path / name) for where, name in ((logs, "a"), (logs, "b"), (turned, "c")))

    files = [sorted((tmp_path / name).iterdir()) for name in ("a", "b", "c")]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    assert first.sha256 == again.sha256 == other_order.sha256
    assert build_dataset(logs, tmp_path / "d", Plan(seed=1)).sha256 != first.sha256


@pytest.mark.parametrize("kind", ["sft", "dpo", "kto", "prompts"])
def test_every_trace_is_in_a_row_or_counted_where_it_fell(kind: Any, logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "d", Plan(kind=kind, limit=8, max_share=0.7))

    assert dataset.funnel.came == 3 * len([*MATH, *CODE])
    assert dataset.funnel.came - sum(s.dropped for s in dataset.funnel.sieves) == dataset.funnel.left == dataset.facts["traces"]
    assert dataset.rows <= 8
    assert all(len(s.examples) == min(s.dropped, 3) for s in dataset.funnel.sieves)


def test_a_domain_has_no_more_than_its_share(logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "d", Plan(max_share=0.6))

    counts = dataset.facts["domains"]
    assert counts["math"] <= 0.6 * sum(counts.values())
    with pytest.raises(TrainingError, match="Raise max_share"):
        build_dataset(logs, tmp_path / "e", Plan(max_share=0.2))


def test_hard_tasks_come_first_when_not_all_fit(tmp_path: Path):
    hard = [failed(p, id=f"{p.task.id} {i}", text=f"{i} {failed(p).text}") for p in MATH[:4] for i in range(9)]
    logs = store(tmp_path / "logs", [*hard, *(solved(p) for p in MATH)])

    dataset = build_dataset(logs, tmp_path / "d", Plan(limit=4, hard_first=True))

    assert {row.task_id for row in dataset} == {p.task.id for p in MATH[:4]}


def test_a_task_that_is_always_solved_teaches_nothing(tmp_path: Path):
    easy = [solved(MATH[0], id=str(i), text=f"{'So ' * i}{solved(MATH[0]).text}") for i in range(4)]
    logs = store(tmp_path / "logs", [*easy, solved(MATH[1])])

    dataset = build_dataset(logs, tmp_path / "d")

    assert [row.task_id for row in dataset] == [MATH[1].task.id]
    assert {s.name: s.dropped for s in dataset.funnel.sieves}["always solved"] == 4


def test_an_empty_dataset_is_an_error_that_names_the_filter(tmp_path: Path):
    logs = store(tmp_path / "logs", [failed(p) for p in MATH])

    with pytest.raises(TrainingError, match=r"none of the 8 traces .* most fell at 'not verified'"):
        build_dataset(logs, tmp_path / "d")
    with pytest.raises(StoreError, match="no traces"):
        build_dataset(tmp_path / "nowhere", tmp_path / "d")
    assert not (tmp_path / "d").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs"]


def test_a_dataset_never_changes(logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "d")

    with pytest.raises(TrainingError, match="a dataset never changes"):
        build_dataset(logs, tmp_path / "d")
    rows = tmp_path / "d" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"Answer", b"answer", 1))
    with pytest.raises(TrainingError, match="somebody changed them"):
        list(dataset)


def test_rows_offered_are_rows_trained_or_the_run_refuses(logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "d")

    check_offered(dataset, dataset.rows)
    with pytest.raises(TrainingError, match=f"offered {dataset.rows} rows and {dataset.rows - 1} were trained"):
        check_offered(dataset, dataset.rows - 1)


def test_lineage_goes_from_rows_to_traces_and_from_traces_to_adapters(logs: Path, tmp_path: Path):
    dataset = build_dataset(logs, tmp_path / "sets" / "one")
    build_dataset(logs, tmp_path / "sets" / "two", Plan(rules=Rules(domain="code")))
    trace = solved(MATH[0]).id

    held = holding(tmp_path / "sets", [trace])

    assert [each.folder.name for each in held] == ["one"]
    assert [o.trace_ids for o in origins(dataset) if o.row in held[0].rows] == [(trace,)]
    assert trained_on(held, {"math@1": dataset.sha256, "math@2": "else"}) == ["math@1"]


def test_an_edit_is_gold_and_preferred_to_what_it_was_made_of(tmp_path: Path):
    weak = solved(MATH[0], verdict=Verdict(Outcome.ABSTAIN, None, ""), reward=None)
    logs = store(tmp_path / "logs", [weak, solved(MATH[1]), failed(MATH[1])])
    edits = {weak.id: "A much better answer."}

    gold = build_dataset(logs, tmp_path / "sft", edits=edits)
    pairs = list(build_dataset(logs, tmp_path / "dpo", Plan(kind="dpo"), edits=edits))

    assert "A much better answer." in [row.completion for row in gold]
    assert (edits[weak.id], weak.text) in [(pair.chosen, pair.rejected) for pair in pairs]
    ((trace, pair),) = edits_of([weak], edits, Rules())
    assert (trace.text, pair.rejected) == (edits[weak.id], weak.text)


def tree(visits: int = 4) -> Any:
    """Two first steps: below the first a verified answer, below the second a failed one."""
    problem = next(p for p in MATH if solved(p).text.count("\n") >= 1)
    good, bad = solved(problem, node="0.0"), failed(problem, node="1.0")
    first, _, rest = good.text.partition("\n")
    bad = bad.replace(text=f"{first} (?)\n{rest}0")
    nodes = (
        NodeRecord("", "", 2 * visits, 0.6, False),
        NodeRecord("0", f"{first}\n", visits, 0.9, False),
        NodeRecord("0.0", rest, 1, 1.0, True, Outcome.PASS),
        NodeRecord("1", f"{first} (?)\n", visits, 0.2, False),
        NodeRecord("1.0", f"{rest}0", 1, 0.2, True, Outcome.FAIL),
    )
    return run_of(good, bad).replace(nodes=nodes)


def test_siblings_make_a_pair_of_whole_answers_with_what_both_begin_with(tmp_path: Path):
    run = tree()
    with TraceStore(tmp_path / "logs", redact=None) as opened:
        opened.put(run)
        opened.flush()

    dataset = build_dataset(tmp_path / "logs", tmp_path / "d", Plan(kind="steps"))

    (pair,) = dataset
    assert (pair.chosen, pair.rejected) == (run.traces[0].text, run.traces[1].text)
    assert pair.prefix == ""
    assert dataset.funnel.came == dataset.funnel.left == 2


@pytest.mark.parametrize(
    "changed",
    [
        lambda run: tree(visits=2),
        lambda run: run.replace(nodes=tuple(n.replace(value=0.5) for n in run.nodes)),
        lambda run: run.replace(nodes=tuple(n.replace(value=float("nan")) for n in run.nodes)),
        lambda run: run.replace(nodes=tuple(n.replace(outcome=Outcome.PASS) if n.path == "1.0" else n for n in run.nodes)),
        lambda run: run.replace(nodes=tuple(n.replace(text="forged") if n.path == "0.0" else n for n in run.nodes)),
        lambda run: run.replace(traces=tuple(t.replace(split=Split.GATE) for t in run.traces)),
        lambda run: run.replace(traces=tuple(t.replace(complete=False) for t in run.traces)),
    ],
    ids=["few visits", "values alike", "no values", "both lead to a pass", "tree and trace disagree", "held out", "cut off"],
)
def test_steps_that_cannot_be_compared_make_no_pair(changed: Any):
    assert list(step_pairs([changed(tree())])) == []
    assert len(list(step_pairs([tree()]))) == 1


def test_tokens_are_counted_and_shown_and_the_last_one_ends_the_turn(logs: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    from core.providers.local import EMBEDDED_DIRECTORY

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)

    dataset = build_dataset(logs, tmp_path / "d", tokenizer=tokenizer)

    assert dataset.facts["stop_token_trained"]
    assert 0 < dataset.facts["tokens"]["trained"] < dataset.facts["tokens"]["all"]
    for sample in dataset.facts["shown"]:
        assert sample["completion_trained"].rstrip("\n") == sample["completion"] + tokenizer.eos_token
        assert sample["prompt"] in sample["completion_not_trained"]
    longest = dataset.facts["tokens"]["greatest"]
    shorter = build_dataset(logs, tmp_path / "e", Plan(max_tokens=longest - 1), tokenizer=tokenizer)
    assert {s.name: s.dropped for s in shorter.funnel.sieves}["more tokens than allowed"] > 0


TEMPLATES = {
    "qwen": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama": "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "gemma": "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
}


@pytest.mark.parametrize(("family", "end"), [("qwen", "<|im_end|>"), ("llama", "<|eot_id|>"), ("gemma", "<end_of_turn>")])
def test_what_is_trained_is_the_answer_and_the_end_of_its_turn(family: str, end: str):
    from transformers import AutoTokenizer

    from core.providers.local import EMBEDDED_DIRECTORY
    from finetune.tokens import trained

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    tokenizer.chat_template = TEMPLATES[family]

    found = trained(tokenizer, "Be brief.", "What is 2+2?", "Answer: 4")

    assert found.trained.rstrip("\n") == f"Answer: 4{end}"
    assert found.stops
    assert "Answer" not in found.prompt
    assert found.trained_tokens < found.tokens


def test_a_template_that_rewrites_the_prompt_is_refused():
    from transformers import AutoTokenizer

    from core.providers.local import EMBEDDED_DIRECTORY
    from finetune.tokens import trained

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"

    with pytest.raises(TrainingError, match="differently"):
        trained(tokenizer, "", "q", "a")


@pytest.mark.parametrize(
    "options",
    [{"kind": "grpo"}, {"near": 0.0}, {"per_task": 0}, {"limit": 0}, {"max_share": 1.5}, {"max_tokens": 0}, {"solved_from": -1}],
)
def test_a_plan_that_makes_no_sense_is_refused(options: dict[str, Any]):
    with pytest.raises(TrainingError):
        Plan(**options)
    with pytest.raises(TrainingError):
        Rules(evidence=("gut feeling",))


def test_a_question_to_train_with_brings_its_reference_and_its_pass_rate(logs: Path, tmp_path: Path):
    rows = {row.task_id: row for row in build_dataset(logs, tmp_path / "d", Plan(kind="prompts"))}

    row = rows[MATH[0].task.id]
    assert (row.prompt, row.reference) == (MATH[0].task.prompt, MATH[0].task.reference)
    assert row.pass_rate is not None
    assert 0 < row.pass_rate < 1
    assert json.loads(row.metadata) == dict(MATH[0].task.metadata)


def run_command(*argv: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(required=True))
    args = parser.parse_args(["data", *argv])
    return int(args.command(args))


def test_the_command_builds_shows_traces_back_and_chooses(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "sets" / "sft"
    flags = ["--recheck", "--domain", "math", "--tokenizer", "embedded"]
    assert run_command("build", "--log-dir", str(logs), "--out", str(out), *flags) == 0
    told = capsys.readouterr().out
    assert "other domain" in told
    assert "[trained: completion]" in told

    assert run_command("show", str(out)) == 0
    assert capsys.readouterr().out in told
    assert run_command("holding", str(tmp_path / "sets"), solved(MATH[0]).id) == 0
    assert str(out) in capsys.readouterr().out
    assert run_command("next", "--log-dir", str(logs), "-n", "5", "--strategy", "difficulty") == 0
    (tmp_path / "next.jsonl").write_text(capsys.readouterr().out, encoding="utf-8")
    assert {t.id for t in read_tasks(tmp_path / "next.jsonl")} <= {p.task.id for p in [*MATH, *CODE]}


def test_pairs_need_distance_as_asked(logs: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="without a partner"):
        build_dataset(logs, tmp_path / "d", Plan(kind="dpo", pairs=PairRules(min_gap=0.95)))


def test_only_the_weights_asked_for_give_rows(tmp_path: Path):
    mine = solved(MATH[0], fingerprint="mine", verdict=Verdict(Outcome.PASS, 1.0, "equal", Evidence.REFERENCE))
    logs = store(tmp_path / "logs", [mine, solved(MATH[1], fingerprint="theirs")])

    dataset = build_dataset(logs, tmp_path / "d", Plan(rules=Rules(models=("mine",))))

    assert [row.trace_id for row in dataset] == [mine.id]
    assert {t.domain for t in (p.task for p in MATH)} == {Domain.MATH}
