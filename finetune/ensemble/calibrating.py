"""Calibrates the genes of a router: their models answer tasks that can be verified, and the verdicts say what their confidence is worth.

The tasks should be none that the models were trained on, or their answers look surer than they will be.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import TrainingError
from core.types import Domain, Outcome, Record, Task
from core.verifiers import Verifier, verify
from finetune.ensemble.answers import Answer
from finetune.ensemble.calibration import FEWEST, Calibration, Method, fit
from finetune.ensemble.genes import Genome

if TYPE_CHECKING:
    from finetune.ensemble.router import ResponseRouter

log = logging.getLogger(__name__)

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibrated(Record):
    """What came of one model. `calibration` is None where `reason` says why.

    `brier` is the mean squared error of its confidence on answers that it was not fitted to (cross-validation), `brier_before` that of
    the mean probability of a token, which stands in for it otherwise.
    """

    model: str
    weights: str
    judged: int
    calibration: Calibration | None
    brier: float | None = None
    brier_before: float | None = None
    reason: str = ""


def calibrate(
    router: ResponseRouter, tasks: Sequence[Task], genome: Genome, *, method: Method = "auto", verifier: Verifier = verify
) -> list[Calibrated]:
    """Calibrate every trained gene on the tasks of its domain and those that call it, one of no domain that none calls on all of them.

    The router uses what comes of it from then on.
    Cut-off answers and those that no verifier can judge are left out. Raises TrainingError when there are no tasks or no models.
    """
    questions = _questions(router, tasks, genome)
    if not questions:
        raise TrainingError("there is nothing to calibrate: give tasks, and genes with an sft_path that these tasks call")
    answers = router.ask_genes([(place, task.prompt) for place, task in questions], genome)
    judged: dict[str, list[tuple[float, bool]]] = {}
    seen: dict[str, Answer] = {}
    for (_, task), answer in zip(questions, answers, strict=True):
        seen.setdefault(answer.weights, answer)
        pairs = judged.setdefault(answer.weights, [])
        if answer.complete and answer.logprob is not None and math.isfinite(answer.logprob):
            verdict = verifier(task, answer.text)
            if verdict.outcome in (Outcome.PASS, Outcome.FAIL):
                pairs.append((answer.logprob, verdict.passed))
    found = [_calibrated(seen[weights], pairs, method) for weights, pairs in judged.items()]
    for each in found:
        if each.calibration is None:
            log.warning("%s stays uncalibrated: %s", each.model, each.reason)
        else:
            router.calibrations[each.weights] = each.calibration
    return found


def _questions(router: ResponseRouter, tasks: Sequence[Task], genome: Genome) -> list[tuple[int, Task]]:
    """Which gene is asked what; of genes that would put the same to the same model, the first."""
    called = [router.called(task.prompt, genome) for task in tasks]
    found: dict[tuple[str | None, object, str], tuple[int, Task]] = {}
    for place, gene in enumerate(genome):
        own = [task for task, places in zip(tasks, called, strict=True) if place in places or gene.specialization == task.domain]
        if not own and gene.specialization not in list(Domain):
            own = list(tasks)
        for task in own if gene.trained else ():
            found.setdefault((gene.sft_path, gene.messages(task.prompt), task.id), (place, task))
    return list(found.values())


def _calibrated(answer: Answer, pairs: Sequence[tuple[float, bool]], method: Method) -> Calibrated:
    count = len(pairs)
    if count < FEWEST:
        reason = f"{count} of its answers could be judged: give tasks for {FEWEST} or more"
        return Calibrated(answer.model, answer.weights, count, None, reason=reason)
    before = sum((min(1.0, math.exp(logprob)) - right) ** 2 for logprob, right in pairs) / count
    return Calibrated(answer.model, answer.weights, count, _fitted(pairs, method), _cross_validated(pairs, method), before)


def _cross_validated(pairs: Sequence[tuple[float, bool]], method: Method) -> float | None:
    """None where too few are left to fit to."""
    if len(pairs) * (FOLDS - 1) // FOLDS < FEWEST:
        return None
    error = 0.0
    for fold in range(FOLDS):
        model = _fitted([pair for i, pair in enumerate(pairs) if i % FOLDS != fold], method)
        error += sum((model(logprob) - right) ** 2 for logprob, right in pairs[fold::FOLDS])
    return error / len(pairs)


def _fitted(pairs: Sequence[tuple[float, bool]], method: Method) -> Calibration:
    logprobs, right = zip(*pairs, strict=True)
    return fit(logprobs, right, method)
