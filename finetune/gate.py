"""The gate: is the candidate better than the champion, by more than chance, without having lost anything that is guarded?

Both answer the same held-out tasks under the same seeds. The answer is promote, reject, or not enough data with the number of tasks that
it would take; each is a record with all its statistics, which `keep` writes down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import TrainingError
from core.types import Domain, Record
from finetune.guards import MOST_UNKNOWN, RATIOS, Guard, Result, binary, evaluation_guards, paired, too_many_unknown
from finetune.journal import append_line, read_lines
from finetune.looks import Look, Looks, held_out_id
from finetune.statistics import (
    Interval,
    deviation,
    lower_bound,
    mcnemar,
    mean_bounds,
    mean_interval,
    permutation,
    tasks_for_gain,
    tasks_for_mean,
    upper_bound,
    wilson,
)

if TYPE_CHECKING:
    from finetune.evaluation import Evaluation

__all__ = ["Decision", "Guard", "Interval", "Look", "Looks", "Verdict", "decide", "decisions", "judge", "keep", "mcnemar", "wilson"]

Verdict = Literal["promote", "reject", "not enough data"]


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """What the gate found: `gained` tasks only the candidate solves, `lost` tasks only the champion does; of rewards, did better or worse.

    `gain` is candidate minus champion, between its one-sided 95 % bounds `at_least` and `at_most`. `unknown` pairs were left out.
    `tasks_needed` is how many would show the gain that was seen, or that every guard holds, with 80 % power; None where it doesn't apply.
    `look` of `looks` was spent on it, of the held-out set `held_out`, "" where looks are not kept. `subject` is whatever the caller names
    the pair by.
    """

    promoted: bool
    reason: str
    champion: Interval
    candidate: Interval
    gained: int
    lost: int
    p_value: float
    alpha: float
    verdict: Verdict = "reject"
    test: Literal["mcnemar", "permutation"] = "mcnemar"
    n: int = 0
    unknown: int = 0
    gain: float = 0.0
    at_least: float = 0.0
    at_most: float = 0.0
    tasks_needed: int | None = None
    guards: tuple[Guard, ...] = ()
    held_out: str = ""
    look: int = 0
    looks: int = 1
    subject: str = ""


@dataclass(frozen=True, slots=True)
class _Found(Record):
    """The statistics of the pairs, before anything is decided."""

    p_value: float
    gained: int
    lost: int
    gain: float
    bounds: tuple[float, float]
    needed: int | None


def decide(
    champion: Sequence[Result],
    candidate: Sequence[Result],
    alpha: float = 0.05,
    looks: int = 1,
    *,
    guards: Sequence[Guard] = (),
    look: Look | None = None,
    seed: int = 0,
    subject: str = "",
) -> Decision:
    """Promote only on evidence. champion[i] and candidate[i] are about the same task under the same seed.

    Right or wrong: exact one-sided McNemar. Rewards: paired permutation test, drawn with `seed` where there are too many to go through.
    None and NaN are unknown; their pairs are left out, and with more than 5 % of them nothing is promoted. alpha is shared equally
    (Bonferroni) between the looks that the held-out set is to serve; a `look` from `Looks.take` brings its own share and is what keeps
    count. Raises TrainingError for results that don't pair, or of which none is known.
    """
    if not 0 < alpha < 1 or looks < 1:
        raise TrainingError(f"alpha is {alpha} and looks {looks}: alpha lies between 0 and 1, and a held-out set is looked at once or more")
    before, after, unknown = paired(champion, candidate)
    if unknown and not before:
        raise TrainingError(f"each of the {unknown} pairs has an unknown side: mend the verifier, and evaluate again")
    right_or_wrong, spent = binary([*before, *after]), look.alpha if look else alpha / looks
    found = _right_or_wrong(before, after, spent) if right_or_wrong else _rewards(before, after, spent, seed)
    verdict, reason, needed = _verdict(found, spent, guards, look, unknown, len(before))
    shares = [wilson(int(sum(side)), len(side)) if right_or_wrong else mean_interval(side) for side in (before, after)]
    return Decision(
        promoted=verdict == "promote",
        reason=reason,
        champion=shares[0],
        candidate=shares[1],
        gained=found.gained,
        lost=found.lost,
        p_value=found.p_value,
        alpha=spent,
        verdict=verdict,
        test="mcnemar" if right_or_wrong else "permutation",
        n=len(before),
        unknown=unknown,
        gain=found.gain,
        at_least=found.bounds[0],
        at_most=found.bounds[1],
        tasks_needed=needed,
        guards=tuple(guards),
        held_out=look.held_out if look else "",
        look=look.number if look else 0,
        looks=look.planned if look else looks,
        subject=subject or (look.what if look else ""),
    )


def judge(
    champion: Evaluation,
    candidate: Evaluation,
    looks: Looks,
    subject: str,
    *,
    trained: Domain | None = None,
    ratios: Mapping[str, float] = RATIOS,
    kept: str | Path | None = None,
) -> Decision:
    """The whole gate on two evaluations of the same tasks: the look, the guards, the decision, and its line in the file `kept`.

    `subject` names both workers by what they are (fingerprints, references): asked for the same pair again, the gate spends no second look.
    With `trained`, only the tasks of that domain can show a gain, and each other domain is a guard. `ratios` as in `evaluation_guards`.
    """
    guards = evaluation_guards(champion, candidate, trained, ratios=ratios)
    mine = [i for i, task in enumerate(champion.tasks) if trained is None or task.domain == trained]
    look = looks.take(held_out_id(champion.tasks[i] for i in mine), subject)
    decision = decide([champion.right[i] for i in mine], [candidate.right[i] for i in mine], guards=guards, look=look)
    if kept is not None:
        keep(decision, kept)
    return decision


def keep(decision: Decision, path: str | Path) -> None:
    """Append the decision to a file of one JSON line each, on disk before this returns. Raises TrainingError when it can't be."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        append_line(place, decision.as_dict())
    except OSError as error:
        raise TrainingError(f"can't keep the decision in {place} ({error}): choose a place that can be written") from error


def decisions(path: str | Path) -> list[Decision]:
    """All decisions that were kept there, oldest first. Raises TrainingError when the file is damaged."""
    return [_decision(values, Path(path)) for values in read_lines(Path(path))]


def _right_or_wrong(before: Sequence[float], after: Sequence[float], alpha: float) -> _Found:
    n = len(before)
    gained = sum(b > a for a, b in zip(before, after, strict=True))
    lost = sum(a > b for a, b in zip(before, after, strict=True))
    needed = tasks_for_gain(gained, lost, n, alpha) if alpha else None
    bounds = (lower_bound(gained, lost, n), upper_bound(gained, lost, n)) if n else (0.0, 0.0)
    return _Found(mcnemar(gained, lost), gained, lost, (gained - lost) / max(1, n), bounds, needed)


def _rewards(before: Sequence[float], after: Sequence[float], alpha: float, seed: int) -> _Found:
    differences = [b - a for a, b in zip(before, after, strict=True)]
    gain = math.fsum(differences) / len(differences)
    needed = tasks_for_mean(gain, deviation(differences), alpha) if alpha else None
    gained, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return _Found(permutation(differences, seed), gained, lost, gain, mean_bounds(differences), needed)


def _verdict(
    found: _Found, alpha: float, guards: Sequence[Guard], look: Look | None, unknown: int, n: int
) -> tuple[Verdict, str, int | None]:
    """(the verdict, why, tasks needed). What was shown comes before what could not be."""
    shown = f"{found.gained} gained, {found.lost} lost"
    broken = [guard.reason for guard in guards if guard.state == "broken"]
    unclear = [guard for guard in guards if guard.state == "can't tell"]
    needs = [guard.tasks_needed for guard in unclear if guard.tasks_needed]
    if look is not None and look.used_up:
        return "not enough data", f"refresh the set: the held-out set {look.held_out} has served its {look.number} looks", None
    if too_many_unknown(unknown, n):
        return "reject", f"{unknown} of {n + unknown} pairs have an unknown side, more than {MOST_UNKNOWN:.0%}: mend the verifier", None
    if found.gain <= 0:
        return "reject", f"not better: {shown}", None
    if broken:
        return "reject", f"a guard is broken: {'; '.join(broken)}", None
    if found.p_value >= alpha:
        needed = max(found.needed, n + 1) if found.needed else None
        so_many = f"about {needed} held-out tasks would show such a gain" if needed else "so small a gain takes millions of tasks to show"
        return "not enough data", f"not enough data: {shown}, p = {found.p_value:.2g}; {so_many}", needed
    if unclear:
        told = "; ".join(guard.reason for guard in unclear)
        return "not enough data", f"not enough data for a guard: {told}", max(needs, default=None)
    return "promote", f"better by more than chance: p = {found.p_value:.2g} < {alpha:.2g}", None


def _decision(values: Any, path: Path) -> Decision:
    try:
        shares = {name: Interval(**values[name]) for name in ("champion", "candidate")}
        known = {field.name: values[field.name] for field in fields(Decision) if field.name in values}
        return Decision(**{**known, **shares, "guards": tuple(Guard(**guard) for guard in values["guards"])})
    except (TypeError, KeyError) as error:
        raise TrainingError(f"{path} holds a line that is no decision ({error!r}): take it from a backup") from error
