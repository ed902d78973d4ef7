"""Reads the attack programs in `attacks/`: sections that start with `=== name`, some with a prelude of the same file in front."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "attacks"
SECTION = re.compile(r"^=== (.+?)(?: \((?:with (\w+)|to be put in front)\))?$", re.MULTILINE)


def programs(kind: str) -> dict[str, str]:
    """Source by name, for "forge", "harm", "exhaust" or "honest"."""
    text = (FOLDER / f"{kind}.txt").read_text(encoding="utf-8")
    headings = list(SECTION.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    bodies = [text[heading.end() + 1 : end] for heading, end in zip(headings, ends, strict=True)]
    preludes = {h[1]: body for h, body in zip(headings, bodies, strict=True) if h[0].endswith("(to be put in front)")}
    return {h[1]: (preludes[h[2]] if h[2] else "") + body for h, body in zip(headings, bodies, strict=True) if h[1] not in preludes}
