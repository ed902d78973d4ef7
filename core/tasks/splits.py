"""Which side of the fence a task stands on, decided by its key alone, at first sight, for ever."""

from __future__ import annotations

import hashlib
import re

from core.types import Split, Task

GATE_BELOW = 10
REPORT_BELOW = 20
PRETRAIN_BELOW = 60
KEPT_SPLIT = re.compile(r"\[redacted:split-(train|gate|report)\]$")


def bucket(key: str) -> int:
    """0 to 99, the same on every machine."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 100


def split_of(task: Task) -> Split:
    """Ten of a hundred tasks decide promotions, ten are reported, the rest may be trained on.

    A key that a secret was taken out of says at its end where the task stood before.
    """
    if mark := KEPT_SPLIT.search(task.key):
        return Split(mark[1])
    place = bucket(task.key)
    if place < GATE_BELOW:
        return Split.GATE
    return Split.REPORT if place < REPORT_BELOW else Split.TRAIN


def shown_in_pretraining(task: Task) -> bool:
    """Half of the training side made the embedded model; its loops collect from the other half."""
    return REPORT_BELOW <= bucket(task.key) < PRETRAIN_BELOW
