"""Run benchmarks and print their table: `python -m benchmarks.run [--only T1,T5] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.record import Figure

# A program measures several figures in one go where they come from the same run.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "benchmarks.turn": ("T1", "T2", "T2b", "T3", "T4", "T6"),
    "benchmarks.start": ("T5",),
    "benchmarks.suite": ("T7",),
    "benchmarks.search": ("S1", "S2", "S3", "S4"),
    "benchmarks.domains": ("S5",),
    "benchmarks.growth": ("S8",),
    "benchmarks.engine": ("S6", "S7"),
    "benchmarks.equivalence": ("V1",),
    "benchmarks.sandbox": ("V2",),
    "benchmarks.programs": ("V3",),
    "benchmarks.routing": ("V4",),
    "benchmarks.evolution": ("E1", "E2"),
    "benchmarks.diffusion": ("E5", "E6"),
    "benchmarks.router": ("E3", "E4"),
    "benchmarks.swap": ("L3",),
    "benchmarks.gate": ("L4",),
    "benchmarks.training": ("L1", "L5"),
    "benchmarks.preference": ("L2",),
    "benchmarks.data": ("M5", "M6"),
    "benchmarks.store": ("M1", "M2", "M3", "M4", "M7"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when every target that was measured is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="ids with commas between them (default: all)")
    parser.add_argument("--json", type=Path, help="write the records there too")
    args = parser.parse_args(argv)
    known = [i for ids in PROGRAMS.values() for i in ids]
    wanted = args.only.split(",") if args.only else known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(known)}")
    figures: list[Figure] = []
    for module, ids in PROGRAMS.items():
        asked = [i for i in ids if i in wanted]
        if asked:
            found = [f for f in import_module(module).measure(asked) if f.id in asked]
            for figure in found:
                print(row(figure), flush=True)
            figures += found
    if args.json:
        args.json.write_text(json.dumps([f.as_dict() for f in figures], indent=2) + "\n", encoding="utf-8")
    return 0 if all(f.met is not False for f in figures) else 1


def row(f: Figure) -> str:
    """One line of a Markdown table."""
    state = {True: "met", False: "MISSED", None: ""}[f.met]
    versus = ", ".join(f"{name} {value:g}" for name, value in f.versus.items())
    return f"| {f.id} | {f.name} | {f.value:g} {f.unit} | {f.spread[0]:g} to {f.spread[1]:g} | {f.target} | {state} | {versus} |"


if __name__ == "__main__":
    sys.exit(main())
