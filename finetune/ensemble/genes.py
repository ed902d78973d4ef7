"""Model genes: a specialist, what calls it, and how sure it must be to answer alone. A genome is a list of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.workers import WORKERS
from core.errors import ConfigError
from core.types import Domain, Message, Record

GENERAL = "general"
TRIGGERS: dict[str, tuple[str, ...]] = {
    "math": ("calculate", "solve", "equation", "number"),
    "code": ("function", "class", "bug", "debug", "code"),
    "factual": ("what is", "who is", "when did", "where is"),
    "logic": ("if", "therefore", "implies", "true", "false"),
    "creative": ("write", "story", "poem", "imagine"),
    "analysis": ("table", "average", "compare", "data", "trend"),
    "reasoning": ("why", "explain", "because", "reason"),
    GENERAL: ("how", "tell me", "help"),
}
SPREAD = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class ModelGene(Record):
    """One specialist. `sft_path` is a model or adapter directory, a hub id or PROVIDER:NAME; without it the gene can't answer.

    `base_model` is told for the reader: an adapter names its own base. `trigger_patterns` are words, or words in a row, that call it;
    case does not count. `confidence_threshold` in [0, 1] is how sure it must be to answer alone. Raises ConfigError.
    """

    sft_path: str | None = None
    base_model: str | None = None
    specialization: str = GENERAL
    trigger_patterns: list[str] = field(default_factory=list)
    confidence_threshold: float = 0.7

    def __post_init__(self) -> None:
        if not isinstance(self.specialization, str) or not self.specialization.strip():
            raise ConfigError(f"a gene's specialization is {self.specialization!r}: name it, for example math")
        patterns: object = self.trigger_patterns
        if not isinstance(patterns, Sequence) or isinstance(patterns, str) or not all(isinstance(each, str) for each in patterns):
            raise ConfigError(f"the trigger_patterns of {self.specialization} are {self.trigger_patterns!r}: give a list of texts")
        if isinstance(self.confidence_threshold, bool) or not isinstance(self.confidence_threshold, int | float):
            raise ConfigError(f"the confidence_threshold of {self.specialization} is {self.confidence_threshold!r}: give a number")
        if not 0 <= self.confidence_threshold <= 1:
            raise ConfigError(f"the confidence_threshold of {self.specialization} is {self.confidence_threshold}: choose one from 0 to 1")
        for name in ("sft_path", "base_model"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else str(value))  # paths are welcome
        object.__setattr__(self, "trigger_patterns", list(self.trigger_patterns))

    @property
    def trained(self) -> bool:
        """True when there is a model that answers for it."""
        return bool(self.sft_path)

    def messages(self, query: str) -> tuple[Message, ...]:
        """How the query is put to its model: the specialist of a domain hears what the domain's worker hears."""
        if self.specialization in list(Domain):
            return Message("system", WORKERS[Domain(self.specialization)][1]), Message("user", query)
        return (Message("user", query),)


Genome = Sequence[ModelGene]


def create_model_genome(
    specializations: Sequence[str],
    base_model: str | None = None,
    *,
    sft_paths: Mapping[str, str] | None = None,
    rng: random.Random | None = None,
) -> list[ModelGene]:
    """A gene for each specialization, with triggers of its own; `sft_paths` says which of them have a trained model.

    With `rng` the thresholds are drawn, so that a population begins diverse. Raises ConfigError when there is nothing to make it of.
    """
    if isinstance(specializations, str) or not specializations:
        raise ConfigError(f'specializations is {specializations!r}: give a list of one or more, such as ["math", "code"]')
    paths = dict(sft_paths or {})
    if unknown := sorted(set(paths) - set(specializations)):
        raise ConfigError(f"sft_paths names {unknown[0]!r}, which is none of the specializations: {', '.join(specializations)}")
    return [
        ModelGene(
            sft_path=paths.get(name),
            base_model=base_model,
            specialization=name,
            trigger_patterns=triggers_of(name),
            **({} if rng is None else {"confidence_threshold": round(rng.uniform(*SPREAD), 3)}),
        )
        for name in specializations
    ]


def triggers_of(specialization: str) -> list[str]:
    """What calls a specialist of that name to begin with; one that is not known is called by its name."""
    return list(TRIGGERS.get(specialization, (specialization,)))


def checked_genome(genome: object) -> Genome:
    """The genome, if it is one. Raises ConfigError."""
    if isinstance(genome, str) or not isinstance(genome, Sequence):
        raise ConfigError(f"a genome is a list of ModelGene, not {type(genome).__name__}: make one with create_model_genome")
    for gene in genome:
        if not isinstance(gene, ModelGene):
            raise ConfigError(f"a genome is a list of ModelGene, and {gene!r} is none: make one with create_model_genome")
    return genome
