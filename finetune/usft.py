"""Unsupervised fine-tuning: go on pretraining a model on raw text, with a LoRA adapter.

texts = load_corpus_from_hf("tiny_shakespeare", split="train[:1000]")
path = run_usft(texts, config=USFTConfig(output_model_path="models/shakespeare"))
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError
from core.types import Record
from finetune.options import train_config

if TYPE_CHECKING:
    from finetune.packing import Spool, Tokens
    from finetune.training import Progress, TrainConfig

log = logging.getLogger(__name__)

FEW = 20  # documents, below which all are trained on and none is held back
TOGETHER = 256  # documents tokenised at a time


@dataclass(frozen=True, slots=True)
class USFTConfig(Record):
    """Options of `run_usft`. validation_split: the share of the documents that is held back and evaluated on, from twenty on."""

    base_model_name: str = "Qwen/Qwen3-0.6B"
    output_model_path: str = "models/usft_model"
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.15
    num_train_epochs: float = 3
    per_device_train_batch_size: int = 4
    learning_rate: float = 3e-5
    max_length: int = 512
    validation_split: float = 0.05
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
        if self.max_length < 2:
            raise TrainingError(f"max_length is {self.max_length}: a block needs at least 2 tokens")


def run_usft(texts: Iterable[str], config: USFTConfig | None = None, *, on_step: Progress | None = None) -> str:
    """Train a LoRA adapter on the texts, each a document; returns its folder. They may be any iterable, larger than memory."""
    config = config or USFTConfig()
    if isinstance(texts, str):
        raise TrainingError("texts is one string: give a list of them")
    from finetune.packing import Spool
    from finetune.training import prepare_folder

    options = train_config(config)
    prepare_folder(options.output_dir)
    with Spool(options.output_dir, "train") as train, Spool(options.output_dir, "held") as held:
        _train(texts, config, options, train, held, on_step)
    return config.output_model_path


def load_corpus_from_hf(name: str, split: str = "train", **options: Any) -> list[str]:
    """The texts of a dataset on the Hub: its `text` column, else `content`, else each row as a string.

    A local directory works too: each of its text files is a text, of .jsonl files each line is a row; of slices like "train[:1000]" what
    stands in brackets counts. `options` go to `datasets.load_dataset`.
    """
    from finetune.corpora import of_directory, of_hub

    return of_directory(Path(name), split) if Path(name).is_dir() else of_hub(name, split, options)


def _train(
    texts: Iterable[str], config: USFTConfig, options: TrainConfig, train: Spool, held: Spool, on_step: Progress | None
) -> dict[str, Any]:
    from finetune.packing import collate
    from finetune.supervised import token_level
    from finetune.training import keep, peft_model, run

    model, tokenizer = peft_model(options)
    write(texts, tokenizer, train, held, config.validation_split)
    length = min(config.max_length, getattr(model.config, "max_position_embeddings", None) or config.max_length)
    sides = [spool.read().blocks(length) for spool in (train, held) if len(spool) > 1]
    if not len(train) > 1:
        raise TrainingError("the texts hold no token to predict: give longer ones")
    blocks = sides[0]
    log.info("%s", told(blocks.tokens, len(blocks), len(held)))
    trainer = token_level(
        model,
        tokenizer,
        blocks.dataset(),
        sides[-1].dataset() if len(sides) > 1 else blocks.dataset().select([0]),
        blocks.lengths(),
        options,
        evaluated=len(sides) > 1,
        data_collator=collate,
    )
    trainer.data_hash = blocks.tokens.digest
    metrics = run(trainer, options, len(blocks), on_step)
    keep(trainer, options.output_dir)
    return metrics


def write(texts: Iterable[str], tokenizer: Any, train: Spool, held: Spool, share: float) -> None:
    """Tokenise the texts into the two spools; an end of text closes each. Raises TrainingError when there is none, or one is no text.

    Which are held back depends on the text alone, so that equal texts are on one side. Of fewer than twenty none is held back.
    """
    first: list[str] = []
    documents = _checked(texts)
    for text in documents:
        first.append(text)
        if len(first) == FEW:
            break
    if not first:
        raise TrainingError("there are no texts to train on")
    share = share if len(first) == FEW else 0.0
    for batch in _batches(first, documents):
        for text, ids in zip(batch, tokenizer(batch, add_special_tokens=True)["input_ids"], strict=True):
            end = [] if tokenizer.eos_token_id is None or ids[-1:] == [tokenizer.eos_token_id] else [tokenizer.eos_token_id]
            side = held if share and int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32 < share else train
            side.add([*ids, *end])


def told(tokens: Tokens, blocks: int, held: int) -> str:
    """What is trained on, in numbers."""
    return (
        f"{tokens.documents} texts with {len(tokens)} tokens in {blocks} blocks, every token in one; {held} tokens are held back. "
        f"Trained are {len(tokens) - tokens.documents}: the first of a text has nothing before it"
    )


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TrainingError(f"text {place} is of type {type(text).__name__}: texts are needed")
        if text.strip():
            yield text


def _batches(first: list[str], rest: Iterator[str]) -> Iterator[list[str]]:
    yield first
    batch: list[str] = []
    for text in rest:
        batch.append(text)
        if len(batch) == TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch
