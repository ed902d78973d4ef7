"""The first schema: tasks, runs, trees, traces."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "task",
        _text("id", primary_key=True),
        _text("domain"),
        _text("key"),
        _text("prompt"),
        _text("reference", nullable=True),
        sa.Column("level", sa.BigInteger),
        _text("family", nullable=True),
        _json("metadata"),
        _text("split"),
        _number("first_seen"),
    )
    op.create_table(
        "run",
        _text("id", primary_key=True),
        _text("task_id", sa.ForeignKey("task.id")),
        _json("asked"),
        _text("worker"),
        _text("model"),
        _text("fingerprint", nullable=True),
        _text("strategy"),
        _text("seed"),
        _number("routing_confidence"),
        *_usage(),
        _text("error", nullable=True),
    )
    op.create_index("ix_run_created", "run", ["created", "id"])
    op.create_table(
        "node",
        _text("run_id", sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        _text("path"),
        _text("text"),
        sa.Column("visits", sa.BigInteger, nullable=False),
        _number("value", nullable=True),
        sa.Column("terminal", sa.Boolean, nullable=False),
        _text("outcome", nullable=True),
    )
    op.create_table(
        "trace",
        _text("id", primary_key=True),
        _text("run_id", sa.ForeignKey("run.id")),
        _text("task_id", sa.ForeignKey("task.id")),
        _text("domain"),
        _json("asked", nullable=True),
        sa.Column("place", sa.Integer, nullable=False),
        _text("worker"),
        _text("directive"),
        _text("model"),
        _text("fingerprint", nullable=True),
        _text("text"),
        _text("answer", nullable=True),
        _json("steps"),
        _text("outcome"),
        _number("score", nullable=True),
        _text("reason"),
        _text("evidence"),
        _text("verifier"),
        _text("verifier_version"),
        _number("verdict_ms"),
        _number("reward", nullable=True),
        _json("reward_parts"),
        sa.Column("complete", sa.Boolean, nullable=False),
        _text("node"),
        *_usage(),
    )
    op.create_index("ix_trace_run_id", "trace", ["run_id"])
    op.create_index("ix_trace_domain", "trace", ["domain", "reward", "created"])
    op.create_index("ix_trace_created", "trace", ["created", "id"])


def _text(name: str, *constraints: sa.ForeignKey, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String, *constraints, nullable=nullable, primary_key=primary_key)


def _json(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=nullable)


def _number(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Float, nullable=nullable)


def _usage() -> list[sa.Column[Any]]:
    tokens = ("calls", "prompt_tokens", "completion_tokens")
    counts: list[sa.Column[Any]] = [sa.Column(name, sa.BigInteger, nullable=False) for name in tokens]
    return [*counts, _number("cost", nullable=True), _number("seconds"), _number("created")]
