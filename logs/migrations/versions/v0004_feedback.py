"""The fourth schema: what people say of runs, traces and steps, and which learned values guided a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """From the third."""
    op.add_column("run", sa.Column("process_reward", sa.String, nullable=False, server_default=""))
    op.create_table(
        "feedback",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("run_id", sa.String, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("trace_id", sa.String, sa.ForeignKey("trace.id", ondelete="CASCADE")),
        sa.Column("node", sa.String),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("thumb", sa.String),
        sa.Column("rating", sa.BigInteger),
        *(sa.Column(name, sa.String) for name in ("comment", "edit", "domain")),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("ix_feedback_run", "feedback", ["run_id", "created", "id"])
    op.create_index("ix_feedback_trace", "feedback", ["trace_id"])
    op.create_index("ix_feedback_created", "feedback", ["created", "id"])
