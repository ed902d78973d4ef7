"""Swaps into Ollama: a new tag for each version ("math:v7"), with the template and the stop words of the training.

Ollama converts safetensors adapters for Llama, Mistral and Gemma 2 alone; for other bases the adapter is merged and sent as GGUF. It has no
hot swap: the first request to a new tag loads it. Written after Ollama's documentation and source and exercised through a stand-in: no
Ollama ran here, and no Go template was rendered by one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from core.errors import AdapterError, ConfigError, ProviderError
from core.providers.loading import base_of, load, load_tokenizer
from core.providers.ollama import OllamaModel
from core.providers.registered import check_base, intact
from core.providers.remote import first_line
from core.providers.remote import load as load_package
from core.served import spec_of
from finetune.backends.candidate import Candidate, Live, Proof
from finetune.backends.expected import Expect, in_process
from finetune.gguf import Weights, why_no_adapter, write_model
from finetune.modelfile import context_of, stop_words, turnings
from finetune.parity import LEAST, MAX_TOKENS, PROMPTS, ask

log = logging.getLogger(__name__)

CONVERTED = ("LlamaForCausalLM", "MistralForCausalLM", "Gemma2ForCausalLM")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
Form = Literal["auto", "adapter", "gguf"]


class Ollama:
    """`form`: the adapter over the slot's base (which Ollama must have), or all merged as GGUF with `weights`; auto takes what it can."""

    name = "Ollama"

    def __init__(
        self,
        host: str = "http://127.0.0.1:11434",
        *,
        form: Form = "auto",
        weights: Weights = "q8_0",
        pre_tokenizer: str | None = None,
        prompts: Sequence[str] = PROMPTS,
        max_tokens: int = MAX_TOKENS,
        least: float = LEAST,
        expect: Expect = in_process,
    ) -> None:
        if form not in ("auto", "adapter", "gguf"):
            raise ConfigError(f"there is no form {form!r}: choose auto, adapter or gguf")
        self._host, self._form, self._weights, self._pre = host, form, weights, pre_tokenizer
        self._prompts, self._max_tokens, self._least, self._expect = tuple(prompts), max_tokens, least, expect
        self._package = load_package("ollama")
        try:
            self._client = self._package.Client(host=host)
        except ValueError as error:
            raise ConfigError(f"{host!r} is no address ({first_line(error)}): write it like http://127.0.0.1:11434") from error

    def bring(self, candidate: Candidate) -> Live:
        """A new tag, proved by greedy answers. One of that name that is there already is proved as it is."""
        spec = spec_of(candidate.base, candidate.reference)
        check_base(candidate.folder, intact(candidate.folder))
        tag, there = tag_of(candidate.reference), self._tags()
        base = _base_tag(candidate.base)
        if tag not in there:
            self._create(candidate, tag, base if base in there or f"{base}:latest" in there else None, base)
        try:
            expected = self._expect(candidate.folder, self._prompts, self._max_tokens)
            parity = expected.proved(self._answers(tag), None, self._least, f"{tag} on Ollama")
            return Live(spec, candidate.manifest["fingerprint"], Proof(None, None, parity))
        except BaseException:
            if tag not in there:
                self.drop(candidate.reference)
            raise

    def has(self, reference: str) -> bool:
        """The tag is there."""
        return tag_of(reference) in self._tags()

    def drop(self, reference: str) -> None:
        """The tag is removed, as far as the server can be reached: one that nobody uses takes disk space alone."""
        try:
            self._delete(tag_of(reference))
        except ProviderError as error:
            log.warning("%s stays: %s", tag_of(reference), error)

    def keep(self, references: Collection[str]) -> None:
        """Tags of older versions of these adapters are removed, those that no slot would go back to."""
        kept = {tag_of(reference) for reference in references}
        ours = {tag.partition(":")[0] for tag in kept}
        for tag in sorted(self._tags() - kept):
            name, _, version = tag.partition(":")
            if name in ours and version[:1] == "v" and version[1:].isdigit():
                self._delete(tag)

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _create(self, candidate: Candidate, tag: str, base: str | None, named: str) -> None:
        model_config, lora = _configs(candidate.folder)
        reason = _why_not_adapter(model_config, lora) or (None if base else f"Ollama at {self._host} has no model {named}")
        if self._form == "adapter" and reason:
            raise AdapterError(f"{candidate.reference} can't be laid over its base by Ollama ({reason}): use form gguf")
        tokenizer = load_tokenizer(str(candidate.folder))
        told = {"template": turnings(tokenizer).go()}
        if self._form != "gguf" and not reason:
            files = {name: self._upload(candidate.folder / name) for name in ADAPTER_FILES}
            parameters = _parameters(model_config, tokenizer)
            self._make(candidate, model=tag, from_=base, adapters=files, parameters=parameters, **told)
            return
        with tempfile.TemporaryDirectory(prefix="ratchet-") as place:
            weights = Path(place) / "model.gguf"
            model, tokenizer = load(str(candidate.folder), "cpu", "float32")
            try:
                write_model(model, tokenizer, weights, weights=self._weights, name=tag, pre=self._pre)
            except OSError as error:
                raise AdapterError(f"can't write {weights} ({error}): make room there, or set TMPDIR to another disk") from error
            parameters = {"stop": stop_words(model, tokenizer), "num_ctx": context_of(model.config)}
            del model
            self._make(candidate, model=tag, files={weights.name: self._upload(weights)}, parameters=parameters, **told)

    def _make(self, candidate: Candidate, **wanted: Any) -> None:
        with self._failures(f"{candidate.reference} was not created, nothing has changed"):
            told = [part.status for part in self._client.create(**wanted, stream=True)]
            if told[-1:] != ["success"]:
                raise ProviderError(f"Ollama at {self._host} broke off while it made {wanted['model']}: look at its log")

    def _upload(self, path: Path) -> str:
        with self._failures(f"can't send {path.name}"):
            digest: str = self._client.create_blob(path)
            return digest

    def _tags(self) -> set[str]:
        with self._failures("can't list its models"):
            return {model.model for model in self._client.list().models if model.model}

    def _delete(self, tag: str) -> None:
        with self._failures(f"can't remove {tag}"):
            self._client.delete(tag)

    def _answers(self, tag: str) -> tuple[str, ...]:
        async def asked() -> tuple[str, ...]:
            model = OllamaModel(tag, self._host)
            try:
                return await ask(model, self._prompts, max_tokens=self._max_tokens)
            finally:
                await model.close()

        return asyncio.run(asked())

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        import httpx

        try:
            yield
        except self._package.ResponseError as error:
            reason = first_line(error.error) or "no reason given"
            if "unsupported architecture" in reason.lower():
                reason += " (use form gguf)"
            raise AdapterError(f"{what}: Ollama at {self._host} refused it: {reason}") from error
        except (ConnectionError, httpx.ConnectError) as error:
            raise ProviderError(f"no Ollama at {self._host}: start it with `ollama serve`, or give its address") from error
        except httpx.HTTPError as error:
            raise ProviderError(f"{what}: the connection to Ollama at {self._host} broke: {first_line(error)}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ProviderError(f"what answers at {self._host} doesn't speak as Ollama does ({first_line(error)}): check it") from error


def tag_of(reference: str) -> str:
    """ "math:v7" of "math@7"."""
    return spec_of("ollama:any", reference).removeprefix("ollama:")


def _base_tag(base: str) -> str:
    provider, _, name = base.partition(":")
    if provider != "ollama" or not name:
        raise ConfigError(f"the slot's base is {base!r}: for Ollama it must be ollama:MODEL")
    return name


def _configs(folder: Path) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base_of(str(folder))), json.loads((folder / ADAPTER_FILES[0]).read_text(encoding="utf-8"))


def _why_not_adapter(config: Any, lora: dict[str, Any]) -> str | None:
    """Why Ollama can't convert the adapter itself: it knows few builds, and reads a whole alpha and no rank-stabilised one."""
    kind = (getattr(config, "architectures", None) or ["none"])[0]
    if kind not in CONVERTED:
        return f"it converts no adapters of {kind}"
    if lora.get("use_rslora"):
        return "it knows no rank-stabilised LoRA"
    if float(lora.get("lora_alpha", 0)) != int(lora.get("lora_alpha", 0)):
        return f"it takes a whole number for alpha, not {lora['lora_alpha']}"
    return why_no_adapter(lora)


def _parameters(config: Any, tokenizer: Any) -> dict[str, Any]:
    """Stop words by the tokenizer's end and the base's own settings, without loading its weights."""
    from transformers import GenerationConfig

    ends = {tokenizer.eos_token_id}
    with suppress(OSError):
        told = GenerationConfig.from_pretrained(config.name_or_path).eos_token_id
        ends |= set(told if isinstance(told, list) else [told])
    stops = [text for i in sorted(i for i in ends if i is not None) if (text := tokenizer.decode([i]))]
    return {"stop": stops, "num_ctx": context_of(config)}
