"""Chat templates for tokenizers that have none, or for those who want another: the turns of Gemma and of Llama 3."""

from __future__ import annotations

from typing import Any

from core.errors import TrainingError

STYLES = ("auto", "gemma", "llama")
BOS = "{% if bos_token is defined and bos_token %}{{ bos_token }}{% endif %}"
# Gemma has no system turn: what it would say opens the first turn of the user.
GEMMA = (
    BOS
    + "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.system = m['content'] + '\n\n' %}"
    "{% else %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + ns.system + m['content'] + 'STOP\n' }}"
    "{% set ns.system = '' %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA = (
    BOS + "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] + 'STOP' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
STOPS = {"gemma": "<end_of_turn>", "llama": "<|eot_id|>"}


def dress(tokenizer: Any, style: str) -> None:
    """Give the tokenizer the template of that style; "auto" keeps its own, and takes gemma's where it has none.

    A turn ends with the style's own token where the tokenizer knows it, else with its end of text: what stops an answer is one token.
    """
    if style not in STYLES:
        raise TrainingError(f"there is no format_style {style!r}: choose from {', '.join(STYLES)}")
    if style == "auto" and getattr(tokenizer, "chat_template", None):
        return
    chosen = "gemma" if style == "auto" else style
    stop = STOPS[chosen] if STOPS[chosen] in tokenizer.get_vocab() else tokenizer.eos_token
    if not stop:
        raise TrainingError(f"the tokenizer knows neither {STOPS[chosen]} nor an end of text: set tokenizer.eos_token and save it")
    tokenizer.chat_template = (GEMMA if chosen == "gemma" else LLAMA).replace("STOP", stop)
