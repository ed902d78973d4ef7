"""Judges facts: answers against references and sources."""
