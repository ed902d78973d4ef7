"""The tables of the trace store, as they are now; `logs/migrations` brings older stores there.

Two questions with one key are one task, and the task keeps the wording, the reference and the split it was first seen with. How a
run asked it stands with the run, so that a trace reads back with the words its text answers.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Column, Index, Table
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

SCHEMA_VERSION = 5

Values = dict[str, Any]


class Base(SQLModel, registry=registry()):
    """A metadata of our own: an application that uses SQLModel too keeps its tables out of ours, and we ours out of its."""

    __table__: ClassVar[Table]


class TaskRow(Base, table=True):
    """A problem as it was first seen."""

    __tablename__ = "task"

    id: str = Field(primary_key=True)
    domain: str
    key: str
    prompt: str
    reference: str | None
    level: int | None = Field(sa_type=BigInteger)
    family: str | None
    extra: Values = Field(sa_column=Column("metadata", JSON, nullable=False))
    split: str
    first_seen: float


class RunRow(Base, table=True):
    """A question answered. `asked` is the task in the words of this run; `seed` is text, since it may have more than 64 bits."""

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_created", "created", "id"), Index("ix_run_key", "key"), Index("ix_run_task", "task_id"))

    id: str = Field(primary_key=True)
    task_id: str = Field(foreign_key="task.id")
    asked: Values = Field(sa_type=JSON)
    worker: str
    model: str
    fingerprint: str | None
    strategy: str
    seed: str
    routing_confidence: float
    calls: int = Field(sa_type=BigInteger)
    prompt_tokens: int = Field(sa_type=BigInteger)
    completion_tokens: int = Field(sa_type=BigInteger)
    cost: float | None
    seconds: float
    created: float
    error: str | None
    stopped: str | None
    key: str = Field(sa_column_kwargs={"server_default": ""})
    events: list[Values] = Field(sa_type=JSON, sa_column_kwargs={"server_default": "[]"})
    process_reward: str = Field(sa_column_kwargs={"server_default": ""})


class NodeRow(Base, table=True):
    """A node of a run's search tree; `place` is where it stood in the run, `value` is null where it was not finite."""

    __tablename__ = "node"

    run_id: str = Field(primary_key=True, foreign_key="run.id")
    place: int = Field(primary_key=True)
    path: str
    text: str
    visits: int = Field(sa_type=BigInteger)
    value: float | None
    terminal: bool
    outcome: str | None


class TraceRow(Base, table=True):
    """An attempt and its verdict; `place` is its rank in the run, `asked` is null when it was asked in the words of the run.

    The indexes give a page of traces, newest first, for each thing they are chosen by; they hold outcome and reward so that traces of
    the wrong ones are passed over without being read.
    """

    __tablename__ = "trace"
    __table_args__ = (
        Index("ix_trace_created", "created", "id"),
        Index("ix_trace_domain", "domain", "created", "id", "outcome", "reward"),
        Index("ix_trace_outcome", "outcome", "created", "id", "reward"),
        Index("ix_trace_model", "model", "created", "id"),
        Index("ix_trace_fingerprint", "fingerprint", "created", "id"),
        Index("ix_trace_task", "task_id"),
    )

    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    task_id: str = Field(foreign_key="task.id")
    domain: str
    asked: Values | None = Field(sa_column=Column(JSON(none_as_null=True), nullable=True))
    place: int
    worker: str
    directive: str
    model: str
    fingerprint: str | None
    text: str
    answer: str | None
    steps: list[str] = Field(sa_type=JSON)
    outcome: str
    score: float | None
    reason: str
    evidence: str
    verifier: str
    verifier_version: str
    verdict_ms: float
    isolation: str = Field(sa_column_kwargs={"server_default": ""})
    details: Values = Field(sa_type=JSON, sa_column_kwargs={"server_default": "{}"})
    reward: float | None
    reward_parts: dict[str, float] = Field(sa_type=JSON)
    reward_recipe: str = Field(sa_column_kwargs={"server_default": ""})
    complete: bool
    node: str
    calls: int = Field(sa_type=BigInteger)
    prompt_tokens: int = Field(sa_type=BigInteger)
    completion_tokens: int = Field(sa_type=BigInteger)
    cost: float | None
    seconds: float
    created: float


class VerdictRow(Base, table=True):
    """Every verdict that a trace got after its first was found wanting, and that first one: rows are added and never changed."""

    __tablename__ = "verdict"
    __table_args__ = (Index("ix_verdict_trace", "trace_id", "id"),)

    id: str = Field(primary_key=True)
    trace_id: str = Field(foreign_key="trace.id")
    outcome: str
    score: float | None
    reason: str
    evidence: str
    verifier: str
    verifier_version: str
    verdict_ms: float
    isolation: str
    details: Values = Field(sa_type=JSON)
    reward: float | None
    reward_parts: dict[str, float] = Field(sa_type=JSON)
    reward_recipe: str
    created: float


class TallyRow(Base, table=True):
    """Sums over the traces of an hour (of the clock in UTC, as hours since 1970) that share all else in the key."""

    __tablename__ = "tally"

    hour: int = Field(primary_key=True)
    domain: str = Field(primary_key=True)
    worker: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    fingerprint: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    traces: int = Field(sa_type=BigInteger)
    rewarded: int = Field(sa_type=BigInteger)
    reward: float
    calls: int = Field(sa_type=BigInteger)
    prompt_tokens: int = Field(sa_type=BigInteger)
    completion_tokens: int = Field(sa_type=BigInteger)
    cost: float
    seconds: float


class FeedbackRow(Base, table=True):
    """What somebody said of a run, of one of its traces or of one of its steps: rows are added and never changed."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("ix_feedback_run", "run_id", "created", "id"),
        Index("ix_feedback_trace", "trace_id"),
        Index("ix_feedback_created", "created", "id"),
    )

    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id", ondelete="CASCADE")
    trace_id: str | None = Field(foreign_key="trace.id", ondelete="CASCADE")
    node: str | None
    who: str
    thumb: str | None
    rating: int | None = Field(sa_type=BigInteger)
    comment: str | None
    edit: str | None
    domain: str | None
    withdrawn: bool
    created: float


class RoundRow(Base, table=True):
    """A round of a training loop as it ended; `steps` is what each of its steps gave."""

    __tablename__ = "round"
    __table_args__ = (Index("ix_round_slot", "slot", "created", "id"),)

    id: str = Field(primary_key=True)
    loop: str
    number: int = Field(sa_type=BigInteger)
    slot: str
    outcome: str
    reference: str
    steps: Values = Field(sa_type=JSON)
    created: float


TASK, RUN, NODE, TRACE = TaskRow.__table__, RunRow.__table__, NodeRow.__table__, TraceRow.__table__
VERDICT, TALLY, FEEDBACK, ROUND = VerdictRow.__table__, TallyRow.__table__, FeedbackRow.__table__, RoundRow.__table__
TABLES = (TASK, RUN, NODE, TRACE)  # what a run is made of, parents before their children
