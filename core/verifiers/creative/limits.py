"""What the checks of constraints share: what they find, and the limits that options set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.types import Record

Options = Mapping[str, Any]
BOUNDS = ("min", "max", "exactly")
UNBOUNDED = 10**9


@dataclass(frozen=True, slots=True)
class Found(Record):
    """Whether a constraint holds, and what was found. `held` None: it can't be told, because a word or a sign can be read in two ways."""

    held: bool | None
    found: str


def limits(options: Options) -> tuple[int, int]:
    """The least and the most that options allow."""
    if "exactly" in options:
        return options["exactly"], options["exactly"]
    return options.get("min", 0), options.get("max", UNBOUNDED)


def told(options: Options) -> str:
    """Limits in words."""
    least, most = limits(options)
    if least == most:
        return f"exactly {least}"
    if most == UNBOUNDED:
        return f"at least {least}"
    return f"{least} to {most}" if least else f"at most {most}"


def counted(name: str, options: Options, low: int, high: int | None = None) -> Found:
    """A count, or the range in which it plausibly lies, against its limits."""
    high = low if high is None else high
    least, most = limits(options)
    held = True if least <= low and high <= most else False if high < least or low > most else None
    shown = str(low) if low == high else f"{low} to {high}, as one counts,"
    return Found(held, f"{shown} {name}, {told(options)} asked for")


def worst(findings: Iterable[Found], well: str) -> Found:
    """All of it must hold: the first that fails ends the search, else the first that can't be told, else `well`."""
    undecided = None
    for finding in findings:
        if finding.held is False:
            return finding
        if finding.held is None:
            undecided = undecided or finding
    return undecided or Found(True, well)
