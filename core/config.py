"""Settings: every option of the product, flat, typed and checked. The only place that reads the environment.

Keyword arguments come first, then `RATCHET_<NAME>` in the environment, then the same names in a `.env` file. An unknown name is an
error wherever it stands.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from core.errors import ConfigError
from core.types import Domain, Evidence

PREFIX = "RATCHET_"
EMBEDDED = "embedded"


class Settings(BaseSettings):
    """All options, with their defaults and ranges. Raises ConfigError on an unknown name or a value out of range."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="forbid", frozen=True, case_sensitive=True)

    MATH_WORKER_MODEL: str = Field(
        EMBEDDED, description="embedded, a model or adapter directory, a hub id, adapter:NAME@VERSION, slot:NAME, or PROVIDER:NAME"
    )
    CODE_WORKER_MODEL: str = Field(EMBEDDED, description="the same for code")
    LOGIC_WORKER_MODEL: str = Field(EMBEDDED, description="the same for logic")
    FACTUAL_WORKER_MODEL: str = Field(EMBEDDED, description="the same for facts")
    CREATIVE_WORKER_MODEL: str = Field(EMBEDDED, description="the same for creative writing")
    ANALYSIS_WORKER_MODEL: str = Field(EMBEDDED, description="the same for data analysis")
    REGISTRY: Path = Field(Path("adapters"), description="folder of registered adapters and of the slots that say which of them serve")

    SEARCH_STRATEGY: str = Field("lats", description="lats, levels, beam, best_of_n, self_consistency or single")
    SEARCH_CALLS: int = Field(24, ge=1, description="most model requests one search may make")
    SEARCH_WIDTH: int = Field(4, ge=1, le=64, description="samples in one expansion; attempts of best_of_n")
    SEARCH_DEPTH: int = Field(16, ge=1, description="longest path, in steps")
    SEARCH_EXPLORATION: float = Field(0.3, ge=0, description="c of UCT, for values in [0, 1]")
    SEARCH_REFLECTIONS: int = Field(3, ge=0, le=3, description="failures a search may think about; the embedded model never does")
    SEARCH_PRUNE: bool = Field(True, description="give up steps that were checked and are wrong")
    SEARCH_SIGNALS: dict[str, float] = Field(
        {"steps": 0.5, "process": 0.5}, description="weights of what values a step: steps, process, model, consistency"
    )
    PROCESS_REWARD: Path | None = Field(None, description="step values learned by ratchet train-values; they guide and never verify")
    SEARCH_PROMPT_TOKENS: int | None = Field(None, ge=1, description="most prompt tokens of one search")
    SEARCH_COMPLETION_TOKENS: int | None = Field(None, ge=1, description="most completion tokens of one search")
    SEARCH_SECONDS: float | None = Field(None, gt=0, description="seconds after which a search asks for nothing more")
    SEARCH_COST: float | None = Field(None, gt=0, description="most US dollars of one search, where the provider tells costs")
    SEARCH_CONCURRENCY: int = Field(0, ge=0, description="requests of one search at once; 0: 8 to a server, 1 in process")
    SEARCH_ORDERED: bool = Field(True, description="answers count in the order of their requests: the same seed, the same tree")
    KEEP_EVENTS: Literal["auto", "always", "never"] = Field(
        "auto", description="every event of a search is logged and stored, and a killed search resumes; auto: where calls go to a server"
    )
    TEMPERATURE: float = Field(1.0, ge=0, le=2, description="of sampling while searching; single-shot answers are greedy")
    MAX_TOKENS: int = Field(256, ge=1, description="most tokens in one answer")
    SEED: int = Field(0, ge=0, description="the same seed, model and question give the same search")
    CONCURRENCY: int = Field(32, ge=1, description="searches of infer_many that are under way at once")

    CACHE: Literal["off", "exact", "semantic"] = Field(
        "off", description="serve verified answers again; off, so that the same seed searches alike and collecting asks every question"
    )
    CACHE_FILE: Path | None = Field(None, description="where they are kept: by default cache.sqlite in the log_dir")
    CACHE_SIZE: int = Field(10_000, ge=1, description="answers that are kept; the one unused for longest goes first")
    CACHE_MIN_REWARD: float = Field(0.9, ge=0, le=1, description="a verified answer with less reward is not kept")
    CACHE_EMBEDDINGS: str | None = Field(
        None, description="for semantic: a sentence-transformers name or directory, or module:function, texts in and vectors out"
    )
    CACHE_SIMILARITY: float = Field(0.9, gt=0, le=1, description="cosine from which a verifier is asked whether an answer fits here too")

    VERIFIED_BY: tuple[Evidence, ...] = Field(
        (Evidence.REFERENCE, Evidence.EXECUTION, Evidence.RECOMPUTATION, Evidence.PROOF, Evidence.SOURCE),
        description="kinds of evidence that count as verified",
    )
    VERIFIERS: dict[str, str] = Field(
        {}, description="verifiers of your own: name or domain to module:function or file.py:function; a task names one in its metadata"
    )
    SANDBOX: Literal["strongest", "namespaces", "process"] = Field(
        "strongest", description="isolation that model-written code needs: on Linux strongest means namespaces; never less is taken"
    )
    CORPUS: Path | None = Field(None, description="index of documents that factual answers are checked against: ratchet corpus build")
    ENTAILMENT_MODEL: str | None = Field(None, description="directory or hub id of an NLI model, a second opinion on factual answers")
    JUDGE_MODEL: str | None = Field(None, description="who judges what no program can, in the form of a worker's model; never verifies")
    JUDGE_VOTES: int = Field(3, ge=1, le=25, description="how often the judge is asked")
    REWARD_WEIGHTS: dict[str, float] = Field({}, description="weights of a reward's parts: verdict flawless steps partial length cost")
    ROUTER: Path | None = Field(None, description="routing weights of your own, made by python -m core.routing.train")
    MIN_ROUTING_CONFIDENCE: float = Field(0.35, ge=0, le=1, description="below it a question goes to FALLBACK_DOMAIN")
    RESPONSE_ROUTER: Path | None = Field(None, description="specialists in front of the search, made by ratchet evolve")
    FALLBACK_DOMAIN: Domain = Field(Domain.ANALYSIS, description="where questions go that fit no domain")

    STORE_URL: str | None = Field(None, description="postgresql://USER:PASSWORD@HOST/DB or sqlite:///FILE; None: SQLite in log_dir")
    REDACT: bool = Field(True, description="secrets are taken out of what is stored")
    REDACT_PERSONAL: bool = Field(False, description="e-mail addresses and phone numbers too")
    OTEL_ENDPOINT: str | None = Field(None, description="OpenTelemetry collector that runs are sent to, such as http://localhost:4318")
    OTEL_CONTENT: bool = Field(False, description="send it questions and answers too, without secrets; otherwise names and numbers only")

    OLLAMA_HOST: str = Field("http://127.0.0.1:11434", description="where Ollama listens")
    API_BASE: str | None = Field(None, description="base URL of an OpenAI-compatible endpoint, for litellm models")
    REQUEST_TIMEOUT: float = Field(120.0, gt=0, description="seconds one try of a request to a server may take")
    REQUEST_RETRIES: int = Field(2, ge=0, le=10, description="tries after the first, with back-off")

    REQUEST_CONCURRENCY: int = Field(16, ge=1, le=1024, description="requests to one model of one server at once; others wait their turn")
    CIRCUIT_FAILURES: int = Field(5, ge=1, description="failures of a server in a row after which nothing is sent to it for a while")
    CIRCUIT_SECONDS: float = Field(30.0, gt=0, description="how long that while is; then one call tries whether it is back")
    OLLAMA_KEEP_ALIVE: str = Field("5m", pattern=r"^-?\d+(\.\d+)?(ms|s|m|h)?$", description="how long Ollama keeps a model; -1 for ever")
    OLLAMA_OPTIONS: dict[str, Any] = Field({}, description="Ollama's own options, such as num_ctx")

    DEVICE: str = Field("auto", description="of in-process models: auto, cpu, cuda, mps")
    DTYPE: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="of in-process models")
    THREADS: int = Field(0, ge=0, description="of in-process models on the CPU; 0 leaves the choice to torch")
    QUANTIZATION: Literal["none", "4bit", "8bit"] = Field("none", description="of in-process models, through bitsandbytes")
    PREFIX_CACHE_MB: int = Field(64, ge=0, description="memory for what prompts have in common, of each in-process model; 0: none")
    ADAPTERS: Literal["auto", "merged", "shared"] = Field(
        "auto", description="adapters are merged into a base of their own or share one; auto: shared from 100 million parameters on"
    )
    ADAPTERS_LOADED: int = Field(8, ge=1, description="adapters that one shared base holds at once")
    BATCH_ROWS: int = Field(96, ge=1, description="rows that an in-process model decodes at once")

    def __init__(self, **values: Any) -> None:
        unknown = sorted(set(values) - set(type(self).model_fields) - {"_env_file"})
        unknown += _unknown_in_environment(type(self), values.get("_env_file", ".env"))
        if unknown:
            raise ConfigError(_unknown_message(type(self), unknown[0]))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(f"Settings: {_told_simply(error)}") from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keywords, environment, `.env`; no secret files."""
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        dotenv_settings.env_vars = {k: v for k, v in dotenv_settings.env_vars.items() if k.startswith(PREFIX)}
        return init_settings, env_settings, dotenv_settings

    def worker_model(self, domain: Domain) -> str:
        """What is set as the worker's model in that domain."""
        value: str = getattr(self, f"{domain.value.upper()}_WORKER_MODEL")
        return value

    def with_worker_model(self, domain: Domain, model: str) -> Self:
        """A copy in which that domain is served by another model: this is how an adapter is deployed."""
        return self.changed(**{f"{domain.value.upper()}_WORKER_MODEL": model})

    def changed(self, **changes: Any) -> Self:
        """A checked copy with some options changed."""
        return type(self)(**{**self.model_dump(), **changes}, _env_file=None)


def _unknown_in_environment(settings: type[Settings], env_file: str | Path | None) -> list[str]:
    from dotenv import dotenv_values

    names = set(os.environ)
    if env_file and Path(env_file).is_file():
        names |= set(dotenv_values(env_file))
    known = {PREFIX + name for name in settings.model_fields}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def _unknown_message(settings: type[Settings], name: str) -> str:
    near = get_close_matches(name.removeprefix(PREFIX).upper(), settings.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(settings.model_fields)}"
    return f"there is no setting {name!r}: {hint}"


def _told_simply(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
