"""The Game of 24 as a search problem: a uniformly random proposer, a noisy value of known quality, and the budget in steps.

Four numbers, three steps, each of which puts two numbers together; solved when 24 is left. The proposer knows nothing; the value says
whether a state can still be solved, with noise that is fixed for each state.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

from core.search.tree import Child, Policy, Signal, Ticket
from core.types import Outcome

STEPS = 3
State = tuple[Fraction, ...]


def puzzles(count: int, seed: int) -> list[State]:
    """Solvable puzzles of four numbers from 1 to 13."""
    rng = random.Random(seed)
    found: list[State] = []
    while len(found) < count:
        state = tuple(sorted(Fraction(rng.randint(1, 13)) for _ in range(4)))
        if solvable(state) and state not in found:
            found.append(state)
    return found


def following(state: State) -> list[tuple[str, State]]:
    """All steps from a state, written as text."""
    steps = []
    for i in range(len(state)):
        for j in range(len(state)):
            if i == j:
                continue
            rest = [state[k] for k in range(len(state)) if k not in (i, j)]
            for sign, value in _results(state[i], state[j], ordered=i < j):
                steps.append((f"{state[i]} {sign} {state[j]} = {value}", tuple(sorted([*rest, value]))))
    return steps


def _results(a: Fraction, b: Fraction, ordered: bool) -> list[tuple[str, Fraction]]:
    found = [("-", a - b)]
    if ordered:
        found += [("+", a + b), ("*", a * b)]
    if b:
        found.append(("/", a / b))
    return found


@cache
def solvable(state: State) -> bool:
    """Whether 24 can be reached."""
    if len(state) == 1:
        return state[0] == 24
    return any(solvable(after) for _, after in following(state))


class World:
    """Answers the tickets of one search, and counts the steps that it wrote."""

    def __init__(self, start: State, seed: int, noise: float) -> None:
        self.start, self.seed, self.noise = start, seed, noise
        self.samples = 0
        self.solved = False

    def answer(self, ticket: Ticket) -> list[Child]:
        state = self._replay(ticket.prefix)
        return [self._continue(state, ticket, index) for index in range(ticket.first, ticket.first + ticket.n)]

    def value(self, state: State) -> float:
        """In [0, 1]; its AUC follows from the noise."""
        rng = random.Random(f"{self.seed} {state}")
        return 1 / (1 + math.exp(-2 * (solvable(state) - 0.5 + rng.gauss(0, self.noise))))

    def _continue(self, state: State, ticket: Ticket, index: int) -> Child:
        rng = random.Random(f"{self.seed} {ticket.path} {index} {ticket.whole}")
        said = []
        while len(state) > 1:
            text, state = rng.choice(following(state))
            said.append(text)
            self.samples += 1
            if not ticket.whole:
                break
        text = "".join(f"{line}\n" for line in said)
        key = " ".join(map(str, state))
        if len(state) == 1:
            right = state[0] == 24
            self.solved |= right
            return Child(text, True, None, Outcome.PASS if right else Outcome.FAIL, key if not right else None)
        return Child(text, False, self.value(state), key=key)

    def _replay(self, prefix: str) -> State:
        state = self.start
        for line in prefix.splitlines():
            state = dict(following(state))[line]
        return state


def solve(policy: Policy, world: World, samples: int) -> bool:
    """Run one search within so many steps. True when a verified answer appeared within them."""
    while not world.solved and world.samples < samples:
        ticket = policy.ask()
        if ticket is Signal.DONE or not isinstance(ticket, Ticket):
            break
        children = world.answer(ticket)
        if world.samples > samples:
            return False
        policy.tell(ticket, children)
    return world.solved
