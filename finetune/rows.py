"""What trainers learn from: answers, pairs of answers, judged answers, questions. Each row names the traces it was made of."""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Record


@dataclass(frozen=True, slots=True)
class Row(Record):
    """A prompt and the answer to learn. `directive` is the system message that the worker had, word for word."""

    directive: str
    prompt: str
    completion: str
    task_id: str
    trace_id: str

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """Where it comes from."""
        return (self.trace_id,)

    @property
    def written(self) -> tuple[str, ...]:
        """The texts that are trained."""
        return (self.completion,)


@dataclass(frozen=True, slots=True)
class Pair(Record):
    """Two whole answers to one prompt, the first verified, the second failed.

    `prefix` is what both begin with, where they are siblings in one search tree: DPO's margin doesn't depend on it, since the
    probabilities of what both share cancel.
    """

    directive: str
    prompt: str
    chosen: str
    rejected: str
    task_id: str
    chosen_id: str
    rejected_id: str
    prefix: str = ""

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """Where it comes from."""
        return (self.chosen_id, self.rejected_id)

    @property
    def written(self) -> tuple[str, ...]:
        """The texts that are trained."""
        return (self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Opinion(Row):
    """One answer and whether it is wanted, for KTO (Ethayarajh et al., 2024): from a verdict or from a thumb."""

    label: bool


@dataclass(frozen=True, slots=True)
class Prompt(Record):
    """A question to be answered while training (GRPO), with the share of earlier attempts that passed; None when there were none.

    `reference` and `metadata` (JSON) are what the verifier needs to reward an answer.
    """

    directive: str
    prompt: str
    task_id: str
    trace_id: str
    domain: str
    reference: str | None
    metadata: str
    pass_rate: float | None

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """Where it comes from."""
        return (self.trace_id,)

    @property
    def written(self) -> tuple[str, ...]:
        """The texts that are trained."""
        return ()


AnyRow = Row | Pair | Opinion | Prompt
