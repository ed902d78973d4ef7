"""The fifth schema: the rounds of training loops."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """From the fourth."""
    op.create_table(
        "round",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("loop", sa.String, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("slot", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("ix_round_slot", "round", ["slot", "created", "id"])
