"""The canary: a share of live traffic goes to the candidate, and the stream of outcomes says when it has shown enough, or done harm.

The stream may be looked at after every outcome (see `finetune.betting`): a canary that is no worse than the champion and whose verifier
breaks no more than twice as often is rolled back with a chance of at most `alpha` in all, for ever; one that is worse by `margin` or more
is promoted with a chance of at most `beta`. A wrong fingerprint needs no statistics.

Outcomes of one arm have to be independent, and those of one session are not. The stream of a store takes one outcome for each sticky key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from core.errors import ConfigError
from core.types import Outcome, Record
from finetune.betting import Bets, Line

Arm = Literal["champion", "canary"]
Verdict = Literal["continue", "promote", "roll back"]

WORSE_BY = (0.05, 0.1, 0.2, 0.4)
ERROR_RATES = (0.02, 0.05, 0.1, 0.25, 0.6)


@dataclass(frozen=True, slots=True)
class CanaryPlan(Record):
    """Chances and bounds of a canary. `least` is how many of its outcomes must be known before it can be promoted."""

    alpha: float = 0.05
    beta: float = 0.05
    margin: float = 0.05
    error_ratio: float = 2.0
    least: int = 50

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "margin"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} of the canary is {getattr(self, name)}: it lies between 0 and 1")
        if not self.error_ratio >= 1 or self.least < 1:
            raise ConfigError(f"the canary has error_ratio {self.error_ratio} and least {self.least}: both are 1 or greater")


DEFAULT = CanaryPlan()


@dataclass(frozen=True, slots=True)
class Seen(Record):
    """One outcome of live traffic: a verdict, or a reward in [0, 1]. `error` says that a check broke on the way to it.

    `fingerprint` is that of the weights that answered, None where it is not known; `id` names the trace.
    """

    arm: Arm
    result: Outcome | float | None
    error: bool = False
    fingerprint: str | None = None
    id: str = ""

    @property
    def broke(self) -> bool:
        """Whether the verifier broke."""
        return self.error or self.result is Outcome.ERROR

    @property
    def value(self) -> float | None:
        """The outcome as a number in [0, 1]; None when it is unknown: not checkable, or the check broke."""
        if isinstance(self.result, Outcome):
            return {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(self.result)
        known = self.result is not None and 0 <= self.result <= 1
        return float(self.result) if known and self.result is not None else None


@dataclass(frozen=True, slots=True)
class ArmTold(Record):
    """What was seen of one arm: outcomes, how many of them are known and their mean, and how often the verifier broke."""

    outcomes: int = 0
    known: int = 0
    mean: float | None = None
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Standing(Record):
    """Where a canary stands after `champion.outcomes + canary.outcomes` outcomes.

    `harm`, `harmless` and `broken` are e-values against "the canary is no worse", "it is worse by the margin or more" and "its verifier
    breaks at most `error_ratio` times as often". The first is acted on from 2 / alpha, as is the third, and the second from 1 / beta.
    """

    verdict: Verdict
    reason: str
    champion: ArmTold
    canary: ArmTold
    harm: float
    harmless: float
    broken: float

    @property
    def promoted(self) -> bool:
        """True when the canary may serve: what a registry asks of a decision."""
        return self.verdict == "promote"


class Canary:
    """A canary under watch: tell it what was seen. Once it is decided nothing changes it any more."""

    def __init__(self, plan: CanaryPlan = DEFAULT, fingerprint: str | None = None) -> None:
        """`fingerprint` is what the canary's traces must carry; None leaves that out."""
        self.plan, self._fingerprint = plan, fingerprint
        self._harm = Bets(Line(1.0, 0.0, above=True), WORSE_BY, relative=True)
        self._harmless = Bets(Line(1.0, -plan.margin, above=False), WORSE_BY, relative=True)
        self._broken = Bets(Line(plan.error_ratio, 0.0, above=False), ERROR_RATES, relative=False)
        self._arms: dict[Arm, list[float]] = {"champion": [0, 0, 0.0, 0], "canary": [0, 0, 0.0, 0]}
        self._decided: tuple[Verdict, str] | None = None

    def tell(self, seen: Seen) -> Verdict:
        """One outcome more."""
        if self._decided:
            return self._decided[0]
        there, value, canary = self._arms[seen.arm], seen.value, seen.arm == "canary"
        there[0] += 1
        there[3] += seen.broke
        self._broken.tell(canary, float(seen.broke))
        if value is not None:
            there[1] += 1
            there[2] += value
            self._harm.tell(canary, value)
            self._harmless.tell(canary, value)
        self._decided = self._decide(seen)
        return self._decided[0] if self._decided else "continue"

    @property
    def standing(self) -> Standing:
        """What is known so far."""
        verdict, reason = self._decided or ("continue", self._told("nothing is decided"))
        arms = {
            arm: ArmTold(int(n), int(known), total / known if known else None, int(errors))
            for arm, (n, known, total, errors) in self._arms.items()
        }
        values = (self._harm.wealth, self._harmless.wealth, self._broken.wealth)
        return Standing(verdict, reason, arms["champion"], arms["canary"], *values)

    def _decide(self, seen: Seen) -> tuple[Verdict, str] | None:
        plan = self.plan
        strange = seen.fingerprint if seen.arm == "canary" else None
        if self._fingerprint is not None and strange is not None and strange != self._fingerprint:
            told = f"{seen.id or 'an answer'} of the canary came from the weights {strange} and not from {self._fingerprint}"
            return "roll back", f"wrong fingerprint: {told}"
        if self._harm.wealth >= 2 / plan.alpha:
            return "roll back", self._told("the canary does harm")
        if self._broken.wealth >= 2 / plan.alpha:
            return "roll back", self._told(f"the verifier breaks on the canary more than {plan.error_ratio:g} times as often")
        if self._harmless.wealth >= 1 / plan.beta and self._arms["canary"][1] >= plan.least:
            return "promote", self._told(f"the canary is no worse than {100 * plan.margin:g} points below the champion")
        return None

    def _told(self, what: str) -> str:
        shares = []
        for arm, (n, known, total, errors) in self._arms.items():
            mean = f"{total / known:.1%}" if known else "nothing known"
            shares.append(f"{arm} {mean} of {known:.0f}, {errors:.0f} errors in {n:.0f}")
        return f"{what}: {'; '.join(shares)}"


def weigh(stream: Iterable[Seen], plan: CanaryPlan = DEFAULT, fingerprint: str | None = None) -> Standing:
    """Where a canary stands after a stream of outcomes in order, or at the first of them that decided."""
    canary = Canary(plan, fingerprint)
    for seen in stream:
        if canary.tell(seen) != "continue":
            break
    return canary.standing
