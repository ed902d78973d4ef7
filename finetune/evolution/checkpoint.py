"""An evolution on disk: a head, then one line a generation, appended when it is done. A line that was cut off is not counted.

A line holds the individuals that were computed for it, numbered through, and each island as those numbers. The functions, the seed and
the lines are all that a run depends on, so that it goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from core.errors import ConfigError, TrainingError
from finetune.evolution.codec import Codec
from finetune.evolution.config import GAConfig
from finetune.evolution.records import Evaluated, Failure, Generation

T = TypeVar("T")

FORMAT = 1
# these may differ when a run goes on: they decide where and how long it runs, not what comes of it
FREE = frozenset(
    {"generations", "parallel", "workers", "target", "patience", "max_evaluations", "max_seconds", "progress", "on_error", "seed"}
)


class Checkpoint(Generic[T]):
    """The file of one evolution."""

    def __init__(self, path: str | Path, codec: Codec) -> None:
        self.path, self._codec = Path(path), codec

    def begin(self, config: GAConfig, seed: int) -> None:
        """A new file with its head. Raises ConfigError when there is one already."""
        head = json.dumps({"format": FORMAT, "seed": seed, "config": _fixed(config)})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("x", encoding="utf-8") as file:
                file.write(head + "\n")
        except FileExistsError as error:
            raise ConfigError(f"{self.path} holds an evolution: set resume=True to go on with it, or remove it") from error
        except OSError as error:
            raise TrainingError(f"can't write the checkpoint {self.path}: {error.strerror}") from error

    def add(
        self, row: Generation, computed: Sequence[Evaluated[T]], islands: Sequence[Sequence[Evaluated[T]]], failures: Sequence[Failure]
    ) -> None:
        """One more generation, on disk before this returns."""
        line = {
            "generation": {**asdict(row), "objectives": list(row.objectives)},
            "computed": [[member.id, self._codec.encode(member.item), member.value] for member in computed],
            "islands": [[member.id for member in island] for island in islands],
            "failures": [[self._codec.encode(failure.individual), failure.reason] for failure in failures],
        }
        try:
            text = json.dumps(line)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"encode gave what JSON can't hold ({error}): return numbers, texts, lists and dictionaries") from error
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(f"can't write the checkpoint {self.path}: {error.strerror}") from error

    def check(self, individual: T) -> None:
        """Raises ConfigError when it does not come back as it was, before hours of work depend on it."""
        text = json.dumps(self._codec.encode(individual))
        back = self._codec.decode(json.loads(text))
        if type(back) is not type(individual) or json.dumps(self._codec.encode(back)) != text:
            raise ConfigError(f"{individual!r} comes back from a checkpoint as {back!r}: correct codec")

    def read(self, config: GAConfig) -> tuple[int, list[dict[str, Any]]]:
        """(the seed, the generations), with individuals decoded. Removes a last line that was cut off.

        Raises ConfigError when it was made with options that would lead elsewhere, TrainingError when it is damaged.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"there is no evolution to resume in {self.path} ({error.strerror}): set resume=False to begin one"
            ) from error
        whole = data[: data.rfind(b"\n") + 1]
        try:
            head, *lines = [json.loads(line) for line in whole.splitlines()]
            made_with, wanted = head["config"], _fixed(config)
            if head["format"] != FORMAT:
                raise ConfigError(f"{self.path} has format {head['format']}, this version reads {FORMAT}")
            different = [name for name in wanted if made_with[name] != wanted[name]]
            seed = int(head["seed"])
            rows = [self._row(line) for line in lines]
            _check_whole(rows)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise TrainingError(f"{self.path} is damaged ({error!r}): remove it and begin anew, or take it from a backup") from error
        if different:
            name = different[0]
            raise ConfigError(f"{self.path} was made with {name}={made_with[name]!r}, and now it is {wanted[name]!r}: set it as it was")
        if config.seed not in (None, seed):
            raise ConfigError(f"{self.path} was made with seed={seed}, and now it is {config.seed}: set it as it was, or leave it out")
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        return seed, rows

    def _row(self, line: dict[str, Any]) -> dict[str, Any]:
        row = line["generation"]
        return {
            "generation": Generation(**{**row, "objectives": tuple(row["objectives"])}),
            "computed": [(int(i), self._codec.decode(item), _value(value)) for i, item, value in line["computed"]],
            "islands": line["islands"],
            "failures": [Failure(row["generation"], self._codec.decode(item), reason) for item, reason in line["failures"]],
        }


def _check_whole(rows: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError when a generation is missing, or an individual that one refers to."""
    known: set[int] = set()
    for place, row in enumerate(rows):
        known.update(number for number, _, _ in row["computed"])
        if row["generation"].generation != place or not all(known.issuperset(island) for island in row["islands"]):
            raise ValueError(f"generation {place} is not whole")


def _value(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, list) else None if value is None else float(value)


def _fixed(config: GAConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name not in FREE}
