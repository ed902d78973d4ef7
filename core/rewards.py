"""Rewards: a verdict and what is known beside it as one number in [0, 1], with the parts and the recipe it was made by."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import ConfigError
from core.types import Outcome, Reward, Verdict

WEIGHTS: Mapping[str, float] = {"verdict": 0.5, "flawless": 0.3, "steps": 0.2, "partial": 0.2, "length": 0.0, "cost": 0.0}
VERSION = "v2"


def reward(
    verdict: Verdict,
    steps_right: float | None = None,
    *,
    length: float | None = None,
    cost: float | None = None,
    weights: Mapping[str, float] = WEIGHTS,
) -> Reward:
    """The weighted mean of the parts that are known.

    - verdict: 1 for a PASS; flawless: 1 for a PASS without a wrong step
    - steps: the share of right steps, in [0, 1]; where no step could be checked, partial takes its place: a FAIL's partial credit
    - length, cost: the share of the token limit and of the budget that was spent; they count inverted, and only for a PASS, or else
      the quickest way to a reward would be to give up at once

    With the default weights all right is 1.0, a PASS with a wrong step is below 0.7, a FAIL is at most 0.2. ABSTAIN and ERROR have no
    value: unknown is not 0. Raises ValueError on a share out of range.
    """
    for name, share in (("steps_right", steps_right), ("length", length), ("cost", cost)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}: it is a share, from 0 to 1")
    recipe = recipe_of(weights)
    if verdict.outcome not in (Outcome.PASS, Outcome.FAIL):
        return Reward(None, {}, recipe)
    known = _parts(verdict, steps_right, length, cost)
    parts = {name: part for name, part in known.items() if weights.get(name)}
    weight = sum(weights[name] for name in parts)
    value = sum(weights[name] * part for name, part in parts.items()) / weight if weight else None
    return Reward(None if value is None else round(value, 6), parts, recipe)


def recipe_of(weights: Mapping[str, float]) -> str:
    """How the parts are weighed, as it is recorded with each reward."""
    return "+".join(f"{name}*{weight:g}" for name, weight in weights.items() if weight) + f" {VERSION}"


def checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The default weights with some changed. Raises ConfigError on a part that doesn't exist, or when the verdict would weigh nothing."""
    if unknown := sorted(set(weights) - set(WEIGHTS)):
        raise ConfigError(f"there is no part {unknown[0]!r} of a reward: the parts are {', '.join(WEIGHTS)}")
    whole = {**WEIGHTS, **weights}
    if any(not 0 <= weight < float("inf") for weight in whole.values()) or not whole["verdict"]:
        raise ConfigError(f"the weights of a reward are {whole}: each is 0 or more, and the verdict's is above 0")
    return whole


def _parts(verdict: Verdict, steps_right: float | None, length: float | None, cost: float | None) -> dict[str, float]:
    parts = {"verdict": float(verdict.passed), "flawless": float(verdict.passed and steps_right in (None, 1))}
    if steps_right is not None:
        parts["steps"] = float(steps_right)
    elif not verdict.passed and verdict.score is not None:
        parts["partial"] = float(verdict.score)
    spent = {"length": length, "cost": cost}
    return parts | {name: 1 - share for name, share in spent.items() if share is not None and verdict.passed}
