"""Learns step values from finished search trees: of a node, the share of verified answers among the finished ones below it.

Targets are verdicts and nothing else: neither the values that a search backed up nor this model's own predictions. Runs that such a
model guided are left out unless asked for, since it chose what they explored. Held-out tasks calibrate it, others measure it.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError
from core.process_reward import BUCKETS, FILE, FORMAT, Features, calibrate, features, fingerprint, made_of
from core.tasks.splits import bucket, split_of
from core.types import Outcome, Record, Run, Split, Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TRAIN, CALIBRATE, REPORT = "train", "calibrate", "report"
SHARE = 15  # of a hundred tasks of the training side that calibrate, and as many that measure
MOST_COUNT = 16.0  # beyond so many finished descendants a node weighs no more
FEWEST = {TRAIN: 40, CALIBRATE: 15, REPORT: 15}  # tasks
PENALTIES = (0.03, 0.3, 3.0)
FOLDS = 3
RESAMPLES = 1_000
CONFIDENCE = 0.025  # the share of resamples in which the base rate may do as well
BINS = 10
MOST_ERROR = 0.1  # expected calibration error
TOLERANCE = 1e-4  # smaller weights are left out

Finished = (Outcome.PASS, Outcome.FAIL)


@dataclass(frozen=True, slots=True)
class Example(Record):
    """A node: its task, the text up to it, the share of PASS among its finished descendants, and how many those are."""

    task: Task
    run_id: str
    text: str
    target: float
    count: int


@dataclass(frozen=True, slots=True)
class Quality(Record):
    """On held-out trees. Brier scores and the expected calibration error weigh each node by its count.

    rank: Spearman's correlation over all nodes. within: its mean over the trees, which a model of questions alone would not have.
    gain: Brier score of the base rate minus the model's; worst_gain: its 2.5 % quantile over resamples of the tasks.
    """

    tasks: int
    nodes: int
    brier: float
    base_brier: float
    gain: float
    worst_gain: float
    calibration_error: float
    rank: float
    within: float


@dataclass(frozen=True, slots=True)
class Trained(Record):
    """What training made: the file, whether it may guide a search, and why not."""

    path: Path
    calibrated: bool
    reason: str
    quality: Quality
    counts: Mapping[str, int] = field(default_factory=dict)


def train(
    runs: Iterable[Run], out: Path, *, seed: int = 0, guided: bool = False, on_run: Callable[[Run], None] = lambda run: None
) -> Trained:
    """Learn from runs and write `process_reward.json` into a folder; it can be loaded only if it is calibrated.

    `guided` takes the runs too that a process reward guided. Raises TrainingError when there are too few trees to learn from.
    """
    folds: dict[str, list[Example]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for run in runs:
        on_run(run)
        counts["runs"] += 1
        if run.get("process_reward") and not guided:
            counts["runs left out, guided by a process reward"] += 1
            continue
        folds[fold_of(run.task)] += examples(run)
    _check(folds, counts)
    weights, bias = _fit(folds[TRAIN], seed)
    content = _content(weights, bias, folds)
    quality = _measure(content, folds, seed)
    reason = _doubt(quality)
    content |= {
        "calibrated": not reason,
        "reason": reason,
        "quality": quality.as_dict(),
        "counts": dict(counts) | {f"nodes to {name}": len(found) for name, found in folds.items()},
        "domains": sorted({example.task.domain.value for example in folds[TRAIN]}),
    }
    content["fingerprint"] = fingerprint(content)
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    path.write_text(json.dumps(content), encoding="utf-8")
    return Trained(path, not reason, reason, quality, content["counts"])


def examples(run: Run) -> list[Example]:
    """The nodes of a finished tree that have a verified or a failed answer below them, the root and the answers left out.

    The newest verdict of an answer counts; ABSTAIN and ERROR say nothing.
    """
    newest = {trace.node: trace.verdict.outcome for trace in run.traces}
    nodes = {node.path: node for node in run.nodes}
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for node in run.nodes:
        outcome = newest.get(node.path, node.outcome)
        if node.terminal and outcome in Finished:
            for path in _above(node.path):
                found[path][0] += outcome is Outcome.PASS
                found[path][1] += 1
    return [
        Example(
            run.task, run.id, "".join(nodes[above].text for above in ("", *_above(path), path) if above in nodes), passed / count, count
        )
        for path, (passed, count) in found.items()
        if path in nodes and all(above in nodes for above in _above(path))
    ]


def fold_of(task: Task) -> str:
    """Tasks of the gate calibrate and tasks of the report measure; of the training side some are held out for both, for ever."""
    split = split_of(task)
    if split is not Split.TRAIN:
        return CALIBRATE if split is Split.GATE else REPORT
    place = bucket(f"process-reward:{task.key}")
    return CALIBRATE if place < SHARE else REPORT if place < 2 * SHARE else TRAIN


def _above(path: str) -> list[str]:
    """Of "1.4.0" the nodes between it and the root: "1", "1.4"."""
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _check(folds: Mapping[str, Sequence[Example]], counts: Mapping[str, int]) -> None:
    for name, fewest in FEWEST.items():
        tasks = len({example.task.id for example in folds.get(name, ())})
        if tasks < fewest:
            left = counts.get("runs left out, guided by a process reward", 0)
            raise TrainingError(
                f"{tasks} tasks to {name} have trees with verified or failed answers below a step, and {fewest} are needed "
                f"({counts.get('runs', 0)} runs read, {left} left out because a process reward guided them): "
                "collect more with a strategy that grows trees, such as lats"
            )
    if len({example.target for example in folds[TRAIN]}) < 2:
        raise TrainingError(
            "all answers below all steps have the same verdict, so that there is nothing to tell apart: collect harder tasks"
        )


def _fit(found: Sequence[Example], seed: int) -> tuple[dict[int, float], float]:
    """Weighted logistic regression on shares; the penalty is chosen on folds of tasks."""
    rows = [features(example.task, example.text) for example in found]
    matrix = _matrix([*rows, *rows])
    labels = [1] * len(found) + [0] * len(found)
    weights = [_weight(e) * e.target for e in found] + [_weight(e) * (1 - e.target) for e in found]
    folds = [bucket(f"fold:{example.task.key}") % FOLDS for example in found] * 2
    best = max(PENALTIES, key=lambda c: _likelihood(matrix, labels, weights, folds, c, seed))
    model = _regression(best, seed).fit(matrix, labels, sample_weight=weights)
    learned = {place: round(float(w), 6) for place, w in enumerate(model.coef_[0]) if abs(w) > TOLERANCE}
    return learned, float(model.intercept_[0])


def _weight(example: Example) -> float:
    return min(float(example.count), MOST_COUNT)


def _regression(penalty: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, max_iter=2_000, random_state=seed)


def _likelihood(
    matrix: csr_matrix, labels: Sequence[int], weights: Sequence[float], folds: Sequence[int], penalty: float, seed: int
) -> float:
    import numpy as np
    from sklearn.metrics import log_loss

    target, weight, fold = np.asarray(labels), np.asarray(weights), np.asarray(folds)
    total = 0.0
    for held in sorted(set(folds)):
        inside, outside = fold != held, fold == held
        if not weight[inside & (target == 1)].sum() or not weight[inside & (target == 0)].sum():
            continue
        model = _regression(penalty, seed).fit(matrix[inside], target[inside], sample_weight=weight[inside])
        said = model.predict_proba(matrix[outside])[:, 1]
        total -= float(log_loss(target[outside], said, sample_weight=weight[outside], labels=[0, 1], normalize=False))
    return total


def _matrix(rows: Sequence[Features]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row))
    places = [place for row in rows for place in row]
    values = [value for row in rows for value in row.values()]
    return csr_matrix((values, places, starts), shape=(len(rows), BUCKETS))


def _content(weights: Mapping[int, float], bias: float, folds: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """The model as it is stored, calibrated by isotonic regression on tasks that it was not fitted to."""
    from sklearn.isotonic import IsotonicRegression

    content: dict[str, Any] = {"format": FORMAT, "weights": {str(place): w for place, w in weights.items()}, "bias": bias}
    content |= {"scores": [0.0], "values": [0.5], "fingerprint": ""}
    raw = made_of(content)
    held = folds[CALIBRATE]
    scores = [raw.score(features(example.task, example.text)) for example in held]
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fit.fit(scores, [example.target for example in held], sample_weight=[_weight(example) for example in held])
    content["scores"] = [float(score) for score in fit.X_thresholds_]
    content["values"] = [min(max(float(value), 0.0), 1.0) for value in fit.y_thresholds_]
    content["base_rate"] = _mean([example.target for example in folds[TRAIN]], [_weight(example) for example in folds[TRAIN]])
    return content


def _measure(content: Mapping[str, Any], folds: Mapping[str, Sequence[Example]], seed: int) -> Quality:
    model, held, base = made_of(content), folds[REPORT], float(content["base_rate"])
    said = [calibrate(model.score(features(e.task, e.text)), model.scores, model.values) for e in held]
    weights = [_weight(example) for example in held]
    own = [_brier(p, example.target) for p, example in zip(said, held, strict=True)]
    even = [_brier(base, example.target) for example in held]
    gains = [b - o for b, o in zip(even, own, strict=True)]
    targets = [example.target for example in held]
    return Quality(
        tasks=len({example.task.id for example in held}),
        nodes=len(held),
        brier=_mean(own, weights),
        base_brier=_mean(even, weights),
        gain=_mean(gains, weights),
        worst_gain=_worst_gain([example.task.id for example in held], gains, weights, seed),
        calibration_error=_calibration_error(said, targets, weights),
        rank=_rank(said, targets),
        within=_within([example.run_id for example in held], said, targets),
    )


def _doubt(quality: Quality) -> str:
    """Why it may not guide a search; empty when it may."""
    if quality.worst_gain <= 0:
        return (
            f"on {quality.tasks} held-out tasks its Brier score {quality.brier:.3f} is not surely better than the base rate's "
            f"{quality.base_brier:.3f}: collect more trees"
        )
    if quality.calibration_error > MOST_ERROR:
        return f"its expected calibration error is {quality.calibration_error:.3f}, above {MOST_ERROR}: collect more trees"
    return ""


def _brier(said: float, target: float) -> float:
    """Mean over the finished descendants of the squared distance from what each turned out to be."""
    return target * (1 - said) ** 2 + (1 - target) * said**2


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _worst_gain(tasks: Sequence[str], gains: Sequence[float], weights: Sequence[float], seed: int) -> float:
    """Whole tasks are resampled: the nodes of one tree say much the same."""
    sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for task, gain, weight in zip(tasks, gains, weights, strict=True):
        total, weighed = sums[task]
        sums[task] = (total + gain * weight, weighed + weight)
    each, rng = list(sums.values()), random.Random(seed)
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(each, k=len(each))
        found.append(sum(total for total, _ in drawn) / sum(weighed for _, weighed in drawn))
    return sorted(found)[int(CONFIDENCE * RESAMPLES)]


def _calibration_error(said: Sequence[float], targets: Sequence[float], weights: Sequence[float]) -> float:
    """Mean distance between what is said and what comes, over bins of equal numbers of nodes."""
    order = sorted(range(len(said)), key=lambda i: said[i])
    total = 0.0
    for number in range(BINS):
        part = order[number * len(order) // BINS : (number + 1) * len(order) // BINS]
        if part:
            inside = [weights[i] for i in part]
            distance = _mean([said[i] for i in part], inside) - _mean([targets[i] for i in part], inside)
            total += abs(distance) * sum(inside)
    return total / sum(weights)


def _rank(said: Sequence[float], targets: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant."""
    from scipy.stats import spearmanr

    if len(set(said)) < 2 or len(set(targets)) < 2:
        return 0.0
    return float(spearmanr(said, targets).statistic)


def _within(runs: Sequence[str], said: Sequence[float], targets: Sequence[float]) -> float:
    trees: dict[str, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        trees[run].append(place)
    found = [
        _rank([said[i] for i in places], [targets[i] for i in places]) for places in trees.values() if len({targets[i] for i in places}) > 1
    ]
    return sum(found) / len(found) if found else 0.0
