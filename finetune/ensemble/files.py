"""A router in a JSON file: thresholds, gate, genes and calibrations. The models stay where they are; RESPONSE_ROUTER names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config import Settings
from core.errors import ConfigError
from finetune.ensemble.calibration import Calibration
from finetune.ensemble.genes import Genome, ModelGene, checked_genome
from finetune.ensemble.router import ResponseRouter

FORMAT = "ratchet-response-router-1"
LARGEST = 8_000_000  # bytes that are read of a file


def save_router(path: str | Path, router: ResponseRouter, genome: Genome | None = None, told: Mapping[str, Any] | None = None) -> None:
    """Write the router, whole or not at all. `told` is kept beside it, for people. Raises ConfigError."""
    genes = router.genome if genome is None else checked_genome(genome)
    if not genes:
        raise ConfigError("there is no genome to save: give one")
    if not isinstance(router.gate, str):
        raise ConfigError("a gate of your own can't be kept in a file: save the router with gate triggers or learned, and set it again")
    content = {
        "format": FORMAT,
        "fast_threshold": router.fast_threshold,
        "ensemble_threshold": router.ensemble_threshold,
        "gate": router.gate,
        "genes": [gene.as_dict() for gene in genes],
        "calibrations": {weights: each.as_dict() for weights, each in sorted(router.calibrations.items())},
        "told": dict(told or {}),
    }
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"can't write the router to {path} ({error}): choose another place") from error


def load_router(path: str | Path | None = None, *, settings: Settings | None = None, **options: Any) -> ResponseRouter:
    """The router in a file, by default the one that RESPONSE_ROUTER names; it brings its genome: `load_router().route_query("...")`.

    `options` are those of ResponseRouter. Raises ConfigError when there is none, or when it is damaged.
    """
    settings = settings or Settings()
    place = path or settings.RESPONSE_ROUTER
    if place is None:
        raise ConfigError("no router is set: make one with `ratchet evolve`, and name its file in RESPONSE_ROUTER")
    content = _read(Path(place))
    try:
        genes = [ModelGene(**gene) for gene in content["genes"]]
        if not genes:
            raise ValueError("it has no genes")
        calibrations = {str(weights): Calibration.of(values) for weights, values in content["calibrations"].items()}
        given = {
            "fast_threshold": content["fast_threshold"],
            "ensemble_threshold": content["ensemble_threshold"],
            "gate": content["gate"],
            "genome": genes,
            "calibrations": calibrations,
            "settings": settings,
            **options,
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"the router file {place} is damaged ({error!r}): make it again with `ratchet evolve`") from error
    return ResponseRouter(**given)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        content = json.loads(data) if len(data) <= LARGEST else None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("it is of another format")
    except OSError as error:
        raise ConfigError(f"can't read the router file {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} holds no router ({error}): make one with `ratchet evolve`") from error
    return content
