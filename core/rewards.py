"""Rewards: a verdict and the share of right steps as one number in [0, 1], with the recipe it was made by."""

from __future__ import annotations

from core.types import Outcome, Reward, Verdict

WEIGHTS = {"verdict": 0.5, "flawless": 0.3, "steps": 0.2}
RECIPE = "+".join(f"{name}*{weight}" for name, weight in WEIGHTS.items()) + " v1"


def reward(verdict: Verdict, steps_right: float | None = None) -> Reward:
    """The weighted mean of its parts: a PASS, a PASS without a wrong step, and the share of right steps.

    `steps_right` in [0, 1] is None when no step could be checked; that part is then left out. All right is 1.0, a PASS with a wrong
    step is below 0.7, a FAIL is at most 0.2. ABSTAIN and ERROR have no value: unknown is not 0. Raises ValueError on a share out of range.
    """
    if steps_right is not None and not 0 <= steps_right <= 1:
        raise ValueError(f"steps_right is {steps_right}: it is a share, from 0 to 1")
    if verdict.outcome not in (Outcome.PASS, Outcome.FAIL):
        return Reward(None, {}, RECIPE)
    parts = {"verdict": float(verdict.passed), "flawless": float(verdict.passed and steps_right in (None, 1))}
    if steps_right is not None:
        parts["steps"] = float(steps_right)
    weight = sum(WEIGHTS[name] for name in parts)
    return Reward(round(sum(WEIGHTS[name] * part for name, part in parts.items()) / weight, 6), parts, RECIPE)
