"""The negative control: verdicts shuffled over the attempts of a run, so that a loop which still improves was never taught by them."""

from __future__ import annotations

import random
import threading

from core.types import Task, Verdict
from core.verifiers import verify


class ShuffledVerdicts:
    """As a verifier: judges, puts the verdict on a pile, and hands out one drawn from the pile."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._pile: list[Verdict] = []
        self._lock = threading.Lock()

    def __call__(self, task: Task, text: str) -> Verdict:
        verdict = verify(task, text)
        with self._lock:
            self._pile.append(verdict)
            return self._rng.choice(self._pile)
