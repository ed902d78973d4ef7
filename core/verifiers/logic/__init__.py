"""Judges logic: formulas and puzzles, decided by z3 in a killable process."""
