"""reasoning-gym's own scorers as a verifier: PASS only at full marks, only from scorers that junk can't please, only in a child process.

Some scorers evaluate what they are given, and some pick an answer out of any text. So an answer must have the form its family asks for
before its scorer sees it, and the host process runs none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from typing import Any

from core.answers import MARKER, final_answer, normalise
from core.tasks.gym import INDEXES, MISSING, fingerprint
from core.tasks.gym_families import FORMS, RECOMPUTED, REFUSED, SAME_NUMBERS, SAME_TEXT
from core.types import Evidence, Record, Task
from core.verifiers.base import Finding, abstained, broken, failed, passed, short, verifier
from core.verifiers.pool import BrokenWorkerError, Pool, WallError

WALL = 20.0  # an item is made again once in each worker, and some take seconds
LONGEST = 20_000
WRITE = '"gym": {"family": NAME, "level": 1 to 4, "index": NUMBER}'
FENCED = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)
LIST_SIGNS = str.maketrans(dict.fromkeys("[]'\",$", " "))

pool = Pool("core.verifiers.gym_worker", most=2)


@dataclass(frozen=True, slots=True)
class Named(Record):
    """Which item a task is."""

    family: str
    level: int
    index: int


@verifier("gym", "1")
def verify(task: Task, text: str) -> Finding:
    """Ask the scorer of the family for the final answer. Metadata: `"gym": {"family": NAME, "level": 1 to 4, "index": NUMBER}`."""
    item = _named(task.metadata.get("gym"))
    if isinstance(item, str):
        return broken(item)
    if item.family in REFUSED:
        return abstained(f"the family {item.family} is refused: {REFUSED[item.family]}")
    if find_spec("reasoning_gym") is None:
        return broken(MISSING)
    dresses = _answers(task, text)
    if not dresses:
        return failed("there is no answer", _evidence(item.family))
    form = FORMS.get(item.family)
    fitting = [answer for answer in dresses if form is None or form.fullmatch(answer)]
    if not fitting:
        return failed(f"{short(dresses[0])!r} is not of the form that {item.family} asks for", _evidence(item.family))
    best: Finding | None = None
    for answer in fitting:
        best = _judged(item, task, answer)
        if best.outcome != "fail":
            break
    assert best is not None
    return best


def close() -> None:
    """End the worker processes; the next verdict starts new ones."""
    pool.close()


def _judged(item: Named, task: Task, answer: str) -> Finding:
    request = {"family": item.family, "level": item.level, "index": item.index, "answer": answer}
    try:
        reply = pool.ask(request, WALL)
    except WallError:
        return abstained(f"the scorer of {item.family} did not come to an end on {short(answer)!r}")
    except (BrokenWorkerError, OSError, ValueError) as error:
        return broken(f"the scorer of {item.family} ended its process: {short(str(error))}")
    if "error" in reply:
        return broken(f"{item.family}: {reply['error']}")
    if reply["question"] != fingerprint(task.prompt):
        return broken(
            f"index {item.index} of {item.family} is another question here: draw the task again with this version of reasoning-gym"
        )
    if not reply["gold"]:
        return abstained(f"this item of {item.family} carries no answer")
    return _found(item.family, answer, reply["score"], reply["gold"])


def _found(family: str, answer: str, score: float, gold: str) -> Finding:
    evidence, shown = _evidence(family), short(answer)
    if score < 1:
        return failed(f"the scorer of {family} gives {shown!r} {score:.2f} of 1", evidence, scorer=score)
    if (family in SAME_TEXT and not _same_text(answer, gold)) or (family in SAME_NUMBERS and not _same_numbers(answer, gold)):
        return abstained(
            f"the scorer of {family} takes {shown!r}, but it takes more than the right answers, and this isn't the expected one"
        )
    return passed(f"the scorer of {family} gives {shown!r} full marks", evidence, scorer=score)


def _evidence(family: str) -> Evidence:
    return Evidence.RECOMPUTATION if family in RECOMPUTED else Evidence.REFERENCE


def _named(given: Any) -> Named | str:
    """The item that metadata names, or what is wrong with them."""
    if not isinstance(given, Mapping):
        return f"the task names no item of reasoning-gym: write {WRITE} in its metadata"
    family, level, index = given.get("family"), given.get("level"), given.get("index")
    if isinstance(family, str) and type(level) is int and type(index) is int and level in (1, 2, 3, 4) and 0 <= index < INDEXES:
        return Named(family, level, index)
    return f"family {short(repr(family))}, level {short(repr(level))}, index {short(repr(index))}: write {WRITE}"


def _answers(task: Task, text: str) -> list[str]:
    """The final answer, as it stands and without its dress; of several lines where its marker stands alone, or they are expected."""
    if len(text) > 3 * LONGEST:
        text = text[-3 * LONGEST :].partition("\n")[2]
    rest = _after_marker(text)
    marked = rest is not None
    rest = text.strip() if rest is None else rest
    first = rest.partition("\n")[0].strip("* ")
    several = "\n" in rest.strip() and ("\n" in (task.reference or "") or first[:1] in ("[", "{"))
    if several or (marked and not first):
        found = [_unfenced(rest)]
    else:
        line = final_answer(text)
        found = [first] if marked or "\n" not in rest else []
        found += [line, normalise(line)] if line is not None and len(line) <= LONGEST else []
    return [answer for answer in dict.fromkeys(found) if answer.strip() and len(answer) <= LONGEST]


def _after_marker(text: str) -> str | None:
    """What follows the last marker, with the signs of emphasis that could be the answer's own; None without a marker."""
    end = None
    for marker in MARKER.finditer(text):
        end = marker.start() + len(marker[0].rstrip("*_ "))
    return None if end is None else text[end:].rstrip()


def _unfenced(block: str) -> str:
    block = block.strip("* ").strip("\n").rstrip()
    fenced = FENCED.fullmatch(block.strip())
    return (fenced[1] if fenced else block).strip("\n")


def _same_text(left: str, right: str) -> bool:
    return "".join(left.split()).casefold() == "".join(right.split()).casefold()


def _same_numbers(left: str, right: str) -> bool:
    one, other = left.translate(LIST_SIGNS).split(), right.translate(LIST_SIGNS).split()
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _equal(left: str, right: str) -> bool:
    if left.casefold() == right.casefold():
        return True
    try:
        return Decimal(left) == Decimal(right)
    except InvalidOperation:
        return False
