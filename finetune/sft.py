"""Supervised fine-tuning in three functions: train on inputs and outputs, load what was trained, ask it.

path = run_sft(["translate to french: hello"], ["bonjour"])
model, tokenizer = load_sft_model(path)
predict_sft(model, tokenizer, "translate to french: thanks")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from core.errors import TrainingError
from core.types import Record
from finetune.options import train_config
from finetune.rows import Row

if TYPE_CHECKING:
    from finetune.training import Progress

FEW = 10  # rows, below which all are trained on and none is held back
TOGETHER = 16  # prompts answered at a time


@dataclass(frozen=True, slots=True)
class SFTConfig(Record):
    """Options of `run_sft`. `format_style`: "gemma", "llama", or "auto", which is the tokenizer's own and gemma where it has none.

    validation_split: the share of the inputs that is held back and evaluated on, from ten rows on.
    """

    base_model_name: str = "google/gemma-3-270m-it"
    output_model_path: str = "models/sft_model"
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.15
    num_train_epochs: float = 20
    per_device_train_batch_size: int = 2
    learning_rate: float = 3e-5
    max_length: int = 512
    format_style: str = "auto"
    validation_split: float = 0.1
    gradient_accumulation_steps: int = 1
    target_modules: str | tuple[str, ...] = "all-linear"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    device: str = "auto"
    seed: int = 0
    save_steps: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.validation_split < 1:
            raise TrainingError(f"validation_split is {self.validation_split}: it must be at least 0 and less than 1")


def run_sft(
    X_train: Iterable[str],
    y_train: Iterable[str],
    config: SFTConfig | None = None,
    *,
    format_style: str | None = None,
    on_step: Progress | None = None,
) -> str:
    """Train a LoRA adapter that answers each input with its output; returns its folder.

    Raises TrainingError for what can't be trained on.
    """
    config = config or SFTConfig()
    inputs, outputs = _texts(X_train, "X_train"), _texts(y_train, "y_train")
    if len(inputs) != len(outputs):
        raise TrainingError(f"X_train has {len(inputs)} texts and y_train {len(outputs)}: every input needs one output")
    if not inputs:
        raise TrainingError("X_train is empty: there is nothing to train on")
    empty = [place for place, text in enumerate(outputs) if not text.strip()]
    if empty:
        raise TrainingError(f"{len(empty)} outputs are empty, the first at {empty[0]}: leave these rows out")
    from finetune.supervised import train_sft

    rows = [Row("", x, y, x, str(place)) for place, (x, y) in enumerate(zip(inputs, outputs, strict=True))]
    held = config.validation_split if len(rows) >= FEW else 0.0
    train_sft(rows, train_config(config), train_split=1 - held, on_step=on_step, style=format_style or config.format_style)
    return config.output_model_path


def load_sft_model(path: str | Path, device: str = "auto") -> tuple[Any, Any]:
    """(model, tokenizer), the adapter merged into its base. Raises ProviderError when there is none at `path`."""
    from core.errors import ProviderError
    from core.providers.loading import is_adapter, load

    if not is_adapter(str(path)) and not (Path(path) / "config.json").is_file():
        raise ProviderError(f"there is no trained model in {path}: give the folder that run_sft returned")
    model, tokenizer = load(str(path), device)
    return model, tokenizer


@overload
def predict_sft(
    model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = ..., temperature: float = ..., batch_size: int = ...
) -> str: ...
@overload
def predict_sft(
    model: Any, tokenizer: Any, prompt: Sequence[str], max_new_tokens: int = ..., temperature: float = ..., batch_size: int = ...
) -> list[str]: ...
def predict_sft(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[str],
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    batch_size: int = TOGETHER,
) -> str | list[str]:
    """The answer to a prompt, or the answers to a list of them, `batch_size` at a time. Greedy unless the temperature is above 0."""
    if isinstance(prompt, str):
        return predict_sft(model, tokenizer, [prompt], max_new_tokens, temperature, batch_size)[0]
    prompts = _texts(prompt, "prompt")
    if max_new_tokens < 1 or batch_size < 1 or temperature < 0:
        raise TrainingError("max_new_tokens and batch_size must be at least 1, and temperature at least 0")
    ids = [_asked(tokenizer, text) for text in prompts]
    context = getattr(model.config, "max_position_embeddings", None)
    if context and ids and max(map(len, ids)) >= context:
        raise TrainingError(f"a prompt of {max(map(len, ids))} tokens leaves no room for an answer: the model takes {context}")
    answers = [""] * len(ids)
    by_length = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for start in range(0, len(ids), batch_size):
        places = by_length[start : start + batch_size]
        room = min(max_new_tokens, context - len(ids[places[-1]])) if context else max_new_tokens
        for place, text in zip(places, _generate(model, tokenizer, [ids[place] for place in places], room, temperature), strict=True):
            answers[place] = text
    return answers


def _texts(given: Iterable[str], name: str) -> list[str]:
    if isinstance(given, str):
        raise TrainingError(f"{name} is one string: give a list of them")
    texts = list(given)
    wrong = next((place for place, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TrainingError(f"{name}[{wrong}] is of type {type(texts[wrong]).__name__}: texts are needed")
    return texts


def _asked(tokenizer: Any, prompt: str) -> list[int]:
    found = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True)
    return list(found if isinstance(found, list) else found["input_ids"])


def _generate(model: Any, tokenizer: Any, rows: list[list[int]], room: int, temperature: float) -> list[str]:
    import torch

    from finetune.tokens import ENDS

    width = max(map(len, rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    vocabulary = tokenizer.get_vocab()
    stops = sorted({vocabulary[end] for end in ENDS if end in vocabulary} | {tokenizer.eos_token_id} - {None})
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    drawn = {"temperature": temperature} if temperature else {"temperature": None, "top_p": None, "top_k": None}
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=room,
            do_sample=temperature > 0,
            pad_token_id=pad,
            eos_token_id=stops,
            use_cache=True,
            **drawn,
        )
    texts: list[str] = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return [text.strip() for text in texts]
