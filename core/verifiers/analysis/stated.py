"""A number as a text states it, with the digits that it shows, and whether it agrees with a recomputed value at those digits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from core.types import Record
from core.verifiers.analysis.queries import EXACT_OPS, Query

NUMBER = re.compile(
    r"(?P<sign>[-+−]?)(?P<cur>[$€£¥]?)(?P<digits>[0-9]{1,3}(?:,[0-9]{3}){1,8}(?:\.[0-9]{1,15})?|[0-9]{1,24}(?:\.[0-9]{1,15})?)"
    r"(?P<unit> ?%| ?[€£¥]| percent\b| per cent\b)?(?P<scale> ?(?:thousand|million|billion|bn|[kKM])\b)?(?![\w%$€£¥]|[.,:/][0-9])"
)
SCALES = {"k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6, "bn": 10**9, "billion": 10**9}
ABOUT = frozenset(("about", "approximately", "roughly", "around", "circa", "approx", "~", "≈"))
LOOSE = Fraction(1, 20)  # what "about" may be off by, at most
COARSE = Fraction(1, 20)  # a rounding step that hides more than this is no value
FINE = Fraction(1, 1000)
FLOAT_SLACK = Fraction(1, 10**11)
RATIOS = ("share", "change")


@dataclass(frozen=True, slots=True)
class Number(Record):
    """A number as it stands in a text. `step` is one unit in its last digit; `round` one in its last digit that isn't zero."""

    value: Fraction
    step: Fraction
    round: Fraction
    unit: str = ""
    about: bool = False
    text: str = ""

    @property
    def decimals(self) -> int:
        """How many digits it shows behind the point."""
        return max(0, len(str(self.step.denominator)) - 1)


def read_number(text: str) -> Number | None:
    """The number that a text is, with a sign, thousands commas, a currency, a percent sign or a word for its scale."""
    words = text.strip().split(" ", 1)
    about = len(words) == 2 and words[0].casefold() in ABOUT
    match = NUMBER.fullmatch(words[1] if about else text.strip())
    return number_of(match, about) if match else None


def number_of(match: re.Match[str], about: bool = False) -> Number:
    """What the pattern has found."""
    digits = match["digits"].replace(",", "")
    scale = SCALES[match["scale"].strip().casefold()] if match["scale"] else 1
    places = len(digits.partition(".")[2])
    zeros = len(digits) - len(digits.rstrip("0")) if not places else 0
    value = Fraction(Decimal(digits)) * scale * (-1 if match["sign"] in ("-", "−") else 1)
    step = Fraction(scale, 10**places)
    unit = (match["cur"] or match["unit"] or "").strip().replace("percent", "%").replace("per cent", "%")
    return Number(value, step, step * 10**zeros, unit, about or (scale > 1), match[0].strip())


@dataclass(frozen=True, slots=True)
class Rule(Record):
    """What agreement asks for: an explicit tolerance (absolute, relative), or at least so many decimals, or what the digits show.
    `no_about` takes "about 1,200" at its digits."""

    tolerance: tuple[Fraction, Fraction] | None = None
    decimals: int | None = None
    percent: bool = False
    no_about: bool = False

    def told(self, query: Query) -> str:
        """In words, for the details of a verdict."""
        if self.tolerance:
            return f"{float(self.tolerance[0]):g} absolute or {float(self.tolerance[1]):g} relative"
        if query.op in EXACT_OPS or (query.op == "difference" and query.agg in EXACT_OPS):
            return "exact"
        return "rounded to the digits shown" + (f", at least {self.decimals} decimals" if self.decimals is not None else "")


def agrees(stated: Number, found: Fraction | float, query: Query, unit: str = "", rule: Rule | None = None) -> bool | None:
    """Whether a stated number is the recomputed one. None: rounded so far that it can't be told.

    Counts, sums, extremes and cells must be exact; what has no end in decimals must be rounded rightly to the digits it shows. A share is
    a percentage when it bears the sign or when the question asks for one. "About" and words such as million leave room, up to 5 %.
    """
    rule = rule or Rule()
    truth = Fraction(found)
    ratio = query.op in RATIOS
    if stated.unit == "%" and unit != "%":
        factor = Fraction(1, 100)
    elif stated.unit not in ("", "%") and (ratio or query.op in ("count", "distinct", "correlation") or unit not in ("", stated.unit)):
        return False
    else:
        factor = Fraction(1, 100) if ratio and rule.percent else Fraction(1)
    value, step = stated.value * factor, stated.step * factor
    apart, size = abs(value - truth), abs(truth)
    slack = FLOAT_SLACK * (size if size > 1 else 1)
    if rule.tolerance:
        return apart <= rule.tolerance[0] or apart <= rule.tolerance[1] * size
    if apart == 0 or (isinstance(found, float) and apart <= slack):
        return True
    if stated.about and not rule.no_about:
        return apart <= min(stated.round * factor / 2, LOOSE * abs(truth))
    if query.op in EXACT_OPS or (query.op == "difference" and query.agg in EXACT_OPS):
        return False
    if apart > step / 2 + slack:
        return False
    if rule.decimals is not None:
        shown = stated.decimals + (2 if stated.unit == "%" and not rule.percent and ratio else 0)
        return shown >= rule.decimals
    return True if _fine(value, step, truth, query, stated.unit == "%" or (ratio and rule.percent)) else None


def _fine(value: Fraction, step: Fraction, truth: Fraction, query: Query, percent: bool) -> bool:
    """Whether a rightly rounded number shows enough: not 0 for what isn't, not 4 for 3.67."""
    size = Fraction(1) if query.op == "correlation" else abs(truth)
    if value == 0 or step / 2 > COARSE * size:
        return False
    return percent or step < 1 or step / 2 <= FINE * size
