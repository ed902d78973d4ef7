"""Fits the router to examples: `python -m core.routing.train [--examples FILE ...] [--out FILE]`, and to what was learned in use.

Logistic regression on binary features (scikit-learn); its confidence is calibrated by one temperature, found on cross-validated scores
(Guo et al. 2017, On Calibration of Modern Neural Networks). The same examples give the same file.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError
from core.routing.features import Features, find_features
from core.routing.mixture import Labelled, capped
from core.routing.weights import SHIPPED, fingerprint, write
from core.types import Domain, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

EXAMPLES = Path(__file__).with_name("examples.jsonl")
DOMAINS = tuple(Domain)
FOLDS = 3
LEAST_SEEN = 2  # examples that a feature must occur in
MOST_NAMES = (11_000, 16_000, 200)  # of each group the commonest: the file stays below 400 kB
SHARE = (1.0, 0.6, 0.2)  # of words, letters and kinds of words: their size beside each other, found by cross-validation
INVERSE_REGULARISATION = 30.0
TOLERANCE = 1e-8  # far below a step of the signed bytes, so that another linear algebra library rounds to the same file
MAY_DROP = 0.02  # of accuracy on the shipped examples, through an update
MISSING = 'fitting the router needs scikit-learn: pip install "ratchet-agents[verify]"'


@dataclass(frozen=True, slots=True)
class Example(Record):
    """A question and its domain, or None where it belongs to none, with how much it counts."""

    query: str
    domain: Domain | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Fit(Record):
    """What came of fitting: accuracy on the examples by cross-validation, and before the update where it was one."""

    path: Path
    examples: int
    accuracy: float
    accuracy_before: float | None = None


def fit(examples: Sequence[Path] = (EXAMPLES,), out: Path = SHIPPED) -> Fit:
    """Fit to files of examples and write the weights. Raises TrainingError when a file can't be used."""
    rows = [row for path in examples for row in read_examples(path)]
    return _fitted(rows, [], out, fingerprint([path.read_bytes() for path in examples]))


def update(out: Path, *, traces: Iterable[Labelled] = (), feedback: Iterable[Labelled] = (), examples: Sequence[Path] = (EXAMPLES,)) -> Fit:
    """Fit to the examples and to (query, domain, weight) rows from use, and write the weights to `out`.

    `traces` are questions answered and verified in a domain, `feedback` those whose domain a user forced: these count three times.
    Whatever their number, neither source can outweigh the examples (see `core.routing.mixture`). Raises TrainingError and writes
    nothing when accuracy on the examples, by cross-validation, would drop by more than two points.
    """
    rows = [row for path in examples for row in read_examples(path)]
    common = Counter(row.domain for row in rows if row.domain)
    learned = [Example(query, domain, weight) for query, domain, weight in capped(traces, feedback, common)]
    if not learned:
        raise TrainingError("no question with a domain was given: the router stays as it is")
    return _fitted(rows, learned, out, fingerprint([path.read_bytes() for path in examples]))


def read_examples(path: Path) -> list[Example]:
    """One JSON object a line: `query`, `domain` (null for questions that mean nothing) and, if wanted, `weight`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"can't read examples from {path}: {error}") from error
    return [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _example(path: Path, number: int, line: str) -> Example:
    try:
        values = json.loads(line)
        query, domain, weight = values["query"], values["domain"], float(values.get("weight", 1.0))
        if not isinstance(query, str) or not 0 < weight <= 100:
            raise ValueError("a query is a text, and a weight is above 0 and at most 100")
        return Example(query, None if domain is None else Domain(domain), weight)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(f'{path}, line {number}: {error!r}; write {{"query": "Solve 17*6+23", "domain": "math"}}') from error


def _fitted(rows: list[Example], learned: list[Example], out: Path, source: str) -> Fit:
    short = [domain for domain in DOMAINS if sum(row.domain is domain for row in rows) < FOLDS]
    if short:
        raise TrainingError(f"there are less than {FOLDS} examples of {', '.join(short)}: write more")
    if find_spec("sklearn") is None:
        raise TrainingError(MISSING)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in one order, so that the file is the same on any number of cores
        seen, more = [find_features(row.query) for row in rows], [find_features(row.query) for row in learned]
        before, cross_validated = None, _cross_validated(rows, seen, learned, more)
        after = _accuracy(rows, cross_validated)
        if learned:
            before = _accuracy(rows, _cross_validated(rows, seen, [], []))
            if before - after > MAY_DROP:
                raise TrainingError(
                    f"accuracy on the examples would fall from {before:.1%} to {after:.1%}: "
                    "look for wrong domains among the new questions, or give fewer"
                )
        model = _Model([*rows, *learned], [*seen, *more])
        _save(model, _temperature(rows, cross_validated), out, source)
    return Fit(out, len(rows) + len(learned), after, before)


class _Model:
    """Names, coefficients and bias of one fit."""

    def __init__(self, rows: Sequence[Example], seen: Sequence[Features]) -> None:
        from sklearn.linear_model import LogisticRegression

        self.names = _names(rows, seen)
        self._columns = [dict(zip(names, range(len(names)), strict=True)) for names in self.names]
        labels, weights, places = _targets(rows)
        model = LogisticRegression(C=INVERSE_REGULARISATION, solver="newton-cg", tol=TOLERANCE)
        model.fit(self._matrix(seen)[places], labels, sample_weight=weights)
        self.coefficients: NDArray[np.float64] = model.coef_.T
        self.bias: NDArray[np.float64] = model.intercept_

    def scores(self, seen: Sequence[Features]) -> NDArray[np.float64]:
        """One logit a domain for each."""
        found: NDArray[np.float64] = self._matrix(seen) @ self.coefficients + self.bias
        return found

    def _matrix(self, seen: Sequence[Features]) -> csr_matrix[Any]:
        from scipy.sparse import csr_matrix

        values: list[float] = []
        columns: list[int] = []
        ends = [0]
        for found in seen:
            offset = 0
            for group, names in enumerate(found.groups()):
                known = sorted(offset + self._columns[group][name] for name in names if name in self._columns[group])
                size = SHARE[group] / (len(known) ** 0.5 if known and group < 2 else 1.0)
                columns += known
                values += [size] * len(known)
                offset += len(self._columns[group])
            ends.append(len(columns))
        return csr_matrix((values, columns, ends), shape=(len(seen), sum(map(len, self._columns))))


def _names(rows: Sequence[Example], seen: Sequence[Features]) -> list[list[str]]:
    """For each group the commonest names in order; a word of meaningless questions only is no known word."""
    counts: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for row, found in zip(rows, seen, strict=True):
        if row.domain:
            for count, names in zip(counts, found.groups(), strict=True):
                count.update(names)
    return [_commonest(count, most) for count, most in zip(counts, MOST_NAMES, strict=True)]


def _commonest(count: Counter[str], most: int) -> list[str]:
    names = sorted((name for name in count if count[name] >= LEAST_SEEN), key=lambda name: (-count[name], name))
    return sorted(names[:most])


def _targets(rows: Sequence[Example]) -> tuple[list[int], list[float], list[int]]:
    """Labels, weights and row numbers. What belongs to no domain counts a sixth for each: that teaches doubt."""
    targets = []
    for place, row in enumerate(rows):
        if row.domain:
            targets.append((DOMAINS.index(row.domain), row.weight, place))
        else:
            targets += [(label, row.weight / len(DOMAINS), place) for label in range(len(DOMAINS))]
    labels, weights, places = zip(*targets, strict=True)
    return list(labels), list(weights), list(places)


def _cross_validated(
    rows: Sequence[Example], seen: Sequence[Features], learned: Sequence[Example], more: Sequence[Features]
) -> NDArray[np.float64]:
    """Scores of each example by a model that has not seen it, but all of what was learned in use."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    found = np.zeros((len(rows), len(DOMAINS)))
    labels = [row.domain or "none" for row in rows]
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels):
        model = _Model([*(rows[i] for i in train), *learned], [*(seen[i] for i in train), *more])
        found[test] = model.scores([seen[i] for i in test])
    return found


def _accuracy(rows: Sequence[Example], scores: NDArray[np.float64]) -> float:
    right = [DOMAINS[best] is row.domain for row, best in zip(rows, scores.argmax(axis=1), strict=True) if row.domain]
    return sum(right) / len(right)


def _temperature(rows: Sequence[Example], scores: NDArray[np.float64]) -> float:
    """The divisor, in steps of a fiftieth, under which the cross-validated scores say most of the labels."""
    import numpy as np

    labels, weights, places = _targets(rows)
    all_scores, right = scores[places], scores[places, labels]

    def loss(divisor: float) -> float:
        return float(np.dot(weights, np.log(np.exp(all_scores / divisor).sum(axis=1)) - right / divisor))

    return min((step / 50 for step in range(25, 201)), key=loss)


def _save(model: _Model, temperature: float, out: Path, source: str) -> None:
    """Signed bytes with one scale a group; what is the same for all domains is taken off first, as it decides nothing.

    Scales and bias are rounded too: the last bits of a fit differ from one machine to the next, and the file must not.
    """
    import numpy as np

    bias = model.bias - model.bias.mean()
    tables: list[tuple[Sequence[str], bytes, float]] = []
    start = 0
    for names, share in zip(model.names, SHARE, strict=True):
        rows = model.coefficients[start : start + len(names)]
        rows = rows - rows.mean(axis=1, keepdims=True)
        scale = float(f"{np.abs(rows).max(initial=1e-9) / 126:.2g}")
        tables.append((names, np.rint(rows / scale).clip(-127, 127).astype(np.int8).tobytes(), scale * share / temperature))
        start += len(names)
    write(out, tables, [round(float(b), 3) / temperature for b in bias], DOMAINS, source)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, and say how well."""
    parser = argparse.ArgumentParser(prog="python -m core.routing.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("--examples", type=Path, nargs="+", default=[EXAMPLES], help="files of JSON lines (default: those that ship)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the weights go (default: those that ship)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        done = fit(args.examples, args.out)
    except TrainingError as error:
        log.error("%s", error)
        return 1
    log.info("%d examples, %.1f %% right by cross-validation: %s", done.examples, 100 * done.accuracy, done.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
