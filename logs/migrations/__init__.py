"""How a store of one schema becomes a store of the next, told to alembic. A step that was published is never changed."""
