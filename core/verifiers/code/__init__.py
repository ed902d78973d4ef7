"""Judges programs: what they do in the sandbox."""
