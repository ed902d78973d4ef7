"""What a finished text is worth and how promising an unfinished one is: verifiers, rewards and step values under one roof."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from core.config import Settings
from core.rewards import checked_weights, reward
from core.types import Completion, Outcome, Reward, Task, Verdict
from core.verifiers import step_value, steps_right

CHARACTERS_A_TOKEN = 4
CUT_OFF = "cut off before its end: raise MAX_TOKENS or, if the model's context is full, shorten the question"
WRONG = "The final answer was checked and is wrong."


class Judging:
    """Safe from any thread. `with_steps` is False where a verifier of the caller's own stands for all checks.

    `process` values a partial text by a learned model, in [0, 1]; it guides a search and verifies nothing.
    """

    def __init__(
        self,
        verify: Callable[[Task, str], Verdict],
        settings: Settings,
        *,
        with_steps: bool = True,
        process: Callable[[Task, str], float] | None = None,
    ) -> None:
        self._verifier = verify
        self._settings = settings
        self._weights = checked_weights(settings.REWARD_WEIGHTS)
        self._with_steps = with_steps
        self._process = process
        self.guided_by = str(getattr(process, "fingerprint", ""))

    def verdict(self, task: Task, text: str, *, complete: bool) -> Verdict:
        """The verdict on a finished text. What was cut off fails; evidence that the settings don't accept verifies nothing."""
        if not complete:
            return Verdict(Outcome.FAIL, 0.0, CUT_OFF, verifier="length")
        verdict = self._verifier(task, text)
        if verdict.passed and verdict.evidence not in self._settings.VERIFIED_BY:
            return verdict.replace(outcome=Outcome.ABSTAIN, reason=f"{verdict.evidence} does not count as verified: {verdict.reason}")
        return verdict

    def reward(self, task: Task, text: str, verdict: Verdict, calls: int) -> Reward:
        """What the text earned, after so many calls."""
        return reward(
            verdict,
            steps_right(task, text) if self._with_steps else None,
            length=min(len(text) / (CHARACTERS_A_TOKEN * self._settings.MAX_TOKENS), 1.0),
            cost=min(calls / self._settings.SEARCH_CALLS, 1.0),
            weights=self._weights,
        )

    def promise(self, task: Task, text: str, completion: Completion, agreeing: float) -> float | None:
        """How promising a partial text is: the weighted mean of the signals there are, None without any.

        steps: the share of its steps that hold; one that is refuted settles it. process: the learned value. model: the probability of
        its tokens, as the model saw it. consistency: the share of the samples beside it that say the same.
        """
        checked = step_value(task, text) if self._with_steps else None
        if checked == 0.0:
            return 0.0
        signals = {
            "steps": checked,
            "process": self._process(task, text) if self._process else None,
            "model": math.exp(completion.mean_logprob) if completion.mean_logprob is not None else None,
            "consistency": agreeing,
        }
        return mixed(signals, self._settings.SEARCH_SIGNALS)

    @staticmethod
    def feedback(verdict: Verdict) -> str:
        """What a model may be told of a failure: what the verifier releases for that, and never the reference."""
        if verdict.outcome is not Outcome.FAIL:
            return ""
        said = verdict.details.get("feedback")
        return said if isinstance(said, str) and said else WRONG


def mixed(signals: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The weighted mean of the signals that are known and weigh something."""
    known = {name: value for name, value in signals.items() if value is not None and weights.get(name)}
    total = sum(weights[name] for name in known)
    return sum(weights[name] * value for name, value in known.items()) / total if total else None
