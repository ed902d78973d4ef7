"""A natural-language-inference model as a signal: how probable it is that one text entails another. It is never a verifier."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from core.errors import ConfigError, ProviderError

MAX_TOKENS = 512
MAX_CHARACTERS = 20_000
INSTALL = 'this needs transformers and torch: pip install "ratchet-agents[local]"'


def load(name: str) -> Callable[[str, str], float]:
    """`(premise, hypothesis) -> probability` by a sequence-classification model in a directory or under a hub id.

    The label that means entailment is found by its name in the model's own config. Runs on the CPU, one pair at a time, from any thread.
    Raises ConfigError when the config names no such label, ProviderError when the model can't be loaded.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise ConfigError(INSTALL) from error
    try:
        config = AutoConfig.from_pretrained(name)
        label = entailing(dict(config.id2label), name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(name).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ProviderError(f"can't load {name!r} for entailment: {error}") from error
    longest = min(MAX_TOKENS, int(getattr(config, "max_position_embeddings", MAX_TOKENS)) - 2)
    lock = threading.Lock()

    def entails(premise: str, hypothesis: str) -> float:
        """Cuts both texts to what the model can read, the longer one first."""
        with lock, torch.inference_mode():
            pair = tokenizer(
                premise[:MAX_CHARACTERS], hypothesis[:MAX_CHARACTERS], truncation="longest_first", max_length=longest, return_tensors="pt"
            )
            return float(model(**pair).logits[0].softmax(-1)[label])

    return entails


def entailing(labels: Mapping[int, str], name: str = "the model") -> int:
    """The index of the label that means entailment. Raises ConfigError when there is not exactly one."""
    plain = {index: label.casefold().replace("_", " ").replace("-", " ").strip() for index, label in labels.items()}
    found = [index for index, label in plain.items() if label in ("entailment", "entails", "entailed", "entail")]
    if len(found) != 1:
        told = ", ".join(map(str, labels.values()))
        raise ConfigError(f"{name} has the labels {told}, none of which is 'entailment': choose a model trained for it")
    return int(found[0])
