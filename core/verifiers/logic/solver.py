"""The child process of `process`: asks z3 whether formulas can hold together. One JSON line in, one out, until its input ends.

Formulas come as texts of our grammar and are read by our parser. Each question gets a z3 context of its own, made ahead of it, so that no
answer depends on what was asked before. What ends it is z3's own count of work, so a question that is too hard is so on every machine; the
clock is a second line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from core.verifiers.child import begin, serve
from core.verifiers.logic.encoders import Closed, Open, Puzzle, Small
from core.verifiers.logic.formula import Formula, FormulaError, Not, parse_own
from core.verifiers.logic.structure import Signature, Structure, holds, instances, signature

FIRST_WORK = 40_000
WORK = 250_000
CLOCK_MS = 800
SMALL_SIZES = (2, 3, 4)
MAX_WRITTEN_OUT = 3_000
MEMORY = 2 * 1024**3
MAX_CONFIRMED = 20_000
RECURSION = 10_000


def main() -> None:
    """Serve until the input ends. Whatever the library prints goes to stderr."""
    replies = begin(MEMORY)
    sys.setrecursionlimit(RECURSION)
    solve({"formulas": ["forall x: P(x) -> Q(x)", "P(a)"], "denied": "Q(a)"}, _context())
    ready: list[Any] = []
    serve(replies, lambda request: solve(request, ready.pop()), between=lambda: ready.append(_context()))


def solve(request: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Whether the formulas can hold together, with `denied` false where it is given.

    `domain` closes the world to some elements, each with its name; `variables` maps the variables of a puzzle to their whole numbers.
    Replies {"state": "sat", "world"}, {"state": "unsat", "core": places in formulas, -1 for denied} or {"state": "unknown", "why"}, with
    "final" when it would be the same at any speed.
    """
    formulas = [parse_own(text) for text in request["formulas"]]
    places = list(range(len(formulas)))
    if request.get("denied") is not None:
        formulas.append(Not(parse_own(request["denied"])))
        places.append(-1)
    if request.get("variables"):
        return _checked(Puzzle(Signature((), (), ()), context, request["variables"]), formulas, places, WORK)
    names = signature(formulas)
    if request.get("domain"):
        return _checked(Closed(names, context, request["domain"]), formulas, places, WORK)
    return _open(names, context, formulas, places)


def _open(names: Signature, context: Any, formulas: list[Formula], places: list[int]) -> dict[str, Any]:
    """Over any world: a short try, then worlds of a few elements, in which z3 finds models that it misses in the open, then a long one."""
    found = _checked(Open(names, context), formulas, places, FIRST_WORK)
    if found["state"] != "unknown":
        return found
    for size in SMALL_SIZES:
        if sum(instances(formula, size) for formula in formulas) > MAX_WRITTEN_OUT:
            break
        small = _checked(Small(names, _context(), size), formulas, places, FIRST_WORK)
        if small["state"] == "sat":
            return small
    return _checked(Open(names, _context()), formulas, places, WORK)


def _checked(encoder: Open, formulas: list[Formula], places: list[int], work: int) -> dict[str, Any]:
    import z3

    solver = z3.SimpleSolver(ctx=encoder.context)
    solver.set("rlimit", work, "timeout", CLOCK_MS, "random_seed", 0, "core.minimize", True)
    try:
        solver.add(*encoder.given())
        for place, formula in zip(places, formulas, strict=True):
            solver.assert_and_track(encoder.formula(formula, {}), f"${place}")
        state = solver.check()
        if state == z3.unsat:
            return {"state": "unsat", "core": sorted(int(label.decl().name()[1:]) for label in solver.unsat_core())}
        if state == z3.unknown:
            return _given_up(solver, work)
        return _shown(encoder.world(solver.model()), formulas)
    except (z3.Z3Exception, FormulaError) as error:
        return {"state": "unknown", "why": str(error)[:200]}


def _given_up(solver: Any, work: int) -> dict[str, Any]:
    worked = int(solver.statistics().get_key_value("rlimit count"))
    if worked >= work:
        return {"state": "unknown", "why": f"it takes more than {work} units of z3's work", "final": True}
    return {"state": "unknown", "why": solver.reason_unknown()}


def _shown(world: Structure | None, formulas: list[Formula]) -> dict[str, Any]:
    """The world as JSON, once every formula has been found to hold in it."""
    if world is None or sum(instances(formula, len(world.universe)) for formula in formulas) > MAX_CONFIRMED:
        return {"state": "unknown", "why": "the model is too large to be confirmed", "final": True}
    if not all(holds(formula, world) for formula in formulas):
        return {"state": "unknown", "why": "the model did not hold when it was checked", "final": True}
    predicates = {name: sorted(map(list, true)) for name, true in world.predicates.items()}
    shown = {"universe": list(world.universe), "things": dict(world.things), "statements": dict(world.statements), "predicates": predicates}
    return {"state": "sat", "world": shown}


def _context() -> Any:
    import z3

    return z3.Context()


if __name__ == "__main__":
    main()
