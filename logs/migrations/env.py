"""Alembic's way in: it is handed a connection inside a transaction, and leaves committing to whoever handed it over."""

from __future__ import annotations

from alembic import context

from logs.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
