"""Betting: what a factor is worth under every null that it is against, worked out and not simulated."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest

from finetune.betting import Bets, Line

EQUAL = Line(1.0, 0.0, above=True)
MARGIN = Line(1.0, -0.05, above=False)
DOUBLE = Line(2.0, 0.0, above=False)
KINDS = [(EQUAL, (0.05, 0.2), True), (MARGIN, (0.05, 0.2), True), (DOUBLE, (0.05, 0.25), False)]


def bets(kind: tuple[Line, tuple[float, ...], bool], before: int = 20, right: int = 14) -> Bets:
    """After a block of the champion's outcomes and one of the canary, whose values the next block's bets come from."""
    found = Bets(*kind)
    for i in range(before):
        found.tell(False, float(i < right))
    found.tell(True, float(right > before / 2))
    return found


def wealth(kind: tuple[Line, tuple[float, ...], bool], right: int, champion: tuple[float, ...], canary: float) -> float:
    found = bets(kind, right=right)
    start = found.wealth
    for outcome in champion:
        found.tell(False, outcome)
    found.tell(True, canary)
    return found.wealth / start


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("right", [1, 6, 14, 19])
@pytest.mark.parametrize("n", [1, 4])
def test_no_null_lets_wealth_grow_on_average(kind: tuple[Line, tuple[float, ...], bool], right: int, n: int):
    grid = [i / 10 for i in range(11)]
    nulls = [(p, q) for p, q in product(grid, grid) if kind[0].allows(p, q)]
    worth = {(ys, y): wealth(kind, right, ys, y) for ys in product((0.0, 1.0), repeat=n) for y in (0.0, 1.0)}

    for p, q in nulls:
        mean = sum(
            worth[ys, y] * prod(p if each else 1 - p for each in ys) * (q if y else 1 - q)
            for ys in product((0.0, 1.0), repeat=n)
            for y in (0.0, 1.0)
        )
        assert mean <= 1 + 1e-9


@pytest.mark.parametrize(("kind", "good"), [(KINDS[0], 0.0), (KINDS[1], 1.0), (KINDS[2], 1.0)])
def test_wealth_grows_with_what_speaks_against_the_null(kind: tuple[Line, tuple[float, ...], bool], good: float):
    right = 1 if kind is KINDS[2] else 14
    champion = (0.0,) if kind is KINDS[2] else (1.0,)

    assert wealth(kind, right, champion, good) > 1 > wealth(kind, right, champion, 1 - good)


def test_nothing_is_bet_before_both_arms_were_seen():
    found = Bets(*KINDS[0])
    for _ in range(100):
        found.tell(False, 1.0)

    assert found.wealth == 1
    found.tell(True, 0.0)
    assert found.wealth > 1


def test_a_reward_is_worth_what_lies_between_right_and_wrong():
    low, high = (wealth(KINDS[0], 14, (1.0,), y) for y in (1.0, 0.0))

    assert low < wealth(KINDS[0], 14, (1.0,), 0.5) < high


def test_a_bet_on_what_the_null_allows_is_not_made():
    found = bets((Line(2.0, 0.0, above=False), (0.05,), False), right=14)

    assert found.wealth == 1
