"""The third schema: pages, sums and words, so that a million traces are looked through at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"

SUMS = """
INSERT INTO tally
SELECT CAST(floor(created / 3600) AS INTEGER), domain, worker, model, coalesce(fingerprint, ''), outcome, count(*), count(reward),
       coalesce(sum(reward), 0.0), sum(calls), sum(prompt_tokens), sum(completion_tokens), coalesce(sum(cost), 0.0), sum(seconds)
FROM trace GROUP BY 1, 2, 3, 4, 5, 6
"""
SQLITE = (
    "CREATE TABLE searchable (number INTEGER PRIMARY KEY, trace_id VARCHAR NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE trace_text USING fts5(query, text, content='')",
    "INSERT INTO searchable (trace_id) SELECT id FROM trace ORDER BY created, id",
    """INSERT INTO trace_text (rowid, query, text)
       SELECT s.number, substr(coalesce(coalesce(t.asked, r.asked) ->> '$.prompt', ''), 1, 50000), substr(t.text, 1, 50000)
       FROM searchable s JOIN trace t ON t.id = s.trace_id JOIN run r ON r.id = t.run_id""",
)
POSTGRES = (
    "CREATE TABLE trace_words (trace_id VARCHAR PRIMARY KEY REFERENCES trace (id) ON DELETE CASCADE, words TSVECTOR NOT NULL)",
    "CREATE INDEX ix_trace_words ON trace_words USING gin (words)",
    """INSERT INTO trace_words SELECT t.id, to_tsvector('simple',
       substr(coalesce(coalesce(t.asked, r.asked) ->> 'prompt', ''), 1, 50000) || ' ' || substr(t.text, 1, 50000))
       FROM trace t JOIN run r ON r.id = t.run_id""",
)


def upgrade() -> None:
    """From the second."""
    op.create_index("ix_run_task", "run", ["task_id"])
    op.drop_index("ix_trace_domain", "trace")
    op.create_index("ix_trace_domain", "trace", ["domain", "created", "id", "outcome", "reward"])
    op.create_index("ix_trace_outcome", "trace", ["outcome", "created", "id", "reward"])
    op.create_index("ix_trace_model", "trace", ["model", "created", "id"])
    op.create_index("ix_trace_fingerprint", "trace", ["fingerprint", "created", "id"])
    op.create_index("ix_trace_task", "trace", ["task_id"])
    op.create_table(
        "tally",
        sa.Column("hour", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String, primary_key=True) for name in ("domain", "worker", "model", "fingerprint", "outcome")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("traces", "rewarded")),
        sa.Column("reward", sa.Float, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("calls", "prompt_tokens", "completion_tokens")),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("cost", "seconds")),
    )
    postgres = op.get_bind().dialect.name == "postgresql"
    hour = "CAST(floor(created / 3600) AS INTEGER)" if postgres else "CAST(created / 3600 AS INTEGER) - (created < 0)"
    op.execute(SUMS.replace("CAST(floor(created / 3600) AS INTEGER)", hour))
    for statement in POSTGRES if postgres else SQLITE:
        op.execute(statement)
