"""A byte-level BPE tokenizer and its chat template as GGUF metadata.

llama.cpp splits text by patterns that it knows by name. Which of them splits as the tokenizer does is found by encoding sample texts both
ways: one that doesn't is no error in llama.cpp, only a model that reads other tokens than it was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from core.errors import AdapterError
from core.providers.traits import end_tokens

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
PRE: dict[str, tuple[str, ...]] = {
    "llama-bpe": (rf"{_ENDINGS}|\p{{N}}{{1,3}}{_REST}",),
    "qwen2": (rf"{_ENDINGS}|\p{{N}}{_REST}",),
    "smollm": (r"\p{N}", _GPT2),
    "gpt-2": (_GPT2,),
}
SAMPLES = (
    "Solve 17*6+23",
    "It's 3.14159, isn't it? We'LL see: 1234567 / 89",
    "def f(x):\n    if x > 10:\n\n        return  x ** 2\n",
    "  two  spaces\tand a tab \r\n\r\n and lines \n\n\n end ",
    "Grüße aus Köln, 你好世界, привет мир, مرحبا 😀👍",
    "a_b-c (d) [e] {f} <g> \"h\" 'i' @j #k $5.00 100% ½ Ⅷ",
    "Answer: 42",
)
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def add_tokens(gguf: Any, writer: Any, tokenizer: Any, rows: int, model: Any, pre: str | None) -> None:
    """Tokens for all `rows` of the embedding, merges, special tokens and the chat template. Raises AdapterError for another tokenizer."""
    described = _described(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre if pre is not None else pre_tokenizer(tokenizer))
    texts, kinds = _tokens(tokenizer, described, rows)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([_merge(pair) for pair in described["model"]["merges"]])
    ends = sorted(end_tokens(model, tokenizer))
    for name, found in (("bos", tokenizer.bos_token_id), ("eos", tokenizer.eos_token_id), ("pad", tokenizer.pad_token_id)):
        if found is not None:
            getattr(writer, f"add_{name}_token_id")(found)
    if others := [i for i in ends if i != tokenizer.eos_token_id]:
        writer.add_eot_token_id(others[0])
    writer.add_add_bos_token(begins_with_bos(tokenizer))
    if tokenizer.chat_template:
        writer.add_chat_template(plain_template(tokenizer.chat_template))


def pre_tokenizer(tokenizer: Any) -> str:
    """llama.cpp's name for how this tokenizer splits text: one that gives the same pieces, or else the same tokens.

    Raises AdapterError when none of those known does.
    """
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    described = tokenizer.backend_tokenizer.to_str()
    ours = Tokenizer.from_str(described)
    alike: dict[str, int] = {}
    for name, patterns in PRE.items():
        theirs = Tokenizer.from_str(described)
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
        theirs.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if ours.pre_tokenizer and all(_pieces(ours, text) == _pieces(theirs, text) for text in SAMPLES):
            return name
        alike[name] = sum(ours.encode(text).ids == theirs.encode(text).ids for text in SAMPLES)
    nearest = max(alike, key=lambda name: alike[name])
    if alike[nearest] == len(SAMPLES):
        return nearest
    raise AdapterError(
        f"llama.cpp knows no way to split text as this tokenizer does; the nearest, {nearest}, reads {alike[nearest]} of {len(SAMPLES)} "
        f"sample texts alike: export a merged model for another server, or pass pre_tokenizer={nearest!r} and check its answers"
    )


def _pieces(tokenizer: Any, text: str) -> list[str]:
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def begins_with_bos(tokenizer: Any) -> bool:
    """True when the tokenizer puts its first token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def plain_template(template: str) -> str:
    """Without the marks of what is trained on, which only Transformers knows; whitespace stays as it is."""
    template = re.sub(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})", r"\1if true\2", template)
    return re.sub(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})", r"\1endif\2", template)


def _described(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    model, decoder = described.get("model") or {}, described.get("decoder") or {}
    kinds = {decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", []))}
    if model.get("type") != "BPE" or model.get("byte_fallback") or "ByteLevel" not in kinds:
        raise AdapterError("only byte-level BPE tokenizers can be written as GGUF here: use llama.cpp's convert_hf_to_gguf.py")
    return described


def _tokens(tokenizer: Any, described: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    texts, kinds = [f"[PAD{i}]" for i in range(rows)], [UNUSED] * rows
    for text, i in described["model"]["vocab"].items():
        texts[i], kinds[i] = text, NORMAL
    for token in described["added_tokens"]:
        texts[token["id"]], kinds[token["id"]] = token["content"], CONTROL if token["special"] else USER_DEFINED
    return texts, kinds


def _merge(pair: str | Sequence[str]) -> str:
    """Spaces part the two halves, so spaces within are written as the byte that stands for them."""
    if isinstance(pair, str):
        return pair
    return " ".join(half.replace(" ", chr(ord(" ") + 256)) for half in pair)
