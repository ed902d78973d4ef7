"""Training with the embedded model: what carries loss, what lies in the folder while it runs and after, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sample_traces import failed, problems, solved

from core.errors import RatchetError, TrainingError
from core.providers.local import EMBEDDED_DIRECTORY, load
from finetune.data import Pair, Row, dpo_pairs, sft_rows
from finetune.lora import checked
from finetune.preference import train_dpo
from finetune.supervised import sft_trainer, train_sft
from finetune.training import TrainConfig, arguments, check_stop_token, prepare_folder, run, total_steps

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
slow = pytest.mark.slow

ROWS, _ = sft_rows([solved(problem) for problem in problems(30)], random.Random(0))
PAIRS = dpo_pairs([attempt for p in problems(30) for attempt in (solved(p), failed(p))], random.Random(0))


def config(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig("embedded", folder, epochs=1, batch_size=8, learning_rate=2e-3, device="cpu").replace(**changes)


@dataclass
class Seen:
    """What lay in the folder after each step, as somebody with `tail` and `grep` would have found it."""

    folder: Path
    steps: list[tuple[int, int, float | None]] = field(default_factory=list)
    inodes: set[int] = field(default_factory=set)
    states: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def on_step(self, step: int, steps: int, loss: float | None) -> None:
        self.steps.append((step, steps, loss))
        state = self.folder / "trainer_state.json"
        if state.exists():
            self.inodes.add(state.stat().st_ino)
            self.states.append(json.loads(state.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One training run that the tests below look at."""
    seen = Seen(tmp_path_factory.mktemp("sft") / "adapter")
    seen.metrics = train_sft(ROWS, config(seen.folder), on_step=seen.on_step)
    return seen


@pytest.fixture(scope="module")
def dpo_on_sft(sft: Seen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dpo") / "adapter"
    train_dpo(PAIRS, config(folder, model=str(sft.folder), learning_rate=3e-4))
    return folder


@slow
def test_the_state_file_grows_in_place_while_training_runs(sft: Seen):
    finished = (sft.folder / "trainer_state.json").stat().st_ino
    lengths = [len(state["log_history"]) for state in sft.states]

    assert len(lengths) >= 2
    assert lengths == sorted(set(lengths))
    assert sft.inodes == {finished}


@slow
def test_the_evaluation_loss_can_be_looked_up_before_the_end(sft: Seen):
    assert any("eval_loss" in entry for entry in sft.states[-1]["log_history"])
    assert '"eval_loss"' in (sft.folder / "trainer_state.json").read_text(encoding="utf-8")


@slow
def test_every_log_is_a_line_of_metrics(sft: Seen):
    lines = [json.loads(line) for line in (sft.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]

    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert any("eval_loss" in line for line in lines)


@slow
def test_each_step_is_told_with_the_loss_before_it(sft: Seen):
    assert [(step, steps) for step, steps, _ in sft.steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sft.steps[0][2] is None
    assert all(isinstance(loss, float) for _, _, loss in sft.steps[1:])


@slow
def test_the_metrics_count_every_row(sft: Seen):
    assert sft.metrics["rows"] + sft.metrics["held"] == len(ROWS)
    assert sft.metrics["steps"] == total_steps(sft.metrics["rows"], config(sft.folder))


@slow
@pytest.mark.parametrize("made_by", ["sft", "dpo_on_sft"])
def test_the_folder_holds_no_pickle_and_no_reference(made_by: str, request: pytest.FixtureRequest):
    made = request.getfixturevalue(made_by)
    folder = made.folder if isinstance(made, Seen) else made

    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "trainer_state.json"} <= names
    assert not [name for name in names if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl") or name.startswith("ref")]


@slow
def test_the_adapter_names_its_base_by_an_absolute_path(sft: Seen, dpo_on_sft: Path):
    for folder in (sft.folder, dpo_on_sft):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(EMBEDDED_DIRECTORY)


@slow
def test_the_base_is_absolute_even_when_it_was_named_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(EMBEDDED_DIRECTORY, tmp_path / "my_model")
    monkeypatch.chdir(tmp_path)

    train_sft(ROWS[:4], config(Path("adapter"), model="./my_model"))

    assert json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(tmp_path / "my_model")


@slow
def test_the_saved_adapter_reloads_and_changes_what_the_model_says(sft: Seen, dpo_on_sft: Path):
    base, after_sft, after_dpo = (logits(path) for path in ("embedded", str(sft.folder), str(dpo_on_sft)))

    assert logits(str(sft.folder)) == after_sft
    assert base != after_sft
    assert after_sft != after_dpo


@slow
def test_the_same_seed_gives_the_same_adapter(sft: Seen, tmp_path: Path):
    train_sft(ROWS, config(tmp_path))

    assert (tmp_path / "adapter_model.safetensors").read_bytes() == (sft.folder / "adapter_model.safetensors").read_bytes()


@slow
def test_only_the_answer_and_its_stop_token_carry_loss(tmp_path: Path):
    trainer = sft_trainer(ROWS, [], config(tmp_path))
    tokenizer = trainer.processing_class

    learnt = set()
    for batch in trainer.get_train_dataloader():
        for labels in batch["labels"].tolist():
            learnt.add(tokenizer.decode([label for label in labels if label != -100]).strip())

    assert learnt == {f"{row.completion}{tokenizer.eos_token}" for row in ROWS}


@slow
def test_the_first_preference_loss_is_that_of_an_undecided_model(dpo_on_sft: Path, tmp_path: Path):
    """ln 2 on top of an adapter too: it is its own reference. Were the bare base the reference, the margin would not be 0."""
    train_dpo(PAIRS[:16], config(tmp_path, learning_rate=3e-4))

    for folder in (tmp_path, dpo_on_sft):
        first = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-3)


@slow
@pytest.mark.parametrize("place", ["among those to train on", "among those to evaluate on"])
def test_a_row_that_would_be_cut_short_is_refused(place: str, tmp_path: Path):
    long = ROWS[0].replace(completion="1 + 1 = 2\n" * 40)
    train, held = ([*ROWS[:3], long], []) if place == "among those to train on" else (ROWS[:3], [long])

    with pytest.raises(TrainingError, match=r"1 of . answers are longer than 100 tokens.*raise --max-length"):
        sft_trainer(train, held, config(tmp_path, max_length=100))


@slow
def test_a_row_that_the_model_has_no_room_for_is_refused_whatever_the_option_says(tmp_path: Path):
    long = ROWS[0].replace(completion="1 + 1 = 2\n" * 80)

    with pytest.raises(TrainingError, match="longer than 512 tokens"):
        sft_trainer([long], [], config(tmp_path, max_length=10_000))


@slow
def test_a_pair_whose_rejected_side_would_be_cut_short_is_refused(tmp_path: Path):
    long = PAIRS[0].replace(rejected="1 + 1 = 3\n" * 40)

    with pytest.raises(TrainingError, match="longer than 100 tokens"):
        train_dpo([long, *PAIRS[1:4]], config(tmp_path, max_length=100))


def test_rows_that_the_library_drops_stop_the_run(tmp_path: Path):
    trainer = SimpleNamespace(train_dataset=ROWS[:24])

    with pytest.raises(TrainingError, match="25 rows were offered and the library kept 24"):
        run(trainer, config(tmp_path), 25, None)


@slow
def test_an_option_that_the_installed_library_does_not_know_is_refused(tmp_path: Path):
    from trl import SFTConfig

    with pytest.raises(TrainingError, match="installed trl has no option max_seq_length"):
        arguments(config(tmp_path), 1, False, SFTConfig, max_seq_length=100)


def test_a_keyword_that_a_library_does_not_know_is_refused_whatever_its_class():
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    with pytest.raises(TrainingError, match="installed peft has no option rank"):
        checked(LoraConfig, rank=8)
    with pytest.raises(TrainingError, match="installed transformers has no option load_in_2bit"):
        checked(BitsAndBytesConfig, load_in_2bit=True)
    assert checked(LoraConfig, r=3).r == 3


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_what_few_bits_are_asked_for_is_what_the_installed_class_holds(bits: str):
    import torch

    from core.providers.loading import _few_bits

    found = _few_bits(bits, torch.float32)  # type: ignore[arg-type]

    assert (found.load_in_4bit, found.load_in_8bit) == (bits == "4bit", bits == "8bit")
    if bits == "4bit":
        assert (found.bnb_4bit_quant_type, found.bnb_4bit_use_double_quant) == ("nf4", True)
        assert found.bnb_4bit_compute_dtype is torch.float32


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, "exclude each other"),
        ({"dtype": "float8"}, "there is no dtype 'float8': choose from auto, float32"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ({"save_steps": -1}, "save_steps is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"target_modules": ()}, "target_modules is empty"),
    ],
)
def test_options_that_make_no_sense_are_told(changes: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        config(tmp_path, **changes)


@pytest.mark.parametrize("train", [train_sft, train_dpo])
def test_an_output_folder_that_cannot_be_written_is_told_before_a_model_is_looked_for(train: Any, tmp_path: Path):
    in_its_place = tmp_path / "adapter"
    in_its_place.touch()

    with pytest.raises(TrainingError, match=f"can't write to the output folder {in_its_place}"):
        train(ROWS if train is train_sft else PAIRS, config(in_its_place, model="/nowhere"))


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "mine").touch()

    prepare_folder(tmp_path)
    prepare_folder(tmp_path / "deep" / "down")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "mine"]


@pytest.mark.parametrize(("train", "told"), [(train_sft, "no rows"), (train_dpo, "0 preference pairs")])
def test_nothing_to_train_on_is_told(train: Any, told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        train([], config(tmp_path))


def test_a_model_directory_without_tokenizer_is_told(tmp_path: Path):
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(EMBEDDED_DIRECTORY / name, tmp_path)

    with pytest.raises(RatchetError, match=f"tokenizer.*{tmp_path}"):
        sft_trainer(ROWS, [], config(tmp_path / "adapter", model=str(tmp_path)))


def test_a_directory_that_holds_no_model_is_told(tmp_path: Path):
    for path in EMBEDDED_DIRECTORY.glob("token*.json"):
        shutil.copy(path, tmp_path)

    with pytest.raises(RatchetError, match=f"{tmp_path} holds no model"):
        sft_trainer(ROWS, [], config(tmp_path / "adapter", model=str(tmp_path)))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "does not close an answer with a stop token"),
        ("{% for m in messages %}{{ m['content'] + '<|end|>' }}{% endfor %}", None),
        (
            "{% for m in messages %}{{ m['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}Think!{% endif %}",
            "renders a finished turn differently",
        ),
    ],
)
def test_a_template_that_would_not_teach_the_stop_token_is_refused(template: str | None, told: str | None):
    tokenizer = load("embedded", "cpu")[1]
    check_stop_token(tokenizer)

    tokenizer.chat_template = template
    if told is None:
        check_stop_token(tokenizer)
        return
    with pytest.raises(TrainingError, match=told):
        check_stop_token(tokenizer)


@pytest.mark.parametrize("option", ["epochs", "batch_size", "learning_rate", "gradient_accumulation_steps", "lora_r", "max_length"])
def test_an_option_that_must_be_positive_is_checked(option: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=f"{option} is 0"):
        config(tmp_path, **{option: 0})


def test_records_of_both_trainers_keep_the_directive_word_for_word():
    from finetune.training import conversation

    row, pair = Row("Work.", "q", "a", "t", "i"), Pair("", "q", "a", "b", "t", "i", "j")

    assert conversation(row) == [{"role": "system", "content": "Work."}, {"role": "user", "content": "q"}]
    assert conversation(pair) == [{"role": "user", "content": "q"}]


def logits(path: str) -> list[float]:
    import torch

    model, tokenizer = load(path, "cpu")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Solve 2+2"}], add_generation_prompt=True)["input_ids"]
    with torch.inference_mode():
        found: list[float] = model(torch.tensor([ids])).logits[0, -1].tolist()
    return found
