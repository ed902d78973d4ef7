"""The records that travel between the rooms of the house. Frozen: a changed record is a copy."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, Self, runtime_checkable

from core.errors import TaskError


class Domain(StrEnum):
    """What a question is about; each domain has one worker and one verifier."""

    MATH = "math"
    CODE = "code"
    LOGIC = "logic"
    FACTUAL = "factual"
    CREATIVE = "creative"
    ANALYSIS = "analysis"


class Outcome(StrEnum):
    """What a verifier found. ABSTAIN: not checkable. ERROR: the check itself broke. Neither is ever a PASS."""

    PASS = "pass"
    FAIL = "fail"
    ABSTAIN = "abstain"
    ERROR = "error"


class Evidence(StrEnum):
    """What a verdict rests on."""

    REFERENCE = "reference"
    EXECUTION = "execution"
    RECOMPUTATION = "recomputation"
    PROOF = "proof"
    SOURCE = "source"
    CONSISTENCY = "consistency"
    JUDGE = "judge"
    NONE = "none"


class Split(StrEnum):
    """Fixed for a task at first sight: train on it, decide promotions with it, or look at it only before and after."""

    TRAIN = "train"
    GATE = "gate"
    REPORT = "report"


class Record:
    """Base of all records: fields read as attributes or as keys, `trace.reward` and `trace["reward"]`."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and not key.startswith("_") and hasattr(self, key) and not hasattr(Record, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The field of that name, or `default` when there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """The names of the fields, so that `dict(record)` works."""
        return [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, lists and strings, ready for JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True, slots=True)
class Task(Record):
    """A question, with whatever is known about its answer.

    `key` is what the split and the deduplication go by: for templated questions the part that matters ("17*6+23"), otherwise the
    prompt itself. Two wordings of one problem must share a key, or one of them leaks into the held-out side. What UTF-8 can't hold is
    mended, since nobody could hash, send or store it.
    """

    prompt: str
    domain: Domain
    reference: str | None = None
    key: str = ""
    level: int | None = None
    family: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise TaskError(f"a question is a text, not {type(self.prompt).__name__}")
        for name in ("prompt", "reference", "key", "family"):
            object.__setattr__(self, name, _mended_if_text(getattr(self, name)))
        if not self.prompt.strip():
            raise TaskError("the question is empty: ask something")
        if self.domain not in list(Domain):
            raise TaskError(f"there is no domain {self.domain!r}: choose one of {', '.join(Domain)}")
        object.__setattr__(self, "domain", Domain(self.domain))
        object.__setattr__(self, "key", self.key or normalise_prompt(self.prompt))

    @property
    def id(self) -> str:
        """16 hex digits: the same problem has the same id on every machine."""
        return hashlib.sha256(f"{self.domain}\0{self.key}".encode()).hexdigest()[:16]


def mended(text: str) -> str:
    """Halves of a surrogate pair joined where they meet, and replaced where they stand alone, so that UTF-8 holds the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _mended_if_text(value: Any) -> Any:
    return mended(value) if isinstance(value, str) and not value.isascii() else value


def normalise_prompt(prompt: str) -> str:
    """Case and spacing don't make a new problem."""
    return re.sub(r"\s+", " ", prompt).strip().casefold()


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What model calls used up. `cost` is in US dollars, None when the provider can't say."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [u.cost for u in (self, other) if u.cost is not None]
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(costs) if costs else None,
        )


@dataclass(frozen=True, slots=True)
class Sampling(Record):
    """How to draw a completion. Temperature 0 is greedy; `stop` strings end a completion and stay at its end.

    Where a token holds more than the end of a stop string, such as a newline and the next line's indentation, it stays whole.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request(Record):
    """n completions of one conversation. `prefix` is what the assistant has written already and is to continue, word for word.

    `banned_start` forbids the first token of that text as the first token of the completion; only in-process models can do it.
    """

    messages: tuple[Message, ...]
    n: int = 1
    sampling: Sampling = Sampling()
    prefix: str = ""
    banned_start: str | None = None


@dataclass(frozen=True, slots=True)
class Completion(Record):
    """One text, without the prefix. finish: "end" the model ended its turn, "stop" a stop string, "length" the token limit."""

    text: str
    finish: Literal["end", "stop", "length"] = "end"
    mean_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Reply(Record):
    """What a model sends back for one request: its completions, and what they used up together."""

    completions: tuple[Completion, ...]
    usage: Usage


@runtime_checkable
class Model(Protocol):
    """The seam to every provider. `fingerprint` names the weights that answer; None where a server doesn't tell."""

    name: str
    fingerprint: str | None

    async def complete(self, request: Request) -> Reply:
        """Exactly `request.n` completions. Raises ProviderError when the model can't be reached or understood."""
        ...

    async def close(self) -> None:
        """Give back connections, threads and memory; the model is not used again."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What a verifier found, on what evidence, and why. `score` in [0, 1] is partial credit; None is unknown and is not 0.

    `isolation` names the sandbox tier that was reached, where code ran. `details` is plain JSON that shows the evidence: a counter-model,
    citations with offsets, recomputed values.
    """

    outcome: Outcome
    score: float | None
    reason: str
    evidence: Evidence = Evidence.NONE
    verifier: str = ""
    version: str = "1"
    milliseconds: float = 0.0
    isolation: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """PASS and nothing else."""
        return self.outcome is Outcome.PASS


@dataclass(frozen=True, slots=True)
class Reward(Record):
    """A number in [0, 1] and the weighted parts it was made of; value None is unknown."""

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Trace(Record):
    """One attempt at a task that was made and judged, on its way to becoming training data.

    `text` is all that the model wrote, in the words it wrote; `steps` are its lines; `answer` is what was judged.
    """

    id: str
    run_id: str
    task: Task
    worker: str
    directive: str
    model: str
    fingerprint: str | None
    text: str
    answer: str | None
    steps: tuple[str, ...]
    verdict: Verdict
    reward: float | None
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    reward_recipe: str = ""
    complete: bool = True
    node: str = ""
    usage: Usage = Usage()
    seconds: float = 0.0
    created: float = 0.0
    split: Split = Split.TRAIN

    @property
    def domain(self) -> Domain:
        """The domain of its task."""
        return self.task.domain

    @property
    def query(self) -> str:
        """The question."""
        return self.task.prompt

    @property
    def verified(self) -> bool:
        """True when the verdict is a PASS."""
        return self.verdict.passed

    @property
    def final_output(self) -> str:
        """All that the model wrote."""
        return self.text

    @property
    def task_metadata(self) -> dict[str, Any]:
        """The task's metadata, with its reference answer as `expected`."""
        return {**self.task.metadata, "expected": self.task.reference}


@dataclass(frozen=True, slots=True)
class NodeRecord(Record):
    """One node of a finished search tree. `path` is the sample indices from the root joined by dots; the root's is ""."""

    path: str
    text: str
    visits: int
    value: float
    terminal: bool
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Run(Record):
    """One question answered: the search that was made, its tree, and every attempt that came of it, best first.

    `stopped` says why the search ended, `key` is the same for the same question to the same weights under the same settings, `events`
    are what happened, as plain JSON, where they were kept. `process_reward` is the fingerprint of the learned step values that guided it.
    """

    id: str
    task: Task
    worker: str
    model: str
    fingerprint: str | None
    strategy: str
    seed: int
    routing_confidence: float
    nodes: tuple[NodeRecord, ...]
    traces: tuple[Trace, ...]
    usage: Usage
    seconds: float
    created: float
    error: str | None = None
    stopped: str | None = None
    key: str = ""
    events: tuple[Mapping[str, Any], ...] = ()
    process_reward: str = ""


@dataclass(frozen=True, slots=True)
class Result(Record):
    """The answer to one question. `text` is the whole path that led to `answer`; `error` says why there is none.

    `cached`: it is an earlier answer, of the run `run_id`; nothing was asked of a model, and nothing is logged.
    """

    answer: str | None
    text: str
    domain: Domain
    worker: str
    verified: bool
    verdict: Verdict
    reward: float | None
    steps: tuple[str, ...]
    run_id: str
    usage: Usage
    seconds: float
    model: str
    fingerprint: str | None = None
    error: str | None = None
    cached: bool = False


def best_first(traces: Sequence[Trace]) -> tuple[Trace, ...]:
    """Verified before unverified, then by reward; unknown rewards last."""
    return tuple(sorted(traces, key=lambda t: (not t.verified, -(t.reward if t.reward is not None else -1.0))))
