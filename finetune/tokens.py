"""Exactly which tokens of a row are trained, decoded for a person to read, and whether what ends a turn is among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import TrainingError
from core.types import Record

ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "</s>")


@dataclass(frozen=True, slots=True)
class Trained(Record):
    """A row as the trainer sees it: how many tokens, and of which of them the loss is taken. `stops` when one of those ends the turn."""

    prompt: str
    trained: str
    tokens: int
    trained_tokens: int
    stops: bool


def turns(directive: str, prompt: str) -> list[dict[str, str]]:
    """The messages that the worker had when it answered."""
    system = [{"role": "system", "content": directive}] if directive else []
    return [*system, {"role": "user", "content": prompt}]


def labels(tokenizer: Any, directive: str, prompt: str, completion: str) -> tuple[list[int], list[bool]]:
    """(token ids, whether each is trained): of the completion and what the template writes after it, and of nothing before.

    Raises TrainingError when the template writes the prompt otherwise once the answer stands there: then training isn't what serving sees.
    """
    before = turns(directive, prompt)
    opened = _ids(tokenizer, before, add_generation_prompt=True)
    whole = _ids(tokenizer, [*before, {"role": "assistant", "content": completion}], add_generation_prompt=False)
    if whole[: len(opened)] != opened:
        raise TrainingError("the chat template renders a finished turn differently from an open one: training would not match serving")
    return whole, [place >= len(opened) for place in range(len(whole))]


def trained(tokenizer: Any, directive: str, prompt: str, completion: str) -> Trained:
    """What is trained of one row, as text."""
    ids, mask = labels(tokenizer, directive, prompt, completion)
    learnt = [i for i, is_trained in zip(ids, mask, strict=True) if is_trained]
    ends = {tokenizer.convert_tokens_to_ids(end) for end in ENDS if end in tokenizer.get_vocab()} | {tokenizer.eos_token_id}
    return Trained(
        tokenizer.decode([i for i, is_trained in zip(ids, mask, strict=True) if not is_trained]),
        tokenizer.decode(learnt),
        len(ids),
        len(learnt),
        any(i in ends for i in learnt),
    )


def counter(tokenizer: Any) -> Callable[[str, str, str], int]:
    """What counts the tokens of a directive, a prompt and an answer, as the trainer will."""

    def count(directive: str, prompt: str, completion: str) -> int:
        answered = [{"role": "assistant", "content": completion}] if completion else []
        return len(_ids(tokenizer, [*turns(directive, prompt), *answered], add_generation_prompt=not completion))

    return count


def _ids(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the tokenizer has no chat template: use an instruct model, or set tokenizer.chat_template and save it")
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=True)
    ids = found if isinstance(found, list) else found["input_ids"]
    return list(ids)
