"""How promising an unfinished answer is, by a model that learned from finished trees: a signal for search, and never a verifier.

A logistic regression over hashed words and letters, calibrated by a step function; `finetune.process_reward` makes it. What has not
proved calibrated on held-out trees can't be loaded. Scoring needs the standard library only.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from core.errors import ConfigError
from core.types import Domain, Record, Task
from core.verifiers import step_value

FILE = "process_reward.json"
FORMAT = "ratchet-process-reward-1"
LARGEST = 8_000_000  # bytes that are read of a file
BUCKETS = 2**14
LOOK_AT = 400  # characters of the question and of the text, at their ends
STEP = 160
DIGIT = re.compile(r"\d")
WORD = re.compile(r"[^\W\d_]+|0+|[^\w\s]")

Features = dict[int, float]


@dataclass(frozen=True, slots=True)
class ProcessReward(Record):
    """Call it with a task and the text so far. `fingerprint` names it: a search that it guides records that."""

    weights: Mapping[int, float]
    bias: float
    scores: tuple[float, ...]
    values: tuple[float, ...]
    fingerprint: str

    def __call__(self, task: Task, text: str) -> float:
        """The expected share of verified answers among those that go on from here, in [0, 1]."""
        return calibrate(self.score(features(task, text)), self.scores, self.values)

    def score(self, found: Mapping[int, float]) -> float:
        """The log odds before calibration."""
        return self.bias + sum(self.weights[place] * value for place, value in found.items() if place in self.weights)


def load(path: Path) -> ProcessReward:
    """The model in a folder or file. Raises ConfigError when it is missing, damaged, or has not proved calibrated on held-out trees."""
    file = path / FILE if path.is_dir() else path
    content = read(file)
    if content["calibrated"] is not True:
        raise ConfigError(
            f"the step values in {file} are not calibrated and guide no search: {content.get('reason', 'it does not say why')}"
        )
    try:
        return made_of(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} holds no step values ({error}): make them with ratchet train-values") from error


def read(file: Path) -> dict[str, Any]:
    """All that the file holds, calibrated or not. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        content = json.loads(data) if len(data) <= LARGEST else None
        if not isinstance(content, dict) or content.get("format") != FORMAT or "calibrated" not in content:
            raise ValueError("it is of another format")
        if content.get("fingerprint") != fingerprint(content):
            raise ValueError("its content does not match its fingerprint")
    except OSError as error:
        raise ConfigError(f"can't read step values from {file}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} holds no step values ({error}): make them with ratchet train-values") from error
    return content


def made_of(content: Mapping[str, Any]) -> ProcessReward:
    """The model that such a content describes. Raises ValueError, KeyError or TypeError."""
    if not isinstance(content["weights"], Mapping):
        raise TypeError("its weights are no table")
    weights = {int(place): float(weight) for place, weight in content["weights"].items()}
    scores, values = tuple(map(float, content["scores"])), tuple(map(float, content["values"]))
    numbers = [*weights.values(), *scores, *values, float(content["bias"])]
    if not scores or len(scores) != len(values) or list(scores) != sorted(scores) or not all(map(math.isfinite, numbers)):
        raise ValueError("its numbers make no sense")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("a value is no share")
    return ProcessReward(weights, float(content["bias"]), scores, values, str(content["fingerprint"]))


def fingerprint(content: Mapping[str, Any]) -> str:
    """16 hex digits of all that stands in a file but this."""
    rest = {name: value for name, value in content.items() if name != "fingerprint"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def calibrate(score: float, scores: Sequence[float], values: Sequence[float]) -> float:
    """Between the points that calibration found, on a straight line; beyond them, level."""
    place = bisect_right(scores, score)
    if place == 0:
        return values[0]
    if place == len(scores):
        return values[-1]
    left, right = scores[place - 1], scores[place]
    share = (score - left) / (right - left) if right > left else 1.0
    return values[place - 1] + share * (values[place] - values[place - 1])


def features(task: Task, text: str) -> Features:
    """Hashed words, pairs of words and letters of the question, the last step and the text, and some numbers, by their bucket.

    Digits count by their number only. Each group weighs the same, however long its text is.
    """
    text = text[-50 * LOOK_AT :]
    lines = [line for line in text.splitlines() if line.strip()]
    step = lines[-1].strip()[-STEP:] if lines else ""
    found: Features = {}
    for group, names in (
        ("step", _pairs(_words(step))),
        ("letters", _letters(step)),
        ("question", _words(_ends(task.prompt))),
        ("text", _words(_ends(text))),
    ):
        _add(found, group, names)
    for name, value in _numbers(task, text, lines, step):
        place = _bucket("number", name)
        found[place] = found.get(place, 0.0) + value
    return found


def _numbers(task: Task, text: str, lines: Sequence[str], step: str) -> Iterator[tuple[str, float]]:
    yield f"domain {Domain(task.domain)}", 1.0
    yield "depth", min(len(lines), 20) / 10
    yield "step length", len(step) / STEP
    yield "text length", min(len(text), 2_000) / 1_000
    if len(lines) != len(set(lines)):
        yield "a step again", 1.0
    checked = step_value(task, text)
    if checked is None:
        yield "nothing checked", 1.0
    else:
        yield "steps that hold", checked
        yield "a step refuted", float(checked == 0)


def _add(found: Features, group: str, names: Iterable[str]) -> None:
    places = {_bucket(group, name) for name in names}
    weight = 1 / math.sqrt(len(places)) if places else 0.0
    for place in places:
        found[place] = found.get(place, 0.0) + weight


def _bucket(group: str, name: str) -> int:
    return crc32(f"{group}\0{name}".encode("utf-8", "surrogatepass")) % BUCKETS


def _ends(text: str) -> str:
    return text if len(text) <= LOOK_AT else f"{text[: LOOK_AT // 2]}\n{text[-LOOK_AT // 2 :]}"


def _words(text: str) -> list[str]:
    return WORD.findall(DIGIT.sub("0", text.casefold()))


def _pairs(words: Sequence[str]) -> list[str]:
    return [*words, *(f"{one} {other}" for one, other in pairwise(["<", *words, ">"]))]


def _letters(text: str) -> list[str]:
    bare = f" {DIGIT.sub('0', text.casefold())} "
    return [bare[i : i + 3] for i in range(len(bare) - 2)]
