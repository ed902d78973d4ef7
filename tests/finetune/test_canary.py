"""The canary: harm is seen, chance is not taken for harm however often one looks, and what is decided stays decided."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from core.errors import ConfigError
from core.types import Outcome
from finetune.canary import Canary, CanaryPlan, Seen, Verdict, weigh


def traffic(
    seed: int, champion: float, canary: float, *, share: float = 0.1, errors: tuple[float, float] = (0.0, 0.0), n: int = 6_000
) -> Iterator[Seen]:
    rng = random.Random(seed)
    for _ in range(n):
        there = rng.random() < share
        right, broke = rng.random() < (canary if there else champion), rng.random() < errors[there]
        yield Seen("canary" if there else "champion", Outcome.ERROR if broke else Outcome.PASS if right else Outcome.FAIL)


def verdicts(rounds: int, champion: float, canary: float, **more: object) -> list[Verdict]:
    return [weigh(traffic(seed, champion, canary, **more)).verdict for seed in range(rounds)]  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_equal_canary_is_rolled_back_in_fewer_than_5_of_100_though_every_outcome_is_looked_at():
    assert verdicts(40, 0.7, 0.7, n=2_000, share=0.3).count("roll back") <= 2


def test_a_canary_20_points_worse_is_rolled_back_after_some_60_of_its_outcomes():
    found = [weigh(traffic(seed, 0.7, 0.5)) for seed in range(30)]

    assert all(standing.verdict == "roll back" for standing in found)
    assert sorted(standing.canary.outcomes for standing in found)[15] < 130
    assert found[0].reason.startswith("the canary does harm: champion ")


def test_a_better_canary_is_promoted():
    assert verdicts(15, 0.6, 0.75).count("promote") == 15


@pytest.mark.slow
def test_a_canary_that_is_worse_by_the_margin_is_hardly_ever_promoted():
    assert verdicts(20, 0.7, 0.65, n=2_000, share=0.3).count("promote") <= 2


def test_a_verifier_that_breaks_more_than_twice_as_often_rolls_back():
    found = [weigh(traffic(seed, 0.7, 0.7, errors=(0.02, 0.25))) for seed in range(20)]

    assert [standing.verdict for standing in found].count("roll back") >= 19
    assert "the verifier breaks on the canary more than 2 times as often" in found[0].reason


@pytest.mark.slow
def test_one_error_or_twice_as_many_roll_nothing_back():
    one = [Seen("champion", Outcome.PASS)] * 300 + [Seen("canary", Outcome.PASS)] * 20 + [Seen("canary", Outcome.ERROR)]

    assert weigh(one).verdict == "continue"
    assert verdicts(20, 0.7, 0.7, errors=(0.05, 0.1), n=2_000).count("roll back") <= 2


def test_unknown_outcomes_count_for_nobody():
    silent = [Seen("champion", Outcome.PASS), Seen("canary", Outcome.ABSTAIN), Seen("canary", None)] * 200

    standing = weigh(silent)

    assert standing.verdict == "continue"
    assert (standing.canary.outcomes, standing.canary.known, standing.canary.mean) == (400, 0, None)


def test_rewards_are_judged_like_rights_and_wrongs():
    rng = random.Random(0)
    stream = [
        Seen(arm, min(1.0, max(0.0, rng.gauss(0.7 if arm == "champion" else 0.4, 0.2))))
        for _ in range(600)
        for arm in ("champion", "canary")
    ]

    assert weigh(stream).verdict == "roll back"


def test_a_wrong_fingerprint_rolls_back_at_once():
    good, bad = Seen("canary", Outcome.PASS, fingerprint="new"), Seen("canary", Outcome.PASS, fingerprint="old", id="t1")

    standing = weigh([good, bad, good], fingerprint="new")

    assert standing.verdict == "roll back"
    assert standing.reason == "wrong fingerprint: t1 of the canary came from the weights old and not from new"
    assert standing.canary.outcomes == 2


def test_the_champions_fingerprint_and_an_unknown_one_are_not_wrong():
    stream = [Seen("champion", Outcome.PASS, fingerprint="old"), Seen("canary", Outcome.PASS)]

    assert weigh(stream, fingerprint="new").verdict == "continue"


def test_what_is_decided_stays_decided():
    canary = Canary(fingerprint="new")
    canary.tell(Seen("canary", Outcome.PASS, fingerprint="old"))
    decided = canary.standing

    for _ in range(500):
        assert canary.tell(Seen("canary", Outcome.PASS, fingerprint="new")) == "roll back"

    assert canary.standing == decided


def test_the_same_stream_gives_the_same_standing_in_one_go_or_one_by_one():
    stream = list(traffic(3, 0.7, 0.68, n=500))
    canary = Canary()
    for seen in stream:
        canary.tell(seen)

    assert canary.standing == weigh(stream)


def test_nothing_is_promoted_before_enough_was_seen_of_it():
    stream = [Seen("champion", Outcome.FAIL), Seen("canary", Outcome.PASS)] * 40

    assert weigh(stream).verdict == "continue"
    assert weigh(stream, CanaryPlan(least=10)).verdict == "promote"


def test_a_reward_outside_0_to_1_is_unknown():
    assert Seen("canary", 1.5).value is None
    assert Seen("canary", float("nan")).value is None
    assert Seen("canary", 0.25).value == 0.25


@pytest.mark.parametrize("plan", [{"alpha": 0.0}, {"beta": 1.0}, {"margin": 0.0}, {"error_ratio": 0.5}, {"least": 0}])
def test_a_plan_that_means_nothing_is_refused(plan: dict[str, float]):
    with pytest.raises(ConfigError, match="the canary"):
        CanaryPlan(**plan)  # type: ignore[arg-type]
