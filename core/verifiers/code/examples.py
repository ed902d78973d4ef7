"""Calls with known results: sent in an order the solution can't foresee, compared here."""

from __future__ import annotations

import random
from typing import Any

from core.sandbox import same
from core.types import Outcome
from core.verifiers.code.programs import printed_same
from core.verifiers.code.solution import Got, Lost, Result, Solution, Threw, cut, shown, written
from core.verifiers.code.task import CodeTask, Example
from core.verifiers.code.tester import Part


def check_examples(solution: Solution, asked: CodeTask, rng: random.Random) -> Part:
    """Every example once, the first again at the end: a function that remembers its calls is found out."""
    order = list(range(len(asked.examples)))
    if not asked.stateful:
        rng.shuffle(order)
        order.append(order[0])
    reasons: dict[int, str] = {}
    tried: set[int] = set()
    for place in order:
        example = asked.examples[place]
        found = solution.call(asked.entry_point, example.args, example.kwargs, watched=asked.pure or example.after is not None)
        tried.add(place)
        why = mismatch(example, found, asked)
        if why and place not in reasons:
            reasons[place] = f"{written(asked.entry_point, example.args, example.kwargs)}: {why}"
        if solution.stopped:
            break
    held = len(tried) - len(reasons)
    outcome = Outcome.FAIL if reasons else Outcome.PASS
    return Part("examples", outcome, held, len(asked.examples), reasons[min(reasons)] if reasons else "")


def mismatch(example: Example, found: Result, asked: CodeTask) -> str:
    """Why a result is not what an example asks for; "" when it is."""
    wanted = f"expected {example.raises}" if example.raises else f"expected {cut(example.output)}" if example.compared else ""
    if isinstance(found, Lost):
        return found.why
    if isinstance(found, Threw):
        return "" if example.raises is not None and example.raises in found.kinds else _joined(f"raised {shown(found)}", wanted)
    if example.raises is not None or (example.compared and not agrees(example.output, found.value, asked)):
        hint = "" if example.raises or not _only_kind(example.output, found.value) else f", a {type(example.output).__name__}"
        return _joined(f"got {cut(found.value)}", wanted + hint)
    if example.prints is not None and not printed_same(example.prints, found.printed, asked.tolerance):
        return f"printed {cut(found.printed)}, expected {cut(example.prints)}"
    return _changed(example, found, asked)


def agrees(wanted: Any, got: Any, asked: CodeTask) -> bool:
    """Whether two values are the same, as strictly as the task says."""
    if asked.tuple_is_list:
        wanted, got = _listed(wanted), _listed(got)
    return same(wanted, got, asked.tolerance)


def _changed(example: Example, found: Got, asked: CodeTask) -> str:
    """Whether the arguments are afterwards as they have to be."""
    if example.after is not None:
        after = list(found.args)
        return (
            "" if agrees(list(example.after), after, asked) else f"left its arguments as {cut(after)}, expected {cut(list(example.after))}"
        )
    if asked.pure and not (same(list(example.args), list(found.args)) and same(dict(example.kwargs), dict(found.kwargs or {}))):
        return f"changed its arguments to {cut(list(found.args))}: work on a copy"
    return ""


def _only_kind(wanted: Any, got: Any) -> bool:
    return cut(wanted) == cut(got) or (isinstance(wanted, (list, tuple)) and isinstance(got, (list, tuple)) and list(wanted) == list(got))


def _joined(found: str, wanted: str) -> str:
    return f"{found}, {wanted}" if wanted else found


def _listed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in value]
    return {key: _listed(item) for key, item in value.items()} if isinstance(value, dict) else value
