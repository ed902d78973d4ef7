"""finetune_setup: the command and the functions of the fine-tuning guide, and one clear line for everything that can be wrong."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sample_traces import failed, problems, run_of, solved

import finetune_setup
from core.errors import ConfigError, StoreError, TrainingError
from core.types import Split, Trace
from finetune_setup import collect_traces, filter_high_quality, finetune_worker, main, prepare_dataset
from logs.store import TraceStore

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
MATH = problems(12)
CODE = problems(4, "code")
FLAGS = ("--model", "--log-dir", "--output-dir", "--epochs", "--batch-size", "--lr", "--domain", "--min-reward")


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    """A store with 12 solved and 12 failed attempts in math, and 4 of each in code."""
    return store(tmp_path / "logs", [[solved(p), failed(p)] for p in [*MATH, *CODE]])


@pytest.fixture
def unverified(tmp_path: Path) -> Path:
    return store(tmp_path / "unverified", [[failed(p)] for p in MATH])


def store(folder: Path, runs: list[list[Trace]]) -> Path:
    with TraceStore(folder) as opened:
        for traces in runs:
            opened.put(run_of(*traces))
        opened.flush()
    return folder


def test_collected_traces_are_records_that_read_both_ways(log_dir: Path):
    traces = collect_traces(str(log_dir))

    assert len(traces) == 32
    assert {(t.domain, t["domain"]) for t in traces} == {("math", "math"), ("code", "code")}
    assert all(t.reward == t["reward"] for t in traces)


@pytest.mark.parametrize("made", [True, False], ids=["a store that nobody used", "no store"])
def test_no_traces_is_told_with_what_to_do(made: bool, tmp_path: Path):
    if made:
        store(tmp_path, [])

    with pytest.raises(StoreError, match=f"No traces found in {tmp_path}: enable logging"):
        collect_traces(tmp_path)


def test_high_quality_is_verified_rewarded_and_not_held_out(log_dir: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "finetune_setup")
    low, unknown = solved(MATH[0], "terse", reward=0.79), solved(MATH[1], "terse", reward=None)
    held_out = [solved(p) for p in problems(3, split=Split.GATE)]

    kept = filter_high_quality([*collect_traces(log_dir), low, unknown, *held_out], min_reward=0.8)

    assert len(kept) == 16
    assert all(t.verified and t.reward >= 0.8 and t.split is Split.TRAIN for t in kept)
    assert "held out                     -3" in caplog.text


def test_a_dataset_is_prompts_and_completions_split_by_task():
    traces = [trace for p in MATH for trace in (solved(p), solved(p, "terse"))]

    train, held = prepare_dataset(traces, train_split=0.75)

    asked = [{row["prompt"][-1]["content"] for row in side} for side in (train, held)]
    assert len(train) + len(held) == len(traces)
    assert len(asked[1]) == 3
    assert asked[0].isdisjoint(asked[1])
    assert train[0]["prompt"][0] == {"role": "system", "content": traces[0].directive}
    assert train[0]["completion"][0]["role"] == "assistant"


def test_a_dataset_can_be_of_one_domain_or_of_none():
    traces = [solved(p) for p in [*MATH, *CODE]]

    train, held = prepare_dataset(traces, domain="code")

    assert len(train) + len(held) == len(CODE)
    assert prepare_dataset(traces, domain="logic") == ([], [])


def test_a_dataset_never_holds_what_is_held_out():
    with pytest.raises(TrainingError, match="held out: take those that filter_high_quality lets through"):
        prepare_dataset([solved(p) for p in problems(3, split=Split.REPORT)])


def test_a_dataset_for_a_tokenizer_is_the_text_that_it_will_see():
    from transformers import AutoTokenizer

    from core.providers.local import EMBEDDED_DIRECTORY

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)

    train, _ = prepare_dataset([solved(p) for p in MATH], tokenizer)

    row = next(row for row in train if MATH[0].task.prompt in row["prompt"])
    assert row["prompt"] == f"<|user|>{MATH[0].task.prompt}\n<|assistant|>"
    assert row["completion"].rstrip() == f"{MATH[0].solution('careful')}{tokenizer.eos_token}"


@pytest.mark.parametrize(
    ("keyword", "default"),
    [
        ("model_name", "meta-llama/Llama-3.2-3B-Instruct"),
        ("domain", None),
        ("output_dir", "./finetuned_models"),
        ("log_dir", "./logs"),
        ("min_reward", 0.7),
        ("epochs", 3),
        ("batch_size", 4),
        ("lr", 2e-5),
    ],
)
def test_a_worker_is_fine_tuned_with_the_documented_keywords(keyword: str, default: Any):
    assert inspect.signature(finetune_worker).parameters[keyword].default == default


def test_an_unknown_trainer_is_told_with_those_there_are(log_dir: Path):
    with pytest.raises(ConfigError, match="no 'rlhf': choose one of dpo, grpo, kto, sft"):
        finetune_worker("embedded", log_dir=log_dir, trainer="rlhf")


def test_an_unknown_domain_is_told_with_those_there_are(log_dir: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="no domain 'maths'"):
        finetune_worker("embedded", "maths", tmp_path / "out", log_dir)


def test_the_help_names_every_documented_flag_with_its_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])

    told = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    assert all(flag in told for flag in FLAGS)
    for default in ("0.7", "3", "4", "2e-05", "./logs", "./finetuned_models", "meta-llama/Llama-3.2-3B-Instruct"):
        assert f"(default: {default}" in told


def test_the_help_loads_nothing_heavy():
    code = "import sys, finetune_setup\ntry: finetune_setup.main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(finetune_setup.__file__).parent)

    assert done.returncode == 0
    assert {"torch", "transformers", "trl", "datasets", "sqlalchemy", "rich"}.isdisjoint(done.stderr.split())


@pytest.mark.parametrize("flag", ["--domain=maths", "--trainer=rlhf", "--epochs=many", "--colour=red"])
def test_a_flag_that_makes_no_sense_is_a_usage_error(flag: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main([flag])

    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("logs", "flags", "told"),
    [
        ("nowhere", [], "error: No traces found in {tmp}/nowhere: enable logging in the orchestrator"),
        ("unverified", [], "error: Low quality traces: none of the 12 in {tmp}/unverified may be trained on; most fell at 'not verified'"),
        ("logs", ["--domain", "logic"], "error: Low quality traces: none of the 32 in {tmp}/logs may be trained on"),
        ("logs", ["--min-reward", "2"], "error: min_reward is 2.0, but rewards lie between 0 and 1"),
        ("logs", ["--epochs", "0"], "error: epochs is 0.0: it must be greater than 0"),
        ("logs", ["--model", "./nowhere/model"], "error: there is no model directory ./nowhere/model"),
        ("logs", ["--model", "{tmp}/logs"], "error: {tmp}/logs holds no model"),
        ("logs", ["--output-dir", "{tmp}/taken"], "error: can't write to the output folder {tmp}/taken"),
    ],
)
@pytest.mark.usefixtures("log_dir", "unverified")
def test_what_is_wrong_is_one_line_and_exit_code_1(
    logs: str, flags: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "taken").touch()
    flags = [flag.replace("{tmp}", str(tmp_path)) for flag in flags]

    code = main(["--model", "embedded", "--log-dir", f"{tmp_path}/{logs}", "--output-dir", f"{tmp_path}/out", *flags])

    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith(told.replace("{tmp}", str(tmp_path)))
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_an_interrupt_is_one_line_and_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune_setup, "finetune_worker", interrupted)

    assert main([]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_steps_and_loss_are_drawn_only_where_somebody_watches(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with finetune_setup._progress_bar() as on_step:
        assert on_step is None

    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    with finetune_setup._progress_bar() as on_step:
        assert on_step is not None
        on_step(1, 4, None)
        on_step(2, 4, 0.4567)
        on_step.pace(1234.5)  # type: ignore[attr-defined]
        on_step(3, 4, 0.4321)

    assert "training, loss 0.432, 1,234 tokens/s" in terminal.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_a_run_leaves_an_adapter_and_says_how_to_use_it(
    trainer: str, log_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "adapter"
    flags = ["--domain", "math", "--epochs", "1", "--batch-size", "4", "--lr", "2e-3", "--trainer", trainer]

    code = main(["--model", "embedded", "--log-dir", str(log_dir), "--output-dir", str(out), *flags])

    assert code == 0, capsys.readouterr().err
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["trainer"], manifest["domain"]) == (trainer, "math")
    assert set(manifest["trace_ids"]) <= {t.id for p in MATH for t in (solved(p), failed(p))}
    assert f"Settings(MATH_WORKER_MODEL={str(out)!r})" in capsys.readouterr().out
    assert "only 12 high-quality traces in math: 100 or more are recommended" in caplog.text


def test_the_help_names_the_flags_beside_the_documented_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])

    told = capsys.readouterr().out
    for flag in ("--trainer", "--gradient-accumulation-steps", "--load-in-4bit", "--load-in-8bit", "--resume", "--seed", "--estimate"):
        assert flag in told
    for flag in ("--lora-r", "--lora-alpha", "--target-modules", "--max-length", "--save-steps"):
        assert flag in told


def test_every_flag_is_an_option_of_the_training_or_of_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    given: dict[str, Any] = {}

    def note(model: str, **options: Any) -> str:
        given.update(options, model=model)
        return str(tmp_path)

    monkeypatch.setattr(finetune_setup, "finetune_worker", note)
    assert main(["--target-modules", "q_proj, v_proj", "--lora-r", "4", "--resume", "--load-in-8bit", "--seed", "7"]) == 0

    from finetune.options import TrainConfig

    assert given["target_modules"] == ("q_proj", "v_proj")
    assert (given["lora_r"], given["resume"], given["load_in_8bit"], given["seed"]) == (4, True, True, 7)
    known = {*inspect.signature(finetune_worker).parameters, *TrainConfig.__dataclass_fields__, "model"}
    assert set(given) <= known


def test_an_estimate_is_printed_and_nothing_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = main(["--model", "embedded", "--estimate", "--load-in-4bit", "--output-dir", f"{tmp_path}/out", "--log-dir", "/nowhere"])

    told = capsys.readouterr()
    assert code == 0, told.err
    assert "embedded: 0.9" in told.out
    assert all(word in told.out for word in ("weights", "optimiser", "total at batch size 4", "3B", "7B", "13B"))
    assert not (tmp_path / "out").exists()


def test_both_kinds_of_few_bits_are_a_usage_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--load-in-4bit", "--load-in-8bit"])

    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_one_adapter(log_dir: Path, tmp_path: Path):
    """What `accelerate launch` does on two devices, on a CPU."""
    out = tmp_path / "adapter"
    script = Path(finetune_setup.__file__)
    config = script.parent / "examples" / "accelerate" / "ddp.yaml"
    flags = ["--domain", "math", "--epochs", "1", "--batch-size", "2", "--gradient-accumulation-steps", "2", "--lr", "2e-3"]
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0", str(script)]
    done = subprocess.run(
        [*start, "--model", "embedded", "--log-dir", str(log_dir), "--output-dir", str(out), *flags],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("adapter in ") == 1
    state = json.loads((out / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["max_steps"] == 2  # eleven rows, two at a time, twice, on two devices
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["trainer"] == "sft"

    alone = tmp_path / "alone"
    flags[flags.index("--batch-size") + 1] = "4"
    assert main(["--model", "embedded", "--log-dir", str(log_dir), "--output-dir", str(alone), *flags]) == 0
    first = json.loads((alone / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["loss"] == pytest.approx(lines[0]["loss"], rel=1e-4)
    assert first["grad_norm"] == pytest.approx(lines[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    "path", sorted((Path(finetune_setup.__file__).parent / "examples" / "accelerate").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_configurations_that_ship_are_read_by_accelerate(path: Path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))

    assert config.distributed_type.value in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    assert config.num_machines == 1
