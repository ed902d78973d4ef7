"""The one form in which every benchmark writes a figure."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` is a median where there were several runs; `spread` is their least and greatest. `met` is None where nothing was asked."""

    id: str
    name: str
    value: float
    unit: str
    target: str
    met: bool | None
    versus: dict[str, float]
    spread: tuple[float, float]
    setup: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figure(
    id: str,
    name: str,
    values: Iterable[float],
    unit: str,
    target: str,
    met: bool | None,
    versus: dict[str, float] | None = None,
    setup: str = "",
) -> Figure:
    """A figure from the values of several runs."""
    runs = [float(v) for v in values]
    return Figure(id, name, round(median(runs), 4), unit, target, met, versus or {}, (min(runs), max(runs)), setup or machine())


def machine() -> str:
    """What it ran on, without naming it."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.readlines()
    except OSError:
        return []
