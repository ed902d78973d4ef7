"""Several objectives, all to be maximised: sorting and crowding of NSGA-II (Deb et al., 2002), through pymoo."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from core.errors import ConfigError
from finetune.evolution.records import Evaluated


def require_pymoo() -> None:
    """Raises ConfigError when it is not installed."""
    if find_spec("pymoo") is None:
        raise ConfigError('selection="nsga2" needs pymoo: pip install "ratchet-agents[evolve]"')


def survivors(members: Sequence[Evaluated[Any]], count: int, elites: int) -> list[Evaluated[Any]]:
    """`count` of them: the elites by score, then whole fronts, the last one by crowding; in the order of fronts and crowding.

    Of equal individuals one stays, unless there are too few others. Failed ones come last.
    """
    unique = list({_identity(member): member for member in reversed(members)}.values())[::-1]
    chosen = {id(member) for member in unique}
    ordered = [*by_front(unique), *by_front([member for member in members if id(member) not in chosen])]
    first = {id(member) for member in sorted(unique, key=lambda member: -member.score)[:elites]}
    others = [member for member in ordered if id(member) not in first]
    kept = first | {id(member) for member in others[: count - len(first)]}
    return [member for member in ordered if id(member) in kept]


def by_front(members: Sequence[Evaluated[Any]]) -> list[Evaluated[Any]]:
    """By front, and inside a front the loneliest first; failed ones last."""
    fine = [member for member in members if member.value is not None]
    failed = [member for member in members if member.value is None]
    return [fine[i] for front in _fronts(fine) for i in front] + failed


def first_front(members: Sequence[Evaluated[Any]]) -> list[Evaluated[Any]]:
    """Those that no other one beats in every objective, in their order; equal individuals once."""
    fine = list({_identity(member): member for member in members if member.value is not None}.values())
    return [fine[i] for i in sorted(_fronts(fine)[0])] if fine else []


def _identity(member: Evaluated[Any]) -> object:
    return member.id if member.key is None else member.key


def _fronts(members: Sequence[Evaluated[Any]]) -> list[list[int]]:
    if not members:
        return []
    import numpy as np
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    costs = -np.array([member.value for member in members], dtype=float)
    fronts = []
    for front in NonDominatedSorting().do(costs):
        lonely = calc_crowding_distance(costs[front])
        fronts.append([int(i) for i in front[np.argsort(-lonely, kind="stable")]])
    return fronts
