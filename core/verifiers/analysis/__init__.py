"""Judges claims about data: each number recomputed from its table."""
