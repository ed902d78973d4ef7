"""L4: how often the gate promotes a copy of the champion over ten looks, and a candidate that is ten points better; the canary beside it.

A copy answers with the champion's accuracy and makes mistakes of its own: the two disagree on a quarter of the tasks, as two samples of one
worker do. "Higher score wins" promotes whatever scored higher, and so it goes on from the promoted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from benchmarks.record import Figure, figure
from finetune.canary import Canary, CanaryPlan, Seen
from finetune.gate import decide
from finetune.statistics import mcnemar, wilson

ROUNDS, LOOKS, TASKS = 1_000, 10, 400
ACCURACY, DISCORDANT = 0.6, 0.25
CANARIES, OUTCOMES, SHARE = 250, 10_000, 0.1


def measure(ids: Sequence[str]) -> list[Figure]:
    rng = numpy.random.default_rng(0)
    return [*_gate(ids[0], rng), *_canary(ids[0], rng)]


def _gate(name: str, rng: Any) -> list[Figure]:
    gained, lost = _discordant(rng, (ROUNDS, LOOKS), 0.0)
    promoted, higher = _promoted(gained, lost), gained > lost
    few = (ROUNDS // 10, 1)
    assert (_by_decide(rng, gained[: few[0], :1], lost[: few[0], :1]) == promoted[: few[0], :1]).all(), "the gate decides otherwise"
    better = _discordant(rng, (ROUNDS,), 0.1)
    found, score = _promoted(*better), better[0] > better[1]
    one_look = {"higher score wins, each look": 100 * float(higher.mean()), "gate, each look": 100 * float(promoted.mean())}
    over_all = {"higher score wins, over the looks": 100 * float(higher.any(axis=1).mean()), **one_look}
    return [
        _share(name, f"a copy promoted in any of {LOOKS} looks, {TASKS} tasks", promoted.any(axis=1), "under 5", over_all, most=5),
        _share(
            name,
            f"+10 points promoted at 1/{LOOKS} of alpha, {TASKS} tasks",
            found,
            "over 85",
            {"higher score wins": 100 * float(score.mean())},
            least=85,
        ),
    ]


def _discordant(rng: Any, shape: tuple[int, ...], gain: float) -> tuple[Any, Any]:
    """(gained, lost) of every round: of all tasks a quarter is discordant, `gain` more of them for the candidate."""
    shares = ((DISCORDANT + gain) / 2, (DISCORDANT - gain) / 2, 1 - DISCORDANT)
    drawn = rng.multinomial(TASKS, shares, shape)
    return drawn[..., 0], drawn[..., 1]


def _promoted(gained: Any, lost: Any) -> Any:
    """What `decide` says, each pair of counts worked out once."""
    pairs, place = numpy.unique(numpy.stack([gained.ravel(), lost.ravel()]), axis=1, return_inverse=True)
    verdicts = [g > b and mcnemar(int(g), int(b)) < 0.05 / LOOKS for g, b in pairs.T]
    return numpy.asarray(verdicts)[place].reshape(gained.shape)


def _by_decide(rng: Any, gained: Any, lost: Any) -> Any:
    """The same through the gate's door, task by task."""
    found = []
    for g, b in zip(gained.ravel().tolist(), lost.ravel().tolist(), strict=True):
        same = [bool(x) for x in rng.random(TASKS - g - b) < ACCURACY]
        found.append(decide([False] * g + [True] * b + same, [True] * g + [False] * b + same, looks=LOOKS).promoted)
    return numpy.asarray(found).reshape(gained.shape)


def _canary(name: str, rng: Any) -> list[Figure]:
    """Each canary is looked at after every outcome."""
    plan = CanaryPlan()
    equal = [_watch(rng, plan, 0.7, 0.7) for _ in range(CANARIES)]
    rolled_back = numpy.asarray([verdict == "roll back" for verdict, _ in equal])
    harmful = [_watch(rng, plan, 0.7, 0.5) for _ in range(CANARIES)]
    caught = [canary for verdict, canary in harmful if verdict == "roll back"]
    peeking = 100 * float(numpy.mean([_peeked(rng, 0.7) for _ in range(CANARIES)]))
    promoted = [canary for verdict, canary in equal if verdict == "promote"]
    return [
        _share(
            name,
            f"an equal canary rolled back, {SHARE:.0%} of traffic, looked at after every outcome",
            rolled_back,
            f"under {100 * plan.alpha:g}",
            {"two-proportion z test at each look": peeking},
            most=100 * plan.alpha,
        ),
        figure(name, "an equal canary promoted after", promoted, "of its outcomes", "reported", None),
        figure(
            name,
            "a canary 20 points worse rolled back after",
            caught,
            "of its outcomes",
            "reported",
            None,
            {"rolled back, %": 100 * len(caught) / CANARIES, "90 % after": float(numpy.quantile(caught, 0.9))},
        ),
    ]


def _watch(rng: Any, plan: CanaryPlan, champion: float, canary: float) -> tuple[str, int]:
    """(the verdict, how many outcomes of the canary it took)."""
    watched, count = Canary(plan), 0
    for arm, luck in zip((rng.random(OUTCOMES) < SHARE).tolist(), rng.random(OUTCOMES).tolist(), strict=True):
        count += arm
        verdict = watched.tell(Seen("canary" if arm else "champion", float(luck < (canary if arm else champion))))
        if verdict != "continue":
            return verdict, count
    return "continue", count


def _peeked(rng: Any, rate: float) -> bool:
    """Whether a z test at .05, after every outcome from the tenth of the canary on, would ever have rolled back an equal one."""
    arms, right = rng.random(OUTCOMES) < SHARE, rng.random(OUTCOMES) < rate
    n, m = numpy.cumsum(~arms), numpy.cumsum(arms)
    a, b = numpy.cumsum(right & ~arms) / numpy.maximum(n, 1), numpy.cumsum(right & arms) / numpy.maximum(m, 1)
    pooled = numpy.cumsum(right) / (n + m)
    deviation = numpy.sqrt(pooled * (1 - pooled) * (1 / numpy.maximum(n, 1) + 1 / numpy.maximum(m, 1)))
    return bool(((b - a < -1.645 * deviation) & (m >= 10)).any())


def _share(
    name: str, what: str, happened: Any, target: str, versus: dict[str, float], *, most: float | None = None, least: float | None = None
) -> Figure:
    interval = wilson(int(happened.sum()), len(happened))
    value = 100 * interval.accuracy
    met = (most is None or value < most) and (least is None or value > least)
    found = figure(name, what, [value], "%", target, met, {key: round(share, 2) for key, share in versus.items()})
    return Figure(**{**found.as_dict(), "spread": (round(100 * interval.low, 2), round(100 * interval.high, 2))})


if __name__ == "__main__":
    from benchmarks.run import row

    for each in measure(("L4",)):
        print(row(each))
