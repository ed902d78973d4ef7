"""Constraints on sound: syllables by line or in all, rhyme schemes."""

from __future__ import annotations

import re

from core.verifiers.base import short
from core.verifiers.creative.limits import Found, Options, limits, told, worst
from core.verifiers.creative.piece import Line, Piece
from core.verifiers.creative.pronouncing import Syllables, rhyme, syllables

SPOKEN_SIGN = re.compile(r"[&@%$€£+=]")
FREE = "X-"
MAX_LINES = 500
LONG, BRIEF = (7, 11), (4, 8)


def check_syllables(piece: Piece, options: Options) -> Found:
    """`per_line`: a count for each line; `each`: one for every line; `min`, `max`, `exactly`: for the whole. `slack` for the first two."""
    wanted = options.get("per_line")
    if wanted is not None and len(wanted) != len(piece.lines):
        return Found(False, f"{len(piece.lines)} lines, {len(wanted)} asked for")
    if len(piece.lines) > MAX_LINES:
        return Found(None, f"{len(piece.lines)} lines: sounds are checked up to {MAX_LINES}")
    counts = [spoken(line) for line in piece.lines]
    findings = []
    if wanted is not None:
        findings += [_line(piece, at, counts[at], wanted[at], options) for at in range(len(counts))]
    if "each" in options:
        findings += [_line(piece, at, counts[at], options["each"], options) for at in range(len(counts))]
    if {"min", "max", "exactly"} & set(options):
        signs = len(SPOKEN_SIGN.findall(piece.text))
        whole = syllables(piece.words) + Syllables(high=3 * signs)
        findings.append(Found(whole.within(*limits(options)), f"{whole} syllables, {told(options)} asked for"))
    return worst(findings, f"syllables by line: {', '.join(map(str, counts[:20]))}")


def check_rhyme(piece: Piece, options: Options) -> Found:
    """`scheme`: one letter a line, repeated for as many stanzas as there are; the same letter rhymes, others don't, X is free."""
    scheme = options["scheme"].upper().replace(" ", "")
    lines = [line.words[-2:] for line in piece.lines]
    if not lines or len(lines) % len(scheme):
        return Found(False, f"{len(lines)} lines don't make up the scheme {scheme}")
    if len(lines) > MAX_LINES:
        return Found(None, f"{len(lines)} lines: sounds are checked up to {MAX_LINES}")
    findings = []
    for start in range(0, len(lines), len(scheme)):
        for second in range(len(scheme)):
            findings += [_pair(lines, start + first, start + second, scheme[first], scheme[second]) for first in range(second)]
    return worst(findings, f"rhymes as {scheme}")


def check_limerick(piece: Piece, options: Options) -> Found:
    """The two lines in the middle are shorter than the other three."""
    if len(piece.lines) != 5:
        return Found(False, f"{len(piece.lines)} lines, exactly 5 asked for")
    findings = []
    for at, line in enumerate(piece.lines):
        count, (least, most) = spoken(line), BRIEF if at in (2, 3) else LONG
        shown = short(" | ".join(line.words))
        findings.append(Found(count.within(least, most), f"line {at + 1} has {count} syllables, {least} to {most} asked for: {shown}"))
    return worst(findings, "two short lines between three long ones")


def spoken(line: Line) -> Syllables:
    """The syllables of a line. A sign such as & may be read aloud."""
    signs = len(SPOKEN_SIGN.findall(line.text))
    return syllables(line.words) + Syllables(high=3 * signs)


def _line(piece: Piece, at: int, count: Syllables, wanted: int, options: Options) -> Found:
    slack = options.get("slack", 0)
    held = count.within(wanted - slack, wanted + slack)
    return Found(held, f"line {at + 1} has {count} syllables, {wanted} asked for: {short(' | '.join(piece.lines[at].words))}")


def _pair(lines: list[tuple[str, ...]], first: int, second: int, one: str, other: str) -> Found:
    if one in FREE or other in FREE:
        return Found(True, "")
    a, b = lines[first][-1], lines[second][-1]
    rhymes = rhyme(lines[first], lines[second])
    where = f"lines {first + 1} and {second + 1}"
    if one == other:
        why = "is the same word" if a == b else "do not rhyme" if rhymes is False else "can't be compared: a word is in no dictionary"
        return Found(rhymes, f"{where}: {short(a)} and {short(b)} {why}")
    return Found(not rhymes and a != b, f"{where} rhyme though the scheme keeps them apart: {short(a)} and {short(b)}")
