"""From the probability that a model gives its own answer to the share of such answers that are right.

Isotonic regression where there is much to learn from, else Platt's sigmoid (Niculescu-Mizil and Caruana, 2005, Predicting Good
Probabilities with Supervised Learning). Fitting needs scikit-learn; what it gives is two columns of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from core.errors import ConfigError, TrainingError
from core.process_reward import calibrate as between
from core.types import Record, Task, Trace

Method = Literal["auto", "isotonic", "platt"]
METHODS = ("auto", "isotonic", "platt")
FEWEST = 20  # answers that a calibration is fitted to
MANY = 200  # answers from which on "auto" is isotonic
FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """What a mean token log-probability is worth for one model. `examples` answers were judged, `right` of them were right.

    isotonic: straight lines between (`scores`, `values`). platt: the sigmoid of slope * score + bias.
    """

    method: Literal["isotonic", "platt"]
    examples: int
    right: int
    scores: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    slope: float = 0.0
    bias: float = 0.0

    def __call__(self, logprob: float) -> float:
        """How likely an answer of that mean log-probability is right, in [0, 1]."""
        if self.method == "isotonic":
            return between(logprob, self.scores, self.values)
        return _sigmoid(self.slope * logprob + self.bias)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Calibration:
        """From what `as_dict` gave, checked. Raises ConfigError."""
        try:
            made = cls(**{**values, "scores": tuple(map(float, values["scores"])), "values": tuple(map(float, values["values"]))})
            numbers = [*made.scores, *made.values, made.slope, made.bias]
            if made.method not in ("isotonic", "platt") or not all(map(math.isfinite, numbers)) or made.slope < 0:
                raise ValueError("its numbers make no sense")
            if made.method == "isotonic" and not (made.scores and len(made.scores) == len(made.values)):
                raise ValueError("it has no points")
            if list(made.scores) != sorted(made.scores) or list(made.values) != sorted(made.values):
                raise ValueError("it does not rise")
            if not all(0 <= value <= 1 for value in made.values):
                raise ValueError("a value is no share")
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"this is no calibration ({error}): calibrate again") from error
        return made


def fit(logprobs: Sequence[float], right: Sequence[bool], method: Method = "auto") -> Calibration:
    """Learn from judged answers. Raises TrainingError below 20 of them, ConfigError for a method that there isn't."""
    if method not in METHODS:
        raise ConfigError(f"there is no calibration {method!r}: choose one of {', '.join(METHODS)}")
    if len(logprobs) != len(right):
        raise ConfigError(f"{len(logprobs)} log-probabilities and {len(right)} verdicts: give one of each for every answer")
    if len(logprobs) < FEWEST:
        raise TrainingError(f"{len(logprobs)} judged answers are too few to calibrate with: give {FEWEST} or more")
    if not all(map(math.isfinite, logprobs)):
        raise TrainingError("a log-probability is no number: leave that answer out")
    if find_spec("sklearn") is None:
        raise TrainingError('calibrating needs scikit-learn: pip install "ratchet-agents[verify]"')
    if method == "auto":
        method = "isotonic" if len(logprobs) >= MANY else "platt"
    return (_isotonic if method == "isotonic" else _platt)(logprobs, right)


def tasks_of(traces: Iterable[Trace]) -> list[Task]:
    """The tasks of verified traces, each once. One without a reference gets the answer that was verified."""
    found: dict[str, Task] = {}
    for trace in traces:
        if trace.verified and trace.task.id not in found:
            task = trace.task
            knows = task.reference is not None or bool(task.metadata)
            found[task.id] = task if knows or trace.answer is None else task.replace(reference=trace.answer)
    return list(found.values())


def probability(logprob: float | None) -> float | None:
    """What stands in for a calibration where there is none: the mean probability of a token, in [0, 1]."""
    return None if logprob is None else min(1.0, math.exp(min(0.0, logprob)))


def _isotonic(logprobs: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Never quite 0 or 1: n answers can't show more than (n + 1) / (n + 2)."""
    from sklearn.isotonic import IsotonicRegression

    count = len(right)
    model = IsotonicRegression(y_min=1 / (count + 2), y_max=(count + 1) / (count + 2), out_of_bounds="clip")
    model.fit(list(logprobs), [float(each) for each in right])
    points = zip(model.X_thresholds_.tolist(), model.y_thresholds_.tolist(), strict=True)
    scores, values = zip(*((round(x, 9), round(y, 6)) for x, y in points), strict=True)
    return Calibration("isotonic", count, sum(right), scores, values)


def _platt(logprobs: Sequence[float], right: Sequence[bool]) -> Calibration:
    """With Platt's targets (1999), which keep a set that is all right or all wrong from being believed entirely."""
    from sklearn.linear_model import LogisticRegression

    count, good = len(right), sum(right)
    middle = sum(logprobs) / count
    width = math.sqrt(sum((x - middle) ** 2 for x in logprobs) / count)
    rate = (good + 1) / (count + 2)
    flat = Calibration("platt", count, good, slope=0.0, bias=math.log(rate / (1 - rate)))
    if width < FLAT:
        return flat
    scaled = [[(x - middle) / width] for x in logprobs]
    targets = [(good + 1) / (good + 2) if each else 1 / (count - good + 2) for each in right]
    model = LogisticRegression(C=10.0)
    model.fit(scaled * 2, [1] * count + [0] * count, sample_weight=[*targets, *(1 - target for target in targets)])
    slope = float(model.coef_[0][0]) / width
    if slope <= 0:  # the surer, the more often wrong: then how sure it is says nothing
        return flat
    return Calibration("platt", count, good, slope=slope, bias=float(model.intercept_[0]) - slope * middle)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
