"""Swaps into a running vLLM server through its runtime LoRA endpoints.

Each version has a name of its own ("math@7"): under a name that was used before, vLLM would refuse it, or serve what its prefix cache holds
of the old weights. The server must have been started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora --max-lora-rank at the
adapter's rank or above; it reads the adapter from its own disk. Written after vLLM's documentation and exercised through a stand-in: no
vLLM ran here.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from core.errors import AdapterError, ConfigError, ProviderError
from core.providers.loading import load_tokenizer
from core.providers.registered import check_base, intact
from core.served import spec_of
from core.slots import parse_reference
from finetune.backends.candidate import Candidate, Live, Proof
from finetune.backends.expected import Expect, in_process
from finetune.backends.http import Refused, Server
from finetune.parity import LEAST, MAX_TOKENS, PROMPTS

log = logging.getLogger(__name__)

LOGPROBS = 5
START = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora --max-loras N --max-lora-rank R"


class VLLM:
    """`place` says where the server finds a directory of ours, if its disk is another; `least` is the share of answers that must be equal.

    The slot's base is the server's model as LiteLLM calls it, such as litellm:openai/Qwen/Qwen3-0.6B.
    """

    name = "vLLM"

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        place: Callable[[Path], str] = str,
        prompts: Sequence[str] = PROMPTS,
        max_tokens: int = MAX_TOKENS,
        least: float = LEAST,
        expect: Expect = in_process,
        timeout: float = 120.0,
    ) -> None:
        self._server = Server("vLLM", url.rstrip("/").removesuffix("/v1"), f"start it with {START}", key=key, timeout=timeout)
        self._place, self._expect = place, expect
        self._prompts, self._max_tokens, self._least = tuple(prompts), max_tokens, least

    def bring(self, candidate: Candidate) -> Live:
        """Loaded under its reference, proved by the probe's log-probabilities against the base's and by greedy answers."""
        reference, base = candidate.reference, _served_name(candidate.base)
        check_base(candidate.folder, intact(candidate.folder))
        known = self._models()
        if base not in known:
            raise ProviderError(f"vLLM at {self._server.url} serves {', '.join(sorted(known)) or 'nothing'}, not {base}: {START}")
        if reference in known:
            self._check_same(known[reference], candidate)
        else:
            self._load(candidate)
        try:
            return Live(spec_of(candidate.base, reference), candidate.manifest["fingerprint"], self._proof(candidate, base))
        except BaseException:
            if reference not in known:
                self.drop(reference)
            raise

    def has(self, reference: str) -> bool:
        """Loaded: a server that was started anew has lost what came at run time."""
        return reference in self._models()

    def drop(self, reference: str) -> None:
        """Unloaded, as far as the server can be reached: what it keeps under a name that nobody uses does no harm."""
        try:
            self._unload(reference)
        except ProviderError as error:
            log.warning("%s stays loaded: %s", reference, error)

    def keep(self, references: Collection[str]) -> None:
        """Older versions of these adapters are unloaded, those that no slot would go back to."""
        ours = {parse_reference(reference)[0] for reference in references}
        for name in sorted(self._models()):
            if name not in references and _adapter_of(name) in ours:
                self._unload(name)

    def close(self) -> None:
        """Give back the connections."""
        self._server.close()

    def _models(self) -> dict[str, dict[str, Any]]:
        """What the server lists: base models, and adapters with their `root`, a path of its own disk, and their `parent`."""
        answer = self._server.get("/v1/models")
        try:
            return {model["id"]: model for model in answer["data"]}
        except (TypeError, KeyError) as error:
            raise ProviderError(f"what answers at {self._server.url} doesn't speak as vLLM does: check the address") from error

    def _load(self, candidate: Candidate) -> None:
        place = self._place(candidate.folder.resolve())
        try:
            self._server.post("/v1/load_lora_adapter", {"lora_name": candidate.reference, "lora_path": place})
        except Refused as error:
            raise AdapterError(
                f"{candidate.reference} was not loaded, nothing has changed: {self._why(error, place, candidate)}"
            ) from error

    def _why(self, error: Refused, place: str, candidate: Candidate) -> str:
        said = error.told.lower()
        if error.status in (404, 405) and not error.own:
            return f"runtime LoRA updating is off at {self._server.url}: start it with {START}"
        if "rank" in said:
            return f"{error.told}: start vLLM with --max-lora-rank {_rank(candidate.folder)} or more"
        if error.status == 404 or "no adapter found" in said or "does not exist" in said or "no such file" in said:
            return f"vLLM finds no adapter at {place} on its own disk ({error.told}): share the registry with it, and say where with place="
        if error.status in (401, 403):
            return f"vLLM refused the key ({error.told}): give the one that it was started with"
        return f"vLLM says {error.told!r}: is its base the one that {candidate.reference} was trained on?"

    def _check_same(self, listed: dict[str, Any], candidate: Candidate) -> None:
        root = str(listed.get("root") or "")
        if root != self._place(candidate.folder.resolve()):
            raise AdapterError(
                f"vLLM serves another adapter, from {root}, under the name {candidate.reference}: unload that one first "
                f"(POST /v1/unload_lora_adapter)"
            )

    def _unload(self, reference: str) -> None:
        self._server.post("/v1/unload_lora_adapter", {"lora_name": reference})

    def _proof(self, candidate: Candidate, base: str) -> Proof:
        reference = candidate.reference
        ids = _probe_ids(candidate)
        from_base = _apart(self._logprobs(reference, ids), self._logprobs(base, ids))
        if from_base == 0:
            raise AdapterError(f"{reference} on vLLM answers the probe as its base does: the adapter did not take effect")
        expected = self._expect(candidate.folder, self._prompts, self._max_tokens)
        served, plain = ([self._answer(model, prompt) for prompt in self._prompts] for model in (reference, base))
        return Proof(None, from_base, expected.proved(served, plain, self._least, f"{reference} on vLLM"))

    def _logprobs(self, model: str, ids: list[int]) -> dict[str, float]:
        """Of the likeliest tokens after the probe."""
        asked = {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "logprobs": LOGPROBS}
        answer = self._server.post("/v1/completions", asked)
        try:
            found = {str(token): float(value) for token, value in answer["choices"][0]["logprobs"]["top_logprobs"][0].items()}
        except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
            raise ProviderError(f"{model} on vLLM tells no log-probabilities: start it without --max-logprobs 0") from error
        if not all(map(math.isfinite, found.values())):
            raise AdapterError(f"{model} on vLLM answers with what are no numbers: the training has diverged")
        return found

    def _answer(self, model: str, prompt: str) -> str:
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.0,
            "max_tokens": self._max_tokens,
        }
        answer = self._server.post("/v1/chat/completions", asked)
        try:
            return str(answer["choices"][0]["message"]["content"] or "")
        except (TypeError, KeyError, IndexError) as error:
            raise ProviderError(f"what answers at {self._server.url} doesn't speak as vLLM does: check the address") from error


def _served_name(base: str) -> str:
    """The server's own name of its model: "Qwen/Qwen3-0.6B" of "litellm:openai/Qwen/Qwen3-0.6B"."""
    provider, _, name = base.partition(":")
    client, _, served = name.partition("/")
    if provider != "litellm" or not client or not served:
        raise ConfigError(f"the slot's base is {base!r}: for vLLM it must be litellm:openai/MODEL, MODEL as the server lists it")
    return served


def _adapter_of(name: str) -> str | None:
    try:
        return parse_reference(name)[0]
    except ConfigError:
        return None


def _probe_ids(candidate: Candidate) -> list[int]:
    """The probe as token ids, so that no template of the server comes between."""
    tokenizer = load_tokenizer(str(candidate.folder))
    turns = [{"role": "user", "content": candidate.manifest["probe_prompt"]}]
    ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    return ids


def _apart(one: dict[str, float], other: dict[str, float]) -> float:
    """Largest difference of log-probabilities over the tokens that both name; 1 where they name others."""
    if one.keys() != other.keys():
        return max(1.0, *(abs(one[token] - other[token]) for token in one.keys() & other.keys()), 0.0)
    return max(abs(one[token] - other[token]) for token in one)


def _rank(folder: Path) -> int:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    ranks: list[int] = [int(config.get("r") or 0), *(config.get("rank_pattern") or {}).values()]
    return max(ranks)
