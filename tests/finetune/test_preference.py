"""DPO and agents at work, with the embedded model: the reference, the pairs that may be learnt, the adapter that is left and loaded."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, solved

from agents import NPC
from core.config import Settings
from core.errors import AdapterError, TrainingError
from core.providers.local import load
from core.providers.scripted import ScriptedModel
from core.types import NodeRecord, Outcome, Run, Usage
from finetune import rollouts
from finetune.adapters import read_manifest
from finetune.data import dpo_pairs, step_pairs
from finetune.pairs import PairRules
from finetune.preference import dpo_trainer, starts_undecided, train_dpo
from finetune.rl import RLConfig, load_rl_model, run_rl_training, train_with_dpo
from finetune.training import TrainConfig

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
slow = pytest.mark.slow
PROBLEMS = problems(12)
PAIRS = dpo_pairs([attempt for p in PROBLEMS for attempt in (solved(p), failed(p))], random.Random(0))
SETTINGS = Settings(_env_file=None)


def config(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig("embedded", folder, epochs=1, batch_size=4, learning_rate=3e-4, device="cpu").replace(**changes)


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_pair_that_prefers_a_text_to_itself_is_refused(tmp_path: Path):
    same = PAIRS[0].replace(rejected=f"{PAIRS[0].chosen}\n")

    with pytest.raises(TrainingError, match=rf"1 of {len(PAIRS) + 1} pairs prefer a text to itself"):
        train_dpo([*PAIRS, same], config(tmp_path))


@pytest.mark.parametrize(
    ("logs", "stops"),
    [
        ({"loss": 0.6931, "rewards/chosen": 0.0, "rewards/rejected": 0.0}, False),
        ({"loss": 0.6951, "rewards/chosen": 0.0, "rewards/rejected": 0.0}, True),
        ({"loss": float("nan"), "rewards/chosen": 0.0, "rewards/rejected": 0.0}, True),
        ({"loss": 0.6931, "rewards/chosen": 0.4, "rewards/rejected": 0.4}, True),
        ({"eval_loss": 0.1}, False),
    ],
)
@slow
def test_a_reference_that_is_not_the_start_stops_the_run(logs: dict[str, float], stops: bool):
    from types import SimpleNamespace

    callback = starts_undecided(0.693147, 0.1)
    args, state = SimpleNamespace(bf16=False, fp16=False), SimpleNamespace(global_step=1)

    if not stops:
        callback.on_log(args, state, None, logs=logs)
        return
    with pytest.raises(TrainingError, match="the reference is not the model that training starts from"):
        callback.on_log(args, state, None, logs=logs)


@slow
def test_later_losses_may_be_what_they_are():
    from types import SimpleNamespace

    callback = starts_undecided(0.693147, 0.1)
    callback.on_log(SimpleNamespace(bf16=False, fp16=False), SimpleNamespace(global_step=2), None, logs={"loss": 0.1})


@slow
def test_the_reference_is_worked_out_beforehand_and_is_the_one_that_every_step_would_find(tmp_path: Path):
    """On top of an adapter, too: a copy of it is the reference, and not the bare base."""
    import torch

    train_dpo(PAIRS, config(tmp_path / "first", learning_rate=5e-3))
    trainer = dpo_trainer(PAIRS, [], config(tmp_path / "second", model=str(tmp_path / "first")))

    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        chosen, _ = trainer.compute_ref_log_probs(trainer.model, batch)
        trainer.model.set_adapter("default")
        trainer.model.disable_adapter_layers()
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        base = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True)

    assert torch.allclose(batch["ref_chosen_logps"], chosen, atol=1e-3)
    assert not torch.allclose(batch["ref_chosen_logps"], base.log_probs.sum(1)[:4], atol=1e-2)


@slow
def test_the_likelihood_of_what_is_chosen_can_be_part_of_the_loss(tmp_path: Path):
    train_dpo(PAIRS, config(tmp_path), sft_weight=0.2)

    first = history(tmp_path)[0]
    assert first["loss"] > 0.6931 + 1e-3
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-3)


def tree_of(problem: Any) -> Run:
    """Two first steps from the same root; below the one all is verified, below the other all has failed."""
    good, bad = solved(problem), failed(problem)
    lines = good.text.splitlines(keepends=True)
    wrong = "0 + 0 = 0\n"
    traces = (good.replace(node="0.0"), bad.replace(node="1.0", text=wrong + "".join(bad.text.splitlines(keepends=True)[1:])))
    rest = [trace.text[len(first) :] for trace, first in zip(traces, (lines[0], wrong), strict=True)]
    nodes = (
        NodeRecord("", "", 9, 0.5, False),
        NodeRecord("0", lines[0], 4, 0.9, False),
        NodeRecord("0.0", rest[0], 3, 1.0, True, Outcome.PASS),
        NodeRecord("1", wrong, 4, 0.1, False),
        NodeRecord("1.0", rest[1], 3, 0.0, True, Outcome.FAIL),
    )
    return Run(good.run_id, problem.task, "math", "m", None, "lats", 0, 1.0, nodes, traces, Usage(), 0.1, 1.0)


@slow
def test_pairs_of_steps_are_learnt_like_pairs_of_answers(tmp_path: Path):
    runs = [tree_of(p) for p in problems(12) if "\n" in solved(p).text]
    pairs = list(step_pairs(runs, pair_rules=PairRules(length_ratio=9)))

    metrics = train_dpo(pairs, config(tmp_path, epochs=3))

    assert len(pairs) >= 8
    assert metrics["pairs"] + metrics["held"] == len(pairs)
    losses = [entry["loss"] for entry in history(tmp_path) if "loss" in entry]
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RLConfig, str]:
    """The whole way from tasks to an adapter, with a scripted agent."""
    folder = tmp_path_factory.mktemp("rl")
    by_prompt = {p.task.prompt: p for p in PROBLEMS}
    asked = [{"prompt": p.task.prompt, "expected": p.answer} for p in PROBLEMS]

    def say(request: Any, index: int) -> str:
        problem = by_prompt[request.messages[-1].content]
        return (solved if request.sampling.seed % 2 else failed)(problem).text

    options = RLConfig(
        "embedded", folder / "adapter", 6, num_train_epochs=2, learning_rate=3e-4, device="cpu", log_dir=folder / "logs", lora_r=4
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "connect", lambda spec, settings: ScriptedModel(say))
        path = run_rl_training(
            asked,
            [NPC("mathbot", "Work step by step.", "embedded")],
            lambda t: float(t["final_output"].endswith(f"Answer: {t['task_metadata']['expected']}")),
            options,
            settings=SETTINGS,
        )
    return folder, options, path


@slow
def test_the_way_from_tasks_to_an_adapter(trained: tuple[Path, RLConfig, str]):
    folder, _, path = trained

    manifest = read_manifest(path)
    assert path == str(folder / "adapter")
    assert manifest.trainer == "dpo"
    assert manifest.metrics["pairs"] + manifest.metrics["held"] >= 8
    names = {str(p.relative_to(path)) for p in Path(path).rglob("*")}
    assert not [name for name in names if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl") or name.startswith("ref")]


@slow
def test_a_loaded_adapter_does_the_same_merged_and_laid_over(trained: tuple[Path, RLConfig, str]):
    import torch

    _, _, path = trained
    merged, tokenizer = load_rl_model("embedded", path, device="cpu")
    laid_over, _ = load_rl_model("embedded", path, merge_adapter=False, device="cpu")
    base, _ = load("embedded", "cpu")

    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Solve 2+2"}], add_generation_prompt=True, return_tensors="pt")
    with torch.inference_mode():
        logits = [model(**ids).logits[0, -1] for model in (merged, laid_over, base)]
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-4)
    assert not hasattr(merged, "peft_config")
    assert not laid_over.training


@slow
def test_an_adapter_is_not_laid_over_other_weights_of_the_same_shape(trained: tuple[Path, RLConfig, str], tmp_path: Path):
    model, tokenizer = load("embedded", "cpu")
    model.model.layers[0].mlp.up_proj.weight.data *= 1.01
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")

    with pytest.raises(AdapterError, match="was trained on"):
        load_rl_model(str(tmp_path / "other"), trained[2], device="cpu")


@slow
def test_a_damaged_adapter_is_refused_and_one_without_a_manifest_is_warned_about(
    trained: tuple[Path, RLConfig, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    foreign = tmp_path / "foreign"
    shutil.copytree(trained[2], foreign)
    (foreign / "manifest.json").unlink()
    load_rl_model("embedded", foreign, device="cpu")
    assert "can't be checked" in caplog.text

    damaged = tmp_path / "damaged"
    shutil.copytree(trained[2], damaged)
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(AdapterError, match="not the file that its manifest describes"):
        load_rl_model("embedded", damaged, device="cpu")


@pytest.mark.parametrize("kind", ["nothing", "a pickle"])
def test_a_folder_without_safetensors_is_refused(kind: str, tmp_path: Path):
    if kind == "a pickle":
        (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
        (tmp_path / "adapter_model.bin").touch()

    with pytest.raises(AdapterError, match="holds no adapter"):
        load_rl_model("embedded", tmp_path)


def test_traces_without_a_pair_are_told_before_a_model_is_loaded(tmp_path: Path):
    traces = [{"prompt": "Solve 2+2", "final_output": "4", "reward": 1.0}]

    with pytest.raises(TrainingError, match="no preference pair can be made: 0 pairs from 1 traces"):
        train_with_dpo(traces, RLConfig("/nowhere", tmp_path))


def test_an_adapter_folder_that_cannot_be_written_is_told_before_anybody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = ScriptedModel(["4"])
    monkeypatch.setattr(rollouts, "connect", lambda spec, settings: model)
    (tmp_path / "adapter").touch()

    with pytest.raises(TrainingError, match="can't write to the output folder"):
        run_rl_training([{"prompt": "q"}], [NPC("a", "b", "embedded")], lambda trace: 1.0, RLConfig(adapter_path=tmp_path / "adapter"))

    assert model.requests == []


@slow
@pytest.mark.parametrize("begun", ["from base", "from an adapter"])
def test_a_run_that_was_broken_off_goes_on_to_the_same_adapter(begun: str, tmp_path: Path):
    model = "embedded"
    if begun == "from an adapter":
        train_dpo(PAIRS, config(tmp_path / "first", learning_rate=5e-3))
        model = str(tmp_path / "first")

    def breaks_off(step: int, steps: int, loss: float | None) -> None:
        if step == 3:
            raise KeyboardInterrupt

    options = config(tmp_path / "whole", model=model, epochs=2, save_steps=2)
    train_dpo(PAIRS, options)
    broken = options.replace(output_dir=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train_dpo(PAIRS, broken, on_step=breaks_off)
    assert (tmp_path / "broken" / "checkpoint-2").is_dir()

    train_dpo(PAIRS, broken.replace(resume=True))

    whole, resumed = (weights_of(tmp_path / name) for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) < 1e-6
    assert not list((tmp_path / "broken").glob("checkpoint-*"))
    assert not (tmp_path / "broken" / "ref").exists()


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "adapter_model.safetensors")
    return found
