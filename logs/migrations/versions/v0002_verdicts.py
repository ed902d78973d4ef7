"""The second schema: the history of verdicts, what they rest on, why a search ended. Columns have a default for the rows that stand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """From the first."""
    for table, name, kind, default in (
        ("trace", "isolation", sa.String, ""),
        ("trace", "details", sa.JSON, "{}"),
        ("trace", "reward_recipe", sa.String, ""),
        ("run", "key", sa.String, ""),
        ("run", "events", sa.JSON, "[]"),
    ):
        op.add_column(table, sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("run", sa.Column("stopped", sa.String))
    op.create_index("ix_run_key", "run", ["key"])
    op.create_table(
        "verdict",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("trace_id", sa.String, sa.ForeignKey("trace.id"), nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("evidence", sa.String, nullable=False),
        sa.Column("verifier", sa.String, nullable=False),
        sa.Column("verifier_version", sa.String, nullable=False),
        sa.Column("verdict_ms", sa.Float, nullable=False),
        sa.Column("isolation", sa.String, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("reward", sa.Float),
        sa.Column("reward_parts", sa.JSON, nullable=False),
        sa.Column("reward_recipe", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("ix_verdict_trace", "verdict", ["trace_id", "id"])
