"""Judges writing: constraints that a program can check."""
