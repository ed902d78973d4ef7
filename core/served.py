"""Where a slot's adapters are served: there where its base is, each version under a name of its own.

base                          math@7
litellm:openai/BASE           litellm:openai/math@7    a LoRA of a vLLM server, loaded under that name
ollama:BASE                   ollama:math:v7           a tag of Ollama
any other                     adapter:math@7           in process, from the registry
"""

from __future__ import annotations


def spec_of(base: str, reference: str) -> str:
    """The model's name, as `core.providers.connect` takes it, under which a slot with that base serves that adapter."""
    provider, _, model = base.strip().partition(":")
    if provider == "litellm":
        return f"litellm:{model.partition('/')[0]}/{reference}"
    if provider == "ollama":
        adapter, _, version = reference.rpartition("@")
        return f"ollama:{adapter}:v{version}"
    return f"adapter:{reference}"
