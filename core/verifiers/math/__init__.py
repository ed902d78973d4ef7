"""Judges mathematics: equivalence with a reference, recomputation without one."""
