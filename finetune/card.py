"""The model card of the embedded model, written from its training log: `python -m finetune.card core/embedded`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

INTRODUCTION = """---
license: apache-2.0
library_name: transformers
---

# The embedded model

A model organism for the Ratchet loop, for its tests and demonstrations. **Not a useful assistant**: it knows some school arithmetic,
linear equations, ordering puzzles, tiny Python programs and closed-context questions, each in the wording of
its generator and each only in part. It does not follow directives (its chat template leaves system messages out), has never seen prose,
and knows nothing about the world.

It is weak on purpose, and in a known way. Its corpus is written by three authors, all of them right: one blurts out the answer
({direct:.0%} of solutions), one writes a few steps ({terse:.0%}), one writes every step ({careful:.0%}). Blurting is the
commonest, so that is what the model does first, and it is mostly wrong when it does; when it writes steps it is right far more
often. A loop that rewards verified answers finds that out. So most of what the loop gains on this model is elicitation, and a
report has to say so: compare with the same model when its first token may not be `Answer`, which forces it to write steps.
"""


def write_card(folder: Path) -> None:
    """README.md beside the weights, from pretrain.jsonl."""
    lines = [json.loads(line) for line in (folder / "pretrain.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "README.md").write_text(card(lines), encoding="utf-8")


def card(lines: list[dict[str, Any]]) -> str:
    """The text of the card. `lines` is the training log: the recipe first, then losses and measurements."""
    start = lines[0]
    recipe = start["recipe"]
    accuracy = [line for line in lines if "accuracy" in line][-1]["accuracy"]
    ends = [[line for line in lines if line.get("phase") == number + 1 and "loss" in line][-1:] for number in range(len(recipe["phases"]))]
    tokens, seconds = (sum(end[0][what] for end in ends if end) for what in ("tokens", "seconds"))
    steps = sum(phase["steps"] for phase in recipe["phases"])
    phases = "; then ".join(", ".join(f"{domain} {share:.0%}" for domain, share in phase["shares"].items()) for phase in recipe["phases"])
    facts = [
        f"- Llama architecture, {start['parameters']:,} parameters: {recipe['layers']} layers of width {recipe['hidden']}, "
        f"{recipe['heads']} heads, tied embeddings, byte-level BPE with every digit a token of its own, "
        f"{recipe['positions']} positions, bfloat16.",
        f"- {steps:,} steps, {tokens:,} tokens, {seconds / 60:.0f} minutes on one core; "
        f"loss on the answers only. Problems by domain: {phases}.",
        "- Never shown: tasks of the gate and report splits, and those that loops collect from (`core/tasks/splits.py`).",
        f"- Made by `python -m finetune.pretrain --out core/embedded --seed {recipe['seed']}`; the log is `pretrain.jsonl`.",
    ]
    levels = sorted(next(iter(accuracy.values())))
    table = [
        "| | " + " | ".join(f"level {level}" for level in levels) + " |",
        "|---|" + "---|" * len(levels),
        *(f"| {name.replace('/', ', ')} | " + " | ".join(f"{found[x]:.0%}" for x in levels) + " |" for name, found in accuracy.items()),
    ]
    measured = "Greedy, one answer, exact match with the reference, 60 unseen tasks a cell (a cell is good to about 12 points):"
    told = INTRODUCTION.format(**start["authors"])
    return "\n".join([told, *facts, "", "## Measured", "", measured, "", *table, "", "`steps`: the first token may not be `Answer`.", ""])


if __name__ == "__main__":
    write_card(Path(sys.argv[1]))
