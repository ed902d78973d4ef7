"""The cells of one column as texts become numbers, dates or labels: a column has one type, and all its cells must be of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from core.types import Record
from core.verifiers.base import short

MAX_DIGITS = 24
MAX_DATE = 40
SAMPLE = 1_000
SMALL = 18
LARGE = 38
CELL_END = "\x1f"
NOT_PLAIN = re.compile(r"\x1f(?!(?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,6})?)?\x1f|\Z)")
DECIMALS = re.compile(r"\.([0-9]+)")
SPELLED = re.compile(r"([-+−]?)([$€£¥]?)([-−]?)([0-9.][0-9.,'    ]*?)((?:[eE][-+]?[0-9]{1,3})?)([ ]?(?:%|[$€£¥])?)")
POINT = re.compile(
    r"(?:0|[1-9][0-9]*)?\.[0-9]+|0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?|[1-9][0-9]{0,2}(?:[    '][0-9]{3})+(?:\.[0-9]+)?"
)
COMMA = re.compile(
    r"(?:0|[1-9][0-9]*),[0-9]+|0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?|[1-9][0-9]{0,2}(?:[   ][0-9]{3})+(?:,[0-9]+)?"
)
GROUPED = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")
NAME_UNIT = re.compile(r"[(\[]([%$€£¥])[)\]]")
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none"))
SPELLED_MISSING = frozenset(spell(word) for word in MISSING for spell in (str.lower, str.upper, str.title)) | {"NaN", "#N/a"}
NO_NUMBER = MISSING | {"-", "--", "–", "—", "?", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH_NAMES = (
    *MONTHS,
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_NAMES = (*DAYS, "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
METADATA_NUMBER = re.compile(r"[-+]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?")
DAY = re.compile(r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?")
DOTTED = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})")
YEAR_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
NAMED_MONTH = re.compile(r"([a-z]{3,9})\.?(?: ([0-9]{4}))?")
QUARTER = re.compile(r"(?:([0-9]{4})[- ]?)?q([1-4])(?:[- ]([0-9]{4}))?")


@dataclass(frozen=True, slots=True)
class Column(Record):
    """A column and its type. `scale` is the decimals of its numbers, `unit` the sign that its cells or its name bear ("%", "$", ...), `odd`
    the cell that keeps a column of numbers from being one, `family` how its dates are spelled.
    """

    name: str
    kind: Literal["number", "date", "text"]
    scale: int = 0
    precision: int = SMALL
    unit: str = ""
    missing: int = 0
    odd: str = ""
    family: int = 0


def read_column(name: str, cells: Sequence[str], delimiter: str = ",") -> tuple[Column, Sequence[str], list[str]]:
    """The typed column, its cells in one spelling ("" is missing), and for dates their ranks. NaN and infinite are missing."""
    bare = NAME_UNIT.search(name)
    named = bare[1] if bare else ""
    joined = CELL_END.join(cells)
    if not NOT_PLAIN.search(f"{CELL_END}{joined}{CELL_END}") and any(cells):
        scale = max(map(len, DECIMALS.findall(joined)), default=0) if "." in joined else 0
        precision = SMALL if max(map(len, cells)) + scale < SMALL else LARGE
        return Column(name, "number", scale, precision, named, cells.count("")), cells, []
    distinct = set(cells)
    missing = distinct & SPELLED_MISSING
    odd = next((cell for cell in cells[:SAMPLE] if cell.casefold() not in NO_NUMBER and not SPELLED.fullmatch(cell)), "")
    held = [] if odd else [cell for cell in distinct if cell.casefold() not in NO_NUMBER]
    numbers = _numbers(held, delimiter) if held else None
    if numbers is not None:
        spelled, scale, precision, unit = numbers
        plain = [spelled.get(cell, "") for cell in cells]
        return Column(name, "number", scale, precision, unit or named, plain.count("")), plain, []
    kept = ["" if cell in missing else cell for cell in cells] if missing else cells
    first = [cell for cell in cells[:SAMPLE] if cell not in missing]
    for family, read in enumerate(DATES):
        ranks = _ranks(distinct - missing, read) if distinct - missing and _ranks(first, read) is not None else None
        if ranks is not None:
            return Column(name, "date", missing=kept.count(""), family=family), kept, [ranks.get(cell, "") for cell in kept]
    odd = odd or next((cell for cell in held if not SPELLED.fullmatch(cell)), "")
    return Column(name, "text", missing=kept.count(""), odd=short(odd, 30)), kept, []


def rank_of(column: Column, text: str) -> int | None:
    """Where a date stands among those of a column; None when it isn't spelled as they are."""
    return DATES[column.family](text.strip().casefold()) if len(text) <= MAX_DATE else None


def exact(value: Any) -> Fraction | None:
    """A number from a task's metadata: an int, a finite float or plain digits, of at most 24 digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) >= 10**MAX_DIGITS):
        return None
    found = METADATA_NUMBER.fullmatch(str(value).strip())
    number = Decimal(found[0]) if found else None
    if number is None or (number and abs(number.adjusted()) > MAX_DIGITS):
        return None
    return Fraction(number)


def _numbers(cells: list[str], delimiter: str) -> tuple[dict[str, str], int, int, str] | None:
    """Each distinct cell in plain digits, the decimals, the precision and the unit; None when one is no number, or it is unclear which."""
    found = {}
    for cell in cells:
        match = SPELLED.fullmatch(cell)
        if match is None or (match[1] and match[3]) or (match[2] and match[6].strip()):
            return None
        found[cell] = match
    units = {(match[2] or match[6]).strip() for match in found.values()}
    bodies = {match[4] for match in found.values()}
    point, comma = (all(map(style.fullmatch, bodies)) for style in (POINT, COMMA))
    unclear = point and comma and delimiter == ";" and any(map(GROUPED.fullmatch, bodies))
    if len(units) != 1 or not (point or comma) or unclear:
        return None
    spelled: dict[str, str] = {}
    scale, whole = 0, 1
    for cell, match in found.items():
        body = re.sub(r"[,'    ]", "", match[4]) if point else re.sub(r"[.    ]", "", match[4]).replace(",", ".")
        value = Decimal(f"{body}{match[5]}")
        if value and abs(value.adjusted()) > MAX_DIGITS:
            return None
        text = format(value, "f")
        head, _, tail = text.partition(".")
        scale, whole = max(scale, len(tail)), max(whole, len(head))
        spelled[cell] = "-" + text if match[1] in ("-", "−") or match[3] else text
    if scale + whole > MAX_DIGITS:
        return None
    return spelled, scale, SMALL if scale + whole <= SMALL else LARGE, units.pop()


def _ranks(cells: Iterable[str], read: Callable[[str], int | None]) -> dict[str, str] | None:
    ranks = {}
    for cell in cells:
        rank = read(cell.casefold())
        if rank is None:
            return None
        ranks[cell] = str(rank)
    return ranks


def _day(cell: str) -> int | None:
    match = DAY.fullmatch(cell)
    if match is None:
        return None
    seconds = int(match[4] or 0) * 3600 + int(match[5] or 0) * 60 + int(match[6] or 0)
    ordinal = _ordinal(match[1], match[2], match[3])
    return None if ordinal is None else ordinal * 86400 + seconds


def _dotted(cell: str) -> int | None:
    match = DOTTED.fullmatch(cell)
    return _ordinal(match[3], match[2], match[1]) if match else None


def _ordinal(year: str, month: str, day: str) -> int | None:
    try:
        return date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return None


def _year_month(cell: str) -> int | None:
    match = YEAR_MONTH.fullmatch(cell)
    return int(match[1]) * 12 + int(match[2]) if match and 1 <= int(match[2]) <= 12 else None


def _month(cell: str) -> int | None:
    match = NAMED_MONTH.fullmatch(cell)
    if match is None or match[1] not in MONTH_NAMES:
        return None
    return int(match[2] or 0) * 12 + MONTHS.index(match[1][:3])


def _quarter(cell: str) -> int | None:
    match = QUARTER.fullmatch(cell)
    if match is None or (match[1] and match[3]):
        return None
    return int(match[1] or match[3] or 0) * 4 + int(match[2])


def _weekday(cell: str) -> int | None:
    return DAYS.index(cell[:3]) if cell in DAY_NAMES else None


DATES: tuple[Callable[[str], int | None], ...] = (_day, _dotted, _year_month, _month, _quarter, _weekday)
