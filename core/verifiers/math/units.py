"""Units of measurement: a bounded grammar of our own reads them, an allow-list names them, and pint says what they are worth, exactly.

pint sees nothing but names from the list. Angles and currencies are ours: pint's pi is a decimal, and money has no fixed rate. Months and
years have no fixed length, so they are only equal to themselves, as is every word that is not on the list.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from core.types import Record

MAX_LENGTH = 60
MAX_EXPONENT = 9
ANGLE = "angle"

PREFIXES = {"k": "kilo", "c": "centi", "m": "milli", "n": "nano", "u": "micro", "µ": "micro", "μ": "micro", "M": "mega", "G": "giga"}
PREFIXED = {"m": "meter", "g": "gram", "s": "second", "L": "liter", "l": "liter", "N": "newton", "J": "joule", "W": "watt", "Pa": "pascal"}
PREFIXED |= {
    "Hz": "hertz",
    "V": "volt",
    "A": "ampere",
    "Ω": "ohm",
    "Wh": "watt_hour",
    "eV": "electron_volt",
    "mol": "mole",
    "cal": "calorie",
}
SYMBOLS = {
    **PREFIXED,
    **{short + unit: long + name for short, long in PREFIXES.items() for unit, name in PREFIXED.items()},
    **{"min": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "sec": "second", "secs": "second", "mins": "minute", "d": "day"},
    **{"in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "lb": "pound", "lbs": "pound", "oz": "ounce", "t": "metric_ton"},
    **{"mph": "mile_per_hour", "kph": "kilometer_per_hour", "kmh": "kilometer_per_hour", "ha": "hectare", "K": "kelvin", "M": "molar"},
    **{"°C": "degC", "°F": "degF", "bar": "bar", "atm": "atmosphere", "psi": "psi", "gal": "gallon", "dL": "deciliter", "dl": "deciliter"},
    **{"dm": "decimeter", "kWh": "kilowatt_hour", "hPa": "hectopascal", "°": "degree", "deg": "degree", "rad": "radian"},
}
NAMED = (
    "meter",
    "metre",
    "gram",
    "second",
    "liter",
    "litre",
    "newton",
    "joule",
    "watt",
    "pascal",
    "volt",
    "ampere",
    "calorie",
    "watt-hour",
)
SPELT = {"metre": "meter", "litre": "liter", "watt-hour": "watt_hour"}
WORDS = {
    **{
        long + name: long + SPELT.get(name, name)
        for name in NAMED
        for long in ("", "kilo", "centi", "milli", "micro", "nano", "deci", "mega")
    },
    **{
        name: name
        for name in ("minute", "hour", "day", "week", "inch", "foot", "yard", "mile", "pound", "ounce", "gallon", "kelvin", "ohm")
    },
    **{name: name for name in ("hectare", "hertz", "mole", "acre", "quart", "pint", "degree", "radian", "tonne")},
    **{"feet": "foot", "inches": "inch", "celsius": "degC", "fahrenheit": "degF", "kilohertz": "kilohertz", "megahertz": "megahertz"},
    **{"fortnight": "fortnight", "kilowatt-hour": "kilowatt_hour", "tonne": "metric_ton", "hours": "hour"},
}
MONEY: dict[str, tuple[str, int | Fraction]] = {
    **{"$": ("dollar", 1), "dollar": ("dollar", 1), "dollars": ("dollar", 1), "USD": ("dollar", 1), "US$": ("dollar", 1)},
    **{"cents": ("dollar", Fraction(1, 100)), "cent": ("dollar", Fraction(1, 100)), "¢": ("dollar", Fraction(1, 100))},
    **{"€": ("euro", 1), "euro": ("euro", 1), "euros": ("euro", 1), "EUR": ("euro", 1)},
    **{"£": ("sterling", 1), "GBP": ("sterling", 1), "pounds sterling": ("sterling", 1), "pence": ("sterling", Fraction(1, 100))},
    **{"¥": ("yen", 1), "yen": ("yen", 1), "JPY": ("yen", 1), "₹": ("rupee", 1), "rupees": ("rupee", 1), "INR": ("rupee", 1)},
}
SPELLED = (
    (re.compile(r"\bdegrees? +(celsius|fahrenheit)\b|°(celsius|fahrenheit)\b", re.IGNORECASE), lambda m: (m[1] or m[2]).lower()),
    (re.compile(r"° ?([CF])\b"), lambda m: f"°{m[1]}"),
    (re.compile(r"\b(?:square|sq\.?) +([A-Za-z]+)\b"), lambda m: f"{m[1]}^2"),
    (re.compile(r"\bcubic +([A-Za-z]+)\b"), lambda m: f"{m[1]}^3"),
    (re.compile(r"\b([A-Za-z]+) squared\b"), lambda m: f"{m[1]}^2"),
    (re.compile(r"\b([A-Za-z]+) cubed\b"), lambda m: f"{m[1]}^3"),
    (re.compile(r" per ", re.IGNORECASE), lambda m: "/"),
    (re.compile(r"\^\{(-?\d)\}"), lambda m: f"^{m[1]}"),
)
OURS = frozenset((*MONEY, "degree", "radian"))
PART = re.compile(r" ?([*/]?) ?([A-Za-z°µμΩ¢$€£¥₹][A-Za-z°µμΩ-]*)(?:\^(-?\d))?")
_building = threading.Lock()


@dataclass(frozen=True, slots=True)
class Scale(Record):
    """What one unit is worth: `value * factor + offset` in base units of its dimension. `of_pi`: times pi as well."""

    factor: Fraction
    offset: Fraction
    dimension: str
    of_pi: bool = False


@lru_cache(maxsize=1024)
def read_unit(text: str) -> tuple[tuple[str, int], ...] | None:
    """The names and exponents of a unit, sorted: `km/h`, `m s^-2`, `square meters`, `miles per hour`; None when it is none of ours."""
    if len(text) > MAX_LENGTH:
        return None
    if text in MONEY:
        return ((text, 1),)
    for pattern, spelled in SPELLED:
        text = pattern.sub(spelled, text)
    exponents: Counter[str] = Counter()
    place, divided = 0, False
    while place < len(text):
        match = PART.match(text, place)
        name = _name(match[2]) if match else None
        if match is None or name is None or (place == 0 and match[1]) or (divided and match[1] != "/"):
            return None
        divided = divided or match[1] == "/"
        exponents[name] += int(match[3] or 1) * (-1 if match[1] == "/" else 1)
        place = match.end()
    found = tuple(sorted((name, power) for name, power in exponents.items() if power))
    return found if found and all(abs(power) <= MAX_EXPONENT for _, power in found) else None


@lru_cache(maxsize=1024)
def scale_of(unit: tuple[tuple[str, int], ...]) -> Scale | None:
    """What a unit is worth; None when no scale fits it (`°C^2`). Needs pint for all but angles and money: see `pint_is_there`."""
    if len(unit) == 1 and unit[0][1] == 1:
        name = unit[0][0]
        if name in MONEY:
            return Scale(Fraction(MONEY[name][1]), Fraction(0), MONEY[name][0])
        if name in ("degree", "radian"):
            return Scale(Fraction(1, 180) if name == "degree" else Fraction(1), Fraction(0), ANGLE, name == "degree")
        factor, offset, dimension = _of_pint(name)
        return Scale(factor, offset, _written(dimension))
    factor, total = Fraction(1), Counter[str]()
    for name, power in unit:
        if name in MONEY:
            factor, total[MONEY[name][0]] = factor * Fraction(MONEY[name][1]) ** power, total[MONEY[name][0]] + power
        elif name in ("degree", "radian", "degC", "degF"):
            return None
        else:
            one, _, dimension = _of_pint(name)
            factor *= one**power
            total.update({kind: count * power for kind, count in dimension})
    return Scale(factor, Fraction(0), _written(tuple(total.items())))


def pint_is_there() -> bool:
    """Whether units can be converted here."""
    return find_spec("pint") is not None


def can_scale(unit: tuple[tuple[str, int], ...]) -> bool:
    """Whether `scale_of` can be asked: pint is there, or is not needed."""
    return pint_is_there() or all(name in OURS for name, _ in unit)


def _name(word: str) -> str | None:
    """The name of a word: symbols to the letter, words in any case and number."""
    if word in SYMBOLS:
        return SYMBOLS[word]
    if word in MONEY:
        return word
    lower = word.lower()
    if len(word) < 3:
        return None
    return WORDS.get(lower) or WORDS.get(lower.removesuffix("s")) or WORDS.get(lower.removesuffix("es"))


@lru_cache(maxsize=1024)
def _of_pint(name: str) -> tuple[Fraction, Fraction, tuple[tuple[str, int], ...]]:
    with _building:
        registry = _registry()
        zero, one = (registry.Quantity(Fraction(n), name).to_base_units() for n in (0, 1))
        dimension = tuple((str(kind), int(power)) for kind, power in one.dimensionality.items())
        return Fraction(one.magnitude) - Fraction(zero.magnitude), Fraction(zero.magnitude), dimension


@lru_cache(maxsize=1)
def _registry() -> Any:
    from pint import UnitRegistry

    return UnitRegistry(non_int_type=Fraction, autoconvert_offset_to_baseunit=True)


def _written(dimension: tuple[tuple[str, int], ...]) -> str:
    return " ".join(f"{kind}^{power}" for kind, power in sorted(dimension) if power)
