"""One turn of the ratchet: traces in, a candidate adapter out, promoted only if the gate lets it through."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.types import Record, Trace
from finetune.adapters import Manifest, register
from finetune.data import Funnel, Pair, Row, dpo_pairs, sft_rows, sieve
from finetune.evaluation import Evaluation
from finetune.gate import Decision, decide
from finetune.preference import train_dpo
from finetune.supervised import train_sft
from finetune.training import Progress, TrainConfig

MIN_PAIRS = 32
PhaseProgress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, slots=True)
class TurnPlan(Record):
    """What a turn trains with. The rates suit the embedded model; a model of billions wants about a tenth of them."""

    min_reward: float = 0.7
    per_task: int = 2
    sft_lr: float = 4e-3
    sft_epochs: float = 3.0
    sft_batch: int = 32
    dpo_lr: float = 3e-4
    dpo_batch: int = 16
    dpo_pairs: int = 256
    replay: int = 300
    alpha: float = 0.05
    looks: int = 3
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Turn(Record):
    """What one turn did: the funnel, the data, the training, the decision, and where its seconds went."""

    adapter: Path | None
    funnel: Funnel
    rows: int
    pairs: int
    decision: Decision | None
    evaluation: Evaluation | None
    phases: dict[str, float]
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def promoted(self) -> bool:
        """True when the gate let the candidate through."""
        return self.decision is not None and self.decision.promoted


def turn(
    fresh: Sequence[Trace],
    past: Sequence[Trace],
    champion: str,
    baseline: Evaluation,
    evaluate: Callable[[str], Evaluation],
    folder: Path,
    plan: TurnPlan,
    seed: int,
    on_step: PhaseProgress | None = None,
) -> Turn:
    """Build rows from `fresh` traces (and some of the `past`), train SFT then DPO on top of `champion`, evaluate, decide.

    `baseline` is the champion's evaluation on the gate's tasks; `evaluate` gives the candidate's on the same. `on_step("sft")` and
    `on_step("dpo")` give what is told (step, steps) while that phase trains.
    """
    rng = random.Random(seed)
    clock = _Clock()
    rows, pairs, funnel = build(fresh, past, plan, rng)
    clock.lap("build")
    if len(rows) < 2:
        return Turn(None, funnel, len(rows), len(pairs), None, None, clock.phases, reason="no verified traces to train on")
    trained: dict[str, Any] = {}
    config = TrainConfig(
        champion,
        folder,
        plan.sft_epochs,
        plan.sft_batch,
        plan.sft_lr,
        lora_r=16,
        lora_alpha=32,
        seed=seed,
        device=plan.device,
        evaluations=1,
    )
    trained["sft"] = train_sft(rows, config, on_step=_steps_of("sft", on_step))
    clock.lap("sft")
    if len(pairs) >= MIN_PAIRS:
        config = config.replace(model=str(folder), epochs=1.0, batch_size=plan.dpo_batch, learning_rate=plan.dpo_lr)
        trained["dpo"] = train_dpo(pairs, config, on_step=_steps_of("dpo", on_step))
    clock.lap("dpo")
    manifest = _manifest(folder, rows, pairs, plan, trained)
    evaluation = evaluate(str(folder))
    clock.lap("evaluate")
    decision = decide(baseline.right, evaluation.right, plan.alpha, plan.looks)
    metrics = {**trained, "fingerprint": manifest.fingerprint}
    return Turn(folder, funnel, len(rows), len(pairs), decision, evaluation, clock.phases, metrics, decision.reason)


def build(fresh: Sequence[Trace], past: Sequence[Trace], plan: TurnPlan, rng: random.Random) -> tuple[list[Row], list[Pair], Funnel]:
    """Rows of this turn's good traces and a sample of earlier ones, and pairs of this turn's tasks."""
    kept, funnel = sieve(fresh, plan.min_reward)
    rows, cap = sft_rows(kept, rng, plan.per_task)
    old, _ = sieve(past, plan.min_reward)
    earlier, _ = sft_rows(old, rng, 1)
    rows += rng.sample(earlier, min(plan.replay, len(earlier)))
    pairs = dpo_pairs(fresh, rng, min_reward=plan.min_reward, per_task=1)
    return rows, rng.sample(pairs, min(plan.dpo_pairs, len(pairs))), Funnel((*funnel.sieves, cap))


def _manifest(folder: Path, rows: Sequence[Row], pairs: Sequence[Pair], plan: TurnPlan, trained: dict[str, Any]) -> Manifest:
    used = sorted({*(row.trace_id for row in rows), *(i for pair in pairs for i in (pair.chosen_id, pair.rejected_id))})
    trainer = "+".join(trained)
    return register(folder, domain=None, trainer=trainer, trace_ids=used, settings=plan.as_dict(), metrics=trained, device=plan.device)


def _steps_of(phase: str, on_step: PhaseProgress | None) -> Progress | None:
    if on_step is None:
        return None
    tell = on_step(phase)
    return lambda step, steps, _: tell(step, steps)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.phases[phase] = round(now - self._since, 2)
        self._since = now
