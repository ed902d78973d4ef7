"""run_sft, load_sft_model, predict_sft: from three rows to an answer, in the documented names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ProviderError, TrainingError
from core.providers.loading import load_tokenizer
from finetune.sft import SFTConfig, load_sft_model, predict_sft, run_sft
from finetune.styles import dress
from finetune.tokens import trained
from finetune.training import check_stop_token

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
slow = pytest.mark.slow
X = ["Say the word for one", "Say the word for two", "Say the word for three, which is longer than the others"]
Y = ["1 a", "2 b", "3 c"]


def config(folder: Path, **changes: Any) -> SFTConfig:
    found = SFTConfig(
        "embedded", str(folder), lora_dropout=0.0, num_train_epochs=60, per_device_train_batch_size=3, learning_rate=1e-2, device="cpu"
    )
    return found.replace(**changes)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model that learnt three rows by heart."""
    return load_sft_model(run_sft(X, Y, config(tmp_path_factory.mktemp("sft") / "deep" / "adapter")), "cpu")


@slow
def test_three_rows_are_learnt_by_heart_and_answers_end_where_they_should(learnt: tuple[Any, Any]):
    assert [predict_sft(*learnt, text) for text in X] == Y


@slow
def test_a_list_is_answered_like_its_members_in_its_order(learnt: tuple[Any, Any]):
    asked = [*X, "Solve 2+2", X[0]]

    assert predict_sft(*learnt, asked, max_new_tokens=8, batch_size=3) == [predict_sft(*learnt, text, 8) for text in asked]
    assert predict_sft(*learnt, []) == []


@slow
def test_a_temperature_draws_and_greedy_does_not(learnt: tuple[Any, Any]):
    drawn = {predict_sft(*learnt, "Solve 2+2", 8, temperature=5.0) for _ in range(4)}

    assert len(drawn) > 1
    assert len({predict_sft(*learnt, "Solve 2+2", 8) for _ in range(4)}) == 1


@slow
def test_the_length_of_an_answer_is_kept_to(learnt: tuple[Any, Any]):
    words = learnt[1](predict_sft(*learnt, "Solve 17*6+23", max_new_tokens=3), add_special_tokens=False)["input_ids"]

    assert len(words) <= 3


@slow
@pytest.mark.parametrize(("prompt", "told"), [("word " * 600, "no room for an answer"), (["a", 3], r"prompt\[1\] is of type int")])
def test_a_prompt_that_cannot_be_answered_is_told(prompt: Any, told: str, learnt: tuple[Any, Any]):
    with pytest.raises(TrainingError, match=told):
        predict_sft(*learnt, prompt)


@slow
def test_from_ten_rows_on_some_are_held_back_and_evaluated(tmp_path: Path):
    inputs, outputs = [f"Say {n}" for n in range(10)], [str(n) for n in range(10)]

    path = run_sft(inputs, outputs, config(tmp_path, num_train_epochs=1, validation_split=0.2, format_style="llama"))

    state = json.loads((Path(path) / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["max_steps"] == 3  # of eight rows, three at a time
    assert any("eval_loss" in entry for entry in state["log_history"])
    assert "start_header_id" in load_tokenizer(path).chat_template


@pytest.mark.parametrize("style", ["gemma", "llama"])
def test_a_style_trains_the_answer_and_what_ends_it_only(style: str):
    tokenizer = load_tokenizer("embedded")
    dress(tokenizer, style)

    check_stop_token(tokenizer)
    row = trained(tokenizer, "Be brief.", "Solve 2+2", "4")
    assert row.trained.strip() == f"4{tokenizer.eos_token}"
    assert row.stops
    assert "Be brief." in row.prompt
    assert "Solve 2+2" in row.prompt


def test_a_style_ends_a_turn_with_its_own_token_where_the_tokenizer_knows_it():
    tokenizer = load_tokenizer("embedded")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<start_of_turn>"]})
    dress(tokenizer, "gemma")

    text = tokenizer.apply_chat_template([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], tokenize=False)
    assert text == "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"


def test_auto_keeps_a_template_and_gives_one_where_there_is_none():
    tokenizer = load_tokenizer("embedded")
    own = tokenizer.chat_template
    dress(tokenizer, "auto")
    assert tokenizer.chat_template == own

    tokenizer.chat_template = None
    dress(tokenizer, "auto")
    assert "<start_of_turn>" in tokenizer.chat_template


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        (["a", "b"], ["c"], "X_train has 2 texts and y_train 1"),
        ([], [], "X_train is empty"),
        ("abc", ["c"], "X_train is one string"),
        (["a"], [7], r"y_train\[0\] is of type int"),
        (["a", "b"], ["c", "  "], "1 outputs are empty, the first at 1"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_told(inputs: Any, outputs: Any, told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        run_sft(inputs, outputs, config(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()


def test_a_style_that_is_not_there_is_told_with_those_that_are(tmp_path: Path):
    with pytest.raises(TrainingError, match="no format_style 'chatml': choose from auto, gemma, llama"):
        run_sft(X, Y, config(tmp_path), format_style="chatml")


def test_a_folder_without_a_model_is_told(tmp_path: Path):
    with pytest.raises(ProviderError, match=r"there is no trained model in .*: give the folder that run_sft returned"):
        load_sft_model(tmp_path)
